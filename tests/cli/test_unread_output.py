"""A program that starts the command and does not read what that prints: the pipe fills, and a signal still stops it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bigupload.cli import running
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import REPOSITORY, Place
from tests.tools.signals import heard

from .support import to

FILES = 400
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the size of a pipe is set as Linux does")


@pytest.mark.slow  # the command gives its reader some seconds
@pytest.mark.usefixtures("told_by_the_kernel")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("signals", [2, 1])  # one is waited for, in case the loop hears of it
def test_a_command_whose_output_nobody_reads_is_stopped(
    s3: StrictS3, place: Place, number: signal.Signals, signals: int
) -> None:
    import fcntl

    tree = place.directory / "tree"
    tree.mkdir()
    for each in range(FILES):
        (tree / f"{each:04}").write_bytes(b"%d" % each)
    command = ["sync", tree, *to(s3, "s3://bucket/p/"), "--progress", "none", "--json"]
    with heard():
        process = subprocess.Popen(
            [sys.executable, "-m", "bigupload", *map(str, command)], cwd=REPOSITORY, env=place.environment(),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        _until_blocked_in_a_write(process)
        for _ in range(signals):
            process.send_signal(number)
        err = process.stderr.read()
        code = process.wait()
    assert code == (130 if number is signal.SIGINT else 75)
    assert err == "bigupload: comparing the directory with the bucket\n" * err.startswith("bigupload: comparing") + (
        "bigupload: stopped at once (does anything read what it prints?): the same command resumes\n"
    )
    again = place.run(*command)
    assert again.code == 0
    assert json.loads(again.out.splitlines()[-1])["skipped"] > 0, "what was recorded is not sent again"
    assert len(s3.objects["bucket"]) == FILES


def _until_blocked_in_a_write(process: subprocess.Popen[str]) -> None:
    """Wait until the main thread waits in the kernel for a reader of the pipe."""
    deadline = time.monotonic() + 60
    while "pipe_w" not in _waits_in(process.pid):
        assert process.poll() is None
        assert time.monotonic() < deadline, f"it waits in {_waits_in(process.pid)!r}"
        os.sched_yield()


def _waits_in(thread: int) -> str:
    return Path(f"/proc/{thread}/wchan").read_text()


@pytest.fixture(scope="module")
def told_by_the_kernel() -> None:
    """Skips where /proc does not have the function of the kernel that a thread waits in."""
    reading, writing = os.pipe()
    thread = threading.Thread(target=os.read, args=(reading, 1))
    thread.start()
    deadline = time.monotonic() + 10
    while not (told := "pipe" in _waits_in(thread.native_id or 0)) and time.monotonic() < deadline:
        os.sched_yield()
    os.write(writing, b".")
    thread.join()
    os.close(reading)
    os.close(writing)
    if not told:
        pytest.skip("this kernel does not tell where a process waits")


def test_the_same_signal_twice_at_once_is_no_impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrapper passes on what the terminal has sent already. Half a second later it is a person, who tries another."""
    ended: list[int] = []
    clock = iter([0.0, 0.1, 0.7])
    monkeypatch.setattr(running.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(running.os, "_exit", ended.append)
    monkeypatch.setattr(running.threading, "Timer", lambda *_: threading.Thread(target=lambda: None))
    came: list[float] = []
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        assert ended == []
        running._Stuck([], "the same command resumes", came)(number, None)
    assert ended == [130]
