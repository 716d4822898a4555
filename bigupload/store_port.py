"""The port to a store: what the engine needs from one key of it. `ports` says what holds for all ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any, Protocol

from bigupload.core.checksums import Algorithm, ChecksumType
from bigupload.core.copies import CopySource
from bigupload.core.integrity import ObjectFacts
from bigupload.core.manifest import PartRecord, Target
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
    """What a part's URL is signed for: its number, its `size` in bytes, and the headers that prove its content."""

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
    """What messages call that which is sent; empty: the part, by its number."""


@dataclass(frozen=True, slots=True)
class PutResponse:
    """A 2xx response to a part that was sent or copied: its ETag (opaque, with quotes) and its checksums."""

    etag: str
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

    async def part_address(self) -> str | None:
        """Get the scheme, host and port that parts will go to, as a URL; None if only the response to create tells.

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
        """Learn that the object store refused a request of `sign`: its credentials may have expired.

        Args:
            request: The request.
            fault: The refusal, of the kind REFUSED. Gets what may explain it to the user, and whether another
                attempt is of no use.
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
            The part's ETag; and its checksum of the upload's algorithm, computed by the store, if it says that.

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


@dataclass(frozen=True, slots=True)
class UnsignedPut:
    """What the URL of a whole object's PUT is signed for."""

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
    """Goes into the metadata of each object, so that an object can be told from another's."""

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
        """Learn that the object store refused a request. See `MultipartStore.refused`.

        Raises:
            BucketNotFound: There is no such bucket.
        """
        ...

    async def stat(self, key: str, algorithm: Algorithm) -> ObjectFacts | None:
        """Look at the object of a key; None if there is none."""
        ...
