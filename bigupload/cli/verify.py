"""`bigupload verify`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigupload import errors
from bigupload.cli.options import PATH, PROOFS, SIZE, connection_options, progress_option, s3_options
from bigupload.cli.s3_options import store_options
from bigupload.cli.settings import drop_weaker

if TYPE_CHECKING:
    from bigupload.options import S3Options


@click.command()
@click.argument("path", type=PATH)
@click.argument("url", metavar="s3://BUCKET/KEY")
@click.option("--local", is_flag=True, help="The bucket is in the local store, which is started if needed.")
@click.option("--download", is_flag=True, help="Download the object and compare every byte. Resumable.")
@click.option(
    "--require-proof",
    type=click.Choice(PROOFS),
    default="composite-etag",
    show_default=True,
    help="Fail if the proof is weaker than this.",
)
@click.option(
    "--part-size", type=SIZE, metavar="SIZE", help="The size of the object's parts, if the store does not say."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@progress_option
@connection_options
@store_options
def verify(path: Path, **arguments: Any) -> None:
    """Prove that the object s3://BUCKET/KEY equals the file PATH.

    The proof compares the checksums that the store holds with the file's, whichever tool uploaded it. --download
    compares the bytes.
    """
    from bigupload.cli.running import run

    if arguments["download"] and arguments["part_size"] is not None:
        raise errors.UsageError("--download compares bytes and not parts: leave out --part-size")
    if arguments["part_size"] == 0:
        raise errors.UsageError("a part size is at least 1 byte")
    drop_weaker(click.get_current_context(), arguments, "local", than="url")
    url, options = arguments["url"], s3_options(arguments, local=arguments["local"])
    way = _read_back if arguments["download"] else _by_checksums
    raise SystemExit(run(lambda: way(path, url, options, arguments)))


async def _by_checksums(path: Path, url: str, options: S3Options, arguments: dict[str, Any]) -> int:
    from bigupload.core.integrity import Verified
    from bigupload.verification.by_checksum import verify as verify_object

    required = Verified(arguments["require_proof"])
    found = await verify_object(path, url, s3=options, part_size=arguments["part_size"], require_proof=required)
    _show(found, found.verified, arguments)
    return errors.EXIT_OK


async def _read_back(path: Path, url: str, options: S3Options, arguments: dict[str, Any]) -> int:
    from bigupload.api.functions import read_back
    from bigupload.cli.reporting import reporting, waits_for

    with reporting(arguments["progress"]) as reporter:
        reporter.begin(path, await waits_for(local=arguments["local"]))
        found = await read_back(path, url, s3=options, on_event=lambda event: reporter.on_event(path, event))
    _show(found, found.verified, arguments)
    return errors.EXIT_OK


def _show(found: Any, verified: str, arguments: dict[str, Any]) -> None:
    click.echo(json.dumps(dataclasses.asdict(found), default=str) if arguments["as_json"] else verified)
