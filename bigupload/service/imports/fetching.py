"""Fetch one file from its URL into an open multipart upload, by the engine that uploads everywhere.

The upload exists already: its create went through the same checks as any other. So the engine always resumes here. No
file on this machine knows the upload: what was stored is in the note of the import, where another replica finds it. A
part counts if the store lists it as it was, and the host still has the version of which it is.

A URL leads where its author wants, so each host, also of a redirect, must have public addresses alone, and the
connection goes to one of these. No report of a failure has the URL.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path

from bigupload import errors
from bigupload.api.remote import RemoteOpener, WrongSizeError
from bigupload.api.types import OpenedSource
from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import ObjectFacts, PartProof
from bigupload.core.manifest import ChecksumRecord, Header, Manifest, PartRecord, Record
from bigupload.core.part_plan import Plan
from bigupload.core.remote_url import parse_remote
from bigupload.core.retry_policy import Fault, FaultKind, RetryPolicy
from bigupload.engine.context import SharedSlots, UploadContext, UploadSettings, new_header
from bigupload.engine.multipart_upload import MultipartUpload
from bigupload.engine.retrying import Retrier
from bigupload.http.put_transport import HttpTransport
from bigupload.http.web_file import AskedToWaitError
from bigupload.options import S3Options
from bigupload.ports import Created, ListedPart, SignedRequest, UnsignedPart
from bigupload.records import dataclass
from bigupload.service import direct_url
from bigupload.service.contract import CompleteResponse
from bigupload.service.handles import Handle
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads import MediaUploads
from bigupload.sources.part_pool import PartPool
from bigupload.stores.s3.bucket import BucketPool, S3Bucket
from bigupload.stores.s3.multipart import S3Store
from bigupload.stores.service_client import read_complete
from bigupload.units import format_seconds

RETRY = RetryPolicy(give_up_after=300.0)
"""For the host and the store alike. A host that is away for longer than five minutes is not waited for."""
_LONGEST_WAIT = 30.0
"""Seconds that a host may ask to wait (`Retry-After`) while its import holds a place that others wait for."""
_PARTS_AT_ONCE = 32
"""The most parts in flight, of all imports of one process."""
_NAME = "import"


class HostNotPublicError(errors.SourceUnsupported):
    """A URL, or one of its redirects, leads to a host that is not on the public internet."""


class HostFailedError(Exception):
    """A host did not give a file: the host and why, for the log. The library's own errors have the path, too."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{host_of(url)}: {reason}")


def admit_public(host: str, addresses: Sequence[str]) -> None:
    """Raise HostNotPublicError unless a host, and all its addresses, are public: the rules of the check of a URL."""
    if not (direct_url.is_public_host(host) and all(map(direct_url.is_public, addresses))):
        raise HostNotPublicError("the URL's host is not on the public internet")


def why_unusable(url: str) -> str | None:
    """Return for a person why a URL can't be requested; None: it can."""
    try:
        parse_remote(url)
    except errors.UsageError:
        if "@" in url.partition("://")[2].partition("/")[0]:
            return "the URL holds a user name or a password: use one without, such as a presigned URL"
        return "the URL can't be read: write it like https://host/path/film.mp4"
    return None


def why_failed(error: Exception) -> str:
    """Return for a person why a file could not be fetched. The library's own messages have the URL, and commands."""
    match error:
        case HostNotPublicError():
            return "the URL's host, or one that it redirects to, is not on the public internet"
        case errors.SourceNotFound():
            return "the host has no such file"
        case WrongSizeError():
            return "the file has another size than was declared"
        case AskedToWaitError():
            return f"the host asks to come again in {format_seconds(error.seconds)}"
        case errors.SourceChanged() | errors.UsageError():
            return "the file is another one than at the beginning, or has another size than was declared"
        case errors.StreamInterrupted():
            return "the file is empty, or ended too early"
        case errors.SourceUnsupported():
            return "the host's response can't be read: it has no end, is compressed, or redirects where none may lead"
        case Fault(status=int(status)):
            return f"the host responds with {status}"
        case errors.BigUploadError(__cause__=Fault(status=int(status))):
            return f"the host responds with {status}"
        case _:
            return "the host can't be reached, or the connection broke"


def _digest(etag: str) -> str:
    return hashlib.sha256(etag.encode()).hexdigest()[:8]


