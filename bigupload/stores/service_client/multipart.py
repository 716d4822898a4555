"""The media service as a store: create, sign, list, complete over HTTP with an API key. Never imports botocore.

The port's upload id is the service's handle. It is opaque here, kept in the manifest, and useless without an API key of
the same owner. The service chooses the object's key when the upload is created.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import yarl

from bigupload import errors
from bigupload.core.checksums import Algorithm, ChecksumType
from bigupload.core.integrity import ObjectFacts
from bigupload.core.manifest import PartRecord, Target
from bigupload.core.part_plan import S3_LIMITS, Limits, Plan
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.session import CaBundle
from bigupload.ports import Created, ListedPart, OpenUpload, SignedRequest, UnsignedPart
from bigupload.stores.service_client.requests import API, EXPIRED, ServiceHttp

T = TypeVar("T")
R = TypeVar("R")

HEAD_BYTES = 4096
"""How many of the file's first bytes create sends, so that the service can refuse a file that is not media."""
COMPLETE_WITHIN = 300.0
"""Timeout in seconds: complete may work for minutes before it responds."""
_HANDLE_LAPSED = (
    "the upload's handle has expired, so bigupload can no longer find out whether the object was made: "
    "upload the file again with --no-resume"
)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A signed request from the response to create, with its part and its expiry."""

    upload_id: str
    part: UnsignedPart
    request: SignedRequest
    until: float


@dataclass(frozen=True, slots=True)
class _Begun:
    """The service's response to create."""

    upload: str
    key: str
    public_url: str
    plan: tuple[int, int, str]
    """Part size in bytes, number of parts, checksum algorithm."""
    signed: list[SignedRequest]


