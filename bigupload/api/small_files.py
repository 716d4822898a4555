"""A small file of `upload`: one PUT with its proof, as `upload_many` sends it, and no manifest.

Calls that go to one bucket in the same way share a lane: the connection, what was learnt of the store, and the task
that watches the PUTs in flight. A lane stays for later calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from bigupload import errors, events
from bigupload.api.arguments import UploadOptions
from bigupload.api.calls import OpenCall
from bigupload.api.checks import checked_size
from bigupload.api.places import Places
from bigupload.api.sources import name_in_target, size_of
from bigupload.api.state import UploaderState, existing_object
from bigupload.api.types import UploadSource
from bigupload.core.checksums import Algorithm
from bigupload.core.manifest import Fingerprint, Manifest, SourceKind, Target, belongs_to, manifest_id
from bigupload.core.part_plan import plan_parts
from bigupload.core.retry_policy import RetryPolicy
from bigupload.engine.context import SharedSlots, UploadSettings
from bigupload.engine.retrying import Contact, Retrier, RunCounts
from bigupload.engine.single_put import MOST_BYTES, NothingProvesPut, SinglePuts, StoredFile
from bigupload.engine.upload_run import UploadResult, complete_already
from bigupload.events import UploadIdentity, UploadSkipped, identified
from bigupload.http.origins import CaBundle
from bigupload.http.put_transport import HttpTransport
from bigupload.manifests.state_directory import SUFFIX
from bigupload.options import S3Options
from bigupload.ports import Source
from bigupload.records import dataclass
from bigupload.sources.objects import FileHolder, MemorySource, bytes_of
from bigupload.sources.opening import checked_name, is_path
from bigupload.stores.s3.bucket import MAX_AGE, MOST_IDLE, BucketPool, aws_environment, connection_options
from bigupload.stores.s3.multipart import S3Store
from bigupload.stores.s3.objects import S3Objects
from bigupload.stores.targets import LOCAL_BUCKET, connect, key_of_file, parse_s3_url
from bigupload.support.cancellation import end_task

Sent: TypeAlias = "tuple[UploadResult, Fingerprint]"
AHEAD = 4
"""Files that are read and hashed while as many as there may be are in flight."""
MOST_CHANGES = 3
"""The number of times that a file is sent again because it changed meanwhile, with `on_change="restart"`."""
_ASK_FOR_MORE = ("service", "manifest", "delta", "follow", "idle", "end_marker")
"""Options that one PUT has nothing for."""
_TOO_LITTLE = "one PUT of it proves less than is required"


class SmallFileDependencies(Protocol):
    """The attributes of `resources.UploaderResources` that small files use."""

    retry: RetryPolicy
    state: UploaderState
    buckets: BucketPool
    places: Places
    shared: SharedSlots

    def clock(self) -> float:
        """Seconds from any start."""
        ...

    async def transport(self, ca_bundle: CaBundle) -> HttpTransport:
        """The connections that trust these certificates."""
        ...


class SmallFiles:
    """The small files that calls of `upload` send, of one `Uploader`."""

    def __init__(self, resources: SmallFileDependencies) -> None:
        """Connect to nothing yet."""
        self._resources = resources
        self._holder = FileHolder()
        self._lanes: dict[tuple[Any, ...], Lane] = {}
        """The lanes that new calls get, the one that was used last at the end."""
        self._outdated: list[Lane] = []
        """The lanes that nobody uses and nobody will get."""
        self._no_options = S3Options()
        self._last: tuple[S3Options | None, tuple[Any, ...]] = (None, ())
        """The last options, and what of them makes two lanes different."""
        self._looking: dict[str, asyncio.Event] = {}
        """By directory, whether somebody has looked on which disk it is."""

    async def aclose(self) -> None:
        """Close the lanes. Idempotent."""
        lanes = [*self._lanes.values(), *self._outdated]
        self._lanes.clear()
        self._outdated.clear()
        for lane in lanes:
            await lane.aclose()

    async def send(
        self,
        call: OpenCall,
        given: UploadSource,
        settings: UploadSettings,
        options: UploadOptions,
        *,
        takes_place: bool,
        job_began: float | None = None,
    ) -> Sent | None:
        """Upload a source by one PUT, if it is one for that.

        Args:
            call: The call.
            given: The source.
            settings: How to upload.
            options: The caller's options.
            takes_place: Whether the upload waits for a place of its own: the caller has none for it.
            job_began: The time at which its job began. Manifests that were written since then count.

        Returns:
            The result, and the source's metadata when it was sent. None: it is to be uploaded in parts.

        Raises:
            BigUploadError: It failed.
        """
        small = await self._small(given, settings, options)
        if small is None:
            return None
        lane = await self._lane(small, call)
        try:
            if not await lane.is_open_for(small, call) or lane.proves_too_little:
                return None
            if not takes_place:
                return await _SmallUpload(self._resources, self._holder, lane, call, small, job_began).run()
            shared, places = self._resources.shared, self._resources.places
            async with places.for_put(settings.priority, shared.limit + AHEAD):
                return await _SmallUpload(self._resources, self._holder, lane, call, small, job_began).run()
        finally:
            self._leave(lane)

    async def _small(self, given: UploadSource, settings: UploadSettings, options: UploadOptions) -> _Small | None:
        """Return a file that one PUT can send. None: it is another source, or has an error, which others report."""
        chosen: Any = options
        path = os.path.abspath(given) if is_path(given) else ""  # noqa: PTH100 - as FileSource
        is_file = path != ""
        if any(chosen.get(name) is not None and chosen[name] is not False for name in _ASK_FOR_MORE):
            return None
        if not is_file and (
            not isinstance(given, bytes | bytearray | memoryview) or chosen.get("skip_existing", False)
        ):
            return None
        s3 = options.get("s3") or self._no_options
        locks = s3.object_lock_retain_until is not None or s3.object_lock_legal_hold
        if settings.algorithm is Algorithm.NONE and locks:
            return None
        size = await self._size(given, path)
        if (
            size is None
            or not _fits(size, settings)
            or checked_size(options.get("expected_size"), "expected_size")
            not in (
                None,
                size,
            )
        ):
            return None
        named = options.get("name")
        name = checked_name(named) if named is not None else os.path.basename(path) if is_file else ""  # noqa: PTH119 - microseconds
        name = name or name_in_target(given, options)
        if not name:
            return None
        to = options.get("to") or f"s3://{LOCAL_BUCKET}/"
        bucket, key = key_of_file(to, path, name) if is_file and named is None else parse_s3_url(to, name)
        return _Small(given, path, name, bucket, key, s3, settings, options)

    async def _size(self, given: UploadSource, path: str) -> int | None:
        holder, directory = self._holder, os.path.dirname(path)  # noqa: PTH120 - microseconds count
        if path and not holder.is_local(path) and (first := self._looking.get(directory)) is not None:
            await first.wait()  # a thread for each would take longer than all else
        if not path or holder.is_local(path):  # waits for nothing
            try:
                return os.stat(path).st_size if path else size_of(given)  # noqa: PTH116 - as above
            except (OSError, ValueError):
                return None

        def look() -> int:
            holder.look_where(path)
            return size_of(given)

        self._looking[directory] = looked = asyncio.Event()
        try:
            return await self._resources.places.find(look)
        finally:
            self._looking.pop(directory, None)
            looked.set()

    async def _lane(self, small: _Small, call: OpenCall) -> Lane:
        """Return the lane of an upload, which `_leave` gives back."""
        while self._outdated:
            await self._outdated.pop().aclose()
        settings, s3 = small.settings, small.s3
        if s3 is not self._last[0]:  # of a crowd, most have the same
            self._last = s3, (*connection_options(s3), s3.local, s3.if_none_match)
        chosen = settings.priority, settings.algorithm, settings.require_proof, settings.recalls
        key = (small.bucket, self._last[1], aws_environment(), *chosen)
        lane, now = self._lanes.get(key), self._resources.clock()
        if lane is not None and now - lane.made > MAX_AGE:
            if not lane.users:
                self._outdated.append(lane)
            lane = None
        if lane is None:
            lane = self._lanes[key] = Lane(self._resources, key, now)
        lane.users += 1
        return lane

    def _leave(self, lane: Lane) -> None:
        lane.users -= 1
        if lane.users:
            return
        if self._lanes.get(lane.key) is not lane:
            self._outdated.append(lane)
            return
        self._lanes[lane.key] = self._lanes.pop(lane.key)
        if len(self._lanes) > MOST_IDLE:
            for each in [each for each in self._lanes.values() if not each.users][:-MOST_IDLE]:
                self._outdated.append(self._lanes.pop(each.key))


@dataclass(slots=True, eq=False)
class _Small:
    """A source that may be sent by one PUT."""

    given: UploadSource
    path: str
    """A file's absolute path; empty: it is in memory."""
    name: str
    bucket: str
    key: str
    s3: S3Options
    settings: UploadSettings
    options: UploadOptions

    @property
    def source(self) -> str:
        """Its name."""
        return self.path or self.name


