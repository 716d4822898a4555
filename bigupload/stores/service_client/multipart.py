"""The media service as a store: create, sign, list, complete over HTTP with an API key. Never imports botocore.

The port's upload id is the service's handle. It is opaque here, kept in the manifest, and useless without an API key of
the same owner. The service chooses the object's key when the upload is created.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from bigupload import errors
from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import ObjectFacts
from bigupload.core.manifest import PartRecord, Target
from bigupload.core.object_claims import CopySource
from bigupload.core.part_plan import S3_LIMITS, Limits, Part, Plan
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.origins import CaBundle, WebOrigin
from bigupload.ports import Created, ListedPart, OpenUpload, PutResponse, SignedRequest, UnsignedPart
from bigupload.records import dataclass
from bigupload.stores.service_client.requests import (
    API,
    EXPIRED,
    CheckedFile,
    CompletedUpload,
    ServiceHttp,
    part_to_sign,
    place_of,
    read_check,
    read_complete,
    read_create,
    read_parts,
    read_signed,
    read_status,
)

R = TypeVar("R")

HEAD_BYTES = 4096
"""The number of the file's first bytes that create sends: by them the service can refuse a file that is not media."""
COMPLETE_WITHIN = 300.0
"""Timeout in seconds: complete may work for minutes before it responds."""
_HANDLE_LAPSED = (
    "the upload's handle has expired, so bigupload can no longer find out whether the object was made: "
    "upload the file again with `resume=False`"
)


@dataclass(frozen=True, slots=True)
class _PresignedAhead:
    """A signed request from the response to create, with its part and its expiry."""

    upload_id: str
    part: UnsignedPart
    request: SignedRequest
    until: float


