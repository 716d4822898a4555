"""The media service as a store: create, sign, list, complete over HTTP with an API key. Never imports botocore.

The port's upload id is the service's handle. It is opaque here, kept in the manifest, and useless without an API key of
the same owner. The service chooses the object's key when the upload is created.

Anything may listen at the service's URL, so only a response that follows the API counts. No exception's text contains
the API key.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit

from bigupload import errors
from bigupload.core.checksums import Algorithm, ChecksumType
from bigupload.core.integrity import CopySource, ObjectFacts
from bigupload.core.manifest import PartRecord, Target
from bigupload.core.part_plan import S3_LIMITS, Limits, Part, Plan
from bigupload.core.retry_policy import Fault, FaultKind, classify
from bigupload.http.client import HttpClient, OpenResponse, log_request
from bigupload.http.http_errors import fault_of_socket, retry_after
from bigupload.http.origins import CaBundle, WebOrigin, origin_of
from bigupload.ports import Created, ListedPart, OpenUpload, PutResponse, SignedRequest, UnsignedPart
from bigupload.records import dataclass
from bigupload.units import one_line

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _OpenedUpload:
    """An upload that the service created."""

    upload: str
    key: str
    public_url: str
    plan: tuple[int, int, str]
    """Part size in bytes, number of parts, checksum algorithm."""
    signed: list[SignedRequest]


@dataclass(frozen=True, slots=True)
class CompletedUpload:
    """An upload that the service completed."""

    key: str
    public_url: str
    facts: ObjectFacts


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file that the service has, and that nobody can replace."""

    key: str
    size: int | None


def _part_to_sign(part: UnsignedPart) -> dict[str, Any]:
    """Content-MD5 is the checksum of an upload with md5. Beside another checksum it is an addition."""
    md5 = part.headers.get(Algorithm.MD5.header)
    own = [value for name, value in part.headers.items() if name != Algorithm.MD5.header]
    checksum = own[0] if own else md5
    found = {"partNumber": part.number, "size": part.size, "checksum": checksum, "md5": md5}
    return {name: value for name, value in found.items() if value is not None}


