"""The unfinished uploads on this machine, and the commands that continue them, for `resume` and `status`."""

from __future__ import annotations

import base64
import contextlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from bigupload import errors
from bigupload.cli.wording import spelled
from bigupload.core.manifest import Manifest
from bigupload.core.selection import has_wildcard
from bigupload.manifests.job_record import KnownJob, known_jobs, last_written, locate_job
from bigupload.manifests.journal import read_manifest
from bigupload.manifests.listing import KnownUpload, known_uploads, locate_manifest, replaced_uploads
from bigupload.manifests.lock import is_locked
from bigupload.manifests.state_directory import state_dir
from bigupload.s3_parameters import ADDRESS
from bigupload.support.daemon_threads import hanging
from bigupload.units import counted, format_age, one_line, printable, quoted

SAME_OPTIONS = "with the options that it had (shown are those that are recorded)"
"""Advice about a job's command: a record has the selection of an `upload`, and of a sync or watch no option."""
_LOCAL = "local"
"""The local store, as a target names it."""


def job_named(name: Path) -> KnownJob | None:
    """The job that a command names; None if it names a manifest, or nothing.

    Raises:
        UsageError: The id's beginning fits a job and an upload, or several jobs.
    """
    job = locate_job(name, state_dir())
    if job is not None and not name.exists():
        with contextlib.suppress(errors.ManifestNotFound):
            locate_manifest(name, state_dir())
            raise errors.UsageError(f"{str(name)!r} fits a job and an upload: write more of its id")
    return job


def refuse_job(name: Path) -> None:
    """Raise UsageError with the job's command, if a job is named where an upload is wanted."""
    job = job_named(name)
    if job is not None:
        command = command_of(job)
        again = f"the command or the program of {job.shown!r} again"
        if command:
            again = f"its command again, {SAME_OPTIONS}: {command}"
        raise errors.UsageError(f"{name} is a job of many files: to continue it, run {again}")


def gone_sources(jobs: Iterable[KnownJob]) -> dict[str, str]:
    """Return the sources of jobs, by their ids, if none of them exists any more: no command can continue such a job."""
    wanted = {job.id: paths for job in jobs if (paths := _paths_of(job))}
    hung = hanging(path for paths in wanted.values() for path in paths)
    return {
        id_: ", ".join(paths)
        for id_, paths in wanted.items()
        if hung.isdisjoint(paths) and not any(map(os.path.lexists, paths))
    }


def _paths_of(job: KnownJob) -> list[str]:
    """The files and directories that a job uploads; empty if not all are known."""
    paths = [word for word in job.arguments if not word.startswith("--")]
    return [] if any(map(has_wildcard, paths)) else paths


def command_of(job: KnownJob) -> str | None:
    """Return the command that continues a job; None if unknown, as for a job of a Python program."""
    if job.command is None:
        return None
    words = [job.command, *job.arguments, job.target.removesuffix(f" at {job.endpoint}")]
    if not job.target.startswith("s3://"):
        words.insert(-1, "--service")
    if job.endpoint is not None:
        words += ["--local"] if job.endpoint == _LOCAL else ["--endpoint-url", job.endpoint]
    before = "" if job.directory is None else f"cd {quoted(job.directory)} && LIST | "
    return f"{before}bigupload {' '.join(map(quoted, words))}"


SHORT_ID = 8
"""Characters of an id that are shown, if no two uploads share them."""
_CONNECTION = ("local", "endpoint_url", "profile", "ca_bundle", "no_verify_ssl", "no_sign_request", *ADDRESS)
"""Recorded options that identify the store. None of them is a secret."""

_EXPECTED_SIZE = "--expected-size"


def print_streams(uploads: Sequence[KnownUpload]) -> None:
    """Print the command that resumes each unfinished upload of a pipe or a growing file. Running ones are left out."""
    left = [each for each in uploads if each.resumable and not is_locked(each.manifest)]
    growing = [each for each in left if is_growing(each)]
    if growing:
        click.echo(
            f"{counted(len(growing), 'unfinished upload')} followed a growing file. A watch continues its files "
            f"itself; else this command goes on, {SAME_OPTIONS}. bigupload resume ID uploads the file as it is:",
            err=True,
        )
    for each in growing:
        click.echo(f"  {_command(each, f'bigupload upload --follow {_quoted(each.source or str())}')}", err=True)
    streams = [each for each in left if not each.is_file]
    if not streams:
        return
    it = "it" if len(streams) == 1 else "each"
    click.echo(
        f"{counted(len(streams), 'unfinished upload')} came from {'a pipe' if len(streams) == 1 else 'pipes'}. To "
        f"resume {it}, run its program again, with the same bytes:",
        err=True,
    )
    commands = [command_of_stream(upload) for upload in streams]
    for command in commands:
        click.echo(f"  {command}", err=True)
    if any(_EXPECTED_SIZE in command for command in commands):
        click.echo(
            f"If {_EXPECTED_SIZE} was wrong, the command fails again: add --no-resume, and give the true size or none",
            err=True,
        )


