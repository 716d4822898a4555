"""What a command writes, uploaded while it writes it. If the command fails, there is no object.

`python command_output.py` uploads `tar`'s archive of this directory to the local store. Then it uploads what a command
wrote that failed, and nothing is completed.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import bigupload

LOCAL = bigupload.S3Options(local=True)


async def output_of(*command: str) -> AsyncIterator[bytes]:
    """Yield what a command writes. Its failure is raised where the upload would otherwise take an end for a success."""
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    assert process.stdout is not None
    try:
        while block := await process.stdout.read(1 << 20):
            yield block
        if status := await process.wait():
            raise ChildProcessError(f"{command[0]} failed with status {status}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def main() -> None:
    here = str(Path(__file__).parent)
    archive = await bigupload.upload(output_of("tar", "c", "-C", here, "."), to="s3://bigupload/examples.tar", s3=LOCAL)
    print(f"tar: {archive.verified}")
    try:
        await bigupload.upload(output_of("sh", "-c", "echo half; exit 3"), to="s3://bigupload/half", s3=LOCAL)
    except bigupload.SourceUnreadable as error:
        print(f"{error.__cause__}: {type(error).__name__}")


if __name__ == "__main__":
    asyncio.run(main())
