"""The media service as a store: create, sign, list, complete over HTTP with an API key. Never imports botocore.

The port's upload id is the service's handle: opaque here, kept in the manifest, and worthless without an API key of the
same owner. The service chooses the object's key when the upload is created.
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
"""Of the file's beginning, sent at create: by them the service refuses what is not media before it is sent."""
COMPLETE_WITHIN = 300.0
"""Seconds: complete may work for minutes before it answers."""
_HANDLE_LAPSED = (
    "the upload's handle has expired, so that nobody can ask any more whether the object was made: "
    "upload the file anew with --no-resume"
)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A request that came with create: for whom it was signed, and until when it is good."""

    upload_id: str
    part: UnsignedPart
    request: SignedRequest
    until: float


@dataclass(frozen=True, slots=True)
class _Begun:
    """The service's answer to create."""

    upload: str
    key: str
    public_url: str
    plan: tuple[int, int, str]
    """Part size in bytes, number of parts, checksum algorithm."""
    signed: list[SignedRequest]


@dataclass(frozen=True, slots=True)
class _Made:
    """The service's answer to complete."""

    key: str
    public_url: str
    facts: ObjectFacts


class ServiceStore:
    """One file's place in a media service. Implements `ports.MultipartStore`."""

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
        """`head`: the file's first HEAD_BYTES; `key`: the object's, where a manifest knows it. Raises UsageError.

        Without an API key the first call raises CredentialsError.
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
        """The publicUrl; the service's own while that is not known."""
        return self._public_url or self._http.url

    async def aclose(self) -> None:
        """Close its connections. Idempotent; a call after it opens new ones."""
        await self._http.aclose()

    async def _ask(self, read: Callable[[dict[str, Any]], R], what: str, *request: str, **arguments: Any) -> R:
        """An answer in the port's words; one that has another shape is no media service's."""
        answer = await self._http.call(what, *request, **arguments)
        try:
            return read(answer)
        except (LookupError, TypeError, ValueError):
            raise self._http.stranger(f"what it answered when asked {what} is none of the API's") from None

    # -- the port

    async def precheck(self) -> None:
        """Without an API key there is no need to hash anything."""
        self._http.key()

    async def create(
        self, plan: Plan, algorithm: Algorithm, *, declare: bool, token: str, first: Sequence[UnsignedPart] = ()
    ) -> Created:
        if plan.size == 0:
            raise errors.MediaRefused("the file is empty, and no media is")
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
            raise self._http.stranger("it cut the file in another way than it was asked to")
        self._parts_at = None  # another upload may be another store's
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
        """What came with create, once: who asks again was refused with it, or has other headers now."""
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
                "the upload's handle has expired: run the same command again to start anew"
            ) from fault
        self._check_places(signed)
        return signed

    def _check_places(self, requests: Sequence[SignedRequest]) -> None:
        """Where the parts would go. Raises StoreRefused: never out of TLS, and never to two places.

        The store may be anywhere, and only the service knows where. But whoever reaches it by https was promised that
        nobody on the way reads along; and with https, what the URLs lead to must have a trusted certificate of its
        own, so that no inner service that speaks plain HTTP can be made to hear a PUT.
        """
        for request in requests:
            url = yarl.URL(request.url, encoded=True)
            place = (url.scheme, url.raw_authority)
            if url.scheme != "https" and self._http.url.startswith("https:"):
                raise errors.StoreRefused(
                    f"{self._http.url} would have the file sent to {url.host} in the clear (http): nothing was sent. "
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
        """The object where the upload completed. Raises also what complete was refused with, as the service kept it."""
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
            raise self._http.stranger("it names another object than this upload's")
        self.target = Target(service=self._http.url, key=made.key)
        self._public_url = made.public_url
        return made.facts

    async def abort(self, upload_id: str) -> None:
        try:
            await self._http.call("to abort", "DELETE", API, upload=upload_id)
        except Fault as fault:
            if fault.kind is not FaultKind.GONE:
                raise


# -- the API's words and the port's


def _to_sign(part: UnsignedPart) -> dict[str, Any]:
    """Content-MD5 alone is the checksum of an upload by md5; beside another one it is an extra."""
    md5 = part.headers.get(Algorithm.MD5.header)
    own = [value for name, value in part.headers.items() if name != Algorithm.MD5.header]
    checksum = own[0] if own else md5
    found = {"partNumber": part.number, "size": part.size, "checksum": checksum, "md5": md5}
    return {name: value for name, value in found.items() if value is not None}


def _of(kind: type[T], value: Any) -> T:
    """Raises ValueError for a JSON value of another type; a bool is no number here."""
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
    """One request for each part that was asked for. A service is not trusted to put anything else into a PUT."""
    lifetime = _of(int, answer["expiresIn"])
    if not 0 < lifetime < 10**9:
        raise ValueError("no number of seconds")
    requests = []
    for part, row in zip(asked, _of(list, answer["signed"]), strict=True):
        if _of(int, row["partNumber"]) != part.number:
            raise ValueError("another part's")
        headers = {name.lower(): _of(str, value) for name, value in _of(dict, row["headers"]).items()}
        if headers.pop("content-length", str(part.size)) != str(part.size):  # the transport sends it by itself
            raise ValueError("another length")
        for name, value in headers.items():
            if not (name in _HEADERS or _HEADER.fullmatch(name)) or not _VALUE.fullmatch(value):
                raise ValueError("a header that no part has")
        if any(headers.get(name) != value for name, value in part.headers.items()):
            raise ValueError("without the checksum that is to be bound into it")
        requests.append(SignedRequest(_link(row["url"]), headers, lifetime))
    return requests


def _link(value: Any) -> str:
    """A URL to send to or to show. Raises ValueError."""
    text = _text(value)
    url = yarl.URL(text, encoded=True)  # goes out as it stands: a space would end the request's line
    if " " in text or url.scheme not in ("http", "https") or not url.host or url.raw_user or url.raw_password:
        raise ValueError("not a URL")
    return text


def _text(value: Any) -> str:
    """Not empty, and nothing that a header, a line or a terminal would read as its own."""
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
    """The object where it is there; the code and message where the service refused it at complete."""
    if answer["status"] == "completed":
        return _made(_of(dict, answer["completed"])), None
    if answer["status"] not in ("open", "gone"):
        raise ValueError("an unknown status")
    error = answer.get("error")
    return None, None if error is None else (_of(str, error["code"]), _of(str, error["message"]))
