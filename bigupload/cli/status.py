"""`bigupload status` and `bigupload abort`: what is recorded on this machine.

The table has a header and fitted columns on a terminal, and is plain lines elsewhere.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from bigupload import errors
from bigupload.cli import complain
from bigupload.cli.options import DURATION, PATH, completed_by, customer_key_option
from bigupload.cli.settings import variables
from bigupload.cli.unfinished import (
    SHORT_ID,
    age_of,
    is_growing,
    job_named,
    known_here,
    print_jobs,
    print_streams,
    shown_ids,
)
from bigupload.core.manifest import Manifest
from bigupload.core.remote_url import path_of
from bigupload.events import Event, Warned
from bigupload.manifests.clean_up import clean
from bigupload.manifests.job_record import KnownJob, forget_job, known_jobs, last_written
from bigupload.manifests.journal import read_manifest
from bigupload.manifests.listing import KnownUpload, locate_manifest
from bigupload.manifests.lock import is_locked
from bigupload.manifests.state_directory import state_dir
from bigupload.units import counted, format_age, format_size, one_line, printable

_HEADER = ("ID", "STATE", "DONE", "AGE")
_ARROW = " → "
_LEAST = 20
"""Columns that the last one has at least, however narrow the terminal is."""


class StatusRow(NamedTuple):
    """An upload or a job, as texts for a terminal."""

    cells: tuple[str, str, str, str]
    """Its id, its state, the share in the store or the proof of the object, and since when nothing was recorded."""
    source: str
    target: str = ""
    note: str = ""
    """The text behind the target."""


def terminal_width() -> int | None:
    """The columns of the terminal; None: standard output is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def lines_of(rows: Sequence[StatusRow], width: int | None) -> list[str]:
    """The lines of the table.

    Args:
        rows: What it has.
        width: Columns of the terminal, in which no line is cut by the terminal. None: the lines are for a program or a
            file, without a header, and whole.
    """
    if not rows:
        return []
    header = [] if width is None else [_HEADER]
    columns = [max(map(len, column)) for column in zip(*header, *(row.cells for row in rows), strict=True)]
    room = None if width is None else max(_LEAST, width - sum(columns) - 2 * len(columns))
    lines = [*((cells, "WHAT") for cells in header), *((row.cells, _what(row, room)) for row in rows)]
    return ["  ".join([*map(str.ljust, cells, columns), what]) for cells, what in lines]


