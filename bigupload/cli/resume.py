"""`bigupload resume`."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigupload import errors
from bigupload.cli import complain
from bigupload.cli.destination import Destination, object_destination
from bigupload.cli.options import (
    PATH,
    PATH_OR_URL,
    completed_by,
    on_change_option,
    pace,
    transfer_options,
)
from bigupload.cli.settings import COMMAND_LINE, strength
from bigupload.s3_parameters import ADDRESS

if TYPE_CHECKING:
    from bigupload.cli.running import KeptParts
    from bigupload.engine.upload_run import UploadResult
    from bigupload.events import Event


@click.command()
@click.argument("manifests", metavar="[MANIFEST...]", nargs=-1, type=PATH, shell_complete=completed_by("uploads"))
@click.option(
    "--source",
    type=PATH_OR_URL,
    metavar="PATH",
    shell_complete=completed_by("files"),
    help="Where the file is now, if it was moved, or its whole URL. Required with --adopt.",
)
@click.option(
    "--adopt",
    metavar="s3://BUCKET/KEY",
    help="Take over an open multipart upload of this key that has no manifest here.",
)
@click.option("--upload-id", metavar="ID", help="The upload to adopt, if several of this key are open.")
@click.option("--local", is_flag=True, help="The upload to adopt is in the local store.")
@click.option("--verify-source", is_flag=True, help="Hash the file again before completing.")
@on_change_option("raise")
@click.option(
    "--trust",
    is_flag=True,
    help="Also resume manifests that come from another machine or user. A manifest decides which file goes where.",
)
@transfer_options
def resume(manifests: tuple[Path, ...], **arguments: Any) -> None:
    """Resume the uploads of manifests, or all unfinished uploads of single files of this machine.

    Without a name, it leaves growing files (--follow), what came from pipes, and jobs of many files (a directory, sync,
    watch), and prints the commands that continue them.

    MANIFEST is a path, or an upload's id as `bigupload status` prints it.
    """
    from bigupload.cli.running import KeptParts, run

    adopt, source = arguments["adopt"], arguments["source"]
    if adopt is not None and (manifests or source is None):
        raise click.UsageError("--adopt s3://BUCKET/KEY needs --source PATH, and no manifest")
    if adopt is not None and isinstance(source, str):
        raise click.UsageError("--adopt takes a file as its --source, not a URL")
    if adopt is None and source is not None and len(manifests) != 1:
        raise click.UsageError("--source is for one manifest: name the one whose file was moved")
    ctx = click.get_current_context()
    if adopt is None and any(strength(ctx, name) == COMMAND_LINE for name in _OF_THE_MANIFEST):
        raise click.UsageError("the manifest names the store: use the options of the connection with --adopt only")
    to, kept = object_destination(arguments, name="adopt") if adopt is not None else None, KeptParts()
    raise SystemExit(run(lambda: _resume_all(list(manifests), to, arguments, kept), kept=kept))


_OF_THE_MANIFEST = (
    "endpoint_url", "region", "profile", "ca_bundle", "no_verify_ssl", "no_sign_request", "upload_id",
    "expected_bucket_owner", "request_payer", *ADDRESS,
)  # fmt: skip
"""Options without effect where a manifest names the store."""


async def _resume_all(manifests: list[Path], to: Destination | None, arguments: dict[str, Any], kept: KeptParts) -> int:
    from bigupload.api.uploader import Uploader
    from bigupload.cli.reporting import CONNECTING, reporting, result_line, worst
    from bigupload.cli.status import of_named_manifest
    from bigupload.cli.unfinished import refuse_job
    from bigupload.options import S3Options

    source = arguments["source"]
    key = S3Options(sse_customer_key=arguments.get("sse_customer_key"))
    async with Uploader(**pace(arguments)) as uploader:
        with reporting(arguments["progress"]) as reporter:

            def one(name: Path, row: Path) -> Awaitable[UploadResult]:
                def on_event(event: Event) -> None:
                    kept.on_event(event)
                    reporter.on_event(row, event)

                proof = arguments["require_proof"]
                if to is not None:
                    more = {"s3": to.s3, "upload_id": arguments["upload_id"]}
                    return uploader.adopt(to.name, source=source, require_proof=proof, on_event=on_event, **more)
                more = {each: arguments[each] for each in ("verify_source", "trust", "on_change")}
                return uploader.resume(name, source=source, s3=key, require_proof=proof, on_event=on_event, **more)

            codes: list[int] = []
            for name, row, shown in [(source, source, str(source))] if to is not None else _uploads_of(manifests):
                reporter.begin(row, CONNECTING)
                try:
                    if to is None:
                        refuse_job(name)
                    result = await one(name, row)
                except errors.BigUploadError as e:
                    complain(of_named_manifest(e, name) if to is None else e, shown)
                    codes.append(e.exit_code)
                else:
                    kept.on_outcome(result)
                    reporter.on_result(result_line(result, as_json=arguments["as_json"]))
                finally:
                    reporter.end(row)
    return worst(codes)


def _uploads_of(names: list[Path]) -> list[tuple[Path, Path, str]]:
    """Return each manifest to resume, its name in the display, and its name in errors. No names: all that can be."""
    from bigupload.cli.status import manifest_of
    from bigupload.cli.unfinished import unfinished

    if not names:
        return [
            (each.manifest, Path(each.source or ""), f"{each.source} → {each.target} (bigupload resume {shown})")
            for shown, each in unfinished().items()
        ]
    found = [(name, manifest_of(name)) for name in names]
    return [
        (name, name, str(name))
        if manifest is None
        else (name, Path(manifest.source.path), f"{manifest.source.path} → {manifest.target} ({name})")
        for name, manifest in found
    ]