def _typed(kind: type[T], value: Any) -> T:
    """Raise ValueError for a JSON value of another type. A bool does not count as a number."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError("of another type")
    return value


def _read_create(response: Mapping[str, Any], first: Sequence[UnsignedPart]) -> _OpenedUpload:
    """Read the response to create, with the presigned requests of the first parts."""
    return _OpenedUpload(
        upload=_line(response["upload"]),
        key=_line(response["key"]),
        public_url=_link(response["publicUrl"]),
        plan=(
            _typed(int, response["partSize"]),
            _typed(int, response["parts"]),
            _typed(str, response["checksumAlgorithm"]),
        ),
        signed=_read_signed(response, first) if first else [],
    )


_HEADER = re.compile(r"x-amz-[a-z0-9-]{1,100}")
_HEADERS = frozenset({"content-type", "content-md5"})
_VALUE = re.compile(r"[ -~]{0,1024}")


def _read_signed(response: Mapping[str, Any], asked: Sequence[UnsignedPart]) -> list[SignedRequest]:
    """Read one request for each requested part. A service is not trusted to put anything else into a PUT."""
    lifetime = _typed(int, response["expiresIn"])
    if not 0 < lifetime < 10**9:
        raise ValueError("no number of seconds")
    requests = []
    for part, row in zip(asked, _typed(list, response["signed"]), strict=True):
        if _typed(int, row["partNumber"]) != part.number:
            raise ValueError("another part's")
        headers = {name.lower(): _typed(str, value) for name, value in _typed(dict, row["headers"]).items()}
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
    text = _line(value)
    if " " in text or "@" in urlsplit(text).netloc:  # sent unchanged: a space would end the request line
        raise ValueError("not a URL")
    _origin_of(text)
    return text


def _origin_of(url: str) -> WebOrigin:
    """Return the origin of a URL. Raises ValueError if it is not a URL of http or https."""
    parts = urlsplit(url)
    return origin_of(f"{parts.scheme}://{parts.netloc}")  # it is remembered, and the rest may be a secret


def _line(value: Any) -> str:
    """Read text that is not empty and has no character with a meaning in a header, a line or a terminal."""
    text = _typed(str, value)
    if not text or len(text) > 16_384 or not text.isprintable():
        raise ValueError("not a line of text")
    return text


def _optional_line(value: Any) -> str | None:
    return None if value is None else _line(value)


def _read_parts(response: Mapping[str, Any]) -> list[ListedPart]:
    """Read the list of parts."""
    return [
        ListedPart(
            _typed(int, row["partNumber"]),
            _typed(int, row["size"]),
            _line(row["etag"]),
            _optional_line(row.get("checksum")),
        )
        for row in _typed(list, response["parts"])
    ]


def read_complete(response: Mapping[str, Any]) -> CompletedUpload:
    """Read the object that complete made."""
    algorithm, kind = response.get("checksumAlgorithm"), response.get("checksumType")
    facts = ObjectFacts(
        etag=_line(response["etag"]),
        size=_typed(int, response["size"]),
        algorithm=None if algorithm is None else Algorithm(algorithm),
        checksum=_optional_line(response.get("checksum")),
        checksum_type=None if kind is None else ChecksumType(kind),
        token=_optional_line(response.get("token")),
    )
    return CompletedUpload(_line(response["key"]), _link(response["publicUrl"]), facts)


def _read_status(response: Mapping[str, Any]) -> tuple[CompletedUpload | None, tuple[str, str] | None]:
    """Read the object if it exists, or the code and message if the service refused it at complete."""
    if response["status"] == "completed":
        return read_complete(_typed(dict, response["completed"])), None
    if response["status"] not in ("open", "gone"):
        raise ValueError("an unknown status")
    error = response.get("error")
    return None, None if error is None else (_typed(str, error["code"]), _typed(str, error["message"]))


def _read_check(response: Mapping[str, Any]) -> CheckedFile | None:
    """Read the service's facts about the file at a publicUrl."""
    key, size = _optional_line(response.get("key")), response.get("size")
    if response["usable"] is not True or key is None:
        return None
    return CheckedFile(key, None if size is None else _typed(int, size))


ANSWER_WITHIN = 60.0
"""Timeout in seconds for every request except complete."""
MOST_BYTES = 16 * 1024 * 1024
"""The longest response, in bytes. A list of ten thousand parts has two megabytes."""
_EXPIRED = "upload_expired"
_API = "/v1/media/multipart"
_KEY = re.compile(r"[!-~]{1,8192}")  # upload tokens are long
_CODE = re.compile(r"[a-z_]{1,64}")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_THAT_DOES = "set BIGUPLOAD_API_KEY to one that does and try again"
_BAD_KEY = "set BIGUPLOAD_API_KEY to a valid one and try again"

_FAULTS = {
    "upload_gone": FaultKind.GONE,
    _EXPIRED: FaultKind.GONE,
    "part_not_stored": FaultKind.INVALID_PART,
    "checksum_mismatch": FaultKind.CORRUPTED,
    "unsupported_checksum": FaultKind.UNSUPPORTED,
}
"""By the service's code: the faults that the engine handles, where the status does not say it."""
_PUBLIC: dict[str, tuple[type[errors.StoreError], str]] = {
    "missing_key": (errors.CredentialsError, f"the service needs an API key: {_BAD_KEY}"),
    "invalid_key": (errors.CredentialsError, f"the service does not accept this API key (revoked?): {_BAD_KEY}"),
    "invalid_token": (
        errors.CredentialsError,
        f"the service does not accept this upload token: {_BAD_KEY}",
    ),
    "token_expired": (
        errors.CredentialsError,
        "the upload token has expired: set BIGUPLOAD_API_KEY to a new one and try again",
    ),
    "token_used_up": (
        errors.AccessDenied,
        "the upload token allows no more uploads: set BIGUPLOAD_API_KEY to another one and try again",
    ),
    "token_size_exceeded": (errors.AccessDenied, f"the file is larger than the upload token allows: {_THAT_DOES}"),
    "token_type_refused": (errors.AccessDenied, f"the upload token does not allow this type of file: {_THAT_DOES}"),
    "not_your_upload": (
        errors.AccessDenied,
        "this upload was created with another owner's API key: set BIGUPLOAD_API_KEY to a key of that owner and try "
        "again, or upload the file again with `resume=False`",
    ),
    "not_found": (
        errors.StoreRefused,
        "the media service has no such path: name its address alone, as https://media.example.com, without /v1",
    ),
    "invalid_upload": (
        errors.StoreRefused,
        "the service does not know this upload's handle (was its secret changed?): "
        "upload the file again with `resume=False`",
    ),
}
"""By the service's code: what the user can do."""


