"""The systemd unit, checked by systemd's own tool."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.deploy.support import DEPLOY, options_of

pytestmark = pytest.mark.slow  # guards deploy/

UNIT = DEPLOY / "systemd" / "bigupload.service"
MOST_EXPOSED = 15
"""In tenths. Below 20 systemd calls a service OK; a unit without any hardening has 96."""


def test_the_command_and_the_time_to_stop() -> None:
    text = UNIT.read_text()
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    options = options_of(shlex.split(command)[1:])
    (within,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert isinstance(options["stop_delay"], float)
    assert int(within) > options["stop_delay"] + 24  # server.DRAIN_WITHIN and four times LAST_RESPONSES_WITHIN


@pytest.mark.parametrize("arguments", [["verify"], ["security", "--offline=true", f"--threshold={MOST_EXPOSED}"]])
def test_systemd_finds_nothing_wrong(tmp_path: Path, arguments: list[str]) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace("/opt/bigupload/bin/bigupload", sys.executable))  # it must be a program
    done = subprocess.run(["systemd-analyze", *arguments, here], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bigupload.service:" not in done.stderr
