"""The job that a person names by its id, and what becomes of its record."""

from __future__ import annotations

import os
from pathlib import Path

from bigupload import errors
from bigupload.manifests.job_record import KnownJob, delete_record, known_jobs, read_job
from bigupload.manifests.lock import ManifestLock
from bigupload.manifests.state_directory import JOB_SUFFIX
from bigupload.support.durable_files import is_lasting

_MIN_PREFIX = 4
"""Characters of an id that name a job: fewer are more likely a slip."""


def locate_job(name: str | os.PathLike[str], directory: Path) -> KnownJob | None:
    """Return the job whose record a path, an id or the beginning of an id names; None: no job. Blocking.

    Raises:
        UsageError: The id's beginning fits several jobs.
        ManifestError: The directory can't be listed.
    """
    text = os.fspath(name)
    if os.path.lexists(text):
        return read_job(Path(text)) if text.endswith(JOB_SUFFIX) else None
    beginning = text.removesuffix(JOB_SUFFIX)
    if len(beginning) < _MIN_PREFIX or os.sep in beginning:
        return None
    found = [job for job in known_jobs(directory) if job.id.startswith(beginning)]
    if len(found) > 1:
        raise errors.UsageError(f"{text!r} fits several jobs, write more of its id: {', '.join(j.id for j in found)}")
    return found[0] if found else None


def forget_job(job: KnownJob) -> None:
    """Delete a job's record. Its objects stay. Blocking.

    Raises:
        ManifestLocked: A process runs the job.
        ManifestUnwritable: The record can't be deleted.
    """
    lock = ManifestLock(job.record, held="this job is running")
    try:
        lock.acquire()
        try:
            delete_record(job.record)
        finally:
            lock.release()
    except OSError as e:
        raise errors.ManifestUnwritable(f"can't delete {job.record}: {e.strerror}", lasting=is_lasting(e)) from e