def service_url(url: str) -> str:
    """Return a service's base URL in normal form, by which its uploads are found. Raises UsageError."""
    try:
        split = urlsplit(url)
        origin_of(url).host.encode("idna").decode("idna")  # an IDNA error is a ValueError
        sound = split.port != 0
    except ValueError:
        sound = False
    if not sound or any(c.isspace() or not c.isprintable() for c in url):
        raise errors.UsageError("not a media service: write its URL like https://media.example.com")
    if split.username is not None or split.password is not None:
        raise errors.UsageError("a service's URL holds no credentials: give the API key as BIGUPLOAD_API_KEY")
    if "?" in url or "#" in url:
        raise errors.UsageError("a service's URL has neither a query nor a fragment")
    return f"{split.scheme}://{split.netloc.lower()}{split.path.rstrip('/')}"


class ServiceHttp:
    """Send requests to one service with one API key. The connections stay open until `aclose`."""

    def __init__(self, *, url: str, api_key: str | None, ca_bundle: CaBundle) -> None:
        self.url = service_url(url)
        self._api_key = api_key
        self._base = _sendable(self.url)
        self._client = HttpClient(ca_bundle)
        self._known = False
        """Whether a response has followed the API. After that, another response comes from a proxy or portal."""

    async def aclose(self) -> None:
        """Close the connections. Idempotent; the next call opens new ones."""
        await self._client.aclose()

    def key(self) -> str:
        """Return the API key. Raises CredentialsError if it is missing or malformed."""
        if not self._api_key:
            raise errors.CredentialsError("the media service needs an API key: set BIGUPLOAD_API_KEY (sk_…)")
        if not _KEY.fullmatch(self._api_key):  # it could end the header's line
            raise errors.CredentialsError("the API key contains invalid characters: set BIGUPLOAD_API_KEY again")
        return self._api_key

    async def call(
        self,
        what: str,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        upload: str | None = None,
        within: float = ANSWER_WITHIN,
    ) -> dict[str, Any]:
        """Send a request and return the JSON object of the response. Raises as `ports` specifies.

        `what` is the purpose for messages ("to list the parts"), and `within` the timeout in seconds.
        """
        headers = {"Authorization": f"Bearer {self.key()}", "Accept": "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body, separators=(",", ":")).encode()
        query = "" if upload is None else f"?{urlencode({'upload': upload})}"
        with log_request(f"{method} {path}", self.url):
            try:
                async with (
                    asyncio.timeout(within),
                    self._client.open(method, f"{self._base}{path}{query}", headers, data, within=None) as response,
                ):
                    text = await _read(response)
            except TimeoutError as e:
                raise fault_of_socket(e, origin_of(self._base).where) from None
            return self._judge(what, response, text)

    def stranger(self, did: str) -> errors.StoreRefused:
        """Return the error for a URL that is not a media service's."""
        return errors.StoreRefused(f"{self.url} is not a bigupload media service: {did}")

    # -- the meaning of a response

    def _judge(self, what: str, response: OpenResponse, text: bytes | None) -> dict[str, Any]:
        status = response.status
        if status // 100 == 3:
            raise self._moved(response.headers.get("Location", ""), status)
        if status == 204:
            return {}
        answer = _object(text)
        if status // 100 == 2:
            if answer is None:
                raise self._stray(f"it answered {status} without the expected fields", status)
            self._known = True
            return answer
        wait = retry_after(response.headers.get("Retry-After"))
        error = answer.get("error") if answer is not None else None
        if isinstance(error, dict) and isinstance(error.get("code"), str) and isinstance(error.get("message"), str):
            self._known = True
            field = error.get("field")
            message = error["message"]
            if error["code"] == "invalid_field" and isinstance(field, str):
                message = f"{field}: {message}"
            raise self.refusal(error["code"], message, what, status=status, wait=wait)
        kind = classify(status, None)
        if kind.is_retried and status not in (404, 409):  # a mistyped URL gets these two as well
            raise Fault(kind, f"the media service failed {what}: {status}", status=status, retry_after=wait)
        raise self._stray(f"it answered {status}", status)

    def _stray(self, did: str, status: int) -> Exception:
        """Return the error for a response that does not follow the API.

        Before the first valid response, the URL may be wrong. Later, it is a temporary response of a portal or a load
        balancer.
        """
        if self._known:
            return Fault(FaultKind.SERVER, f"something responded in place of {self.url}: {did}", status=status)
        return self.stranger(did)

    def refusal(
        self, code: str, message: str, what: str, *, status: int | None = None, wait: float | None = None
    ) -> Exception:
        """Translate the service's error: a Fault, or a public error if no retry can help."""
        said = one_line(message.replace(self._api_key or "\0", "sk_…"))
        name = code if _CODE.fullmatch(code) else "an unknown code"
        if code in _PUBLIC:
            error, text = _PUBLIC[code]
            return error(text)
        kind = _FAULTS.get(code)
        if kind is None and status == 401:
            return errors.CredentialsError(f"the media service refused {what}: {name} ({said}): {_BAD_KEY}")
        if kind is None and (status == 422 or code == "upload_refused"):
            return errors.MediaRefused(said)
        if kind is None and status is not None and code != "store_refused" and classify(status, code).is_retried:
            kind = classify(status, code)
        if kind is None:
            # The service's operator can fix this, so keep the upload resumable.
            error = errors.StoreUnavailable if code == "store_refused" else errors.StoreRefused
            return error(f"the media service refused {what}: {name} ({said})")
        return Fault(
            kind, f"the media service refused {what}: {name} ({said})", status=status, code=code, retry_after=wait
        )

    def _moved(self, location: str, status: int) -> Exception:
        """Return the target of the redirect, without the query, which may be secret."""
        try:
            to = urlsplit(urljoin(self.url, location))
            origin = origin_of(f"{to.scheme}://{to.netloc}")
            address = f"{origin.scheme}://{origin.header}{to.path}".partition(_API)[0]
        except ValueError:
            address = "elsewhere"
        if self._known:
            return self._stray(f"it redirects to {one_line(address)}", status)
        return errors.StoreRefused(
            f"{self.url} redirects to {one_line(address)}: name the service by that URL if you trust it, "
            "the API key was not sent there"
        )


def _sendable(url: str) -> str:
    """Return a service's URL in ASCII. What is encoded already stays as it is."""
    origin = origin_of(url)
    return f"{origin.scheme}://{origin.header}{quote(urlsplit(url).path, safe=_PRINTABLE)}"


async def _read(response: OpenResponse) -> bytes | None:
    """Return the body; None if it is longer than any response of the service."""
    pieces = bytearray()
    while piece := await response.read():
        pieces += piece
        if len(pieces) > MOST_BYTES:
            return None
    return bytes(pieces)


def _object(text: bytes | None) -> dict[str, Any] | None:
    """Parse a JSON object; None if the body is not one."""
    try:
        answer = json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


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

    async def _call(self, read: Callable[[dict[str, Any]], T], what: str, *request: str, **arguments: Any) -> T:
        """Send a request and read its response. A response with the wrong fields is not a media service's."""
        response = await self._http.call(what, *request, **arguments)
        try:
            return read(response)
        except (LookupError, TypeError, ValueError):
            raise self._http.stranger(f"its response to the request {what} does not follow the API") from None

    async def stored(self, url: str) -> CheckedFile | None:
        """Return a file by its publicUrl; None: the service does not have it, or not any more."""
        body = {"url": url}
        return await self._call(_read_check, "to look at the file", "POST", "/v1/media/check", body=body)

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
            "firstParts": [_part_to_sign(part) for part in first],
            "token": token,
        }
        if self._head:
            body["head"] = base64.b64encode(self._head).decode()
        sent_at = self._clock()
        created = await self._call(
            lambda response: _read_create(response, first), "to start the upload", "POST", _API, body=body
        )
        if created.plan != (plan.part_size, plan.count, sent_as.value):
            raise self._http.stranger("its plan differs from the requested part size, number of parts or checksum")
        self._parts_at = None  # another upload may go to another store
        self._check_origins(created.signed)
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
        body = {"upload": upload_id, "parts": [_part_to_sign(part) for part in parts]}
        try:
            signed = await self._call(
                lambda response: _read_signed(response, parts), "to sign parts", "POST", f"{_API}/parts", body=body
            )
        except Fault as fault:
            if fault.code != _EXPIRED:
                raise
            raise errors.UploadExpired("the upload's handle has expired: try again to start a new upload") from fault
        self._check_origins(signed)
        return signed

    def _check_origins(self, requests: Sequence[SignedRequest]) -> None:
        """Check where the part URLs lead: never from https to http, and to one origin only.

        Only the service knows where the store is. But if the client reached the service by https, nobody on the
        network may read the file. With https, the target also needs a trusted certificate, so a URL cannot send a
        PUT to an internal service that speaks plain HTTP.

        Raises:
            StoreRefused: A URL breaks one of these rules.
        """
        for request in requests:
            origin = _origin_of(request.url)
            if origin.scheme != "https" and self._http.url.startswith("https:"):
                raise errors.StoreRefused(
                    f"{self._http.url} signed URLs for {origin.host} without encryption (http): nothing was sent. "
                    "Its operator must give the store an https endpoint"
                )
            if self._parts_at not in (None, origin):
                raise self._http.stranger(f"it sends parts of one upload to {origin.host} and elsewhere")
            self._parts_at = origin

    def refused(self, request: SignedRequest, fault: Fault) -> None:
        """Nothing explains it: the service signs with credentials of its own."""

    async def copy_part(self, upload_id: str, part: Part, origin: CopySource) -> PutResponse:
        raise Fault(FaultKind.UNSUPPORTED, "a media service copies no parts")

    async def list_parts(self, upload_id: str, algorithm: Algorithm) -> list[ListedPart]:
        return await self._call(_read_parts, "to list the parts", "GET", f"{_API}/parts", upload=upload_id)

    async def find_open(self) -> list[OpenUpload]:
        raise errors.UsageError("adopting an upload needs the store's own credentials: name it as s3://BUCKET/KEY")

    async def stat(self, upload_id: str, algorithm: Algorithm) -> ObjectFacts | None:
        """Return the object if the upload completed. If the service refused it at complete, raise that error again."""
        what = "to look at the upload"
        try:
            made, error = await self._call(_read_status, what, "GET", _API, upload=upload_id)
        except Fault as fault:
            if fault.code == _EXPIRED:
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
            made = await self._call(read_complete, what, "POST", f"{_API}/complete", body=body, within=COMPLETE_WITHIN)
        except Fault as fault:
            if fault.code != _EXPIRED:
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
            await self._http.call("to abort", "DELETE", _API, upload=upload_id)
        except Fault as fault:
            if fault.kind is not FaultKind.GONE:
                raise