class ServiceStore:
    """A media service as the store for one file. Implements `ports.MultipartStore`."""

    limits: Limits = S3_LIMITS
    signs_ahead = 8

    def __init__(
        self,
        *,
        url: str,
        api_key: str | None,
        filename: str,
        content_type: str,
        head: bytes = b"",
        key: str = "",
        ca_bundle: CaBundle = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a store. Without an API key, the first call raises CredentialsError.

        Args:
            url: The service's base URL.
            api_key: The API key; None: no key.
            filename: The file's name, without a directory.
            content_type: The file's content type.
            head: The file's first HEAD_BYTES.
            key: The object's key, if a manifest contains it.
            ca_bundle: The certificates to trust instead of the system's.
            clock: A monotonic clock, in seconds.

        Raises:
            UsageError: The URL is not a valid base URL.
        """
        self._http = ServiceHttp(url=url, api_key=api_key, ca_bundle=ca_bundle)
        self._filename = filename
        self._content_type = content_type
        self._head = head[:HEAD_BYTES]
        self._clock = clock
        self._public_url: str | None = None
        self._kept: dict[int, _PresignedAhead] = {}
        self._parts_at: WebOrigin | None = None
        self.ca_bundle = ca_bundle
        self.target = Target(service=self._http.url, key=key)

    def options(self) -> dict[str, Any]:
        found = {"filename": self._filename, "content_type": self._content_type}
        if self.ca_bundle is False:
            return found | {"no_verify_ssl": True}
        return found | ({"ca_bundle": str(self.ca_bundle)} if self.ca_bundle is not None else {})

    def restore_options(self, recorded: Mapping[str, Any]) -> list[str]:
        began = recorded.get("content_type")
        if not isinstance(began, str) or began == self._content_type:
            return []
        self._content_type = began
        return ["content_type"]

    def use_head(self, head: bytes) -> None:
        """Show the service the first bytes of a file that has changed, when the next upload is created."""
        self._head = head[:HEAD_BYTES]

    def url(self) -> str:
        """Return the publicUrl; before it is known, the service's URL."""
        return self._public_url or self._http.url

    async def aclose(self) -> None:
        """Close the connections. Idempotent; the next call opens new ones."""
        await self._http.aclose()

    async def _call(self, read: Callable[[dict[str, Any]], R], what: str, *request: str, **arguments: Any) -> R:
        """Send a request and read its response. A response with the wrong fields is not a media service's."""
        response = await self._http.call(what, *request, **arguments)
        try:
            return read(response)
        except (LookupError, TypeError, ValueError):
            raise self._http.stranger(f"its response to the request {what} does not follow the API") from None

    async def stored(self, url: str) -> CheckedFile | None:
        """Return a file by its publicUrl; None: the service does not have it, or not any more."""
        body = {"url": url}
        return await self._call(read_check, "to look at the file", "POST", "/v1/media/check", body=body)

    # -- the port

    async def part_address(self) -> str | None:
        return None

    async def precheck(self) -> None:
        """Raise CredentialsError before any hashing if there is no API key."""
        self._http.key()

    async def create(
        self, plan: Plan, algorithm: Algorithm, *, declare: bool, token: str, first: Sequence[UnsignedPart] = ()
    ) -> Created:
        if plan.size == 0:
            raise errors.MediaRefused("the file is empty, so it is not media")
        declared = algorithm.type if declare and algorithm.is_s3_checksum else None
        sent_as = Algorithm.MD5 if declared is None and algorithm is not Algorithm.NONE else algorithm
        body: dict[str, Any] = {
            "filename": self._filename,
            "contentType": self._content_type,
            "size": plan.size,
            "checksumAlgorithm": sent_as.value,
            "partSize": plan.part_size,
            "firstParts": [part_to_sign(part) for part in first],
            "token": token,
        }
        if self._head:
            body["head"] = base64.b64encode(self._head).decode()
        sent_at = self._clock()
        created = await self._call(
            lambda response: read_create(response, first), "to start the upload", "POST", API, body=body
        )
        if created.plan != (plan.part_size, plan.count, sent_as.value):
            raise self._http.stranger("its plan differs from the requested part size, number of parts or checksum")
        self._parts_at = None  # another upload may go to another store
        self._check_places(created.signed)
        self.target = Target(service=self._http.url, key=created.key)
        self._public_url = created.public_url
        self._kept = {
            part.number: _PresignedAhead(created.upload, part, request, sent_at + request.expires_in)
            for part, request in zip(first, created.signed, strict=True)
        }
        return Created(created.upload, declared)

    async def sign(self, upload_id: str, parts: Sequence[UnsignedPart]) -> list[SignedRequest]:
        known = [self._take_presigned(upload_id, part) for part in parts]
        missing = [part for part, request in zip(parts, known, strict=True) if request is None]
        asked = iter(await self._sign(upload_id, missing) if missing else ())
        return [request or next(asked) for request in known]

    def _take_presigned(self, upload_id: str, part: UnsignedPart) -> SignedRequest | None:
        """Return the URLs that came with create, once. A second request means that they failed or headers changed."""
        kept = self._kept.pop(part.number, None)
        if kept is None or kept.upload_id != upload_id:
            return None
        left = kept.until - self._clock()
        same = kept.part.size == part.size and dict(kept.part.headers) == dict(part.headers)
        return SignedRequest(kept.request.url, kept.request.headers, left) if same and left > 0 else None

    async def _sign(self, upload_id: str, parts: Sequence[UnsignedPart]) -> list[SignedRequest]:
        body = {"upload": upload_id, "parts": [part_to_sign(part) for part in parts]}
        try:
            signed = await self._call(
                lambda response: read_signed(response, parts), "to sign parts", "POST", f"{API}/parts", body=body
            )
        except Fault as fault:
            if fault.code != EXPIRED:
                raise
            raise errors.UploadExpired(
                "the upload's handle has expired: make the same call again to start a new upload"
            ) from fault
        self._check_places(signed)
        return signed

    def _check_places(self, requests: Sequence[SignedRequest]) -> None:
        """Check where the part URLs lead: never from https to http, and to one place only.

        Only the service knows where the store is. But if the client reached the service by https, nobody on the
        network may read the file. With https, the target also needs a trusted certificate, so a URL cannot send a
        PUT to an internal service that speaks plain HTTP.

        Raises:
            StoreRefused: A URL breaks one of these rules.
        """
        for request in requests:
            place = place_of(request.url)
            if place.scheme != "https" and self._http.url.startswith("https:"):
                raise errors.StoreRefused(
                    f"{self._http.url} signed URLs for {place.host} without encryption (http): nothing was sent. "
                    "Its operator must give the store an https endpoint"
                )
            if self._parts_at not in (None, place):
                raise self._http.stranger(f"it sends parts of one upload to {place.host} and elsewhere")
            self._parts_at = place

    def refused(self, request: SignedRequest, fault: Fault) -> None:
        """Nothing explains it: the service signs with credentials of its own."""

    async def copy_part(self, upload_id: str, part: Part, origin: CopySource) -> PutResponse:
        raise Fault(FaultKind.UNSUPPORTED, "a media service copies no parts")

    async def list_parts(self, upload_id: str, algorithm: Algorithm) -> list[ListedPart]:
        return await self._call(read_parts, "to list the parts", "GET", f"{API}/parts", upload=upload_id)

    async def find_open(self) -> list[OpenUpload]:
        raise errors.UsageError("adopting an upload needs the store's own credentials: name it as s3://BUCKET/KEY")

    async def stat(self, upload_id: str, algorithm: Algorithm) -> ObjectFacts | None:
        """Return the object if the upload completed. If the service refused it at complete, raise that error again."""
        what = "to look at the upload"
        try:
            made, error = await self._call(read_status, what, "GET", API, upload=upload_id)
        except Fault as fault:
            if fault.code == EXPIRED:
                raise errors.UploadGone(_HANDLE_LAPSED) from fault
            if fault.kind is FaultKind.GONE:
                return None
            raise
        if error is not None:
            raise self._http.refusal(*error, what, status=422)  # as complete answered
        return None if made is None else self._facts(made)

    async def complete(
        self, upload_id: str, parts: Sequence[PartRecord], *, size: int, algorithm: Algorithm, checksum: str | None
    ) -> ObjectFacts:
        rows = [
            {"partNumber": part.number, "etag": part.etag}
            | ({"checksum": part.checksum} if checksum is not None else {})
            for part in parts
        ]
        body: dict[str, Any] = {"upload": upload_id, "parts": rows}
        if checksum is not None:
            body["checksum"] = checksum
        what = "to complete the upload"
        try:
            made = await self._call(read_complete, what, "POST", f"{API}/complete", body=body, within=COMPLETE_WITHIN)
        except Fault as fault:
            if fault.code != EXPIRED:
                raise
            raise errors.UploadGone(_HANDLE_LAPSED) from fault
        return self._facts(made)

    def _facts(self, made: CompletedUpload) -> ObjectFacts:
        if made.key != (self.target.key or made.key):
            raise self._http.stranger("its response names another upload's object")
        self.target = Target(service=self._http.url, key=made.key)
        self._public_url = made.public_url
        return made.facts

    async def abort(self, upload_id: str) -> None:
        try:
            await self._http.call("to abort", "DELETE", API, upload=upload_id)
        except Fault as fault:
            if fault.kind is not FaultKind.GONE:
                raise
