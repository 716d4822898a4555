"""One upload under a schedule: run after run until it is proved or refused, and what it cost.

Time is shrunk by the public `RetryPolicy`; nothing else of the product is told that it is tested.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bigupload
from bigupload import S3Options, UploadResult, errors, events
from bigupload.core.retry_policy import RetryPolicy
from bigupload.manifests.journal import read_manifest
from bigupload.testing.fault_proxy import FaultProxy

from .leaks import no_leaks
from .schedules import ATTEMPTS, Schedule

SHRUNK = RetryPolicy(
    attempts=ATTEMPTS, base_delay=0.001, max_delay=0.01, stall_after=1.0, response_timeout=2.0, give_up_after=0.3
)
"""`give_up_after` also bounds Retry-After, and outages."""
MOST_RESUMES = 5


@dataclass(frozen=True)
class Behind:
    """The store behind the proxy. `client` makes a boto3 client that asks it directly."""

    port: int
    access_key: str
    secret_key: str
    region: str
    bucket: str
    client: Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How it ended. `extra` bytes were sent beyond the file's, of which the schedule's own are taken off."""

    ending: str
    resumes: int
    extra: int
    broken: int
    wrong: str | None
    """What should not be, None where all is well."""


class _Stop(Exception):
    """Not an ending: this run was cancelled, as the schedule has it."""


class ScheduledUpload:
    """One file to one key, through a proxy of its own."""

    def __init__(self, schedule: Schedule, store: Behind, path: Path, sha256: str, directory: Path) -> None:
        self.schedule, self.store, self.path, self.sha256 = schedule, store, path, sha256
        self.key = f"schedule-{schedule.seed}"
        self.manifest = directory / f"{self.key}.manifest.jsonl"
        self.errors: list[errors.BigUploadError] = []

    async def run(self) -> Outcome:
        schedule, store = self.schedule, self.store
        with FaultProxy("127.0.0.1", store.port, keys=(store.access_key, store.secret_key)) as self.proxy:
            for (op, part), faults in schedule.faults.items():
                self.proxy.script(op, *faults, part_number=part)
            self.proxy.standing |= schedule.standing
            async with no_leaks():
                ending, resumes = await self._runs()
            sent = [each for each in self.proxy.exchanges if each.op == "UploadPart"]
            creates = sum(each.acted for each in self.proxy.exchanges if each.op == "CreateMultipartUpload")
        received = sum(each.received for each in sent)
        broken = sum(each.received for each in sent if each.broken)
        size = self.path.stat().st_size
        extra = received - broken - size
        wrong = await asyncio.to_thread(self._wrong, ending, resumes, extra, creates)
        return Outcome(ending=ending, resumes=resumes, extra=max(0, received - size), broken=broken, wrong=wrong)

    async def _runs(self) -> tuple[str, int]:
        """proved, refused, or something that may not be."""
        stops = iter(self.schedule.stops)
        for resumes in range(MOST_RESUMES + 1):
            self.proxy.restore()
            try:
                await self._one_run(next(stops, 0))
                return "proved", resumes
            except _Stop:
                pass
            except errors.BigUploadError as e:
                self.errors.append(e)
                if not e.resumable or type(e) is self.schedule.refused_with:
                    return "refused", resumes
            except Exception as e:
                return f"a foreign {type(e).__name__}: {e}", resumes
            finally:
                self.proxy.run_ended()
        return "resumable for ever", MOST_RESUMES

    async def _one_run(self, stop_at: int) -> UploadResult:
        recorded = 0

        def hear(event: events.Event) -> None:
            nonlocal recorded
            if isinstance(event, events.PartUploaded):
                recorded += 1
                if recorded == stop_at:
                    task.cancel()
            elif isinstance(event, events.OutageStarted):
                threading.Thread(target=self.proxy.restore).start()

        task = asyncio.create_task(
            bigupload.upload(
                self.path,
                to=f"s3://{self.store.bucket}/{self.key}",
                s3=S3Options(
                    endpoint_url=self.proxy.url,
                    region=self.store.region,
                    access_key=self.store.access_key,
                    secret_key=self.store.secret_key,
                ),
                part_size=self.schedule.part_size,
                manifest=self.manifest,
                on_event=hear,
                uploader=bigupload.Uploader(retry=SHRUNK),
            )
        )
        try:
            return await task
        except asyncio.CancelledError:
            raise _Stop from None

    # --- what must hold

    def _wrong(self, ending: str, resumes: int, extra: int, creates: int) -> str | None:
        client = self.store.client()
        try:
            return (
                self._wrong_ending(ending)
                or self._wrong_object(client, ending)
                or self._wrong_leftovers(client, ending, creates)
                or self._wrong_bytes(extra, runs=resumes + 1)
            )
        finally:
            self._clean(client)
            client.close()

    def _wrong_ending(self, ending: str) -> str | None:
        expected = self.schedule.refused_with
        if ending == "proved" and (expected is None or expected is errors.PartCorrupted):
            return None  # a lie about a part may be seen through: the list of parts tells the truth
        if ending == "refused" and expected is not None and type(self.errors[-1]) is expected:
            return None
        return f"{ending}, after {[f'{type(e).__name__}: {e}' for e in self.errors]}"

    def _wrong_object(self, client: Any, ending: str) -> str | None:
        try:
            body = client.get_object(Bucket=self.store.bucket, Key=self.key)["Body"]
        except client.exceptions.NoSuchKey:
            return None if ending != "proved" else "proved, and there is no object"
        digest = hashlib.sha256()
        for block in body.iter_chunks(1 << 20):
            digest.update(block)
        if digest.hexdigest() != self.sha256:
            return "the object has other bytes"
        status = read_manifest(self.manifest).manifest.status
        return None if (status == "completed") == (ending == "proved") else f"{ending}, and the manifest says {status}"

    def _wrong_leftovers(self, client: Any, ending: str, creates: int) -> str | None:
        """Open uploads that no manifest knows are those whose create's response was lost; nothing is in them."""
        for upload in self._open(client):
            creates -= 1
            rows = client.list_parts(Bucket=self.store.bucket, Key=self.key, UploadId=upload["UploadId"])
            if ending == "proved" and rows.get("Parts"):
                return "proved, and parts are left in an open upload"
        return None if creates >= (ending == "proved") else "an upload is open that nobody created"

    def _wrong_bytes(self, extra: int, *, runs: int) -> str | None:
        """Of sound exchanges there may be the file's bytes, and those of stragglers that were sent a second time: so
        many in each run."""
        most = runs * max(self.schedule.part_size, self.path.stat().st_size // 20)
        return None if extra <= most else f"{extra:,} bytes were sent again that nothing had broken"

    def _open(self, client: Any) -> list[Any]:
        found = client.list_multipart_uploads(Bucket=self.store.bucket, Prefix=self.key).get("Uploads", [])
        return [each for each in found if each["Key"] == self.key]

    def _clean(self, client: Any) -> None:
        for upload in self._open(client):
            with contextlib.suppress(Exception):
                client.abort_multipart_upload(Bucket=self.store.bucket, Key=self.key, UploadId=upload["UploadId"])
        client.delete_object(Bucket=self.store.bucket, Key=self.key)
