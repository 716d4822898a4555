"""Ask a command: JSON on its standard input; its exit status, and one line of its output, are the answer.

Knows nothing of uploads. The command runs without a shell, in a process group of its own, which is killed at the time
limit: a scanner's children must not go on when nobody waits for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
from collections.abc import Sequence

from bigupload.errors import UsageError
from bigupload.service.hooks.questions import HookFailed, Question, as_line

REFUSES = 1
"""The exit status by which a command refuses, as clamdscan's, if it says why. 0 accepts. Every other one means that it
failed, and so does 1 without a line on standard output: many programs end with 1 when they crash, and what is refused
is deleted."""
_MOST_OUTPUT = 64 * 1024
"""Bytes that are kept of each of its outputs. The rest is read and dropped."""
_ENDS_WITHIN = 2.0
"""Seconds that a killed group has to end. Only a process that left the group can take longer."""


def words_of(command: str) -> list[str]:
    """Return the program and its arguments. Raises UsageError if there is no such program."""
    try:
        words = shlex.split(command)
    except ValueError as e:
        raise UsageError(f"the hook's command can't be read: {e}") from None
    if not words:
        raise UsageError("a hook is a command or a URL, and this one is empty")
    if shutil.which(words[0]) is None:
        raise UsageError(f"there is no program {words[0]!r} to run as a hook: write its whole path")
    return words


async def ask_command(words: Sequence[str], question: Question, *, within: float) -> str | None:
    """Run a command.

    Args:
        words: The program and its arguments.
        question: What it gets on its standard input.
        within: Its time limit, in seconds.

    Returns:
        None if it accepts, or the first line of its standard output if it refuses.

    Raises:
        HookFailed: It could not be started, took too long, or ended in another way.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as e:
        raise HookFailed(f"the command can't be started: {e.strerror}") from None
    try:
        async with asyncio.timeout(within):
            said, complained, _ = await asyncio.gather(
                _output(process.stdout), _output(process.stderr), _feed(process.stdin, as_line(question))
            )
            status = await process.wait()
    except TimeoutError:
        raise HookFailed(f"the command took longer than {within:g} s") from None
    finally:
        await _end(process)
    if status == REFUSES and (reason := _first_line(said)):
        return reason
    if status != 0:
        line = _first_line(complained) or _first_line(said)
        how = f"status {status}" if status > 0 else signal.Signals(-status).name
        raise HookFailed(f"the command ended with {how}: {line}" if line else f"the command ended with {how}")
    return None


async def _feed(stdin: asyncio.StreamWriter | None, data: bytes) -> None:
    assert stdin is not None
    with contextlib.suppress(OSError):  # it may answer without reading
        stdin.write(data)
        await stdin.drain()
        stdin.close()
        await stdin.wait_closed()


async def _output(stream: asyncio.StreamReader | None) -> bytes:
    assert stream is not None
    kept = b""
    while chunk := await stream.read(_MOST_OUTPUT):
        kept += chunk[: _MOST_OUTPUT - len(kept)]
    return kept


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of the group, unless all of it has ended."""
    pipes = (process.stdout, process.stderr)
    if process.returncode is not None and all(pipe is None or pipe.at_eof() for pipe in pipes):
        return
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_ENDS_WITHIN):
            await process.wait()


def _first_line(output: bytes) -> str:
    lines = output.decode(errors="replace").splitlines()
    return next((line.strip() for line in lines if line.strip()), "")