class Lane:
    """Shared by the uploads that go to one bucket in the same way."""

    def __init__(self, resources: SmallFileDependencies, key: tuple[Any, ...], made: float) -> None:
        """Connect to nothing yet.

        Args:
            resources: The Uploader's resources.
            key: The identity of the lane.
            made: When it was made, by the clock of `resources`.
        """
        self.key = key
        self.made = made
        self.users = 0
        self.proves_too_little = False
        """Whether a PUT proved less than is required."""
        self.responded_at: float | None = None
        """The time of the store's last response."""
        self.store: S3Store | None = None
        self.puts: SinglePuts | None = None
        self.state = str(resources.state.directory)
        """The directory of manifests."""
        self._resources = resources
        self._opening: asyncio.Event | None = None
        self._failed = False
        """Whether the last call that opened it could not do that."""
        self._objects: tuple[S3Options, S3Objects] | None = None
        self._watching: asyncio.Task[None] | None = None

    async def is_open_for(self, small: _Small, call: OpenCall) -> bool:
        """Open it, unless it is open. False if another call could not do that: in parts, each call reports its error.

        Raises:
            BigUploadError: This call could not open it.
        """
        while self.puts is None:
            if self._opening is not None:
                await self._opening.wait()
                if self._failed:
                    return False
                continue  # it is open, or the call that opened it was cancelled
            self._opening, self._failed = asyncio.Event(), False
            try:
                await self._open(small, call)
            except errors.BigUploadError:
                self._failed = True
                raise
            finally:
                self._opening.set()
                self._opening = None
        if self._watching is None or self._watching.done():
            watching = self.puts.watch(self._resources.retry, lambda: self.users > 0)
            self._watching = asyncio.create_task(watching)
        return True

    async def _open(self, small: _Small, call: OpenCall) -> None:
        resources = self._resources
        target = small.options.get("to") or ""
        upload = UploadIdentity(source=small.source, target=target, id="", manifest=None)
        retrier = Retrier(policy=resources.retry, emit=identified(upload, call.emit_as_own))
        if self.store is None:
            self.store = await connect(small.bucket, "", small.s3, resources.buckets)
        objects = self.objects_of(small.s3)
        await retrier.request(objects.prepare, contacts_store=False)
        transport = await resources.transport(self.store.ca_bundle)
        facts = resources.state.facts_of(self.store.target)
        self.puts = SinglePuts(objects, transport, resources.shared, small.settings, facts=facts)

    def objects_of(self, s3: S3Options) -> S3Objects:
        """Return the store for objects of these properties.

        Those that must not replace others have a token of their own, by which an upload knows its object.
        """
        assert self.store is not None
        if self._objects is not None and self._objects[0] is s3:
            return self._objects[1]
        if self._objects is not None and self._objects[0] == s3:
            objects = self._objects[1]
        else:
            objects = self.store.with_properties_of(s3).objects(os.urandom(16).hex())
        self._objects = None if s3.if_none_match else (s3, objects)
        return objects

    async def aclose(self) -> None:
        """Give the connection back. Idempotent."""
        if self._watching is not None:
            await end_task(self._watching)
        if self.store is not None:
            await self.store.aclose()


