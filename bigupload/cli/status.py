"""`bigupload status` and `bigupload abort`: what is recorded on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from bigupload import errors
from bigupload.cli import complain
from bigupload.cli.options import PATH
from bigupload.units import format_size, one_line, printable

_UNFINISHED = ("uploading", "completing")


def manifests() -> list[Path]:
    """All of them, the oldest first."""
    from bigupload.manifests.state_directory import find_manifests
    from bigupload.stores.targets import state_dir

    return find_manifests(state_dir())


def unfinished() -> list[Path]:
    """Those whose upload can go on."""
    return [path for path, row in _rows(manifests()) if row.get("status") in _UNFINISHED]


def _rows(paths: list[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """What each manifest says; one that can't be read says why."""
    from bigupload.manifests.journal import read_manifest

    for path in paths:
        try:
            manifest = read_manifest(path).manifest
        except errors.ManifestNotFound:  # another process renamed or deleted it since it was listed
            continue
        except errors.ManifestError as e:
            yield path, {"manifest": str(path), "status": "unreadable", "error": str(e)}
            continue
        yield (
            path,
            {
                "manifest": str(path),
                "status": manifest.status,
                "path": manifest.source.path,
                "target": str(manifest.target),
                "size": manifest.plan.size,
                "bytes_uploaded": manifest.bytes_uploaded,
                "parts": manifest.plan.count,
                "parts_uploaded": len(manifest.parts),
                "created_at": manifest.header.created_at,
                "verified": manifest.completed and manifest.completed.verified,
                "held": manifest.bytes_uploaded if manifest.status in _UNFINISHED else 0,
            },
        )


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per upload.")
@click.option("--clean", is_flag=True, help="First delete the manifests of completed and aborted uploads.")
def status(as_json: bool, clean: bool) -> None:
    """List the uploads that this machine knows: their state, their progress and their manifests.

    `bigupload gc` finds uploads that no manifest knows. Manifests of
    completed and aborted uploads are deleted after 30 days, or at once with --clean. Unfinished ones stay.
    """
    if clean:
        _clean()
    held = []
    for _, row in _rows(manifests()):
        if as_json:
            click.echo(json.dumps(row))
        elif row["status"] == "unreadable":
            click.echo(f"unreadable  {one_line(row['error'])}")
        else:
            share = 100 * row["bytes_uploaded"] // max(1, row["size"])
            done = f"proved: {row['verified']}" if row["verified"] else f"{share} % of {format_size(row['size'])}"
            click.echo(f"{row['status']:<10}  {done}  {one_line(row['path'])} → {one_line(row['target'])}")
            click.echo(f"            {printable(row['manifest'])}")
            held += [row["held"]] if row["status"] in _UNFINISHED else []
    if held:
        click.echo(f"{len(held)} unfinished, with {format_size(sum(held))} of parts in their stores", err=True)


def _clean() -> None:
    from bigupload.manifests.clean_up import clean
    from bigupload.stores.targets import state_dir

    try:
        cleaned = clean(state_dir(), older_than=0, keep=0)
    except OSError as e:
        raise errors.ManifestError(f"can't clean {state_dir()}: {e.strerror}") from e
    files = cleaned.manifests + cleaned.others
    click.echo(f"deleted {cleaned.manifests} manifests, {files} files in all ({format_size(cleaned.bytes)})", err=True)


@click.command()
@click.argument("paths", metavar="MANIFEST...", nargs=-1, type=PATH, required=True)
@click.option("--trust", is_flag=True, help="Also abort uploads whose manifests come from another machine or user.")
def abort(paths: tuple[Path, ...], trust: bool) -> None:
    """Abort uploads: the store deletes their parts. Complete objects stay.

    MANIFEST is a path, or an upload's id as `bigupload status` prints it.
    """
    from bigupload.api.functions import abort as abort_upload
    from bigupload.cli.reporting import worst
    from bigupload.cli.running import run

    async def abort_all() -> int:
        codes = []
        for path in paths:
            try:
                await abort_upload(path, trust=trust)
            except errors.BigUploadError as e:
                complain(e, str(path))
                codes.append(e.exit_code)
        return worst(codes)

    raise SystemExit(run(abort_all))
