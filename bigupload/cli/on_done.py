"""A command of the user's, once everything is done and proved.

The command is a program and its arguments, never a shell's line: no name of a file can become a part of it. It gets
variables, and on its standard input the receipt, with the links. A command that hangs is ended, with all that
it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING

from bigupload import errors
from bigupload.cli.options import ON_DONE
from bigupload.support.systems import KILL, end_group, way_of_ending
from bigupload.units import format_seconds, one_line

if TYPE_CHECKING:
    from bigupload.engine.upload_run import UploadResult

PREFIX = "BIGUPLOAD_DONE_"
_ENDS_WITHIN = 5.0
"""Seconds that a command has to end after SIGTERM."""
_GONE_WITHIN = 5.0
"""Seconds after SIGKILL. A process that waits for a disk takes its time."""


class Spool:
    """A file without a name for what the command reads: of a million files, it would not fit into memory or a pipe."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._error: OSError | None = None

    def write(self, line: bytes) -> None:
        """Add a line. If it can't be written, `rewound` raises that."""
        try:
            if self._error is None:
                self._file.write(line)
        except OSError as e:
            self._error = e

    def rewound(self) -> int:
        """Return the file's descriptor, at its beginning. Raises BigUploadError if it lacks a line."""
        with _naming():
            if self._error is not None:
                raise self._error
            self._file.seek(0)  # writes what is buffered, too
            return self._file.fileno()


@contextlib.contextmanager
def document() -> Iterator[Spool]:
    """Open the file. Raises BigUploadError if that is impossible."""
    with contextlib.ExitStack() as opened:
        with _naming():
            file = opened.enter_context(tempfile.TemporaryFile(prefix="bigupload-"))
        yield Spool(file)


@contextlib.contextmanager
def _naming() -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise errors.BigUploadError(f"can't keep what {ON_DONE} is to read: {e.strerror}") from e


def variables(sums: Mapping[str, object], one: UploadResult | None) -> dict[str, str]:
    """Return the variables of the command.

    Args:
        sums: Those that it always has, by names in lower case.
        one: The one file, if there is no other.
    """
    found = dict(sums)
    if one is not None:
        names = ("url", "bucket", "key", "etag", "checksum", "verified", "version_id", "sha256")
        found |= {"source": one.path, **{name: getattr(one, name) for name in names}}
        found["link"] = None if one.share is None else one.share.url
    return {f"{PREFIX}{name.upper()}": str(value) for name, value in found.items() if value is not None}


async def run_command(words: Sequence[str], given: Spool, environment: Mapping[str, str], *, within: float) -> None:
    """Run the command. What it writes goes to standard error: standard output has results.

    Args:
        words: The program and its arguments.
        given: What it reads as standard input.
        environment: More variables.
        within: Its time limit, in seconds.

    Raises:
        BigUploadError: It is not there, fails, or does not end.
    """
    stdin = given.rewound()
    status = await _ended(words, within=within, stdin=stdin, environment={**os.environ, **environment})
    if status is None:
        raise _failed(words, f"did not end within {format_seconds(within)}, and was ended")
    if status:
        raise _failed(words, f"failed: {'exit ' * (status > 0)}{way_of_ending(status)}")


def _failed(words: Sequence[str], how: str) -> errors.BigUploadError:
    return errors.BigUploadError(f"{ON_DONE} {one_line(words[0])} {how}")


async def _ended(words: Sequence[str], *, within: float, stdin: int, environment: Mapping[str, str]) -> int | None:
    """Run a program to its end. Return its status; None: it did not end in time."""
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=stdin, stdout=2, env=environment, start_new_session=True
        )
    except (OSError, ValueError) as e:
        raise _failed(words, f"can't be started: {getattr(e, 'strerror', None) or e}") from None
    try:
        async with asyncio.timeout(within):
            return await process.wait()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a program with all that it started."""
    for number, within in ((signal.SIGTERM, _ENDS_WITHIN), (KILL, _GONE_WITHIN)):
        with contextlib.suppress(OSError):
            end_group(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await process.wait()
                return
