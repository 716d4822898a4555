"""Lines of the log: whole ones, whoever else writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bigupload.service.access_log import AccessLog, LoggedRequest, write_line

LINES = 2000
WRITERS = 4
WRITER = f"""
import sys
from bigupload.service.access_log import AccessLog
log = AccessLog()
for number in range({LINES}):
    log.write_event("request", writer=sys.argv[1], number=number, cause="x" * (number % 1000))
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize("appending", [True, False], ids=["each opens it", "one opens it"])
def test_lines_of_several_processes_do_not_interleave(tmp_path: Path, appending: bool) -> None:
    path = tmp_path / "log"
    with path.open("w") as shared:
        writers = []
        for writer in range(WRITERS):
            with path.open("a") as own:
                error = own if appending else shared
                command = [sys.executable, "-c", WRITER, str(writer)]
                writers.append(subprocess.Popen(command, stderr=error))
        assert [writer.wait(60) for writer in writers] == [0] * WRITERS
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for writer in range(WRITERS):
        assert [line["number"] for line in lines if line["writer"] == str(writer)] == list(range(LINES))


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
