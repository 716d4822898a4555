"""The media service's JSON: requests made, responses read and checked. Pure.

A response of another shape raises LookupError, TypeError or ValueError: it is not a media service's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from bigupload.core.checksums import Algorithm, ChecksumType
from bigupload.core.integrity import ObjectFacts
from bigupload.http.origins import WebOrigin, origin_of
from bigupload.ports import ListedPart, SignedRequest, UnsignedPart
from bigupload.records import dataclass

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CreatedUpload:
    """What the service created."""

    upload: str
    key: str
    public_url: str
    plan: tuple[int, int, str]
    """Part size in bytes, number of parts, checksum algorithm."""
    signed: list[SignedRequest]


@dataclass(frozen=True, slots=True)
class CompletedUpload:
    """What the service completed."""

    key: str
    public_url: str
    facts: ObjectFacts


def part_to_sign(part: UnsignedPart) -> dict[str, Any]:
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


def read_create(response: Mapping[str, Any], first: Sequence[UnsignedPart]) -> CreatedUpload:
    """Read the response to create, with the presigned requests of the first parts."""
    return CreatedUpload(
        upload=_line(response["upload"]),
        key=_line(response["key"]),
        public_url=_link(response["publicUrl"]),
        plan=(
            _typed(int, response["partSize"]),
            _typed(int, response["parts"]),
            _typed(str, response["checksumAlgorithm"]),
        ),
        signed=read_signed(response, first) if first else [],
    )


_HEADER = re.compile(r"x-amz-[a-z0-9-]{1,100}")
_HEADERS = frozenset({"content-type", "content-md5"})
_VALUE = re.compile(r"[ -~]{0,1024}")


def read_signed(response: Mapping[str, Any], asked: Sequence[UnsignedPart]) -> list[SignedRequest]:
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
    place_of(text)
    return text


def place_of(url: str) -> WebOrigin:
    """Return where a URL leads. Raises ValueError if it is not a URL of http or https."""
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


def read_parts(response: Mapping[str, Any]) -> list[ListedPart]:
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


def read_status(response: Mapping[str, Any]) -> tuple[CompletedUpload | None, tuple[str, str] | None]:
    """Read the object if it exists, or the code and message if the service refused it at complete."""
    if response["status"] == "completed":
        return read_complete(_typed(dict, response["completed"])), None
    if response["status"] not in ("open", "gone"):
        raise ValueError("an unknown status")
    error = response.get("error")
    return None, None if error is None else (_typed(str, error["code"]), _typed(str, error["message"]))