class _SmallUpload:
    """One upload."""

    def __init__(
        self,
        resources: SmallFileDependencies,
        holder: FileHolder,
        lane: Lane,
        call: OpenCall,
        small: _Small,
        job_began: float | None,
    ) -> None:
        assert lane.puts is not None
        self._resources = resources
        self._holder = holder
        self._lane = lane
        self._puts = lane.puts
        self._call = call
        self._small = small
        self._job_began = job_began
        self._objects = lane.objects_of(small.s3)
        self._target = self._objects.target(small.key)
        self._id = manifest_id(small.source, self._target)
        self._manifest = f"{lane.state}{os.sep}{self._id}{SUFFIX}"
        self._replaced = False
        """Whether an earlier upload has a manifest, which is no longer true when this one is complete."""

    async def run(self) -> Sent | None:
        warning = None
        if os.path.lexists(self._manifest):
            over, warning = self._is_over()
            if not over:
                return None
            self._replaced = True
        changes, knows_region = 0, self._small.s3.region is not None
        emit = self._call.emit_of_put(self._small.source, self._target, self._id)
        if warning is not None:
            emit(events.Warned(message=warning))
        while True:
            try:
                return await self._run_once(emit)
            except NothingProvesPut:
                self._lane.proves_too_little = True
                emit(events.Restarted(reason=_TOO_LITTLE))
                return None
            except errors.WrongRegion:
                if knows_region:
                    raise
                knows_region = True
                retrier = Retrier(policy=self._resources.retry, emit=emit)
                await retrier.request(self._objects.require_bucket)  # finds it out
                continue
            except errors.SourceChanged:
                changes += 1
                if not self._small.settings.follow_changes or changes > MOST_CHANGES:
                    raise
            import random

            await asyncio.sleep(self._resources.retry.delay(changes, random.random))

    def _is_over(self) -> tuple[bool, str | None]:
        """Whether the upload that has a manifest has ended, and does not matter any more; and a warning about that."""
        small = self._small
        if self._job_began is not None or small.options.get("skip_existing", False):  # its manifest may know the object
            return False, None
        known = ended_upload(self._manifest, small.source, self._target)
        if known is None:
            return False, None
        warns = known.status == "completed" and not small.s3.if_none_match
        return True, complete_already(known, compared=False) if warns else None

    async def _run_once(self, emit: Callable[[events.Event], None]) -> Sent | None:
        small = self._small
        source: Source
        if small.path:
            try:
                source = await self._holder.open(small.path)
            except errors.SourceError:  # the upload in parts reports it
                return None
        else:
            source = MemorySource(small.name, bytes_of(small.given))
        with contextlib.closing(source):
            rereads = small.settings.verify_source and source.view(0, 1) is None
            if rereads or not _fits(source.fingerprint.size, small.settings):
                return None
            if small.options.get("skip_existing", False) and (found := await self._existing(source)) is not None:
                emit(UploadSkipped(url=found.url, etag=found.etag, verified=found.verified))
                return found, source.fingerprint
            result = await self._put(source, emit)
        if self._replaced:
            self._retire_manifest()
        return result, source.fingerprint

    async def _existing(self, source: Source) -> UploadResult | None:
        from bigupload.manifests.journal import FileJournal

        assert self._lane.store is not None
        store = self._lane.store.at(self._small.key)
        journal = FileJournal(Path(self._manifest))
        s3, required = self._small.options.get("s3"), self._small.settings.require_proof
        retry, pool = self._resources.retry, self._resources.buckets
        return await existing_object(source, store, journal, s3, required, retry=retry, pool=pool)

    async def _put(self, source: Source, emit: Callable[[events.Event], None]) -> UploadResult:
        small, clock = self._small, self._resources.clock
        began = clock()
        contact, counts = Contact(responded_at=self._lane.responded_at), RunCounts()
        retrier = Retrier(policy=self._resources.retry, emit=emit, counts=counts, contact=contact)
        watched = _PutEvents(source, self._resources, counts, emit) if self._call.is_heard else None
        if watched is not None:
            watched.begin(str(self._target))
        stored = await self._puts.upload(
            source,
            small.key,
            small.name,
            retrier,
            counts,
            emit,
            store=self._objects,
            report=None if watched is None else watched.sent,
        )
        self._lane.responded_at = contact.responded_at
        url = self._objects.url(small.key)
        if watched is not None:
            watched.end(url, stored)
        return result_of_put(
            stored,
            source,
            bucket=small.bucket,
            key=small.key,
            url=url,
            algorithm=small.settings.algorithm,
            counts=counts,
            seconds=clock() - began,
            manifest=None,
        )

    def _retire_manifest(self) -> None:
        """Set the manifest of the upload aside whose object was replaced, unless another process works with it."""
        with contextlib.suppress(errors.ManifestError), self._resources.state.existing(self._manifest) as journal:
            if journal.manifest.status in ("completed", "aborted"):
                journal.retire()


