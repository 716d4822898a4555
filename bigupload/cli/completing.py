"""Completions beside commands, options and files: ids of uploads, AWS profiles, buckets and their folders.

It is imported when a shell asks. Whatever fails there completes nothing: a message would be in the middle of the line
that a person types. Buckets are listed if plain keys are at hand. Roles, SSO and programs that return credentials may
take long, or ask something.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, ZshComplete, add_completion_class, split_arg_string

from bigupload.options import S3Options
from bigupload.units import escaped, one_line

LISTED_WITHIN = 0.5
"""Seconds that a person waits for a list, from when the shell asks."""
_MOST_ROWS = 1000
_PLAIN = re.compile(r"[A-Za-z0-9_.,+/%=:-]*")
"""Names that no shell needs quotes for. Others are left out: the line must not become another command."""
_BREAK = re.compile(r"[=:]+")
"""The ends of a word in bash, beside white space: COMP_WORDBREAKS."""
_CONNECTION = (
    "endpoint_url", "region", "profile", "addressing", "ca_bundle", "no_verify_ssl", "no_sign_request",
    "expected_bucket_owner", "request_payer", "accelerate", "dual_stack", "fips",
)  # fmt: skip


class _Bash(BashComplete):
    """Bash splits s3://bucket/ and --to=s3://bucket/ at each : and =, and replaces what is after the last one."""

    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)",
        'COMPREPLY+=("$value")\n            [[ $value == */ ]] && compopt -o nospace',
    )
    _cut = 0

    def get_completion_args(self) -> tuple[list[str], str]:
        words, at = split_arg_string(os.environ["COMP_WORDS"]), int(os.environ["COMP_CWORD"])
        pieces = [*words[1:at], words[at] if at < len(words) else ""]
        args: list[str] = []
        for before, piece in pairwise(["", *pieces]):
            is_break = _BREAK.fullmatch(piece) is not None
            if is_break and args and args[-1] == before and before.startswith("--"):  # of --to=
                args.append("")
            elif args and piece and (is_break or _BREAK.fullmatch(before)):
                args[-1] += piece
            else:
                args.append(piece)
        *args, last = args
        if last not in ("", pieces[-1]):
            self._cut = len(last) - (0 if _BREAK.fullmatch(pieces[-1]) else len(pieces[-1]))
        return args, last

    def format_completion(self, item: CompletionItem[str]) -> str:
        return f"{item.type},{item.value[self._cut :]}"


class _Zsh(ZshComplete):
    """Writes no space after a folder."""

    source_template = ZshComplete.source_template.replace(
        'completions+=("$key")',
        'if [[ "$key" == */ ]]; then compadd -U -S "" -- "$key"; else completions+=("$key"); fi',
    )


def register() -> None:
    """Have click use the classes above, also for the scripts that it prints."""
    add_completion_class(_Bash)
    add_completion_class(_Zsh)


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """While a shell is answered. Nothing is written but the answer, and an exception ends it without a word."""
    register()
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

    return _items(incomplete, profile_names())


def targets(ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """Buckets, or the folders of one. Nothing if they are not listed in time."""
    scheme, _, rest = incomplete.partition("://")
    if ctx.params.get("local") or ctx.params.get("service") or rest.startswith("arn:"):
        return []
    given = {name: value for name in _CONNECTION if (value := ctx.params.get(name)) is not None}
    bucket, has_bucket, prefix = rest.partition("/")
    found = _listed(lambda: _names(S3Options(**given), bucket if has_bucket else "", prefix))
    return _items(incomplete, [f"{scheme}://{name}" for name in found])


def s3_urls(ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """As `targets`, where nothing but such a URL can be."""
    if incomplete and "s3://".startswith(incomplete.lower()):
        incomplete = "s3://"
    return targets(ctx, incomplete) if incomplete.lower().startswith("s3://") else []


def _items(incomplete: str, names: list[str]) -> list[CompletionItem[str]]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and _PLAIN.fullmatch(name)]


def _listed(list_names: Callable[[], Any]) -> list[str]:
    """Return a coroutine's result within LISTED_WITHIN. The thread that runs it is left behind."""
    found: list[str] = []

    def work() -> None:
        with contextlib.suppress(Exception):
            found.extend(asyncio.run(asyncio.wait_for(list_names(), LISTED_WITHIN)))

    thread = threading.Thread(target=work, name="bigupload-list", daemon=True)
    thread.start()
    thread.join(LISTED_WITHIN)
    return [*found]


async def _names(options: S3Options, bucket: str, prefix: str) -> list[str]:
    """The buckets that begin with nothing, or a bucket's folders below a prefix, each with a slash at its end."""
    from bigupload.stores.s3.access import needs_no_library
    from bigupload.stores.s3.bucket import S3Bucket
    from bigupload.stores.s3.operations import rows
    from bigupload.stores.targets import reach

    if not needs_no_library(options):
        return []
    reached = S3Bucket(bucket or "bigupload-any", await reach(options))
    try:
        if not bucket:
            return [f"{name}/" for name in await reached.names()]
        page = await reached.call(
            "to list the folders", "ListObjectsV2", Prefix=prefix, Delimiter="/", MaxKeys=_MOST_ROWS
        )
        return [f"{bucket}/{row['Prefix']}" for row in rows(page, "CommonPrefixes") if row.get("Prefix")]
    finally:
        await reached.aclose()
