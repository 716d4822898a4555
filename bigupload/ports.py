"""What the engine needs from the world, as Protocols. Each docstring is the contract that the adapter keeps.

The same holds for all: a request that fails raises `Fault`, and the engine decides whether to retry; adapters never
retry. If no retry can help, a public error of `errors` is raised instead. Foreign exceptions are translated.
`CancelledError` is never wrapped. No exception's text holds a URL's query, a credential or a key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from bigupload.core.checksums import Algorithm, ChecksumType
from bigupload.core.integrity import ObjectFacts
from bigupload.core.manifest import Fingerprint, Header, Manifest, PartRecord, Record, SourceKind, Target
from bigupload.core.part_plan import Limits, Part, Plan


class Source(Protocol):
    """What is uploaded. Any range of it can be read at any time, again, and from any thread.

    Of a stream, only the parts that it holds can be read.
    """

    @property
    def kind(self) -> SourceKind:
        """What it is. Only a FILE can be resumed by its manifest alone, and only a FILE has a true fingerprint."""
        ...

    @property
    def path(self) -> str:
        """A file's absolute path; the name of anything else."""
        ...

    @property
    def stream(self) -> Stream | None:
        """Where the parts come from, one after another; None: all are there from the beginning."""
        ...

    @property
    def fingerprint(self) -> Fingerprint:
        """A file's fingerprint when it was opened. Anything else has only a size, and is guarded by checksums."""
        ...

    def view(self, offset: int, size: int) -> memoryview | None:
        """The bytes of a range, if they are in memory, so that nobody has to copy them. None: read them."""
        ...

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` with the bytes from `offset` on. Blocking.

        Returns:
            The number of bytes read; fewer than the buffer has only at the end of the file.

        Raises:
            SourceUnreadable: An I/O error.
        """
        ...

    def fileno(self) -> int | None:
        """A descriptor for `os.sendfile`, whose position is not used. None: the bytes must be copied."""
        ...

    @property
    def metadata_changed(self) -> bool:
        """Whether `check` found another ctime, although size, mtime and inode are the same.

        Then hash the file once more: somebody may have written bytes and restored the mtime.
        """
        ...

    def accept_metadata(self) -> None:
        """Make the ctime that `check` found part of the fingerprint, before the file is hashed once more."""
        ...

    @property
    def is_away(self) -> bool:
        """Whether the last `check` found no file at the path, while the open one can still be read."""
        ...

    @property
    def on_local_disk(self) -> bool:
        """Whether `check` asks no network, so that it may run in the event loop."""
        ...

    def check(self) -> None:
        """Raise SourceChanged if the file has changed since it was opened. Blocking: it asks the file system."""
        ...

    def close(self) -> None:
        """Close the file. May be called again."""
        ...


class Stream(Protocol):
    """The parts of a source whose bytes come one after another. Used in one event loop, by one caller at a time."""

    expected: int | None
    """The size in bytes that it must have; None if nobody knows it."""
    is_growing: bool
    """Whether it is a file that is being written: any part can be read again, and may be rewritten."""

    async def next_part(self, plan: Plan) -> Part | None:
        """Wait for the next part, and hold it. While too much is held, nothing is read.

        Args:
            plan: The plan. If it is open, the stream ends where it ends: its last part may be smaller than planned.

        Returns:
            The part; None after the last one. An empty stream has one empty part.

        Raises:
            SourceUnreadable: The stream failed.
            StreamInterrupted: It ended too early, or what it holds can't be stored.
            SourceChanged: It is longer than it should be.
        """
        ...

    def release(self, part: Part) -> None:
        """Hold the part no longer: it is in the store, and proved. May be called again."""
        ...

    @property
    def position(self) -> int:
        """The bytes of the parts that came: after the last one, the size."""
        ...

    async def rewind(self) -> bool:
        """Begin again with the first part. False if that is not possible, because bytes of it are gone."""
        ...

    async def is_settled(self) -> bool:
        """Whether nothing was written to a growing file since its last part came. True for everything else."""
        ...


@dataclass(frozen=True, slots=True)
class Created:
    """An upload that exists in the store. `checksum_type` is the declared one; None: no checksum was declared."""

    upload_id: str
    checksum_type: ChecksumType | None


@dataclass(frozen=True, slots=True)
class UnsignedPart:
    """What a part's URL is signed for: its number, its `size` in bytes, and the headers that prove its content."""

    number: int
    size: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A presigned URL for one part, and the headers that must be sent exactly so. A bearer secret."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    expires_in: float
    """Seconds that the URL is valid, from when it was signed."""


@dataclass(frozen=True, slots=True)
class ListedPart:
    """A row of ListParts. A store may list a part number twice."""

    number: int
    size: int
    etag: str
    checksum: str | None
    """The checksum of the upload's algorithm; None if the store does not list it."""
    arrived: datetime | None = None
    """When the part arrived, by the store's clock, with time zone; None if the store does not say."""


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """An upload that is neither completed nor aborted."""

    upload_id: str
    initiated: str
    """When it was created, in ISO 8601."""
    algorithm: str | None = None
    """The declared checksum algorithm, by S3's name; None if the store does not say."""
    checksum_type: str | None = None


class MultipartStore(Protocol):
    """One key of an object store, reached with credentials or through a media service.

    Every method may be called again after a Fault. `sign`, `list_parts`, `find_open` and `stat` change nothing. `abort`
    may be repeated. `create` and `complete` may have acted although they raised Fault(BROKEN). A method that is
    cancelled returns at once, although its request may still act.
    """

    target: Target
    """Where the object goes. A media service chooses the key at create."""
    limits: Limits
    signs_ahead: int
    """The number of parts whose URLs come with the response to create; 0 if signing needs no request."""

    def options(self) -> dict[str, Any]:
        """Get what another process needs to make this store again, as JSON, without secrets."""
        ...

    def restore_options(self, recorded: Mapping[str, Any]) -> list[str]:
        """Use the options that an upload began with, instead of those that were given now.

        Returns:
            The names of the options that differed.
        """
        ...

    def url(self) -> str:
        """Get the object's URL without a signature, for people."""
        ...

    async def precheck(self) -> None:
        """Refuse an upload that would only fail at complete.

        Raises:
            TargetExists: There is an object, and it must not be replaced.
        """
        ...

    async def create(
        self, plan: Plan, algorithm: Algorithm, *, declare: bool, token: str, first: Sequence[UnsignedPart] = ()
    ) -> Created:
        """Create a multipart upload.

        Args:
            plan: The parts.
            algorithm: What the parts are hashed with.
            declare: Whether to declare the algorithm to the store.
            token: Goes into the object's metadata.
            first: The first `signs_ahead` parts, exactly as `sign` will be asked for them.

        Raises:
            Fault: UNSUPPORTED if the store refuses the declared algorithm.
        """
        ...

    async def sign(self, upload_id: str, parts: Sequence[UnsignedPart]) -> list[SignedRequest]:
        """Presign one request for each of `parts` (100 at most), in order."""
        ...

    def refused(self, request: SignedRequest) -> str:
        """Learn that the object store refused a request of `sign`: its credentials may have expired.

        Returns:
            What may explain the refusal, for the user; empty if nothing does.
        """
        ...

    async def list_parts(self, upload_id: str, algorithm: Algorithm) -> list[ListedPart]:
        """List all parts, from all pages.

        Raises:
            Fault: GONE for an unknown upload. UNSUPPORTED, with a message that says what to do instead, if the store
                cannot list parts.
        """
        ...

    async def find_open(self) -> list[OpenUpload]:
        """List the open uploads of exactly this key."""
        ...

    async def stat(self, upload_id: str, algorithm: Algorithm) -> ObjectFacts | None:
        """Look at the object that `upload_id` is (or was) for; None if there is no object."""
        ...

    async def complete(
        self, upload_id: str, parts: Sequence[PartRecord], *, size: int, algorithm: Algorithm, checksum: str | None
    ) -> ObjectFacts:
        """Make the object.

        Args:
            upload_id: The upload.
            parts: All its parts, in order.
            size: The object's size in bytes.
            algorithm: What the parts were hashed with.
            checksum: The object's checksum if an algorithm was declared, else None.
        """
        ...

    async def abort(self, upload_id: str) -> None:
        """Abort an upload and free its parts, including parts in flight. An unknown upload is no error."""
        ...


class Gauge(Protocol):
    """Reads the progress of one PUT. Cheap: it is called several times a second, also after the PUT has ended."""

    def sent(self) -> int:
        """Get the bytes of the body that left this machine, as far as the kernel knows."""
        ...

    def address(self) -> str | None:
        """The address and port that the bytes go to, as "10.0.0.1:443"; None before there is a connection."""
        ...

    def paused(self) -> bool:
        """Whether the sender waits by itself, for the rate limit. That is no stall."""
        ...


@dataclass(frozen=True, slots=True)
class PutResponse:
    """A 2xx response to a part's PUT: its ETag (opaque, with quotes) and its checksum headers."""

    etag: str
    checksums: Mapping[str, str]
    """By header name, in lower case."""


class Transport(Protocol):
    """Sends the bodies of parts."""

    async def put(
        self,
        request: SignedRequest,
        source: Source,
        part: Part,
        *,
        on_start: Callable[[Gauge], None],
        fresh: bool = False,
    ) -> PutResponse:
        """PUT one part.

        Redirects are not followed. Bytes that were given to the kernel never change afterwards.

        Args:
            request: The presigned request.
            source: What has the bytes.
            part: The range of it to send.
            on_start: Gets a gauge before the first byte is sent.
            fresh: Whether to use a new connection.

        Raises:
            Fault: Any response but 2xx, also one that comes before the body was sent; or no response. A write error is
                no Fault while a response can still be read.
        """
        ...


class Journal(Protocol):
    """The manifest's file. Only this process holds its lock."""

    @property
    def path(self) -> Path:
        """Where the file is."""
        ...

    @property
    def warning(self) -> str | None:
        """A message about a damaged tail that was cut off, if there was one."""
        ...

    @property
    def exists(self) -> bool:
        """Whether the file holds a manifest."""
        ...

    @property
    def manifest(self) -> Manifest:
        """The manifest on disk. Raises LookupError if there is none."""
        ...

    def begin(self, header: Header) -> None:
        """Write the first record of a new manifest. Blocking.

        Raises:
            ManifestUnwritable: It cannot be written.
        """
        ...

    async def append(self, *records: Record) -> Manifest:
        """Write records, and apply them when they are on disk (fsync). Several calls may share one fsync.

        A cancelled call has written all of its records or none.

        Raises:
            ManifestUnwritable: They cannot be written. The earlier records are whole on disk.
        """
        ...

    def set_aside(self, renamed: Callable[[Path], None] = ...) -> None:
        """Forget the manifest. Its file stays as it is until `begin` renames it, to make place for the new one.

        Args:
            renamed: Called by `begin` with the file's new name.
        """
        ...
