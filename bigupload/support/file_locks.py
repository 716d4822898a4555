"""Locks that end with their process. Where the file system has no `flock`, filelock's marker file takes its place."""

from __future__ import annotations

import os
import warnings

import filelock

# filelock warns of its fallback in the middle of an upload. The fallback does what the caller needs.
warnings.filterwarnings("ignore", message="flock not supported on this filesystem", category=UserWarning)


def file_lock(path: str | os.PathLike[str]) -> filelock.BaseFileLock:
    """A lock of this user's, in the file `path`, which any thread may release."""
    return filelock.FileLock(path, thread_local=False, mode=0o600)
