"""What the engine needs of the world, as Protocols. Each docstring is the contract its adapter keeps.

Common to all: a request that fails raises `retry.Fault` (the engine decides whether to try again; adapters never
retry by themselves) or, where no retry can help, a public error of `errors`. Foreign exceptions do not pass.
`CancelledError` passes unwrapped. No text of an exception holds a URL's query, a credential or a key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from bigupload.core.checksums import Algorithm, ChecksumType
from bigupload.core.integrity import ObjectFacts
from bigupload.core.manifest import Fingerprint, Header, Manifest, PartRecord, Record, Target
from bigupload.core.part_plan import Limits, Part, Plan


class Source(Protocol):
    """A file to upload: any range of it can be read again at any time, from any thread."""

    @property
    def path(self) -> str:
        """Absolute."""
        ...

    @property
    def fingerprint(self) -> Fingerprint:
        """As it was when it was opened."""
        ...

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` from `offset` (bytes) as far as the file goes; blocking. Raises SourceUnreadable."""
        ...

    def fileno(self) -> int | None:
        """A descriptor for `os.sendfile`, its position not used; None where there is none, and bytes are copied."""
        ...

    def check(self) -> None:
        """Raises SourceChanged where the fingerprint is not the one it was opened with."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Created:
    """An upload that exists in the store. `checksum_type` is what was declared, None for no declared checksum."""

    upload_id: str
    checksum_type: ChecksumType | None


@dataclass(frozen=True, slots=True)
class UnsignedPart:
    """What a part's URL is bound to: `size` in bytes, and the headers that prove its content."""

    number: int
    size: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A URL to PUT one part to, with the headers that must be sent as they are. A bearer secret."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    expires_in: float
    """Seconds from when it was signed."""


@dataclass(frozen=True, slots=True)
class ListedPart:
    """A row of ListParts. A store may list a number twice."""

    number: int
    size: int
    etag: str
    checksum: str | None
    """Of the upload's algorithm, None where the store does not list it."""
    arrived: datetime | None = None
    """By the store's clock, with its zone; None where it does not tell."""


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """An upload that was created and neither completed nor aborted."""

    upload_id: str
    initiated: str
    """ISO 8601."""
    algorithm: str | None = None
    """The checksum that was declared for it, in S3's spelling, where the store tells."""
    checksum_type: str | None = None


class MultipartStore(Protocol):
    """One key of an object store, reached with credentials or through a service.

    Every method may be called again after a Fault. `sign`, `list_parts`, `find_open` and `stat` change nothing;
    `abort` may be repeated; `create` and `complete` may have acted although they raised Fault(BROKEN).
    """

    target: Target
    """Whose key a media service chooses at create."""
    limits: Limits
    signs_ahead: int
    """How many parts `create` takes along, so that their URLs need no round trip; 0 where signing asks nobody."""

    def options(self) -> dict[str, Any]:
        """What another process needs to make this store again, as JSON, without secrets."""
        ...

    def restore_options(self, recorded: Mapping[str, Any]) -> list[str]:
        """Take the options over that an upload began with; the names of those that were to be different now."""
        ...

    def url(self) -> str:
        """The object's URL, for people: without a signature."""
        ...

    async def precheck(self) -> None:
        """Refuse at once what would only fail at the end. Raises TargetExists."""
        ...

    async def create(
        self, plan: Plan, algorithm: Algorithm, *, declare: bool, token: str, first: Sequence[UnsignedPart] = ()
    ) -> Created:
        """Open an upload. With `declare` the store is told the algorithm: Fault(UNSUPPORTED) where it refuses.

        `first`: the first `signs_ahead` parts, as `sign` will be asked for them.
        """
        ...

    async def sign(self, upload_id: str, parts: Sequence[UnsignedPart]) -> list[SignedRequest]:
        """One request for each of `parts` (a hundred at most), in order."""
        ...

    async def list_parts(self, upload_id: str, algorithm: Algorithm) -> list[ListedPart]:
        """All rows, all pages. Fault(GONE) for an unknown upload. Fault(UNSUPPORTED), whose message says what to do
        instead, where the store has no such operation."""
        ...

    async def find_open(self) -> list[OpenUpload]:
        """The open uploads of exactly this key."""
        ...

    async def stat(self, upload_id: str, algorithm: Algorithm) -> ObjectFacts | None:
        """The object under the key that `upload_id` is (or was) for; None where there is none."""
        ...

    async def complete(
        self, upload_id: str, parts: Sequence[PartRecord], *, size: int, algorithm: Algorithm, checksum: str | None
    ) -> ObjectFacts:
        """Make the object. `checksum` is the object's, for a declared algorithm, else None."""
        ...

    async def abort(self, upload_id: str) -> None:
        """Give an upload up and free its parts, those included that were still arriving. Unknown uploads are fine."""
        ...


class Gauge(Protocol):
    """Reads how far one PUT is. Cheap, called several times a second, valid also after the PUT ended."""

    def sent(self) -> int:
        """Bytes of the body that left this machine, as far as the kernel can tell."""
        ...

    def paused(self) -> bool:
        """Whether the sender holds back by itself (rate limit), which is no stall."""
        ...


@dataclass(frozen=True, slots=True)
class PutResponse:
    """A 2xx answer to a part's PUT: its ETag (opaque, quotes kept) and the checksum headers that it echoes."""

    etag: str
    checksums: Mapping[str, str]
    """By lower-case header name."""


class Transport(Protocol):
    """Sends parts' bodies."""

    async def put(
        self,
        request: SignedRequest,
        source: Source,
        part: Part,
        *,
        on_start: Callable[[Gauge], None],
        fresh: bool = False,
    ) -> PutResponse:
        """Send the range `part` of `source`. `on_start` gets a gauge before the first byte goes out. `fresh`: over a
        connection that nothing was sent on before.

        Any answer but 2xx is a Fault, also one that comes before the body was sent; a write error is none while an
        answer can still be read. Bytes that were handed over never change after. Redirects are not followed.
        """
        ...


class Journal(Protocol):
    """The manifest's file, held under a lock by this process alone."""

    @property
    def path(self) -> Path:
        """Where it is."""
        ...

    @property
    def warning(self) -> str | None:
        """What was cut from a damaged tail, if anything was."""
        ...

    @property
    def exists(self) -> bool:
        """Whether there is a record to go on from."""
        ...

    @property
    def manifest(self) -> Manifest:
        """The fold of what is on disk. Raises LookupError before the first record."""
        ...

    def begin(self, header: Header) -> None:
        """The first record of a new manifest. Blocking. Raises ManifestUnwritable."""
        ...

    async def append(self, *records: Record) -> Manifest:
        """Fold the records in once they are on disk (fsync); several calls may share one fsync.

        Raises ManifestUnwritable; what is on disk then are whole earlier records. A cancelled call has written all
        of its records or none.
        """
        ...

    def set_aside(self) -> Path:
        """Rename what is there, so that a new manifest can begin. Gives the new name. Raises ManifestUnwritable."""
        ...