@dataclass(slots=True)
class FetchProgress:
    """The progress of an import, as far as this process knows it."""

    fetched: int = 0
    """Bytes that came from the host."""
    journal: _MemoryJournal | None = None
    """The record of the stored parts; None: the upload has not begun."""
    completing: bool = False
    """Whether all parts are stored, and the upload is about to end."""

    def add(self, size: int) -> None:
        """Count bytes that came."""
        self.fetched += size

    def to_json(self) -> dict[str, int]:
        """Return the progress as the import's note has it."""
        return {"fetched": self.fetched, "stored": 0 if self.journal is None else self.journal.manifest.bytes_uploaded}

    def parts(self) -> dict[str, str]:
        """Return by number how each part is recognised in the store's list, with its checksum. See `_records`."""
        found = {} if self.journal is None else self.journal.manifest.parts
        return {str(part.number): f"{part.checksum} {_digest(part.etag)}" for part in found.values()}


@dataclass(slots=True, kw_only=True)
class _MemoryJournal:
    """A manifest that ends with this process. The store's list of parts is what remains. Implements `ports.Journal`."""

    path: Path = Path(_NAME)
    warning: str | None = None
    exists: bool = False
    manifest: Manifest = field(init=False)

    def begin(self, header: Header) -> None:
        self.manifest, self.exists = Manifest(header), True

    async def append(self, *records: Record) -> Manifest:
        for record in records:
            self.manifest.apply(record)
        return self.manifest

    def set_aside(self, renamed: Callable[[Path], None] = lambda _: None) -> None:
        self.exists = False


class _ImportStore(S3Store):
    """The store of one import, whose upload exists, and whose complete is the service's own."""

    def __init__(self, bucket: S3Bucket, handle: Handle, uploads: MediaUploads, progress: FetchProgress) -> None:
        super().__init__(bucket.name, handle.key, S3Options(), through=bucket)
        self._handle = handle
        self._uploads = uploads
        self._progress = progress
        self._may_be_made = False
        """Whether a complete whose outcome is unknown may still make the object."""

    async def create(
        self, plan: Plan, algorithm: Algorithm, *, declare: bool, token: str, first: Sequence[UnsignedPart] = ()
    ) -> Created:
        """Raise UploadGone: another upload would be one that nobody has allowed."""
        raise errors.UploadGone("the upload was aborted")

    async def sign(self, upload_id: str, parts: Sequence[UnsignedPart]) -> list[SignedRequest]:
        self._progress.completing = False  # the store may have refused to complete because of a part
        return await super().sign(upload_id, parts)

    async def complete(
        self, upload_id: str, parts: Sequence[PartRecord], *, size: int, algorithm: Algorithm, checksum: str | None
    ) -> ObjectFacts:
        """Raise UploadGone if there is neither the upload nor an object: the service has looked for both.

        The engine would look for five more minutes, in which the import holds its place, its connection and its parts.
        """
        self._progress.completing = True
        try:
            with _refusals_as_faults():
                return _facts(await self._uploads.finish(self._handle, parts, checksum))
        except Fault as fault:
            if fault.kind is FaultKind.GONE and not self._may_be_made:
                raise errors.UploadGone("the upload was aborted") from None
            self._may_be_made = self._may_be_made or fault.kind.leaves_unknown
            raise

    async def stat(self, upload_id: str, algorithm: Algorithm) -> ObjectFacts | None:
        with _refusals_as_faults():
            made = await self._uploads.outcomes.ended(self._handle)
        return None if made is None else _facts(made)


_AS_FAULTS = {
    Problem.UPLOAD_GONE: FaultKind.GONE,
    Problem.PART_NOT_STORED: FaultKind.INVALID_PART,
    Problem.CHECKSUM_MISMATCH: FaultKind.CORRUPTED,
}


@contextlib.contextmanager
def _refusals_as_faults() -> Iterator[None]:
    """Raise what the engine knows: a Fault, or MediaRefused with the Refused as its cause."""
    try:
        yield
    except Refused as refused:
        kind = _AS_FAULTS.get(refused.problem)
        if kind is None and refused.problem.status >= 500:
            kind = FaultKind.SERVER
        if kind is None:
            raise errors.MediaRefused(str(refused)) from refused
        status = refused.problem.status
        raise Fault(kind, str(refused), status=status, retry_after=refused.retry_after) from refused


def _facts(made: CompleteResponse) -> ObjectFacts:
    return read_complete(made.model_dump(mode="json", by_alias=True)).facts


