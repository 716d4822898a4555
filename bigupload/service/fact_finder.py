"""Find the facts of files that were judged, by a process that has nothing to lose: `fact_process`.

The process gets a socket for each file, over which its child asks for pieces of the object. What it answers is checked
here: it has read bytes that anyone may have sent. A crash, a hang or nonsense is as if nothing was known of the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from bigupload import errors
from bigupload.service.access_log import AccessLog
from bigupload.service.fact_process import LENGTH, MOST_PIECES, OPENING, PIECE, READY, REQUEST
from bigupload.service.file_structure import Read
from bigupload.units import install_command

_WITHIN = 10.0
"""Seconds for one file, with the wait for others and for the store. After that, the upload goes on without facts."""
_AT_ONCE = 4
_READY_WITHIN = 60.0
"""Seconds for the process to start."""
_LONGEST = 4096
"""Bytes of an answer."""
_PROGRAM = (
    "import json, socket, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from bigupload.service.fact_process import main; main(socket.socket(fileno=int(sys.argv[2])))"
)
_KEPT_VARIABLES = ("LD_LIBRARY_PATH",)  # without it, some interpreters don't start
_CODEC = re.compile(r"[ -~]{1,64}")


def check_installed() -> None:
    """Raise UsageError if the packages of the extra `facts` are missing, or what the system must have for them."""
    if not hasattr(os, "killpg"):  # Windows, where a child inherits no socket by its descriptor, either
        raise errors.UsageError("facts are not found on this system: leave out --facts, or serve on Linux or macOS")
    if any(importlib.util.find_spec(name) is None for name in ("PIL", "pymediainfo")):
        raise errors.UsageError(f"what finds facts is not installed: {install_command('facts')}")


class FactFinder:
    """Finds the facts of files. `opened` makes it."""

    def __init__(self, log: AccessLog) -> None:
        self._log = log
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._starting = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    async def find(self, head: bytes, size: int, read: Read) -> dict[str, Any] | None:
        """Return the facts of an object, as `contract.MediaFacts` has them; None: nothing is known of it.

        Args:
            head: The object's first bytes.
            size: Its size in bytes.
            read: Reads the object. What it raises is raised.
        """
        try:
            async with asyncio.timeout(_WITHIN), self._at_once:
                return sound(await self._ask(head, size, read))
        except (asyncio.IncompleteReadError, OSError, RecursionError, ValueError):  # OSError: also a TimeoutError
            return None

    async def _ask(self, head: bytes, size: int, read: Read) -> object:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with contextlib.closing(ours), contextlib.closing(theirs):
            await self._hand_over(theirs)
            theirs.close()  # now only the child has it, and its end is the end of the stream
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            try:
                writer.write(OPENING.pack(size, len(head)) + head)
                return await _serve(reader, writer, size, read)
            finally:
                writer.transport.abort()

    async def _hand_over(self, theirs: socket.socket) -> None:
        """Send a socket to the process. One that has ended is started again. Raises ConnectionError."""
        async with self._starting:
            for control in (self._control, None):
                if control is None:
                    self._log.write_event("facts", error="the process that finds facts has ended")
                    control = await self._start()
                with contextlib.suppress(ConnectionError):
                    socket.send_fds(control, [b"\0"], [theirs.fileno()])
                    return
        raise ConnectionError

    async def start(self) -> None:
        """Start the process. Raises ServiceError."""
        try:
            await self._start()
        except ConnectionError as e:
            raise errors.ServiceError(f"the process that finds facts could not start: {e}") from e

    async def _start(self) -> socket.socket:
        """Start the process, and return the socket that leads to it. Raises ConnectionError."""
        self.close()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = _launched(theirs.fileno())
            except OSError as e:
                ours.close()
                raise ConnectionError(e.strerror) from e
        self._control = ours
        ours.setblocking(False)
        try:
            async with asyncio.timeout(_READY_WITHIN):
                said = await asyncio.get_running_loop().sock_recv(ours, 500)
        except TimeoutError:
            said = b"it did not respond"
        if said != READY:
            self.close()
            raise ConnectionError(said.decode(errors="replace") or "it ended")
        return ours

    def close(self) -> None:
        """End the process and its children."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._control = self._process = None


def _launched(descriptor: int) -> subprocess.Popen[bytes]:
    """Start an interpreter of its own, to which a socket is handed down. A fork would have the service's secrets."""
    return subprocess.Popen(  # noqa: S603 - this interpreter, and no argument comes from outside
        [sys.executable, "-I", "-c", _PROGRAM, json.dumps([*map(os.path.abspath, sys.path)]), str(descriptor)],
        env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[descriptor],
        start_new_session=True,  # a Ctrl-C is the service's; and a group, to be killed with its children
    )


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int, read: Read) -> object:
    """Send the pieces that the child asks for, and return its answer. Raises what `read` raises, and ValueError."""
    for _ in range(MOST_PIECES + 1):
        at, length = REQUEST.unpack(await reader.readexactly(REQUEST.size))
        if length == 0:
            return json.loads(await reader.readexactly(min(at, _LONGEST)))
        piece = (await read(at, min(length, PIECE)) if at < size else None) or b""
        writer.write(LENGTH.pack(len(piece)) + piece)
        await writer.drain()
    raise ValueError("it asks for more than it may")


def sound(found: object) -> dict[str, Any] | None:
    """Return the facts of an answer that make sense, and None for the others; None if there are none."""
    if not isinstance(found, Mapping):
        return None
    facts = {name: value if is_sound(value := found.get(name)) else None for name, is_sound in _FACTS.items()}
    return facts if any(value is not None for value in facts.values()) else None


def _is_whole(value: object) -> bool:
    return type(value) is int and 1 <= value <= 2**31


def _is_number(most: float) -> Callable[[object], bool]:
    return lambda value: type(value) in (int, float) and 0 < value <= most  # type: ignore[operator]  # NaN is neither


def _is_codec(value: object) -> bool:
    return isinstance(value, str) and _CODEC.fullmatch(value) is not None


_FACTS: dict[str, Callable[[object], bool]] = {
    "width": _is_whole,
    "height": _is_whole,
    "duration": _is_number(10 * 366 * 86_400),
    "frameRate": _is_number(10_000),
    "videoCodec": _is_codec,
    "audioCodec": _is_codec,
    "orientation": lambda value: type(value) is int and 1 <= value <= 8,
}


@contextlib.asynccontextmanager
async def opened_finder(wanted: bool, log: AccessLog) -> AsyncIterator[FactFinder | None]:
    """Start what finds facts, if it is wanted. Raises ServiceError."""
    if not wanted:
        yield None
        return
    finder = FactFinder(log)
    try:
        await finder.start()
        yield finder
    finally:
        finder.close()
