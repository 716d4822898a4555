"""What the peers' scripts share. Each is run by its peer's own interpreter: `python with_boto3.py JOB`, JOB being JSON.

Imports as little as can be: whatever is loaded here is on the bill of whichever peer runs.
"""

import json
import resource
import sys
import time


class Job:
    """One upload: `file` to `bucket`/`key` at the store `url`, whose certificate is signed by the authority in `ca`.

    `options` are the script's own, and empty for its defaults. `warm` is a small file for the variant within a running
    process: it is sent first, and what that takes is not counted.
    """

    def __init__(self, fields):
        self.url = fields["url"]
        self.host = self.url.partition("://")[2]
        self.secure = self.url.startswith("https:")
        self.ca = fields["ca"]
        self.bucket = fields["bucket"]
        self.key = fields["key"]
        self.file = fields["file"]
        self.access_key = fields["access_key"]
        self.secret_key = fields["secret_key"]
        self.region = fields["region"]
        self.options = fields["options"]
        self.warm = fields["warm"]


def _cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(connect):
    """`connect(job)` gives `send(file, key)`, which returns once the object is in the store."""
    job = Job(json.loads(sys.argv[1]))
    send = connect(job)
    if not job.warm:
        send(job.file, job.key)
        return
    send(job.warm, job.key + "-warm")
    began, used = time.perf_counter(), _cpu()
    send(job.file, job.key)
    print(json.dumps({"seconds": time.perf_counter() - began, "cpu": _cpu() - used}))