def ended_upload(path: str, source: str, target: Target) -> Manifest | None:
    """Read the manifest of an upload of a source. None: one PUT must not take the upload's place.

    It is unfinished, and would be left behind in the store; or its manifest is another's or can't be read, which an
    upload in parts reports.
    """
    from bigupload.manifests.journal import read_manifest

    try:
        known = read_manifest(Path(path)).manifest
    except errors.ManifestError:
        return None
    has_ended = known.status in ("completed", "aborted")
    return known if has_ended and belongs_to(known.header, source, target) else None


class _PutEvents:
    """The events of one PUT, for a call that somebody listens to: those of an upload of one part."""

    def __init__(
        self, source: Source, resources: SmallFileDependencies, counts: RunCounts, emit: Callable[[events.Event], None]
    ) -> None:
        self._source = source
        self._size = source.fingerprint.size
        self._shared = resources.shared
        self._counts = counts
        self._emit = emit

    def begin(self, target: str) -> None:
        started = events.UploadStarted(
            path=Path(self._source.path),
            target=target,
            size=self._size,
            part_size=max(1, self._size),
            parts=1,
            manifest=None,
            resumed_parts=0,
            resumed_bytes=0,
        )
        self._emit(started)

    def sent(self, sent: int) -> None:
        self._progress(sent, is_done=False)

    def end(self, url: str, stored: StoredFile) -> None:
        self._emit(events.PartUploaded(number=1, size=self._size, attempt=stored.attempts, proof=stored.proof))
        self._progress(0, is_done=True)
        sent = self._counts.bytes_sent
        self._emit(events.UploadCompleted(url=url, etag=stored.etag, verified=stored.verified, bytes_sent=sent))

    def _progress(self, sent: int, *, is_done: bool) -> None:
        progress = events.Progress(
            bytes_uploaded=self._size if is_done else 0,
            bytes_in_flight=sent,
            size=self._size,
            parts_uploaded=int(is_done),
            parts=1,
            concurrency=self._shared.limit,
            retries=self._counts.retries,
        )
        self._emit(progress)


