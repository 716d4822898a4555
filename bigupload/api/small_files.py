"""Small files, each by one PUT with its proof and without a manifest: the same way for every call that uploads files.

Files that go to one bucket with the same options share a `BucketSender`: the connection, what was learnt of the store,
and the task that watches the PUTs in flight. It stays for later calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from bigupload import errors, events
from bigupload.api.arguments import UploadOptions
from bigupload.api.calls import OpenCall
from bigupload.api.checks import checked_size
from bigupload.api.sources import name_in_target, size_of
from bigupload.api.state import UploaderState, existing_object
from bigupload.api.types import UploadSource
from bigupload.api.upload_slots import UploadSlots
from bigupload.core.checksums import Algorithm
from bigupload.core.manifest import Fingerprint, Manifest, SourceKind, Target, belongs_to, manifest_id
from bigupload.core.part_plan import plan_parts
from bigupload.core.retry_policy import RetryPolicy
from bigupload.engine.context import SharedSlots, UploadSettings
from bigupload.engine.retrying import Contact, Retrier, RunCounts
from bigupload.engine.single_put import MOST_BYTES, NothingProvesPut, SinglePuts
from bigupload.engine.upload_run import UploadResult, complete_already
from bigupload.events import UploadIdentity, UploadSkipped, identified
from bigupload.http.origins import CaBundle
from bigupload.http.put_transport import HttpTransport
from bigupload.manifests.state_directory import SUFFIX
from bigupload.options import S3Options
from bigupload.ports import Source
from bigupload.records import dataclass
from bigupload.sources.objects import MemorySource, SmallFileReader, bytes_of
from bigupload.sources.opening import checked_name, is_path
from bigupload.stores.s3.bucket import MAX_AGE, MOST_IDLE, BucketPool, aws_environment, connection_options
from bigupload.stores.s3.multipart import S3Store
from bigupload.stores.s3.objects import S3Objects
from bigupload.stores.targets import LOCAL_BUCKET, connect, key_of_file, parse_s3_url
from bigupload.support.cancellation import end_task

Sent: TypeAlias = "tuple[UploadResult, Fingerprint]"
Emit: TypeAlias = Callable[[events.Event], None]
AHEAD = 4
"""Files that are read and hashed while as many as there may be are in flight."""
_MOST_CHANGES = 3
"""The number of times that a file is sent again because it changed during that, with `on_change="restart"`."""
_ASK_FOR_MORE = frozenset({"service", "manifest", "delta", "follow", "idle", "end_marker"})
"""Options that one PUT has nothing for."""
_TOO_LITTLE = "one PUT of it proves less than is required"


class SmallFileDependencies(Protocol):
    """The attributes of `resources.UploaderResources` that small files use."""

    retry: RetryPolicy
    state: UploaderState
    buckets: BucketPool
    upload_slots: UploadSlots
    shared: SharedSlots

    def clock(self) -> float:
        """Seconds from any start."""
        ...

    async def transport(self, ca_bundle: CaBundle) -> HttpTransport:
        """The connections that trust these certificates."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class JobContext:
    """The values that the uploads of one job share."""

    began: float | None = None
    """When the job began, in seconds since 1970. What a manifest says was completed since then is in the store: a
    killed run may not have recorded it. None: no manifest is believed."""
    sender: BucketSender | None = None
    """The sender of its small files, which is open; None: each file finds its own."""
    contact: Contact | None = None
    """The store's responses to its small files; None: each has its own."""
    record: Path | None = None
    """The job's record, for the results."""
    token: str = ""
    """The job's own. Objects that must not replace others have one that is made of it, by which another run of the job
    knows them. Empty: each object has a random one."""


