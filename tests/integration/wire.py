"""A file, an uploader, and the fault proxy between it and a real SeaweedFS."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bigupload
from bigupload import S3Options, events
from bigupload.core.part_plan import MIB
from bigupload.core.retry_policy import RetryPolicy
from bigupload.stores.local_store import LocalStore
from bigupload.testing.certificates import Certificates
from bigupload.testing.fault_proxy import FaultProxy
from tests.tools.weed import weed_client

from .support import BUCKET, no_leaks, of_function, write

PART = 5 * MIB
PARTS = 2
SIZE = PART + 1000
QUICK = RetryPolicy(base_delay=0, max_delay=0)
IMPATIENT = replace(QUICK, stall_after=0.5, attempts=1000)
"""The stall timeout. If the machine stops for a moment, everything seems to stall, which costs attempts."""
IN_A_HURRY = replace(QUICK, give_up_after=0.2)
"""`give_up_after` also bounds Retry-After. Where nothing connects for a while, this is all the time there is."""


@dataclass
class Wire:
    """One file, the proxy, and SeaweedFS behind it."""

    weed: LocalStore
    proxy: FaultProxy
    directory: Path
    path: Path
    sha256: str
    key: str
    ca: Path | None = None
    events: list[events.Event] = field(default_factory=list)

    @property
    def manifest(self) -> Path:
        return self.directory / "the.manifest.jsonl"

    def options(self, **more: Any) -> S3Options:
        more.setdefault("endpoint_url", self.proxy.url)
        return S3Options(
            region=self.weed.region,
            access_key=self.weed.access_key,
            secret_key=self.weed.secret_key,
            ca_bundle=self.ca,
            **more,
        )

    async def upload(self, *, options: S3Options | None = None, **more: Any) -> bigupload.UploadResult:
        more = {"retry": QUICK, "part_size": PART, "manifest": self.manifest, "on_event": self.hear} | more
        async with no_leaks():
            try:
                return await bigupload.upload(
                    self.path, to=f"s3://{BUCKET}/{self.key}", s3=options or self.options(), **of_function(more)
                )
            finally:
                self.proxy.run_ended()

    def hear(self, event: events.Event) -> None:
        self.events.append(event)
        if isinstance(event, events.OutageStarted):
            threading.Thread(target=self.proxy.restore).start()  # never the loop that waits for the proxy

    def grow(self) -> None:
        """Another file, with one part more."""
        write(self.path, SIZE + PART, seed=4)
        self.sha256 = hashlib.sha256(self.path.read_bytes()).hexdigest()

    def retries(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, events.Retrying)]

    def warnings(self) -> str:
        return "\n".join(event.message for event in self.events if isinstance(event, events.Warned))

    def holds(self) -> bool:
        client = weed_client(self.weed)
        try:
            body = client.get_object(Bucket=BUCKET, Key=self.key)["Body"].read()
            client.delete_object(Bucket=BUCKET, Key=self.key)
        finally:
            client.close()
        return hashlib.sha256(body).hexdigest() == self.sha256

    def unexplained(self) -> int:
        """Bytes of parts that came here beyond the file's, those of exchanges that were broken left out."""
        sound = [each for each in self.proxy.exchanges if each.op == "UploadPart" and not each.broken]
        return max(0, sum(each.received for each in sound) - self.path.stat().st_size)


@contextlib.contextmanager
def wired(weed: LocalStore, directory: Path, key: str, tls: Certificates | None = None) -> Iterator[Wire]:
    """One whose object is at `key`, a name of the test's own."""
    path = write(directory / "file.bin", SIZE, seed=3)
    port = urlsplit(weed.endpoint_url).port or 0
    with FaultProxy("127.0.0.1", port, tls=tls, keys=(weed.access_key, weed.secret_key)) as proxy:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        yield Wire(weed, proxy, directory, path, sha256, key, tls.ca if tls else None)
