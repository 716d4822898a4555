"""Results that can't be written: standard output is a full disk, or a pipe that nobody reads any more."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import click

from bigupload import errors


def discard() -> None:
    """Send what is still buffered to the null device: it would fail once more when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def failed_at(error: OSError) -> bool:
    """Whether the error is of `click.echo`, by which commands write: no other file has to be named."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return at is not None and at.tb_frame.f_code is click.echo.__code__


def unwritten(error: OSError) -> errors.BigUploadError:
    """Discard the results, and return the message for that."""
    discard()
    return errors.BigUploadError(f"can't write the results to standard output: {error.strerror}")


@contextlib.contextmanager
def writing(done: str) -> Iterator[None]:
    """While a result is written that an exit status of 1 would contradict.

    Args:
        done: What is done, for the message if it can't be written.

    Raises:
        BigUploadError: It can't be written.
    """
    try:
        yield
    except OSError as e:
        raise errors.BigUploadError(f"{done}, but {unwritten(e)}") from e
