"""The engine's needs from the world, as Protocols. Each docstring is the contract that the adapter keeps.

The same holds for all: a request that fails raises `Fault`, and the engine decides whether to retry; adapters never
retry. If no retry can help, a public error of `errors` is raised instead. Foreign exceptions are translated.
`CancelledError` is never wrapped. No exception's text holds a URL's query, a credential or a key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from bigupload.core.checksums import Algorithm, ChecksumType, Digests, Hashed
from bigupload.core.integrity import CopySource, ObjectFacts
from bigupload.core.manifest import Fingerprint, Header, Manifest, PartRecord, Record, SourceKind, Target
from bigupload.core.part_plan import Limits, Part, Plan
from bigupload.core.retry_policy import Fault
from bigupload.records import dataclass


@dataclass(frozen=True, slots=True)
class Created:
    """An upload that exists in the store. `checksum_type` is the declared one; None: no checksum was declared."""

    upload_id: str
    checksum_type: ChecksumType | None


@dataclass(frozen=True, slots=True)
class UnsignedPart:
    """The contents of a part's signature: its number, its `size` in bytes, and the headers that prove its content."""

    number: int
    size: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A presigned URL for one part or object, and the headers that must be sent exactly so. A bearer secret."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    expires_in: float
    """Seconds that the URL is valid, from when it was signed."""
    subject: str = ""
    """The name of the body in messages; empty: the part, by its number."""


@dataclass(frozen=True, slots=True)
class PutResponse:
    """A 2xx response to a part that was sent or copied: its ETag (opaque, with quotes) and its checksums."""

    etag: str
    """Empty if the response has none: a proxy on the way may drop it."""
    checksums: Mapping[str, str]
    """By the header name of the algorithm, in lower case."""
    version_id: str | None = None
    """The version of a whole object, if the bucket keeps versions."""


@dataclass(frozen=True, slots=True)
class ListedPart:
    """A row of ListParts. A store may list a part number twice."""

    number: int
    size: int
    etag: str
    checksum: str | None
    """The checksum of the upload's algorithm; None if the store does not list it."""
    arrived: datetime | None = None
    """The part's time of arrival by the store's clock, with time zone; None if the store does not report it."""


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """An upload that is neither completed nor aborted."""

    upload_id: str
    initiated: str
    """The time at which it was created, in ISO 8601."""
    algorithm: str | None = None
    """The declared checksum algorithm, by S3's name; None if the store does not report it."""
    checksum_type: str | None = None


class MultipartStore(Protocol):
    """One key of an object store, reached with credentials or through a media service.

    Every method may be called again after a Fault. `sign`, `list_parts`, `find_open` and `stat` change nothing. `abort`
    may be repeated. `create` and `complete` may have acted although they raised Fault(BROKEN). A method that is
    cancelled returns at once, although its request may still act.
    """

    target: Target
    """The target of the object. A media service chooses the key at create."""
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

    async def part_address(self) -> str | None:
        """Get the scheme, host and port that parts will go to, as a URL; None if only the response to create has it.

        It is a hint: whoever asks goes on without it after an error.
        """
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

    def refused(self, request: SignedRequest, fault: Fault) -> None:
        """Learn that the object store refused a request of `sign`, for whichever reason.

        Credentials may have expired, the clock may be off, or the store may not take a header.

        Args:
            request: The request.
            fault: The refusal. Gets what may explain it to the user, and whether another attempt is of no use.
        """
        ...

    async def copy_part(self, upload_id: str, part: Part, origin: CopySource) -> PutResponse:
        """Let the store copy a part from an object that it has: the part's range of it. No byte passes this machine.

        A repeated call copies the part again.

        Args:
            upload_id: The upload.
            part: The part, of at least one byte.
            origin: The object. Only while it has this ETag is it copied.

        Returns:
            The part's ETag; and its checksum of the upload's algorithm, computed by the store, if it reports that.

        Raises:
            Fault: GONE for an unknown upload. EXISTS if there is another object, or none. REFUSED if these
                credentials may not read it. UNSUPPORTED if the store does not copy this part for any other reason, or
                copies no parts at all; with status 200 if it took the request for a part without bytes, which the
                upload has now. The others as for any request.
        """
        ...

    async def list_parts(self, upload_id: str, algorithm: Algorithm) -> list[ListedPart]:
        """List all parts, from all pages.

        Raises:
            Fault: GONE for an unknown upload. UNSUPPORTED, with a message that has advice, if the store
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
        """Abort an upload and free its parts, including parts in flight. An unknown upload is not an error."""
        ...


@dataclass(frozen=True, slots=True)
class UnsignedPut:
    """The contents of the signature of a whole object's PUT."""

    key: str
    name: str
    """The file's name, by which the store chooses the object's type."""
    size: int
    """Bytes."""
    headers: Mapping[str, str]
    """The headers that prove its content, by their names in lower case."""
    conditional: bool = False
    """Whether the store must refuse to replace an object."""