def print_jobs(jobs: Sequence[KnownJob]) -> None:
    """Print the unfinished jobs of many files, and the command that continues each. Running ones are left out."""
    left = [job for job in jobs if job.status == "unfinished" and not job.gone and not is_locked(job.record)]
    if not left:
        return
    are, its = ("is", "its command continues it") if len(left) == 1 else ("are", "the command of each continues it")
    click.echo(f"{counted(len(left), 'job')} of many files {are} unfinished; {its}, {SAME_OPTIONS}:", err=True)
    gone = gone_sources(left)
    for job in left:
        if job.id in gone:
            how = f"nothing can continue it: no such file or directory: {gone[job.id]}"
        else:
            how = command_of(job) or f"the command or the program of {job.shown!r} again"
        click.echo(f"  {job.id[:8]}  {one_line(how)}", err=True)
    click.echo("bigupload abort ID forgets a job: its files stay in the bucket", err=True)


def command_of_stream(upload: KnownUpload) -> str:
    """Return the command that resumes the upload of a stream, with the options that identify its store."""
    return _command(upload, "PROGRAM | bigupload upload -", upload.source or "")


def _command(upload: KnownUpload, begins: str, name: str | None = None) -> str:
    """Add target and options to the beginning of a command. `name`: the upload's name, where no path gives it."""
    target = upload.target or ""
    words = [target]
    if not target.startswith("s3://"):
        words = ["--service", target.partition("#")[0]]
    if name is not None and (len(words) > 1 or target.rpartition("/")[2] != name):
        words += ["--name", name]
    with contextlib.suppress(errors.ManifestError):
        words += _options_of(read_manifest(upload.manifest).manifest)
    if upload.manifest.parent != state_dir():
        words += ["--manifest", str(upload.manifest)]
    return f"{begins} {' '.join(map(_quoted, words))}"


def is_growing(upload: KnownUpload) -> bool:
    """Whether a file is followed, whose end is not known yet."""
    return upload.is_file and upload.size is None and "://" not in (upload.source or "")


def _quoted(word: str) -> str:
    """A word of a command in printable characters, which bash and zsh take."""
    if word.isprintable():
        return quoted(word)
    plain = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in plain)}'"


def _options_of(manifest: Manifest) -> list[str]:
    words = connection_of(manifest.header.options)
    if manifest.target.region is not None and "--local" not in words:
        words += ["--region", manifest.target.region]
    if manifest.header.end_marker is not None:
        words += ["--end-marker", base64.b64decode(manifest.header.end_marker).decode(errors="replace")]
    size = manifest.first_plan.size
    return words if size is None else [*words, _EXPECTED_SIZE, str(size)]


def connection_of(options: Mapping[str, Any]) -> list[str]:
    """Return the words of a command that reach the store that a manifest recorded."""
    words = []
    for name in _CONNECTION:
        value = options.get(name)
        if value is True:
            words.append(spelled(name))
        elif isinstance(value, str):
            words += [spelled(name), value]
    return words


def known_here(*, replaced: bool = False) -> list[KnownUpload]:
    """The uploads of the state directory, the least recently written manifest first.

    Args:
        replaced: Whether to add those that `--no-resume` replaced, and whose parts are in the store.
    """
    return [*known_uploads(state_dir()), *(replaced_uploads(state_dir()) if replaced else ())]


def unfinished() -> dict[str, KnownUpload]:
    """Return the uploads that their manifests alone can resume, by the ids that commands take.

    Prints how to continue the other uploads and the jobs of many files, or that nothing is unfinished.
    """
    known = known_here()
    uploads = [upload for upload in known if upload.resumable]
    jobs = known_jobs(state_dir())
    counts = {
        "manifest": sum(upload.status == "unreadable" for upload in known),
        "record": sum(job.status == "unreadable" for job in jobs),
    }
    unreadable = [counted(count, what) for what, count in counts.items() if count]
    if unreadable:
        click.echo(f"{' and '.join(unreadable)} can't be read: see bigupload status", err=True)
    elif not uploads:
        click.echo("nothing to resume: this machine knows no unfinished upload of one file", err=True)
    print_streams(uploads)
    print_jobs(jobs)
    ids = shown_ids(known)
    return {ids[upload.id]: upload for upload in uploads if upload.is_file and not is_growing(upload)}


def completions(*, with_all: bool) -> list[tuple[str, str]]:
    """The ids of unfinished uploads, the latest first, each with what a person knows it by.

    Args:
        with_all: Whether also those that the manifest alone can't resume, and jobs.
    """
    known = known_here(replaced=with_all)
    ids = shown_ids(known)
    wanted = [each for each in known if each.status == "replaced" or (each.resumable and (with_all or each.is_file))]
    found = [(ids[each.id], f"{each.source}, {age_of(each.manifest)}") for each in reversed(wanted)]
    jobs = reversed(known_jobs(state_dir())) if with_all else ()
    return found + [(job.id[:SHORT_ID], f"{job.shown}, {age_of(job.record)}") for job in jobs]


def shown_ids(uploads: list[KnownUpload]) -> dict[str, str]:
    """Ids, and how they are shown: their beginnings, if those are not those of others."""
    short = len({upload.id[:SHORT_ID] for upload in uploads}) == len(uploads)
    return {upload.id: printable(upload.id[:SHORT_ID] if short else upload.id) for upload in uploads}


def age_of(path: Path) -> str:
    """Since when nothing was written into a manifest or record."""
    return format_age(max(0.0, time.time() - last_written(path)))