class SmallFiles:
    """The small files of one `Uploader`."""

    def __init__(self, resources: SmallFileDependencies) -> None:
        """Connect to nothing yet."""
        self._resources = resources
        self._reader = SmallFileReader()
        self._senders: dict[tuple[Any, ...], BucketSender] = {}
        """The senders that new calls get, the one that was used last at the end."""
        self._outdated: list[BucketSender] = []
        """The senders that nobody uses and nobody will get."""
        self._no_options = S3Options()
        self._last: tuple[S3Options | None, tuple[Any, ...]] = (None, ())
        """The last options, and what of them makes two senders different."""
        self._looking: dict[str, asyncio.Event] = {}
        """By directory, whether somebody has looked on which disk it is."""

    async def aclose(self) -> None:
        """Close the senders. Idempotent."""
        senders = [*self._senders.values(), *self._outdated]
        self._senders.clear()
        self._outdated.clear()
        for sender in senders:
            await sender.aclose()

    async def send(
        self,
        call: OpenCall,
        given: UploadSource,
        settings: UploadSettings,
        options: UploadOptions,
        *,
        takes_slot: bool,
        job: JobContext | None = None,
    ) -> Sent | None:
        """Upload a source by one PUT, if it is one for that.

        Args:
            call: The call.
            given: The source.
            settings: How to upload.
            options: The caller's options.
            takes_slot: Whether the upload waits for a slot of its own: the caller has none for it.
            job: The upload's job. One with a sender takes care itself how many files it sends at once.

        Returns:
            The result, and the source's metadata when it was sent. None: it is to be uploaded in parts.

        Raises:
            BigUploadError: It failed.
        """
        job = job or JobContext()
        upload = await self._upload(call, given, settings, options, job)
        if upload is None:
            return None
        with job.sender or await self.sender(upload.bucket, upload.s3, settings) as upload.sender:
            if upload.sender.puts is None:
                identity = UploadIdentity(
                    source=upload.path or upload.name, target=options.get("to") or "", id="", manifest=None
                )
                if not await upload.sender.open(identified(identity, call.emit_as_own)):
                    return None
            if upload.sender.proves_too_little:
                return None
            if job.sender is not None or not takes_slot:
                return await upload.run()
            async with self._resources.upload_slots.for_put(settings.priority, self._resources.shared.limit + AHEAD):
                return await upload.run()

    async def _upload(
        self, call: OpenCall, given: UploadSource, settings: UploadSettings, options: UploadOptions, job: JobContext
    ) -> _SmallUpload | None:
        """Return a file that one PUT can send. None: it is another source, or has an error, which others report."""
        chosen: Any = options
        path = os.path.abspath(given) if is_path(given) else ""  # noqa: PTH100 - as FileSource
        if any(chosen[name] is not None and chosen[name] is not False for name in _ASK_FOR_MORE & chosen.keys()):
            return None
        if not path and (not isinstance(given, bytes | bytearray | memoryview) or chosen.get("skip_existing", False)):
            return None
        s3 = options.get("s3") or self._no_options
        locks = s3.object_lock_retain_until is not None or s3.object_lock_legal_hold
        if settings.algorithm is Algorithm.NONE and locks:
            return None
        if job.sender is None:  # else the sender is open, and the size of the open file is soon enough
            size = await self._size(given, path)
            expected = checked_size(options.get("expected_size"), "expected_size")
            if size is None or not _fits(size, settings) or expected not in (None, size):
                return None
        named = options.get("name")
        name = checked_name(named) if named is not None else os.path.basename(path) if path else ""  # noqa: PTH119 - microseconds
        name = name or name_in_target(given, options)
        if not name:
            return None
        to = options.get("to") or f"s3://{LOCAL_BUCKET}/"
        bucket, key = key_of_file(to, path, name) if path and named is None else parse_s3_url(to, name)
        return _SmallUpload(
            self._resources, self._reader, call, given, path, name, bucket, key, s3, settings, options, job
        )

    async def _size(self, given: UploadSource, path: str) -> int | None:
        reader, directory = self._reader, os.path.dirname(path)  # noqa: PTH120 - microseconds count
        if path and not reader.is_local(path) and (first := self._looking.get(directory)) is not None:
            await first.wait()  # a thread for each would take longer than all else
        if not path or reader.is_local(path):  # waits for nothing
            try:
                return os.stat(path).st_size if path else size_of(given)  # noqa: PTH116 - as above
            except (OSError, ValueError):
                return None

        def look() -> int:
            reader.look_where(path)
            return size_of(given)

        self._looking[directory] = looked = asyncio.Event()
        try:
            return await self._resources.upload_slots.find(look)
        finally:
            self._looking.pop(directory, None)
            looked.set()

    async def sender(self, bucket: str, s3: S3Options, settings: UploadSettings) -> BucketSender:
        """Return the sender of uploads to a bucket, to be used as a context manager, and at once."""
        while self._outdated:
            await self._outdated.pop().aclose()
        if s3 is not self._last[0]:  # of a crowd, most have the same
            self._last = s3, (*connection_options(s3), s3.local, s3.if_none_match)
        chosen = settings.priority, settings.algorithm, settings.require_proof, settings.recalls
        key = (bucket, self._last[1], aws_environment(), *chosen)
        sender, now = self._senders.get(key), self._resources.clock()
        if sender is not None and now - sender.made > MAX_AGE:
            if not sender.users:
                self._outdated.append(sender)
            sender = None
        if sender is None:
            sender = self._senders[key] = BucketSender(self._resources, key, bucket, s3, settings, now, self._left)
        return sender

    def _left(self, sender: BucketSender) -> None:
        """Nobody uses a sender any more."""
        if self._senders.get(sender.key) is not sender:
            self._outdated.append(sender)
            return
        self._senders[sender.key] = self._senders.pop(sender.key)
        if len(self._senders) > MOST_IDLE:
            for each in [each for each in self._senders.values() if not each.users][:-MOST_IDLE]:
                self._outdated.append(self._senders.pop(each.key))


