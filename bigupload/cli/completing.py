"""Completions beside commands, options and files: ids of uploads, and AWS profiles.

It is imported when a shell asks. Whatever fails there completes nothing: a message would be in the middle of the line
that a person types.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

from bigupload.units import escaped, one_line

_PLAIN = re.compile(r"[A-Za-z0-9_.,+/%=:-]*")
"""Names that no shell needs quotes for. Others are left out: the line must not become another command."""


class _Bash(BashComplete):
    """Bash makes three words of --profile=name."""

    def get_completion_args(self) -> tuple[list[str], str]:
        words, last = super().get_completion_args()
        return [word for word in words if word != "="], last


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """While a shell is answered. Nothing is written but the answer, and an exception ends it without a word."""
    add_completion_class(_Bash)
    with open(os.devnull, "w") as null, contextlib.redirect_stderr(null):  # noqa: PTH123 - no path
        try:
            yield
        except Exception:
            sys.exit(0)


def uploads(ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """Ids of unfinished uploads, for `abort` and `status` also of jobs. What looks like a path is completed as one."""
    from bigupload.cli.unfinished import completions

    given = {str(path) for name in ("manifests", "paths", "ids") for path in ctx.params.get(name) or ()}
    rows = completions(with_all=ctx.info_name in ("abort", "status"))
    found = [(id_, says) for id_, says in rows if id_.startswith(incomplete) and id_ not in given]
    if incomplete and not found and ctx.info_name != "status":
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(id_, help=one_line(escaped(says))) for id_, says in found]


def files(_ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """Files, which the shell lists itself."""
    return [CompletionItem(incomplete, type="file")]


def profiles(_ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """Profiles of the AWS configuration files."""
    from bigupload.stores.s3.aws_files import profile_names

    names = profile_names()
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and _PLAIN.fullmatch(name)]