def _what(row: StatusRow, room: int | None) -> str:
    """Shorten source and target to the given number of columns: each keeps its beginning and end."""
    arrow = _ARROW if row.target else ""
    whole = f"{row.source}{arrow}{row.target}{row.note}"
    if room is None or len(whole) * 2 <= room:
        return whole
    from rich.cells import cell_len

    from bigupload.progress.rows import cut_middle

    if cell_len(whole) <= room:
        return whole
    if not row.target:
        return cut_middle(whole, room)
    left = room - len(arrow)
    target = cut_middle(row.target, max(left // 2, left - cell_len(row.source)))
    return f"{cut_middle(row.source, left - cell_len(target))}{arrow}{target}"


def of_named_manifest(error: errors.BigUploadError, path: Path) -> errors.BigUploadError:
    """The error to show for a manifest that was named, and can't be read or is not trusted.

    `resume` has no other manifest to offer.
    """
    if isinstance(error, errors.UsageError) and error.retry_with == "trust":
        words = click.get_current_context().command_path.split()[1:]
        if ignored := [name for name in variables(words, "trust") if os.environ.get(name)]:
            return errors.UsageError(f"{error} on the command line. {ignored[0]} has no effect: no variable sets it")
    if not isinstance(error, errors.ManifestCorrupt):
        return error
    return errors.ManifestCorrupt(
        f"{errors.IT} is not a manifest, or its first line is damaged; nothing was changed. bigupload status lists the "
        "manifests; to resume the upload of a file, repeat its upload command",
        it=path,
    )


def _fields(upload: KnownUpload) -> dict[str, Any]:
    """The output of `--json`. Programs read it: names stay."""
    if upload.status == "unreadable":
        return {"id": upload.id, "manifest": str(upload.manifest), "status": upload.status, "error": upload.error}
    fields = {**dataclasses.asdict(upload), "manifest": str(upload.manifest), "path": upload.source}
    del fields["error"], fields["source"]
    return {**fields, "held": upload.held, "running": upload.resumable and is_locked(upload.manifest)}


def _fields_of_job(job: KnownJob) -> dict[str, Any]:
    return {**dataclasses.asdict(job), "record": str(job.record), "kind": "job", "running": is_locked(job.record)}


@click.command()
@click.argument("ids", metavar="[ID...]", nargs=-1, shell_complete=completed_by("uploads"))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per upload.")
@click.option("--clean", is_flag=True, help="First delete the manifests and records of ended uploads.")
@click.option(
    "--older-than", type=DURATION, metavar="TIME", help="With --clean: only if they ended so long ago, as 7d."
)
@click.option("--keep", type=click.IntRange(0), metavar="N", help="With --clean: not the N of each that ended last.")
@click.option(
    "--complete-within",
    type=DURATION,
    metavar="TIME",
    help="List nothing. End with status 1 if a sync has not ended with everything in the bucket for so long, as 60h.",
)
@click.option("--unfinished", "only_unfinished", is_flag=True, help="Only incomplete uploads.")
@click.option("--since", type=DURATION, metavar="TIME", help="Only uploads with a record in the last TIME, as 7d.")
def status(
    ids: tuple[str, ...],
    as_json: bool,
    clean: bool,
    older_than: float | None,
    keep: int | None,
    complete_within: float | None,
    only_unfinished: bool,
    since: float | None,
) -> None:
    """List the uploads and the jobs of many files that this machine knows: id, state, progress, age, source and target.

    With ID, or its beginning, only those. The age is the time since something was recorded. The progress is what is
    recorded. The store may have a few parts more, whose responses were not read before a stop.

    `bigupload resume` and `abort` take an upload's id, and `abort` a job's. `bigupload gc` finds uploads that no
    manifest knows. The manifests of completed and aborted uploads, and the records of jobs that have finished or have
    no file, are deleted after 30 days, or at once with --clean. With --older-than and --keep, what is old or beyond the
    number is deleted. Records of syncs and watches stay for a year: the next run needs them. Unfinished ones stay, also
    those that --no-resume replaced: the store has their parts.
    """
    if complete_within is not None:
        if ids or as_json or clean or only_unfinished or since is not None:
            raise click.UsageError("--complete-within lists and deletes nothing: give it alone")
        raise SystemExit(_check_syncs(complete_within))
    if clean and ids:
        raise click.UsageError("--clean takes no ID: it deletes what has ended")
    if clean:
        _clean(older_than, keep)
    elif older_than is not None or keep is not None:
        raise click.UsageError("--older-than and --keep are for --clean: add it")
    uploads, jobs = known_here(replaced=True), known_jobs(state_dir())
    shown = shown_ids(uploads)
    if ids:
        _check_known(ids, [*(each.id for each in uploads), *(each.id for each in jobs)])
    oldest = -math.inf if since is None else time.time() - since
    begin = ids or ("",)
    uploads = [
        each
        for each in uploads
        if each.id.startswith(begin)
        and last_written(each.manifest) >= oldest
        and (each.resumable or each.status == "replaced" or not only_unfinished)
    ]
    jobs = [
        each
        for each in jobs
        if each.id.startswith(begin)
        and last_written(each.record) >= oldest
        and (each.status == "unfinished" or not only_unfinished)
    ]
    if as_json:
        for fields in [*map(_fields, uploads), *map(_fields_of_job, jobs)]:
            click.echo(json.dumps(fields))
    else:
        rows = [*(_upload_row(each, shown[each.id]) for each in uploads), *map(_job_row, jobs)]
        for line in lines_of(rows, terminal_width()):
            click.echo(line)
    _print_held(uploads)
    if not as_json:
        print_streams(uploads)
        print_jobs(jobs)
        if not uploads and not jobs:
            limited = only_unfinished or since is not None
            click.echo(f"this machine knows no {'such upload' if limited else 'upload'}", err=True)


def _check_known(ids: Sequence[str], known: Sequence[str]) -> None:
    for text in ids:
        if not text:
            raise click.UsageError("an id is empty: is a variable of the shell not set?")
        if not any(each.startswith(text) for each in known):
            raise errors.ManifestNotFound(f"no such upload: {text}. bigupload status lists the ids")


def _upload_row(upload: KnownUpload, name: str) -> StatusRow:
    age, state = age_of(upload.manifest), upload.status
    if state == "unreadable":
        return StatusRow((name, state, "", age), one_line(upload.error or ""))
    held = format_size(upload.bytes_uploaded)
    if state == "replaced":
        done = f"at least {held}" if upload.held else "no part recorded"
    elif upload.verified:
        done = f"proved: {upload.verified}"
    elif upload.size is None:
        done = f"{held} so far"
    else:
        done = f"{100 * upload.bytes_uploaded // max(1, upload.size)} % of {format_size(upload.size)}"
    # An upload is under way only while a process has it.
    shown = "unfinished" if upload.resumable and not is_locked(upload.manifest) else state
    target = f"{upload.target or ''} at {upload.endpoint}" if upload.endpoint else upload.target or ""
    return StatusRow((name, shown, done, age), one_line(upload.source or ""), one_line(target))


def _job_row(job: KnownJob) -> StatusRow:
    name, age = printable(job.id[:SHORT_ID]), age_of(job.record)
    if job.status == "unreadable":
        return StatusRow((name, job.status, "", age), f"{one_line(job.error or '')}: {job.record}")
    state, done = "incomplete" if job.gone else job.status, f"{counted(job.files, 'file')}, {format_size(job.bytes)}"
    note = f" ({counted(job.gone, 'file')} did not exist)" if job.gone else ""
    return StatusRow((name, state, done, age), one_line(job.shown), one_line(job.target), note)


def _print_held(uploads: Sequence[KnownUpload]) -> None:
    """Print the parts that the store keeps, and the commands for them."""
    unfinished = [upload for upload in uploads if upload.resumable]
    replaced = [upload for upload in uploads if upload.status == "replaced"]
    counts = [f"{len(each)} {name}" for each, name in ((unfinished, "unfinished"), (replaced, "replaced")) if each]
    if not counts:
        return
    held = sum(upload.held for upload in uploads)  # the store may have parts whose responses were not read
    in_store = f"at least {format_size(held)} in the store" if held else "no part recorded"
    of_files = sum(upload.is_file and not is_growing(upload) for upload in unfinished)
    which = "" if of_files == len(unfinished) else " those of files"
    goes_on = f"bigupload resume continues{which}, " if of_files else ""
    click.echo(f"{', '.join(counts)}, with {in_store}: {goes_on}bigupload abort ID deletes the parts", err=True)


def _check_syncs(within: float) -> int:
    """Name the syncs of this machine without a complete run in the last `within` seconds. Return the exit status."""
    jobs = known_jobs(state_dir())
    unreadable = [job for job in jobs if job.status == "unreadable"]
    for job in unreadable:  # any of them may be a sync's
        why = f"can't read the record {job.record}: {job.error or ''}. Unless that passes, bigupload abort"
        complain(errors.BigUploadError(f"{why} {job.id[:SHORT_ID]} forgets it"))
    syncs = [job for job in jobs if job.command == "sync"]
    if not syncs and not unreadable:
        complain(errors.BigUploadError("no sync is recorded on this machine, or none has sent a file"))
        return errors.EXIT_FAILED
    late = len(unreadable)
    for job in syncs:
        last = job.last_finished or job.began
        age = time.time() - datetime.datetime.fromisoformat(last).timestamp() if last is not None else math.inf
        if age > within:
            late += 1
            since = "the last complete one ended" if job.last_finished else "none was complete since it began,"
            ago = f"{since} {format_age(age)} ago" if last is not None else "none was complete"
            complain(errors.BigUploadError(f"{ago}. bigupload abort {job.id[:SHORT_ID]} forgets it"), _job_where(job))
    return errors.EXIT_FAILED if late else errors.EXIT_OK


def _job_where(job: KnownJob) -> str:
    return one_line(f"{job.shown} → {job.target}")


def _clean(older_than: float | None, keep: int | None) -> None:
    """Delete the records of ended uploads. If only one limit is given, the other one does not apply."""
    try:
        cleaned = clean(
            state_dir(),
            older_than=(0 if keep is None else math.inf) if older_than is None else older_than,
            keep=(0 if older_than is None else sys.maxsize) if keep is None else keep,
        )
    except OSError as e:
        raise errors.ManifestError(f"can't clean {state_dir()}: {e.strerror}") from e
    if cleaned.kept_jobs:
        records = "record" if cleaned.kept_jobs == 1 else f"{cleaned.kept_jobs} records"
        need = "needs it" if cleaned.kept_jobs == 1 else "needs them"
        click.echo(
            f"kept the {records} of syncs and watches: the next run {need} to know what is in the store. "
            "bigupload abort ID forgets one",
            err=True,
        )
    if not cleaned.manifests and not cleaned.others:
        click.echo("there is no manifest to delete", err=True)
        return
    manifests, others = counted(cleaned.manifests, "manifest"), counted(cleaned.others, "other file")
    click.echo(f"deleted {manifests} and {others} ({format_size(cleaned.bytes)})", err=True)


def manifest_of(name: Path) -> Manifest | None:
    """The manifest that a command names; None if it can't be read."""
    try:
        return read_manifest(locate_manifest(name, state_dir())).manifest
    except errors.BigUploadError:
        return None


def _aborted(name: Path, before: Manifest | None) -> str:
    """Return the line for an aborted upload, by its manifest before."""
    if before is None:
        return f"aborted: {printable(str(name))}"
    if before.aborted:
        freed = "already, nothing to free"
    elif before.bytes_uploaded:
        freed = f"{format_size(before.bytes_uploaded)} freed"
    else:  # the store may have had a part that a kill kept from being recorded
        freed = "no part was recorded; if the store had one, it is deleted"
    return f"aborted: {one_line(path_of(before.source.path).name)} → {one_line(str(before.target))} ({freed})"


def _warn(event: Event) -> None:
    if isinstance(event, Warned):
        click.echo(f"bigupload: warning: {printable(event.message)}", err=True)


@click.command()
@click.argument(
    "paths", metavar="MANIFEST...", nargs=-1, type=PATH, required=True, shell_complete=completed_by("uploads")
)
@click.option("--trust", is_flag=True, help="Also abort uploads whose manifests come from another machine or user.")
@customer_key_option
def abort(paths: tuple[Path, ...], trust: bool, sse_customer_key: bytes | None) -> None:
    """Abort uploads: the store deletes their parts. Complete objects stay.

    MANIFEST is a path, or an id as `bigupload status` prints it. Of a job of many files, the record is deleted.
    """
    from bigupload.api.uploader import Uploader
    from bigupload.cli.reporting import worst
    from bigupload.cli.running import run
    from bigupload.options import S3Options

    async def abort_all() -> int:
        codes = []
        for path in paths:
            try:
                if (job := job_named(path)) is not None:
                    forget_job(job)
                    files = "its files" if job.status == "unreadable" else counted(job.files, "file")
                    stay = "stays" if job.files == 1 else "stay"
                    click.echo(f"forgot the job: {files} {stay} in the bucket", err=True)
                    continue
                before = manifest_of(path)
                key = S3Options(sse_customer_key=sse_customer_key)
                async with Uploader() as uploader:
                    await uploader.abort(path, trust=trust, s3=key, on_event=_warn)
                click.echo(_aborted(path, before), err=True)
            except errors.BigUploadError as e:
                complain(of_named_manifest(e, path), str(path))
                codes.append(e.exit_code)
        return worst(codes)

    raise SystemExit(run(abort_all))