def result_of_put(
    stored: StoredFile,
    source: Source,
    *,
    bucket: str,
    key: str,
    url: str,
    algorithm: Algorithm,
    counts: RunCounts,
    seconds: float,
    manifest: Path | None,
) -> UploadResult:
    """Return the result of a file that one PUT sent.

    Args:
        stored: The object.
        source: The file.
        bucket: Where it is.
        key: Its key.
        url: Its URL.
        algorithm: That of the checksum.
        counts: What happened.
        seconds: How long it took.
        manifest: The job's record, if there is one.
    """
    return UploadResult(
        path=Path(source.path),
        bucket=bucket,
        key=key,
        url=url,
        size=source.fingerprint.size,
        etag=stored.etag,
        checksum=stored.checksum and f"{algorithm}:{stored.checksum}",
        verified=stored.verified,
        parts=1,
        bytes_sent=counts.bytes_sent,
        retries=counts.retries,
        seconds=seconds,
        manifest=manifest,
        guarded_by="fingerprint" if source.kind is SourceKind.FILE else "checksums",
        version_id=stored.version_id,
    )


def _fits(size: int, settings: UploadSettings) -> bool:
    """Whether `size` bytes are one part. The upload in parts reports invalid part sizes."""
    limits = S3Store.limits
    if settings.part_size is None:
        return size <= min(MOST_BYTES, limits.default_part_size)
    try:
        return size <= MOST_BYTES and plan_parts(size, settings.part_size, limits=limits).count == 1
    except errors.UsageError:
        return False
