"""The threads that send: what they leave behind."""

from __future__ import annotations

import subprocess
import sys

_LEAVE_A_READ_BEHIND = """
import asyncio, os
from bigupload.http.part_body import BodyResources

async def main():
    resources = BodyResources(None, "system")
    resources.wait_for_disk(lambda: os.read(0, 1))
    resources.abandon()
    resources.close()

asyncio.run(main())
print("ended", flush=True)
"""


def test_a_read_that_hangs_does_not_hold_the_process() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _LEAVE_A_READ_BEHIND], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            assert process.stdout.readline() == "ended\n"
            assert process.wait(30) == 0  # seconds; without daemon threads it waits until stdin is closed
        finally:
            process.stdin.close()
