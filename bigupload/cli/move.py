"""`bigupload move`: `upload --delete-source` under a name of its own."""

from __future__ import annotations

from typing import Any

import click

from bigupload.cli.selection_options import CommandWithRules
from bigupload.cli.upload import all_options, upload_named

_NOT_OF_MOVE = ("delete_source", "follow", "idle", "end_marker", "expected_size", "allow_empty", "temp_dir")


@click.command(
    cls=CommandWithRules,
    epilog="After any stop, the same command completes what was begun, and deletes what is left.",
)
@all_options
def move(names: tuple[str, ...], **arguments: Any) -> None:
    """Upload files and directories, and delete each file here once its object is proved.

    It is `upload --delete-source`. A file stays if it was changed meanwhile, if a program has it open for writing, if
    the proof is weaker than --delete-if-proved, or if the store does not have the object any more when it is asked once
    more, immediately before.
    """
    if not names and arguments["files_from"] is None:
        raise click.UsageError("name the files to move: bigupload move PATH... s3://BUCKET/FOLDER/")
    upload_named(names, arguments | {"delete_source": True})


for _param in move.params:  # hidden where `move` refuses it or has it always
    if isinstance(_param, click.Option):
        _param.hidden = _param.hidden or _param.name in _NOT_OF_MOVE
        _param.help = (
            (_param.help or "")
            .replace("With --delete-source: also", "Also")
            .replace("With --delete-source: ", "")
            .replace("raise; with --delete-source: restart", "restart")
        )
