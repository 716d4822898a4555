"""The stores for the contestants, a new one for every run, and their counts."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BUCKET = "bucket"
REGION = "us-east-1"


@dataclass(kw_only=True)
class Store:
    """A running store."""

    url: str
    size_of: Callable[[str], int | None]
    """Return the size of an object; None if it does not exist."""
    counts: Callable[[], dict[str, Any]] = dict
    """Return the counts since it was opened or reset; empty if the store does not count."""
    reset: Callable[[], object] = lambda: None
    """Reset the counts. Stored objects stay."""
    ca: Path | None = None
    bucket: str = BUCKET
    access_key: str = "benchmark"
    secret_key: str = field(default="benchmark", repr=False)
    region: str = REGION


Opened = Callable[[Path, int], AbstractContextManager[Store]]
"""Opens a store with its files in a directory, for the round of that number."""


def null_store(knobs: Sequence[str] = (), *, tls: bool = False, prefix: Sequence[str] = ()) -> Opened:
    """Return a function that opens `benchmarks.null_store` with these options.

    Each round has its own seed, the same for all contestants. `prefix` is put before the command, for a store in
    another network namespace.
    """

    @contextlib.contextmanager
    def opened(directory: Path, number: int) -> Iterator[Store]:
        command = [*prefix, sys.executable, "-m", "benchmarks.null_store", "--seed", str(1 + number), *knobs]
        if tls:
            command += ["--tls", str(directory)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                line = process.stdout.readline()
                if not line:
                    raise SystemExit(f"the null store did not start: {' '.join(command)}")
                url = json.loads(line)["url"]
                ask = _Asked(url, directory / "ca.pem" if tls else None, prefix)
                yield Store(
                    url=url,
                    ca=ask.ca,
                    size_of=lambda key: ask.size(f"/{BUCKET}/{key}"),
                    counts=lambda: json.loads(ask("GET", "/__counts")[2]),
                    reset=lambda: ask("GET", "/__counts?reset"),
                )
            finally:
                process.kill()

    return opened


@dataclass(frozen=True)
class _Asked:
    """Request the null store's counts; with a prefix, from a process in its network namespace."""

    url: str
    ca: Path | None
    prefix: Sequence[str]

    def __call__(self, method: str, path: str) -> tuple[int, int, bytes]:
        """Return status, Content-Length and body."""
        if self.prefix:
            command = [*self.prefix, sys.executable, "-m", "benchmarks.stores", self.url, method, path]
            command += [str(self.ca)] if self.ca else []
            status, length, body = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.split(b" ", 2)
            return int(status), int(length), body
        host = urlsplit(self.url).netloc
        if self.ca is None:
            connection = http.client.HTTPConnection(host, timeout=30)
        else:
            trusted = ssl.create_default_context(cafile=str(self.ca))
            connection = http.client.HTTPSConnection(host, timeout=30, context=trusted)
        with contextlib.closing(connection):
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, int(answer.headers["Content-Length"] or 0), answer.read()

    def size(self, path: str) -> int | None:
        """Return the size of an object."""
        status, length, _ = self("HEAD", path)
        return length if status == 200 else None


@contextlib.contextmanager
def seaweedfs(directory: Path, number: int) -> Iterator[Store]:
    """Open the real local store on this disk, without objects."""
    from bigupload.stores import local_store

    home = directory / "seaweedfs"
    try:
        found = local_store.start(home)
        reach = [found.endpoint_url, found.access_key, found.secret_key, found.region, found.bucket]
        yield Store(
            url=found.endpoint_url,
            access_key=found.access_key,
            secret_key=found.secret_key,
            region=found.region,
            bucket=found.bucket,
            size_of=lambda key: _size_by_boto3([*reach, key]),
        )
    finally:
        local_store.stop(home)
        shutil.rmtree(home, ignore_errors=True)


_HEAD_BY_BOTO3 = """
import boto3, sys, json, botocore.exceptions
url, access, secret, region, bucket, key = sys.argv[1:]
client = boto3.client(
    "s3", endpoint_url=url, aws_access_key_id=access, aws_secret_access_key=secret, region_name=region
)
try:
    print(client.head_object(Bucket=bucket, Key=key)["ContentLength"])
except botocore.exceptions.ClientError:
    print(-1)
"""


def _size_by_boto3(arguments: Sequence[str]) -> int | None:
    """Run boto3 in its own process, because this process's memory would count as its children's."""
    found = subprocess.run([sys.executable, "-c", _HEAD_BY_BOTO3, *arguments], stdout=subprocess.PIPE, check=True)
    size = int(found.stdout)
    return size if size >= 0 else None


if __name__ == "__main__":
    url, method, path, *trusted = sys.argv[1:]
    status, length, body = _Asked(url, Path(trusted[0]) if trusted else None, ())(method, path)
    sys.stdout.buffer.write(b"%d %d %b" % (status, length, body))