class ObjectStore(Protocol):
    """All keys of one bucket, to each of which one PUT sends a whole object.

    Every method may be called again after a Fault, and none but the PUT changes anything.
    """

    replaces: bool
    """Whether an object that is there may be replaced."""
    token: str
    """Goes into the metadata of each object, to recognise the objects of this upload."""

    def target(self, key: str) -> Target:
        """Get what a manifest calls a key."""
        ...

    def url(self, key: str) -> str:
        """Get an object's URL without a signature, for people."""
        ...

    async def prepare(self) -> None:
        """Find out which region signatures are for. Before the first `sign_put`."""
        ...

    async def sign_put(self, put: UnsignedPut) -> SignedRequest:
        """Presign the PUT of an object with all its properties."""
        ...

    def refused(self, request: SignedRequest, fault: Fault) -> None:
        """Learn that the object store refused a request, for whichever reason. See `MultipartStore.refused`.

        Raises:
            BucketNotFound: There is no such bucket.
        """
        ...

    async def stat(self, key: str, algorithm: Algorithm) -> ObjectFacts | None:
        """Look at the object of a key; None if there is none."""
        ...


class Facts(Protocol):
    """What earlier runs found out about a bucket. A fact may be wrong, or lost."""

    def recall(self, name: str) -> str | None:
        """Return a fact; None: nothing is known."""
        ...

    def record(self, name: str, value: str | None) -> None:
        """Remember a fact for a while; None: forget it."""
        ...


class Source(Protocol):
    """The source of an upload. Its parts can be read from any thread, and again, while they are held."""

    @property
    def kind(self) -> SourceKind:
        """The kind of source. Only the fingerprint of a FILE or a REMOTE identifies the content."""
        ...

    @property
    def path(self) -> str:
        """A file's absolute path; a URL without its query; the name of anything else."""
        ...

    @property
    def stream(self) -> Stream | None:
        """The stream that the parts come from, one after another; None: all are there from the beginning."""
        ...

    @property
    def fingerprint(self) -> Fingerprint:
        """A file's fingerprint when it was opened; a remote file's size and pin. Anything else has only a size, and is
        guarded by checksums.
        """
        ...

    async def hold(self, part: Part, *, wait: bool = True) -> bool:
        """Make a part's bytes readable, until `release`. The engine calls this before it reads anything of the part.

        `view` and `read_into` are then asked for ranges of this part, by several threads, once or again: to hash it, to
        send it, to send it a second time. Where any range can be read at any time, there is nothing to do. A part that
        is held stays held if this is called again. The parts that `Stream.next_part` returned are held already.

        A call that raised or was cancelled is followed by `release`, or by another call. A thread that it left behind,
        as in a file system that hangs, must not write into memory that another part may have by then.

        Args:
            part: The part.
            wait: Whether to wait for room, until other parts are released. Nobody who holds a part without sending it
                waits for room for the next one: both would wait for ever.

        Returns:
            Whether the part can be read. False only without `wait`, if there is no room now.

        Raises:
            Fault: The request failed. The engine calls again, by its policy for retries. It carries the
                `SourceError` to raise after the last attempt (`Fault.public`).
            SourceError: No retry can help.
        """
        ...

    def release(self, part: Part) -> None:
        """Hold the part no longer: its record is written, or it failed, or its upload was cancelled.

        Nothing of the engine reads it any more, except perhaps a thread that was left behind, whose result nobody uses.
        May be called again, and for a part that is not held. Never waits. If the part is needed again, `hold` comes
        first.
        """
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
        """Close the file, and release all parts. May be called again."""
        ...


