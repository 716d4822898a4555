"""Lines of the log: whole ones, whoever else writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bigupload.service.call import AccessLog, LoggedRequest, write_line

LINES = 2000
WRITERS = 4
WRITER = f"""
import os, sys
from bigupload.service.call import AccessLog
path, appending = sys.argv[1:]
children = []
for writer in range({WRITERS}):
    if (child := os.fork()) == 0:
        if appending:
            os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), 2)
        log = AccessLog()
        for number in range({LINES}):
            log.write_event("request", writer=writer, number=number, cause="x" * (number % 1000))
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""
"""Processes that write the same log, and import what they need for it once."""


@pytest.mark.exhaustive
@pytest.mark.parametrize("appending", [True, False], ids=["each opens it", "one opens it"])
def test_lines_of_several_processes_do_not_interleave(tmp_path: Path, appending: bool) -> None:
    path = tmp_path / "log"
    with path.open("w") as shared:
        command = [sys.executable, "-c", WRITER, str(path), "1" if appending else ""]
        subprocess.run(command, stderr=shared, check=True, timeout=60)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for writer in range(WRITERS):
        assert [line["number"] for line in lines if line["writer"] == writer] == list(range(LINES))


def test_a_line_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda _, data: written.append(data))
    write_line("a \ud800 line")
    assert written == [b"a \\ud800 line\n"]


def test_a_line_is_shorter_than_what_a_pipe_takes_as_a_whole() -> None:
    lines: list[str] = []
    log = AccessLog(write=lines.append, clock=lambda: 0.0)
    logged = LoggedRequest(id="i" * 16, method="POST", route="/v1/media/multipart/complete", remote=None, started=0.0)
    logged.owner, logged.key_id = "o" * 64, "k" * 8
    logged.more = {"cause": "x" * 1000}
    try:
        _recursive(300)
    except RecursionError as e:
        logged.failed(e)
    log.end(logged, status=500)
    assert len(lines[0].encode()) < 4096


def _recursive(depth: int) -> None:
    if depth == 0:
        raise RecursionError
    _recursive(depth - 1)
