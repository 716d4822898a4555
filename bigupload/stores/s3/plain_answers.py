"""What botocore would return of the responses to HeadObject and ListObjectsV2: the fields that this package reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from bigupload.core.checksums import Algorithm
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.stores.s3.responses import date_of

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_METADATA = "x-amz-meta-"
_TEXTS = {
    **{algorithm.header: f"Checksum{algorithm.s3_name}" for algorithm in Algorithm if algorithm.is_s3_checksum},
    "content-encoding": "ContentEncoding",
    "content-type": "ContentType",
    "etag": "ETag",
    "x-amz-checksum-type": "ChecksumType",
    "x-amz-version-id": "VersionId",
}
_NUMBERS = {"content-length": "ContentLength", "x-amz-mp-parts-count": "PartsCount"}


def head_answer(headers: Mapping[str, str]) -> dict[str, Any]:
    """Read the response to HeadObject.

    Args:
        headers: By names in lower case.

    Raises:
        Fault: BROKEN: it is no response of a store.
    """
    answer: dict[str, Any] = {name: headers[header] for header, name in _TEXTS.items() if header in headers}
    for header, name in _NUMBERS.items():
        if header in headers:
            answer[name] = _checked(int, headers[header], name)
    answer["ResponseMetadata"] = {"HTTPHeaders": dict(headers)}
    modified: datetime | None = date_of(headers.get("last-modified"))
    if modified is not None:
        answer["LastModified"] = modified
    answer["Metadata"] = {
        name.removeprefix(_METADATA): value for name, value in headers.items() if name.startswith(_METADATA)
    }
    return answer


def list_answer(root: Element) -> dict[str, Any]:
    """Read the response to ListObjectsV2.

    Args:
        root: Its document.

    Raises:
        Fault: BROKEN: it is no response of a store.
    """
    texts = {_name(child): child.text or "" for child in root if not len(child)}
    encoded = texts.get("EncodingType") == "url"
    rows = [_row(child, encoded=encoded) for child in root if _name(child) == "Contents"]
    answer: dict[str, Any] = {"IsTruncated": texts.get("IsTruncated", "").lower() == "true"}
    if rows:
        answer["Contents"] = rows
    if "NextContinuationToken" in texts:
        answer["NextContinuationToken"] = texts["NextContinuationToken"]
    return answer


def _row(element: Element, *, encoded: bool) -> dict[str, Any]:
    texts = {_name(child): child.text or "" for child in element}
    row: dict[str, Any] = {name: texts[name] for name in ("Key", "ETag") if name in texts}
    if encoded and "Key" in row:
        row["Key"] = _checked(_unquoted, row["Key"], "Key")
    for name, read in (("Size", int), ("LastModified", datetime.fromisoformat)):
        if name in texts:
            row[name] = _checked(read, texts[name], name)
    return row


def _unquoted(text: str) -> str:
    return unquote_plus(text, errors="strict")  # SeaweedFS writes a space as "+"


def _name(element: Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def _checked(read: Callable[[str], Any], text: str, name: str) -> Any:
    try:
        return read(text)
    except ValueError:
        raise Fault(
            FaultKind.BROKEN, f"the store's response has no {name}: something else may have responded"
        ) from None