class Unwatched:
    """The part of `Source` that is about metadata, for a source that has none."""

    kind = SourceKind.OBJECT
    metadata_changed = False
    is_away = False
    on_local_disk = True
    start = 0
    """Bytes before the first one that is uploaded: a file object was read before."""

    def __init__(self, name: str, size: int) -> None:
        """Take a source's name and its size in bytes."""
        self.path = name
        self.fingerprint = Fingerprint(size, 0, 0, 0)

    @property
    def stream(self) -> Stream | None:
        """None: all parts are there from the beginning."""
        return None

    async def hold(self, part: Part, *, wait: bool = True) -> bool:
        """Nothing to do: any range can be read. See `Source.hold`."""
        return True

    def release(self, part: Part) -> None:
        """Nothing to do. See `Source.release`."""

    def fileno(self) -> None:
        """None: a descriptor below may have other bytes, as a compressed file's has."""

    def check(self) -> None:
        """Do nothing: only the checksums show a change."""

    def accept_metadata(self) -> None:
        """Do nothing: there is no metadata."""


class Stream(Protocol):
    """The parts of a source whose bytes come one after another. Used in one event loop, by one caller at a time."""

    expected: int | None
    """The size in bytes that it must have; None if nobody knows it."""
    end_marker: str | None
    """The bytes that must follow its own ones, in base64; None: none."""
    is_growing: bool
    """Whether it is a file that is being written: any part can be read again, and may be rewritten."""

    async def next_part(self, plan: Plan) -> Part | None:
        """Wait for the next part, and hold it until `Source.release`. While too much is held, nothing is read.

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


class Gauge(Protocol):
    """Reads the progress of one PUT. Cheap: it is called several times a second, also after the PUT has ended.

    What is not `sent` has a default for a connection of which nothing is known.
    """

    def sent(self) -> int:
        """Get the bytes of the body that left this machine, as far as the kernel knows."""
        ...

    def address(self) -> str | None:
        """The address and port that the bytes go to, as "10.0.0.1:443"; None before there is a connection."""
        return None

    def round_trip_times(self) -> tuple[float, float]:
        """The connection's shortest round trip, and that of now, in seconds; (0, 0) if that is not known."""
        return 0.0, 0.0

    def window_is_full(self) -> bool:
        """Whether the store's window is full for much of the time: it reads less than the path carries."""
        return False

    def paused(self) -> bool:
        """Whether the sender waits by itself: it is paused, or waits for the rate limit. That is not a stall."""
        return False

    def set_paused(self, *, paused: bool) -> bool:
        """Pause the body, or go on. What the kernel has is sent all the same.

        A body that is paused sends a little now and then, so that the store does not close its connection.

        Returns:
            Whether it is paused now: not every body can be.
        """
        return False

    def search_again(self) -> None:
        """Let the connection find the path's rate anew, because others have left it room."""
        return


class Transport(Protocol):
    """Sends the bodies of parts."""

    def connect_ahead(self, address: str, count: int) -> None:
        """Begin to connect, while there is nothing to send yet. What fails then, `put` tries again.

        Args:
            address: Where parts will go: a URL, of which only scheme, host and port count.
            count: For how many parts at once.
        """
        ...

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
        """The path of the file."""
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
        """The path of the manifest on disk. Raises LookupError without a manifest."""
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


HashElsewhere: TypeAlias = Callable[[Source, Part, Digests], Awaitable[Hashed]]
"""Hashes a part of a source on another machine. It raises what `PartHasher.hash` raises."""


OnNews: TypeAlias = Callable[[Sequence[tuple[PutResponse, float]], float], None]
"""Gets the responses of a group that are new, in the order of its parts, each with the seconds that the part took; and
the seconds that the next part has taken so far."""


class GroupTransport(Protocol):
    """Hashes and sends several parts of a source at a time. Any range of that source can be read at any time."""

    async def hash_group(self, source: Source, parts: Sequence[Part], wanted: Digests) -> list[Hashed]:
        """Hash parts. Raises what `PartHasher.hash` raises."""
        ...

    async def put_group(
        self,
        requests: Sequence[SignedRequest],
        source: Source,
        parts: Sequence[Part],
        *,
        seconds: float,
        on_start: Callable[[Gauge], None],
        on_news: OnNews,
    ) -> None:
        """PUT parts, one after another. It ends after the last one, or where one fails.

        Args:
            requests: The presigned requests.
            source: What has the bytes.
            parts: The ranges of it to send.
            seconds: No part but the first is begun after that time.
            on_start: Gets a gauge before the first byte is sent: always that of the part that is sent at the moment.
            on_news: Called now and then.

        Raises:
            Fault: The first part without a response has failed. See `ports.Transport.put`.
        """
        ...
