"""What `upload`, `move`, `sync` and `watch` check before they delete files that are in the store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from bigupload.cli.options import PROOFS

delete_if_proved_option = click.option(
    "--delete-if-proved",
    type=click.Choice(PROOFS),
    default="full-object",
    show_default=True,
    help="With --delete-source: the proof that is needed to delete a file.",
)


def check_deletes(arguments: dict[str, Any], *, moves: bool = False) -> None:
    """Drop what does not apply, and raise UsageError for what contradicts the deletion.

    Args:
        arguments: Those of the command.
        moves: Whether the command deletes by itself.
    """
    arguments["delete_source"] = moves or arguments["delete_source"]
    if not arguments["delete_source"]:
        if arguments["delete_if_proved"] == "full-object":  # the default
            del arguments["delete_if_proved"]
        return
    if arguments.get("write_checksums") is not None:
        raise click.UsageError(
            "--write-checksums reads the files once more until its list is whole, and they would be deleted before: "
            "upload with --write-checksums first, then add --skip-existing --delete-source instead"
        )
    if arguments.get("mhl"):
        raise click.UsageError(
            "--mhl writes its list once all files are in the store, and they would be deleted before: upload with "
            "--mhl first, then run the command with --skip-existing and without --mhl"
        )


def check_sources(sources: Iterable[object]) -> None:
    """Raise UsageError for sources that can't be deleted."""
    for source in sources:
        if isinstance(source, str):
            raise click.UsageError(
                "a URL can't be deleted here: move and --delete-source are for files of this machine"
            )
        if str(source) == "-":
            raise click.UsageError(
                "standard input can't be deleted: move and --delete-source are for files of this machine"
            )