@dataclass(frozen=True, slots=True)
class _Made:
    """The service's response to complete."""

    key: str
    public_url: str
    facts: ObjectFacts


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
            api_key: The API key; None: there is none.
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
        self._kept: dict[int, _Kept] = {}
        self._parts_at: tuple[str, str] | None = None
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
        return ["content-type"]

    def url(self) -> str:
        """Return the publicUrl; before it is known, the service's URL."""
        return self._public_url or self._http.url

    async def aclose(self) -> None:
        """Close the connections. Idempotent; the next call opens new ones."""
        await self._http.aclose()

    async def _ask(self, read: Callable[[dict[str, Any]], R], what: str, *request: str, **arguments: Any) -> R:
        """Send a request and read its response. A response with the wrong fields is not a media service's."""
        answer = await self._http.call(what, *request, **arguments)
        try:
            return read(answer)
        except (LookupError, TypeError, ValueError):
            raise self._http.stranger(f"its response to the request {what} does not follow the API") from None

    # -- the port

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
            "firstParts": [_to_sign(part) for part in first],
            "token": token,
        }
        if self._head:
            body["head"] = base64.b64encode(self._head).decode()
        asked_at = self._clock()
        begun = await self._ask(lambda answer: _begun(answer, first), "to start the upload", "POST", API, body=body)
        if begun.plan != (plan.part_size, plan.count, sent_as.value):
            raise self._http.stranger("its plan differs from the requested part size, number of parts or checksum")
        self._parts_at = None  # another upload may go to another store
        self._check_places(begun.signed)
        self.target = Target(service=self._http.url, key=begun.key)
        self._public_url = begun.public_url
        self._kept = {
            part.number: _Kept(begun.upload, part, request, asked_at + request.expires_in)
            for part, request in zip(first, begun.signed, strict=True)
        }
        return Created(begun.upload, declared)

    async def sign(self, upload_id: str, parts: Sequence[UnsignedPart]) -> list[SignedRequest]:
        known = [self._take(upload_id, part) for part in parts]
        missing = [part for part, request in zip(parts, known, strict=True) if request is None]
        asked = iter(await self._sign(upload_id, missing) if missing else ())
        return [request or next(asked) for request in known]

    def _take(self, upload_id: str, part: UnsignedPart) -> SignedRequest | None:
        """Return the URLs that came with create, once. A second request means that they failed or headers changed."""
        kept = self._kept.pop(part.number, None)
        if kept is None or kept.upload_id != upload_id:
            return None
        left = kept.until - self._clock()
        same = kept.part.size == part.size and dict(kept.part.headers) == dict(part.headers)
        return SignedRequest(kept.request.url, kept.request.headers, left) if same and left > 0 else None

    async def _sign(self, upload_id: str, parts: Sequence[UnsignedPart]) -> list[SignedRequest]:
        body = {"upload": upload_id, "parts": [_to_sign(part) for part in parts]}
        try:
            signed = await self._ask(
                lambda answer: _signed(answer, parts), "to sign parts", "POST", f"{API}/parts", body=body
            )
        except Fault as fault:
            if fault.code != EXPIRED:
                raise
            raise errors.UploadExpired(
                "the upload's handle has expired: run the same command again to start a new upload"
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
            url = yarl.URL(request.url, encoded=True)
            place = (url.scheme, url.raw_authority)
            if url.scheme != "https" and self._http.url.startswith("https:"):
                raise errors.StoreRefused(
                    f"{self._http.url} signed URLs for {url.host} without encryption (http): nothing was sent. "
                    "Its operator must give the store an https endpoint"
                )
            if self._parts_at not in (None, place):
                raise self._http.stranger(f"it sends parts of one upload to {url.host} and elsewhere")
            self._parts_at = place

    async def list_parts(self, upload_id: str, algorithm: Algorithm) -> list[ListedPart]:
        return await self._ask(_rows, "to list the parts", "GET", f"{API}/parts", upload=upload_id)

    async def find_open(self) -> list[OpenUpload]:
        raise errors.UsageError("adopting an upload needs the store's own credentials: name it as s3://BUCKET/KEY")

    async def stat(self, upload_id: str, algorithm: Algorithm) -> ObjectFacts | None:
        """Return the object if the upload completed. If the service refused it at complete, raise that error again."""
        what = "to look at the upload"
        try:
            made, error = await self._ask(_status, what, "GET", API, upload=upload_id)
        except Fault as fault:
            if fault.code == EXPIRED:
                raise errors.UploadGone(_HANDLE_LAPSED) from fault
            if fault.kind is FaultKind.GONE:
                return None
            raise
        if error is not None:
            raise self._http.refusal(*error, what)
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
            made = await self._ask(_made, what, "POST", f"{API}/complete", body=body, within=COMPLETE_WITHIN)
        except Fault as fault:
            if fault.code != EXPIRED:
                raise
            raise errors.UploadGone(_HANDLE_LAPSED) from fault
        return self._facts(made)

    def _facts(self, made: _Made) -> ObjectFacts:
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


# -- reading the API's responses


def _to_sign(part: UnsignedPart) -> dict[str, Any]:
    """Content-MD5 is the checksum of an upload with md5. Beside another checksum it is an addition."""
    md5 = part.headers.get(Algorithm.MD5.header)
    own = [value for name, value in part.headers.items() if name != Algorithm.MD5.header]
    checksum = own[0] if own else md5
    found = {"partNumber": part.number, "size": part.size, "checksum": checksum, "md5": md5}
    return {name: value for name, value in found.items() if value is not None}


def _of(kind: type[T], value: Any) -> T:
    """Raise ValueError for a JSON value of another type. A bool does not count as a number."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError("of another type")
    return value


def _begun(answer: Mapping[str, Any], first: Sequence[UnsignedPart]) -> _Begun:
    return _Begun(
        upload=_text(answer["upload"]),
        key=_text(answer["key"]),
        public_url=_link(answer["publicUrl"]),
        plan=(_of(int, answer["partSize"]), _of(int, answer["parts"]), _of(str, answer["checksumAlgorithm"])),
        signed=_signed(answer, first) if first else [],
    )


_HEADER = re.compile(r"x-amz-[a-z0-9-]{1,100}")
_HEADERS = frozenset({"content-type", "content-md5"})
_VALUE = re.compile(r"[ -~]{0,1024}")


def _signed(answer: Mapping[str, Any], asked: Sequence[UnsignedPart]) -> list[SignedRequest]:
    """Read one request for each requested part. A service is not trusted to put anything else into a PUT."""
    lifetime = _of(int, answer["expiresIn"])
    if not 0 < lifetime < 10**9:
        raise ValueError("no number of seconds")
    requests = []
    for part, row in zip(asked, _of(list, answer["signed"]), strict=True):
        if _of(int, row["partNumber"]) != part.number:
            raise ValueError("another part's")
        headers = {name.lower(): _of(str, value) for name, value in _of(dict, row["headers"]).items()}
        if headers.pop("content-length", str(part.size)) != str(part.size):  # the transport adds this header
            raise ValueError("another length")
        for name, value in headers.items():
            if not (name in _HEADERS or _HEADER.fullmatch(name)) or not _VALUE.fullmatch(value):
                raise ValueError("a header that no part has")
        if any(headers.get(name) != value for name, value in part.headers.items()):
            raise ValueError("without the checksum that the signature must cover")
        requests.append(SignedRequest(_link(row["url"]), headers, lifetime))
    return requests


def _link(value: Any) -> str:
    """Read a URL to send to or to show. Raises ValueError."""
    text = _text(value)
    url = yarl.URL(text, encoded=True)  # sent unchanged: a space would end the request line
    if " " in text or url.scheme not in ("http", "https") or not url.host or url.raw_user or url.raw_password:
        raise ValueError("not a URL")
    return text


def _text(value: Any) -> str:
    """Read text that is not empty and has no character with a meaning in a header, a line or a terminal."""
    text = _of(str, value)
    if not text or len(text) > 16_384 or not text.isprintable():
        raise ValueError("not a line of text")
    return text


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _rows(answer: Mapping[str, Any]) -> list[ListedPart]:
    return [
        ListedPart(
            _of(int, row["partNumber"]),
            _of(int, row["size"]),
            _text(row["etag"]),
            _optional_text(row.get("checksum")),
        )
        for row in _of(list, answer["parts"])
    ]


def _made(answer: Mapping[str, Any]) -> _Made:
    algorithm, kind = answer.get("checksumAlgorithm"), answer.get("checksumType")
    facts = ObjectFacts(
        etag=_text(answer["etag"]),
        size=_of(int, answer["size"]),
        algorithm=None if algorithm is None else Algorithm(algorithm),
        checksum=_optional_text(answer.get("checksum")),
        checksum_type=None if kind is None else ChecksumType(kind),
        token=_optional_text(answer.get("token")),
    )
    return _Made(_text(answer["key"]), _link(answer["publicUrl"]), facts)


def _status(answer: Mapping[str, Any]) -> tuple[_Made | None, tuple[str, str] | None]:
    """Read the object if it exists, or the code and message if the service refused it at complete."""
    if answer["status"] == "completed":
        return _made(_of(dict, answer["completed"])), None
    if answer["status"] not in ("open", "gone"):
        raise ValueError("an unknown status")
    error = answer.get("error")
    return None, None if error is None else (_of(str, error["code"]), _of(str, error["message"]))
