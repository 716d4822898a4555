"""The files of a job: each in the job's record, as the result of an upload and the other way round; and how far all of
them have come, as the `JobProgress` events report it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bigupload import events
from bigupload.api.many_items import ManyItem
from bigupload.batch.job import UploadFailed
from bigupload.batch.listing import FoundFiles
from bigupload.core.manifest import Fingerprint
from bigupload.core.rate_meter import RateMeter
from bigupload.engine.upload_run import UploadResult
from bigupload.manifests.job_record import RecordedFile
from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.stores.targets import endpoint_of

if TYPE_CHECKING:
    from bigupload.manifests.move_record import Move


async def job_target(prefix: str, s3: S3Options) -> str:
    """Return a job's target as its record writes it, with the endpoint."""
    endpoint = await endpoint_of(s3)
    return prefix if endpoint is None else f"{prefix} at {endpoint}"


def recorded_file(key: str, path: str, fingerprint: Fingerprint, result: UploadResult) -> RecordedFile:
    """Return the record of a file that is in the store. `key` is below the job's target."""
    return RecordedFile(
        key=key,
        path=path,
        fingerprint=fingerprint,
        etag=result.etag,
        checksum=result.checksum,
        verified=result.verified,
        version_id=result.version_id,
        place=None if result.bucket else (result.key, result.url),
    )


def result_of_record(found: RecordedFile | Move, record: Path, *, bucket: str, key: str, url: str) -> UploadResult:
    """Return the result of a file that an earlier run uploaded."""
    return UploadResult(
        path=Path(found.path),
        bucket=bucket,
        key=key,
        url=url,
        size=found.fingerprint.size,
        etag=found.etag,
        checksum=found.checksum,
        verified=found.verified,
        manifest=record,
        skipped=True,
        version_id=found.version_id,
    )


@dataclass(slots=True)
class _Moving:
    """Bytes of one large file that is under way."""

    resumed: int = 0
    acknowledged: int = 0
    """With those that earlier runs sent."""
    in_flight: int = 0
    is_waiting: bool = False
    hangs_for: float | None = None

    def observe(self, event: events.Event) -> None:
        match event:
            case events.UploadStarted(resumed_bytes=resumed):
                self.resumed = self.acknowledged = resumed
                self.in_flight = 0
            case events.Progress(
                bytes_uploaded=done, bytes_in_flight=flying, is_waiting=waiting, source_hangs_for=hangs
            ):
                self.acknowledged, self.in_flight, self.is_waiting = done, flying, waiting
                self.hangs_for = hangs
            case events.Restarted():
                self.resumed = self.acknowledged = self.in_flight = 0
            case _:
                pass


class JobTally:
    """Counts files and bytes."""

    def __init__(self, found: FoundFiles | None = None) -> None:
        """Begin with none.

        Args:
            found: The listing's counts. None: no listing, so taken files count as found.
        """
        self.objects_listed = 0
        self.objects_deleted = 0
        self._counts_taken = found is None
        self._found = FoundFiles() if found is None else found
        self._files = {"uploaded": 0, "skipped": 0, "failed": 0}
        self._bytes = dict(self._files)
        self._meter = RateMeter()
        self._moving: dict[int, _Moving] = {}
        """By the item's identity: its key need not be its own."""

    async def counted(self, items: AsyncIterator[ManyItem]) -> AsyncIterator[ManyItem]:
        """Hand items on, and count them if no listing does."""
        async for item in items:
            if self._counts_taken:
                self._found.files += 1
                self._found.bytes += _size(item)
            yield item
        self._found.is_complete = True

    def mover(self, item: ManyItem) -> Callable[[events.Event], None]:
        """Return a function that takes the events of an item's upload."""
        return self._moving.setdefault(id(item), _Moving()).observe

    def done(self, item: ManyItem, outcome: UploadResult | UploadFailed | None) -> None:
        """Count what became of an item. None: it would be uploaded."""
        moving = self._moving.pop(id(item), None)
        size = _size(item)
        if isinstance(outcome, UploadFailed):
            self._count("failed", size)
            return
        if outcome is not None:
            if self._counts_taken and item.fingerprint is None:
                self._found.bytes += outcome.size
            size = outcome.size
        if outcome is not None and outcome.skipped:
            self._count("skipped", size)
            return
        resumed = moving.resumed if moving is not None else 0
        self._count("uploaded", size - resumed)
        self._bytes["skipped"] += resumed

    def same(self, files: int, size: int) -> None:
        """Count files that were in the store already, and their bytes together."""
        self._count("skipped", size, files)

    def _count(self, what: str, size: int, files: int = 1) -> None:
        self._files[what] += files
        self._bytes[what] += size

    def progress(
        self, now: float, small_in_flight: int, *, late: bool = False, is_finished: bool = False
    ) -> events.JobProgress:
        """Return the present state as an event.

        Args:
            now: Seconds.
            small_in_flight: Bytes that were sent of small files in flight.
            late: Whether responses are late, so that what is in flight is not done.
            is_finished: Whether everything is done.
        """
        moving = self._moving.values()
        uploaded = self._bytes["uploaded"] + sum(max(0, each.acknowledged - each.resumed) for each in moving)
        in_flight = small_in_flight + sum(each.in_flight for each in moving)
        skipped = self._bytes["skipped"] + sum(each.resumed for each in moving)
        flying = [each for each in moving if each.in_flight]
        self._meter.add(now, uploaded, in_flight, late=late)
        hanging = [each.hangs_for for each in moving if each.hangs_for is not None]
        hangs = max(hanging) if hanging and not in_flight else None
        to_send = self._found.bytes - skipped - self._bytes["failed"] if self._found.is_complete else None
        return events.JobProgress(
            files_found=self._found.files,
            bytes_found=self._found.bytes,
            is_listed=self._found.is_complete,
            files_uploaded=self._files["uploaded"],
            files_skipped=self._files["skipped"],
            files_failed=self._files["failed"],
            bytes_uploaded=uploaded,
            bytes_in_flight=in_flight,
            bytes_skipped=skipped,
            bytes_failed=self._bytes["failed"],
            objects_listed=self.objects_listed,
            objects_deleted=self.objects_deleted,
            rate=self._meter.rate(now),
            seconds_left=self._meter.seconds_left(now, to_send) if hangs is None else None,
            source_hangs_for=hangs,
            is_waiting=late and bool(flying) and all(each.is_waiting for each in flying),
            is_finished=is_finished,
        )


def _size(item: ManyItem) -> int:
    """The size in the listing; 0 without one."""
    return item.fingerprint.size if item.fingerprint is not None else 0
