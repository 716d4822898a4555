"""The command as processes of their own that need not import anything: forks of one that has.

An interpreter that imports the media service takes more than half a second of CPU, which is more than most tests of a
running service. A fork is a process all the same: real signals, descriptors and exit status. Where the start itself is
the subject, use `subprocess`.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

_LARGEST = 1 << 20  # bytes of an order, most of which is the environment
_REPOSITORY = Path(__file__).parents[2]


class Started:
    """A process that was started, with what tests use of `subprocess.Popen`."""

    def __init__(self, status: int, stdout: IO[str] | None, stderr: IO[str] | None, args: Sequence[str]) -> None:
        self._status = open(status, "rb", buffering=0)  # noqa: SIM115 - closed with the process
        self._reading = threading.Lock()
        self._read: list[Future[str]] | None = None
        self.stdout = stdout
        self.stderr = stderr
        self.args = args
        self.pid = int(self._status.readline())
        self.returncode: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:  # else a test that failed would wait for what never ends, or for who reads its output
            self.kill()
        self._close_streams()
        try:
            with contextlib.nullcontext() if error is None else contextlib.suppress(subprocess.TimeoutExpired):
                self.wait()
        finally:
            self._status.close()

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return what was printed and not read by then. May be called again after a timeout."""
        if self._read is None:
            readers = ThreadPoolExecutor(2)
            streams = (self.stdout, self.stderr)
            self._read = [readers.submit(_rest_of, stream) for stream in streams]
            readers.shutdown(wait=False)
        self.wait(timeout)
        try:
            out, err = (each.result(timeout) for each in self._read)
        except TimeoutError:  # a child of it has the stream
            raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        self._close_streams()
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _close_streams(self) -> None:
        for stream in filter(None, (self.stdout, self.stderr)):
            stream.close()

    def _look(self, timeout: float | None) -> int | None:
        with contextlib.suppress(ValueError):  # another thread has read it, and closed it
            if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
                self._learn()
        return self.returncode

    def _learn(self) -> None:
        with self._reading:
            if self.returncode is None:
                status = self._status.readline()
                self._status.close()
                if not status:
                    raise RuntimeError(f"what waited for {self.args} and process {self.pid} is gone")
                self.returncode = os.waitstatus_to_exitcode(int(status))


class Cold(subprocess.Popen[str]):
    """An interpreter of its own, which ends where a test fails, too."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.kill()
        super().__exit__(kind, error, traceback)


def _rest_of(stream: IO[str] | None) -> str:
    return "" if stream is None else stream.read()


class WarmStarts:
    """The process that forks; started with the first of its forks. It imports the modules `also`, too."""

    def __init__(self, *also: str) -> None:
        self._also = also
        self._orders: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        module: str = "bigupload",
        stdin: int | None = None,
        output: int | None = None,
        error: int | None = None,
        ignored: Sequence[int] = (),
    ) -> Started | Cold:
        """Start `python -m MODULE ARGUMENTS`. It hears all signals but `ignored`.

        Args:
            stdin: The descriptor that it reads from; None: its input is empty.
            output: The descriptor that it writes to; None: a pipe.
            error: The same for standard error.
        """
        if sys.platform != "linux":  # Windows has no fork, and macOS no SOCK_SEQPACKET
            return Cold(
                [sys.executable, "-m", module, *arguments], cwd=_REPOSITORY, env=environment, text=True,
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=subprocess.PIPE if output is None else output,
                stderr=subprocess.PIPE if error is None else error,
            )  # fmt: skip
        if self._orders is None:
            atexit.register(self.close)
            self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            command = [sys.executable, "-m", "tests.tools.warm_starts", str(theirs.fileno()), *self._also]
            with theirs:
                self._process = subprocess.Popen(
                    command, cwd=_REPOSITORY, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONUNBUFFERED": ""},
                )  # fmt: skip
        order = {
            "module": module, "arguments": arguments, "environment": dict(environment), "ignored": list(ignored),
        }  # fmt: skip
        with contextlib.ExitStack() as theirs_alone:

            def pipe() -> tuple[int, int]:
                reads, writes = os.pipe()
                theirs_alone.callback(os.close, writes)
                return reads, writes

            stdout, output = (None, output) if output is not None else pipe()
            stderr, error = (None, error) if error is not None else pipe()
            status, told = pipe()
            read = [] if stdin is None else [stdin]
            socket.send_fds(self._orders, [json.dumps(order).encode()], [*read, output, error, told])
        out, err = (None if stream is None else open(stream) for stream in (stdout, stderr))  # noqa: SIM115 - `Started` does
        return Started(status, out, err, [module, *arguments])

    def run(self, arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run `bigupload ARGUMENTS` to its end, within a minute."""
        with self.start(arguments, environment) as process:
            printed = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode or 0, *printed)

    def close(self) -> None:
        """End the process that forks, once all of its forks have ended."""
        if self._orders is not None and self._process is not None:
            self._orders.close()
            self._process.wait()
        self._orders = None


STARTS = WarmStarts()
"""The starter that all tests of this process share."""


def _fork_at_each_order(orders: socket.socket) -> dict[str, Any] | None:
    """Return in each fork, with its order, and in the end with None."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, _LARGEST, 4)
        _reap(os.WNOHANG)
        if not message:
            _reap(0)
            return None
        if os.fork() == 0:
            orders.close()
            order: dict[str, Any] = json.loads(message)
            if _watched(descriptors):
                _become(order, descriptors)
                return order
        for descriptor in descriptors:
            os.close(descriptor)


def _reap(options: int) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, options)[0]:
            pass


def _watched(descriptors: Sequence[int]) -> bool:
    """Fork again, and wait for that fork, whose exit status goes to the last descriptor. True in the second fork."""
    if (child := os.fork()) == 0:
        return True
    *streams, told = descriptors
    for stream in streams:
        os.close(stream)
    os.write(told, b"%d\n" % child)
    os.write(told, b"%d\n" % os.waitpid(child, 0)[1])
    os._exit(0)


def _become(order: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    *read, output, error, _ = descriptors
    for at, descriptor in enumerate([*(read or [0]), output, error]):
        os.dup2(descriptor, at)
    for descriptor in descriptors:
        os.close(descriptor)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        heard = signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in order["ignored"] else heard)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = [order["module"], *order["arguments"]]


if __name__ == "__main__":
    import gc
    import importlib
    import runpy

    import aiohttp.web  # noqa: F401 - to be warm
    import botocore.session  # noqa: F401 - to be warm

    # What follows imports no anyio: `bigupload.support.cancellation` would take another way.
    import bigupload.api.uploader
    import bigupload.cli.keys
    import bigupload.cli.serve
    import bigupload.cli.status
    import bigupload.cli.upload
    import bigupload.engine.upload_run
    import bigupload.manifests.listing
    import bigupload.service.http.app  # noqa: F401 - to be warm

    for name in sys.argv[2:]:
        importlib.import_module(name)
    assert "anyio" not in sys.modules

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the tests, which end the forks
    gc.freeze()  # else the forks' first collection would copy all of it
    with socket.socket(fileno=int(sys.argv[1])) as orders:
        order = _fork_at_each_order(orders)
    if order is not None:
        runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