class BucketSender:
    """Sends small files to one bucket with the same options. Each upload uses it within a `with` block."""

    def __init__(
        self,
        resources: SmallFileDependencies,
        key: tuple[Any, ...],
        bucket: str,
        s3: S3Options,
        settings: UploadSettings,
        made: float,
        left: Callable[[BucketSender], None],
    ) -> None:
        """Connect to nothing yet.

        Args:
            resources: The Uploader's resources.
            key: The identity of the sender.
            bucket: The bucket.
            s3: How to reach it.
            settings: How its files are sent.
            made: When it was made, by the clock of `resources`.
            left: Called when nobody uses it any more.
        """
        self.key = key
        self.made = made
        self.users = 0
        self.proves_too_little = False
        """Whether a PUT proved less than is required."""
        self.responded_at: float | None = None
        """The time of the store's last response."""
        self.puts: SinglePuts | None = None
        """Sends files, once it is open."""
        self.directory = f"{resources.state.directory}{os.sep}"
        """The directory of manifests."""
        self.has_region = s3.region is not None
        """Whether the caller has named the bucket's region, or the store was asked for it."""
        self._resources = resources
        self._bucket = bucket
        self._s3 = s3
        self._settings = settings
        self._left = left
        self._store: S3Store | None = None
        self._opening: asyncio.Event | None = None
        self._failed = False
        """Whether the last call that opened it could not do that."""
        self._objects: tuple[S3Options, S3Objects] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._finding_region = asyncio.Lock()

    def __enter__(self) -> BucketSender:
        self.users += 1
        self._watch()
        return self

    def __exit__(self, *_: object) -> None:
        self.users -= 1
        if not self.users:
            self._left(self)

    def _watch(self) -> None:
        if self.puts is not None and (self._watching is None or self._watching.done()):
            watching = self.puts.watch(self._resources.retry, lambda: self.users > 0)
            self._watching = asyncio.create_task(watching)

    @property
    def store(self) -> S3Store:
        """The connection."""
        assert self._store is not None
        return self._store

    async def open(self, emit: Emit, contact: Contact | None = None) -> bool:
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
                await self._open(Retrier(policy=self._resources.retry, emit=emit, contact=contact or Contact()))
            except errors.BigUploadError:
                self._failed = True
                raise
            finally:
                self._opening.set()
                self._opening = None
        self._watch()
        return True

    async def _open(self, retrier: Retrier) -> None:
        resources = self._resources
        if self._store is None:
            self._store = await connect(self._bucket, "", self._s3, resources.buckets)
        objects = self.objects_of(self._s3)
        await retrier.request(objects.prepare, contacts_store=False)
        transport = await resources.transport(self._store.ca_bundle)
        facts = resources.state.facts_of(self._store.target)
        self.puts = SinglePuts(objects, transport, resources.shared, self._settings, facts=facts)

    def objects_of(self, s3: S3Options) -> S3Objects:
        """Return the store for objects of these properties."""
        if self._objects is not None and self._objects[0] is s3:
            return self._objects[1]
        if self._objects is None or self._objects[0] != s3:
            self._objects = s3, self.store.with_properties_of(s3).objects(os.urandom(16).hex())
        return self._objects[1]

    async def find_region(self, retrier: Retrier) -> None:
        """Ask the store for the bucket's region, which nobody has named: of the uploads under way, one asks."""
        async with self._finding_region:
            if not self.has_region:
                await retrier.request(self.objects_of(self._s3).require_bucket)
                self.has_region = True

    async def aclose(self) -> None:
        """Give the connection back. Idempotent."""
        if self._watching is not None:
            await end_task(self._watching)
        if self._store is not None:
            await self._store.aclose()


