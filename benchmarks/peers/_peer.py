"""What the peers' scripts share. Each is run by its peer's own interpreter: `python with_boto3.py JOB`, JOB being JSON.

Imports as little as can be: whatever is loaded here is on the bill of whichever peer runs.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

Send = Callable[[str, str], Any]
"""Of a file to a key; returns once the object is in the store."""


class Job:
    """One upload: `file` to `bucket`/`key` at the store `url`, whose certificate is signed by the authority in `ca`.

    `options` are the script's own, and empty for its defaults. `warm` is a small file for the variant within a running
    process: it is sent first, and what that takes is not counted.
    """

    def __init__(self, fields: dict[str, Any]) -> None:
        self.url: str = fields["url"]
        self.host = self.url.partition("://")[2]
        self.secure = self.url.startswith("https:")
        self.ca: str | None = fields["ca"]
        self.bucket: str = fields["bucket"]
        self.key: str = fields["key"]
        self.file: str = fields["file"]
        self.access_key: str = fields["access_key"]
        self.secret_key: str = fields["secret_key"]
        self.region: str = fields["region"]
        self.options: dict[str, Any] = fields["options"]
        self.piped: bool = self.options.pop("piped", False)
        """Whether to send standard input, not `file`, from which it comes."""
        self.writes: int = self.options.pop("writes", 1 << 20)
        """Bytes of each write, where a writer is open."""
        self.ends: str = self.options.pop("ends", "cleanly")
        """How the program ends half-way through the file, where a writer is open."""
        self.warm: str | None = fields["warm"]


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def written(job: Job, opened: Callable[[str], Any]) -> Send:
    """Return a function that writes a file into what `opened` returns for a key, a file object for `with`."""

    def write(writer: Any, file: str) -> None:
        whole = os.path.getsize(file)
        size = whole if job.ends == "cleanly" else whole // 2
        with open(file, "rb") as source:
            block = source.read(min(size, 1 << 20))
            while block:
                for at in range(0, len(block), job.writes):
                    writer.write(block[at : at + job.writes])
                size -= len(block)
                block = source.read(min(size, 1 << 20))
        if job.ends == "exception":
            raise LookupError("the rows are gone")
        if job.ends == "sys.exit":
            sys.exit(0)
        if job.ends == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    def send(file: str, key: str) -> None:
        if job.ends == "never closed":
            write(opened(key), file)
            return
        with opened(key) as writer:
            write(writer, file)

    return send


def main(connect: Callable[[Job], Send]) -> None:
    """Connect, and send: once, or once more with the clock running."""
    job = Job(json.loads(sys.argv[1]))
    send = connect(job)
    if not job.warm:
        send(job.file, job.key)
        return
    send(job.warm, job.key + "-warm")
    began, used = time.perf_counter(), _cpu()
    send(job.file, job.key)
    print(json.dumps({"seconds": time.perf_counter() - began, "cpu": _cpu() - used}))
