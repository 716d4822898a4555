"""An event loop that its program stops and closes in the middle of an upload."""

from __future__ import annotations

import subprocess
import sys

from .support import BUCKET, World

_PROGRAM = """
import asyncio, sys, bigupload

loop = asyncio.new_event_loop()
s3 = bigupload.S3Options(endpoint_url=sys.argv[1], region=sys.argv[2])
task = loop.create_task(bigupload.upload(sys.argv[3], to=sys.argv[4], s3=s3))
loop.add_reader(sys.stdin, loop.stop)
loop.run_forever()
loop.close()
print("the main thread ends", task.done())
"""


def test_the_process_ends(world: World) -> None:
    """No thread of a call that nobody awaits holds it up. The parts were hashed in threads."""
    path = world.file(12_000_000)
    world.s3.hold("UploadPart")
    command = [sys.executable, "-c", _PROGRAM, world.s3.url, world.s3.region, path, f"s3://{BUCKET}/key"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        try:
            world.s3.wait_until_held("UploadPart")
            out, _ = program.communicate("stop\n", timeout=60)
        finally:
            program.kill()
    assert (program.returncode, out) == (0, "the main thread ends False\n")
