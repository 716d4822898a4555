"""The job that a command names by its id, and the command that continues it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bigupload import errors
from bigupload.core.globs import has_wildcard
from bigupload.support.daemon_threads import hanging

if TYPE_CHECKING:
    from bigupload.manifests.job_record import KnownJob

_CUT = re.compile(r"… [0-9a-f]{16}$")
"""The end of a name that was too long to keep."""
_NAMES_PATHS = re.compile(r"['\"]?(?:/|--)")
"""The beginning of the name of an `upload` of many files: absolute paths, or options."""
_LIST_FROM_PIPE = re.compile(r"--files-from=(.*)/-")
"""A list that came through a pipe, as a job's name has it: "-" below the directory that its paths are in."""
SAME_OPTIONS = "with the options that it had (shown are those that are recorded)"
"""Advice about a job's command: a record has the selection of an `upload`, and of a sync or watch no option."""
_LOCAL = "local"
"""The local store, as a target names it."""


def job_named(name: Path) -> KnownJob | None:
    """The job that a command names; None if it names a manifest, or nothing.

    Raises:
        UsageError: The id's beginning fits a job and an upload, or several jobs.
    """
    from bigupload.manifests.job_record import locate_job
    from bigupload.manifests.listing import locate_manifest
    from bigupload.manifests.state_directory import state_dir

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
        again = f"the command or the program of {job.name!r} again"
        if command:
            again = f"its command again, {SAME_OPTIONS}: {command}"
        raise errors.UsageError(f"{name} is a job of many files: to continue it, run {again}")


def shown_name(job: KnownJob) -> str:
    """Return a job's name for a person: a list that came through a pipe is `--files-from -`, as it was typed."""
    return _of_pipe(job.name)[0]


def _of_pipe(name: str) -> tuple[str, str | None]:
    """A name with `--files-from -`, and the directory in which the command ran; None if it has no such list."""
    directory = None
    words = []
    for word in _words(name):
        found = _LIST_FROM_PIPE.fullmatch(word)
        words += [word] if found is None else ["--files-from", "-"]
        directory = directory if found is None else found[1] or "/"
    return (name, None) if directory is None else (shlex.join(words), directory)


def _words(name: str) -> list[str]:
    try:
        return shlex.split(name)
    except ValueError:  # it was cut within a quoted word, or a program chose it
        return []


def gone_sources(jobs: Iterable[KnownJob]) -> dict[str, str]:
    """Return what jobs upload, by their ids, where none of that exists any more: no command can continue them."""
    wanted = {job.id: paths for job in jobs if (paths := _sources_of(job))}
    hung = hanging(path for paths in wanted.values() for path in paths)
    return {
        id_: ", ".join(paths)
        for id_, paths in wanted.items()
        if hung.isdisjoint(paths) and not any(map(os.path.lexists, paths))
    }


def _sources_of(job: KnownJob) -> list[str]:
    """The files and directories that a job uploads; empty if its name does not contain them all."""
    command, _, directory = job.name.partition(" ")
    is_directory = command in ("watch", "sync")
    if not is_directory and (_CUT.search(job.name) or not _NAMES_PATHS.match(job.name)):
        return []
    paths = [directory] if is_directory else [word for word in _words(job.name) if word.startswith("/")]
    return [] if any(map(has_wildcard, paths)) else paths


def command_of(job: KnownJob) -> str | None:
    """Return the command that continues a job; None if unknown, as for a job of a Python program."""
    before = ""
    command, _, directory = job.name.partition(" ")
    if command in ("watch", "sync"):
        words = f"{command} {shlex.quote(directory)}"
    elif _NAMES_PATHS.match(job.name) and not _CUT.search(job.name):
        name, ran_in = _of_pipe(job.name)
        before = "" if ran_in is None else f"cd {shlex.quote(ran_in)} && LIST | "
        words = f"upload {name}"
    else:
        return None
    folder, at, endpoint = job.target.rpartition("/ at ")
    target = f"{folder}/" if at else job.target
    reached = "" if not at else " --local" if endpoint == _LOCAL else f" --endpoint-url {shlex.quote(endpoint)}"
    return f"{before}bigupload {words} {shlex.quote(target)}{reached}"
