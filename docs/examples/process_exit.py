"""How long a program stays after an upload was cancelled, while the store takes 30 seconds to answer.

`python process_exit.py [SECONDS]` cancels an upload in the middle of HeadObject, CreateMultipartUpload, ListParts and
CompleteMultipartUpload, each in a program of its own, and prints after how many seconds that program has ended. HEAD
and ListParts change nothing in the store, so nothing waits for them. Create and complete get five seconds to end.
"""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from slow_store import SlowStore

import bigupload

SIZE = 20 << 20
NAMES = {
    "head": "HeadObject",
    "create": "CreateMultipartUpload",
    "list_parts": "ListParts",
    "complete": "CompleteMultipartUpload",
}


async def cancel_during(kind: str, store: SlowStore, path: Path) -> None:
    """Cancel an upload once the request has arrived in the store."""
    key = f"{kind}-{time.time_ns()}"
    if kind == "list_parts":  # an upload that is resumed begins with the list of its parts
        await cancel_after_a_part(store, path, key)
    s3 = dataclasses.replace(store.options, if_none_match=kind == "head")  # which looks whether there is an object
    uploader = bigupload.Uploader(state_dir=path.parent)
    task = asyncio.create_task(bigupload.upload(path, to=store.url(key), s3=s3, uploader=uploader))
    await asyncio.to_thread(store.waiting.wait)
    print("cancelling", flush=True)
    task.cancel()
    await asyncio.wait([task])


async def cancel_after_a_part(store: SlowStore, path: Path, key: str) -> None:
    def on_event(event: bigupload.Event) -> None:
        if isinstance(event, bigupload.PartUploaded):
            task.cancel()

    uploader = bigupload.Uploader(state_dir=path.parent, concurrency=1)
    to, s3 = store.url(key), store.options
    task = asyncio.create_task(
        bigupload.upload(path, to, s3=s3, part_size="5MiB", on_event=on_event, uploader=uploader)
    )
    await asyncio.wait([task])


def child(kind: str, seconds: float, path: Path) -> None:
    store = SlowStore(**{kind: seconds}).__enter__()  # it goes with this program
    asyncio.run(cancel_during(kind, store, path))


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "file")
        path.write_bytes(bytes(SIZE))
        for kind, name in NAMES.items():
            command = [sys.executable, __file__, kind, str(seconds), str(path)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
                assert program.stdout is not None
                program.stdout.readline()
                cancelled = time.perf_counter()
                program.wait()
            after = time.perf_counter() - cancelled
            print(f"cancelled during {name}: the program ended {after:.1f} s later, with status {program.returncode}")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        child(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
