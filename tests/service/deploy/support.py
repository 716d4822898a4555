"""What the tests of the files in deploy/ share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click

from bigupload.cli import _cli, settings

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"


def options_of(arguments: Sequence[str]) -> dict[str, object]:
    """The parameters of a call of the command, parsed and converted by its own code. Raises `click.UsageError`."""
    for words, command in settings.leaves(_cli):
        if tuple(arguments[: len(words)]) == tuple(words):
            context = command.make_context(" ".join(words), list(arguments[len(words) :]))
            return dict(context.params)
    raise click.UsageError(f"no such command: {' '.join(arguments)}")


def names_a_host(image: str) -> bool:
    """Whether an image is of a registry that is named. Else it is of the default one, or of one's own."""
    first, slash, _ = image.partition("/")
    return bool(slash) and bool(re.search(r"[.:]", first))
