"""What the peers' scripts share. Each is run by its peer's own interpreter: `python with_boto3.py JOB`, JOB being JSON.

Imports as little as can be: whatever is loaded here is on the bill of whichever peer runs.
"""

from __future__ import annotations

import json
import resource
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
        self.warm: str | None = fields["warm"]


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


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
