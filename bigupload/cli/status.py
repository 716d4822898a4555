"""`bigupload status` and `bigupload abort`: what is recorded on this machine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigupload import errors
from bigupload.cli import complain
from bigupload.cli.options import PATH
from bigupload.cli.s3_options import customer_key_option
from bigupload.units import counted, format_size, one_line, printable

if TYPE_CHECKING:
    from bigupload.manifests.listing import KnownUpload

_SHORT_ID = 8
"""Characters of an id that are shown, if no two uploads share them."""


def _known() -> list[KnownUpload]:
    """The uploads of the state directory, the least recently written manifest first."""
    from bigupload.manifests.listing import known_uploads
    from bigupload.manifests.location import state_dir

    return list(known_uploads(state_dir()))


def unfinished() -> list[Path]:
    """The manifests whose uploads can be resumed by them alone. Says which others are unfinished, or that none is."""
    uploads = [upload for upload in _known() if upload.resumable]
    if not uploads:
        click.echo("nothing to resume: this machine knows no unfinished upload", err=True)
    for upload in uploads:
        if not upload.is_file:
            click.echo(
                f"{one_line(upload.source or '')} → {one_line(upload.target or '')} was no file: the same upload "
                "command with the same bytes resumes it",
                err=True,
            )
    return [upload.manifest for upload in uploads if upload.is_file]


def not_a_manifest(error: errors.BigUploadError, path: Path) -> errors.BigUploadError:
    """The error to show for a manifest that was named and can't be read. `resume` has no other manifest to offer."""
    if not isinstance(error, errors.ManifestCorrupt):
        return error
    return errors.ManifestCorrupt(
        f"{path} is not a manifest, or its first line is damaged; nothing was changed. bigupload status lists the "
        "manifests; to resume the upload of a file, repeat its upload command"
    )


def _fields(upload: KnownUpload) -> dict[str, Any]:
    """What `--json` prints. Programs read it: names stay."""
    if upload.status == "unreadable":
        return {"id": upload.id, "manifest": str(upload.manifest), "status": upload.status, "error": upload.error}
    fields = {name: value for name, value in dataclasses.asdict(upload).items() if name != "error"}
    path = fields.pop("source")
    return {**fields, "manifest": str(upload.manifest), "path": path, "held": _held(upload)}


def _share(upload: KnownUpload) -> str:
    """How much of an upload is in the store."""
    if upload.size is None:
        return f"{format_size(upload.bytes_uploaded)} so far"
    return f"{100 * upload.bytes_uploaded // max(1, upload.size)} % of {format_size(upload.size)}"


def _held(upload: KnownUpload) -> int:
    """Bytes of parts that the store keeps for an unfinished upload."""
    return upload.bytes_uploaded if upload.resumable else 0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per upload.")
@click.option("--clean", is_flag=True, help="First delete the manifests of completed and aborted uploads.")
def status(as_json: bool, clean: bool) -> None:
    """List the uploads that this machine knows: id, state, progress, file and object.

    `bigupload resume` and `abort` take the id. `bigupload gc` finds uploads that no manifest knows. The manifests of
    completed and aborted uploads are deleted after 30 days, or at once with --clean. Unfinished ones stay.
    """
    if clean:
        _clean()
    uploads = _known()
    short = len({upload.id[:_SHORT_ID] for upload in uploads}) == len(uploads)
    for upload in uploads:
        name = printable(upload.id[:_SHORT_ID] if short else upload.id)
        if as_json:
            click.echo(json.dumps(_fields(upload)))
        elif upload.status == "unreadable":
            click.echo(f"{name}  unreadable  {one_line(upload.error or '')}")
        else:
            done = f"proved: {upload.verified}" if upload.verified else _share(upload)
            where = f"{one_line(upload.source or '')} → {one_line(upload.target or '')}"
            click.echo(f"{name}  {upload.status:<10}  {done:<22}  {where}")
    open_uploads = [upload for upload in uploads if upload.resumable]
    if open_uploads:
        held = format_size(sum(map(_held, open_uploads)))
        click.echo(
            f"{len(open_uploads)} unfinished, with {held} in the store: bigupload resume continues, "
            "bigupload abort ID deletes the parts",
            err=True,
        )
    if not uploads and not as_json:
        click.echo("this machine knows no upload", err=True)


def _clean() -> None:
    from bigupload.manifests.clean_up import clean
    from bigupload.manifests.location import state_dir

    try:
        cleaned = clean(state_dir(), older_than=0, keep=0)
    except OSError as e:
        raise errors.ManifestError(f"can't clean {state_dir()}: {e.strerror}") from e
    if not cleaned.manifests and not cleaned.others:
        click.echo("there is no manifest to delete", err=True)
        return
    manifests, others = counted(cleaned.manifests, "manifest"), counted(cleaned.others, "other file")
    click.echo(f"deleted {manifests} and {others} ({format_size(cleaned.bytes)})", err=True)


def _aborted(name: Path) -> str:
    """What to say of an upload that was aborted, by its manifest."""
    from bigupload.manifests.journal import read_manifest
    from bigupload.manifests.listing import locate_manifest
    from bigupload.manifests.location import state_dir

    try:
        manifest = read_manifest(locate_manifest(name, state_dir())).manifest
    except errors.BigUploadError:  # another process has cleaned up meanwhile
        return f"aborted: {printable(str(name))}"
    file, freed = one_line(Path(manifest.source.path).name), format_size(manifest.bytes_uploaded)
    return f"aborted: {file} → {one_line(str(manifest.target))} ({freed} freed)"


@click.command()
@click.argument("paths", metavar="MANIFEST...", nargs=-1, type=PATH, required=True)
@click.option("--trust", is_flag=True, help="Also abort uploads whose manifests come from another machine or user.")
@customer_key_option
def abort(paths: tuple[Path, ...], trust: bool, sse_customer_key: bytes | None) -> None:
    """Abort uploads: the store deletes their parts. Complete objects stay.

    MANIFEST is a path, or an upload's id as `bigupload status` prints it.
    """
    from bigupload.api.functions import abort as abort_upload
    from bigupload.cli.reporting import worst
    from bigupload.cli.running import run
    from bigupload.options import S3Options

    async def abort_all() -> int:
        codes = []
        for path in paths:
            try:
                await abort_upload(path, trust=trust, s3=S3Options(sse_customer_key=sse_customer_key))
                click.echo(_aborted(path), err=True)
            except errors.BigUploadError as e:
                complain(not_a_manifest(e, path), str(path), is_path=True)
                codes.append(e.exit_code)
        return worst(codes)

    raise SystemExit(run(abort_all))