@dataclass(slots=True, eq=False)
class _SmallUpload:
    """The upload of a source that one PUT may send."""

    resources: SmallFileDependencies
    reader: SmallFileReader
    call: OpenCall
    given: UploadSource
    path: str
    """A file's absolute path; empty: it is in memory."""
    name: str
    bucket: str
    key: str
    s3: S3Options
    settings: UploadSettings
    options: UploadOptions
    job: JobContext
    sender: BucketSender | None = None

    async def run(self) -> Sent | None:
        """Upload it. None: it is to be uploaded in parts."""
        sender, retry = self.sender, self.resources.retry
        assert sender is not None
        objects = sender.objects_of(self.s3)
        target, name = objects.target(self.key), self.path or self.name
        identifier = manifest_id(name, target)
        if not objects.replaces:  # it is known by its token
            token = hashlib.sha256(f"{self.job.token or os.urandom(16).hex()} {identifier}".encode()).hexdigest()
            objects = objects.with_token(token[:32])
        manifest = f"{sender.directory}{identifier}{SUFFIX}"
        is_known = os.path.lexists(manifest)
        known = self._ended(manifest, name, target) if is_known else None
        if is_known and known is None:
            return None
        warns = known is not None and known.status == "completed" and objects.replaces
        changes = 0
        while (source := await self._open()) is not None:
            has_region = sender.has_region
            emit = self.call.emit_of_put(name, target, identifier)
            if known is not None and warns:
                emit(events.Warned(message=complete_already(known, compared=False)))
                warns = False
            try:
                with contextlib.closing(source):
                    result = await self._existing(sender, source, manifest, emit)
                    result = result or await self._put(sender, objects, source, emit)
            except NothingProvesPut:
                sender.proves_too_little = True
                emit(events.Restarted(reason=_TOO_LITTLE))
                return None
            except errors.WrongRegion:
                if has_region:
                    raise
                await sender.find_region(Retrier(policy=retry, emit=emit))
            except errors.SourceChanged:
                changes += 1
                if not self.settings.follow_changes or changes > _MOST_CHANGES:
                    raise
                import random

                await asyncio.sleep(retry.delay(changes, random.random))
            else:
                if known is not None:  # its object was replaced; another process may work with it, which is left alone
                    with contextlib.suppress(errors.ManifestError), self.resources.state.existing(manifest) as journal:
                        if journal.manifest.status in ("completed", "aborted"):
                            journal.retire()
                return result, source.fingerprint
        return None

    def _ended(self, path: str, source: str, target: Target) -> Manifest | None:
        """Read the manifest of an earlier upload of the source. None: one PUT must not take that upload's place.

        It is unfinished, and would be left behind in the store; or the manifest may show that the object is the file;
        or it is another's or can't be read, which an upload in parts reports.
        """
        from bigupload.manifests.journal import read_manifest

        began = self.job.began
        try:
            if self.options.get("skip_existing", False) or (began is not None and os.stat(path).st_mtime >= began):  # noqa: PTH116 - as above
                return None
            known = read_manifest(Path(path)).manifest
        except (OSError, errors.ManifestError):
            return None
        has_ended = known.status in ("completed", "aborted")
        return known if has_ended and belongs_to(known.header, source, target) else None

    async def _open(self) -> Source | None:
        """Open it. None: it is too large for one PUT, or can't be opened, which the upload in parts reports."""
        source: Source
        if not self.path:
            source = MemorySource(self.name, bytes_of(self.given))
        else:
            try:
                source = await self.reader.open(self.path)
            except errors.SourceError:
                return None
        rereads = self.settings.verify_source and source.view(0, 1) is None
        if rereads or not _fits(source.fingerprint.size, self.settings):
            source.close()
            return None
        return source

    async def _existing(self, sender: BucketSender, source: Source, manifest: str, emit: Emit) -> UploadResult | None:
        if not self.options.get("skip_existing", False):
            return None
        from bigupload.manifests.journal import FileJournal

        store, journal, required = sender.store.at(self.key), FileJournal(Path(manifest)), self.settings.require_proof
        retry, pool = self.resources.retry, self.resources.buckets
        found = await existing_object(source, store, journal, self.s3, required, retry=retry, pool=pool)
        if found is not None:
            emit(UploadSkipped(url=found.url, etag=found.etag, verified=found.verified))
        return found

    async def _put(self, sender: BucketSender, objects: S3Objects, source: Source, emit: Emit) -> UploadResult:
        assert sender.puts is not None
        clock, size = self.resources.clock, source.fingerprint.size
        began, counts = clock(), RunCounts()
        contact = self.job.contact or Contact(responded_at=sender.responded_at)
        retrier = Retrier(policy=self.resources.retry, emit=emit, counts=counts, contact=contact)
        has_listeners, is_of_many = self.call.has_listeners, self.call.is_of_many
        report = (
            partial(self._report, counts, size, self.call.observe if is_of_many else emit) if has_listeners else None
        )
        if has_listeners and not is_of_many:
            started = events.UploadStarted(
                path=Path(source.path),
                target=str(objects.target(self.key)),
                size=size,
                part_size=max(1, size),
                parts=1,
                manifest=None,
                resumed_parts=0,
                resumed_bytes=0,
            )
            emit(started)
        stored = await sender.puts.upload(source, self.key, self.name, retrier, store=objects, report=report)
        sender.responded_at = contact.responded_at
        url = objects.url(self.key)
        if report is not None:
            if not is_of_many:
                emit(events.PartUploaded(number=1, size=size, attempt=stored.attempts, proof=stored.proof))
                report(0, is_done=True)
            sent = counts.bytes_sent
            emit(events.UploadCompleted(url=url, etag=stored.etag, verified=stored.verified, bytes_sent=sent))
        return UploadResult(
            path=Path(source.path),
            bucket=self.bucket,
            key=self.key,
            url=url,
            size=size,
            etag=stored.etag,
            checksum=stored.checksum and f"{self.settings.algorithm}:{stored.checksum}",
            verified=stored.verified,
            parts=1,
            bytes_sent=counts.bytes_sent,
            retries=counts.retries,
            seconds=clock() - began,
            guarded_by="fingerprint" if source.kind is SourceKind.FILE else "checksums",
            manifest=self.job.record,
            version_id=stored.version_id,
        )

    def _report(self, counts: RunCounts, size: int, emit: Emit, sent: int, *, is_done: bool = False) -> None:
        """Report how much of it was sent: the events are those of an upload of one part."""
        shared = self.resources.shared
        progress = events.Progress(
            bytes_uploaded=size if is_done else 0,
            bytes_in_flight=sent,
            size=size,
            parts_uploaded=int(is_done),
            parts=1,
            concurrency=shared.limit,
            retries=counts.retries,
            is_waiting=shared.flight.responses_are_late and sent == size,
        )
        emit(progress)


def _fits(size: int, settings: UploadSettings) -> bool:
    """Whether `size` bytes are one part. The upload in parts reports invalid part sizes."""
    limits = S3Store.limits
    if settings.part_size is None:
        return size <= min(MOST_BYTES, limits.default_part_size)
    try:
        return size <= MOST_BYTES and plan_parts(size, settings.part_size, limits=limits).count == 1
    except errors.UsageError:
        return False
