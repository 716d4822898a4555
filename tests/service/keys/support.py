"""The time of the keys' file, and code that uses it in a process of its own."""

from __future__ import annotations

import subprocess
import sys

NOON = 1_700_000_000.0
NOON_TEXT = "2023-11-14T22:13:20+00:00"


def run_code(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