class Fetching:
    """Fetches files, several at a time. An async context manager."""

    def __init__(self, bucket: S3Bucket, uploads: MediaUploads, *, allow_private: bool) -> None:
        """Make it.

        Args:
            bucket: The bucket, with URLs for this process.
            uploads: The owners' uploads.
            allow_private: Whether URLs may lead to private addresses.
        """
        self._bucket = bucket
        self._uploads = uploads
        self._guard = None if allow_private else admit_public
        self._shared = SharedSlots(None, most=_PARTS_AT_ONCE)
        self._parts = PartPool()
        self._opened = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Fetching:
        self._transport = await self._opened.enter_async_context(HttpTransport(ca_bundle=self._bucket.ca_bundle))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    async def open(
        self,
        url: str,
        opened: contextlib.AsyncExitStack,
        *,
        name: str | None,
        size: int | None,
        policy: RetryPolicy = RETRY,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> OpenedSource:
        """Ask the host of a URL of http or https for the file.

        Args:
            url: The URL.
            opened: Closes the source and its connections.
            name: The file's name; None: that of the host's response, else of the URL.
            size: The bytes that it must have; None: any number that the host names.
            policy: What is tried again.
            on_bytes: Gets the number of bytes that have come.

        Raises:
            UsageError: The file has no name. WrongSizeError: it has another size.
            SourceError: It can't be read. AskedToWaitError: not now.
        """
        retrier = Retrier(policy=policy, emit=lambda _: None, peer="the host")
        opener = RemoteOpener(
            retrier=retrier,
            pool=self._parts,
            buckets=BucketPool(),
            opened=opened,
            with_head=True,
            on_bytes=on_bytes,
            guard=self._guard,
            longest_wait=_LONGEST_WAIT,
        )
        found = await opener.open(url, S3Options(), name=name, expected=size, allow_empty=False)
        opened.enter_context(contextlib.closing(found.source))
        return found

    async def fetch(
        self,
        url: str,
        handle: Handle,
        pin: str | None,
        parts: Mapping[str, str],
        progress: FetchProgress,
        drop_pin: Callable[[], Awaitable[object]],
    ) -> None:
        """Fetch a file, and complete its upload.

        Args:
            url: The URL.
            handle: The upload.
            pin: The version of the file of which all parts are that the store has; None: they may be of several.
            parts: Those that a process before this one has stored, as `FetchProgress.parts`.
            progress: Learns how far it is.
            drop_pin: Called, and awaited, before anything of another version is stored.

        Raises:
            BigUploadError: It failed. UploadGone: the upload was aborted. MediaRefused: the service refuses the file.
                AskedToWaitError: the host asks to come again later.
            Fault: The store failed.
        """
        async with contextlib.AsyncExitStack() as opened:
            source = (await self.open(url, opened, name=_NAME, size=handle.size, on_bytes=progress.add)).source
            if pin is not None and source.fingerprint.pin != pin:
                await drop_pin()
                pin = None
            store = _ImportStore(self._bucket, handle, self._uploads, progress)
            journal = _MemoryJournal()
            context = UploadContext(
                policy=RETRY,
                emit=lambda _: None,
                source=source,
                store=store,
                transport=self._transport,
                journal=journal,
                settings=UploadSettings(algorithm=handle.algorithm, part_size=handle.part_size),
                shared=self._shared,
            )
            declared = handle.algorithm.type if handle.algorithm.is_s3_checksum else None
            checksum = ChecksumRecord(handle.algorithm, declared)
            journal.begin(new_header(context, _NAME, handle.plan, checksum, handle.upload_id, handle.token))
            if pin is not None:
                rows = await context.retrier.request(lambda: store.list_parts(handle.upload_id, handle.algorithm))
                await journal.append(*_records(rows, handle, parts))
            progress.journal = journal
            await MultipartUpload(context, manifest_id=_NAME).run()


def _records(rows: Sequence[ListedPart], handle: Handle, known: Mapping[str, str]) -> list[PartRecord]:
    """Return the parts that the store has as they were stored here, by the checksums that were computed of them.

    A store may list the checksums, too: then those parts count that were stored just before a kill.
    """
    plan, by_checksum = handle.plan, handle.algorithm.is_s3_checksum
    records: dict[int, PartRecord] = {}
    for row in rows:
        checksum, _, digest = known.get(str(row.number), "").partition(" ")
        if digest != _digest(row.etag):
            checksum = row.checksum or ""
        if checksum and 1 <= row.number <= plan.count and row.size == plan.part(row.number).size:
            proof = PartProof.CHECKSUM if by_checksum else PartProof.ETAG
            records[row.number] = PartRecord(
                number=row.number, size=row.size, etag=row.etag, checksum=checksum, proof=proof
            )
    return list(records.values())


def host_of(url: str) -> str:
    """Return the host of a URL, for the log."""
    return parse_remote(url).shown.split("/")[2]
