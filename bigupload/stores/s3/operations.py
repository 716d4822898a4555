"""The operations of S3 that bigupload uses: one row each, from which requests are built and responses are read.

Parameters and fields have the names of S3's API reference, which botocore has, too. An object's own properties
(`s3_parameters.OBJECT`) come as headers: a row there is enough.
`tests/stores/s3/test_operations.py` compares the table with botocore's description of S3.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html

`ObjectPages` and `UploadPages` know where a list's next page begins, and that the list ends. `name_options` names in a
refusal the options that it is of.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, unquote_plus

from bigupload.core.checksums import Algorithm, strong_etag
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.http_errors import fault_of_response, fault_of_stranger, is_page
from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.s3_parameters import CUSTOMER_KEY, METADATA, named_options
from bigupload.support.files import OUT_OF_DESCRIPTORS, is_out_of_descriptors

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


T = TypeVar("T")

MOST_TAGS = 200_000
"""The most elements of a document. S3's longest page has some ten thousand; two million take 24 s to parse."""
_MOST_DEPTH = 10
"""The most levels of nested elements. S3's documents have four."""
XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"
_CHECKSUMS = {f"Checksum{a.s3_name}": a.header for a in Algorithm if a.is_s3_checksum}

_QUERY = {
    "ContinuationToken": "continuation-token", "Delimiter": "delimiter", "KeyMarker": "key-marker",
    "MaxKeys": "max-keys",
    "MaxParts": "max-parts", "MaxUploads": "max-uploads", "PartNumber": "partNumber",
    "PartNumberMarker": "part-number-marker", "Prefix": "prefix", "StartAfter": "start-after",
    "ResponseContentDisposition": "response-content-disposition",
    "UploadId": "uploadId", "UploadIdMarker": "upload-id-marker", "VersionId": "versionId",
}  # fmt: skip
"""The parameters that go into the query."""
HEADERS = {
    **_CHECKSUMS,
    "ChecksumAlgorithm": "x-amz-checksum-algorithm", "ChecksumMode": "x-amz-checksum-mode",
    "ChecksumType": "x-amz-checksum-type", "CopySource": "x-amz-copy-source",
    "CopySourceIfMatch": "x-amz-copy-source-if-match", "CopySourceRange": "x-amz-copy-source-range",
    "ExpectedSourceBucketOwner": "x-amz-source-expected-bucket-owner", "IfMatch": "if-match",
    "IfNoneMatch": "if-none-match", "MetadataDirective": "x-amz-metadata-directive",
    "MpuObjectSize": "x-amz-mp-object-size", "Range": "range",
    "TransitionDefaultMinimumObjectSize": "x-amz-transition-default-minimum-object-size",
}  # fmt: skip
"""The arguments that go into headers."""
_OWNER, _PAYER = "x-amz-expected-bucket-owner", "x-amz-request-payer"
_LISTED = {
    "CommonPrefixes": "CommonPrefixes",
    "Part": "Parts",
    "Upload": "Uploads",
    "Contents": "Contents",
    "Error": "Errors",
    "Deleted": "Deleted",
}
"""Elements that may come several times in one document, and the fields that their lists are."""
_LISTS = frozenset(_LISTED.values())
_STRUCTURES = frozenset({"Credentials", "Initiator", "Owner", "RestoreStatus"})
"""Other elements that have elements below them. Where a text belongs, elements are left out."""


def document(root: str, fields: Mapping[str, Any]) -> bytes:
    """Write one of S3's XML documents: its root element, and the elements below it.

    A sequence repeats its element, a mapping nests.
    """
    return f'<{root} xmlns="{XMLNS}">{_elements(fields)}</{root}>'.encode()


def _elements(fields: Mapping[str, Any]) -> str:
    return "".join(
        f"<{name}>{_elements(each) if isinstance(each, Mapping) else _text(each)}</{name}>"
        for name, value in fields.items()
        for each in (value if isinstance(value, list | tuple) else (value,))
    )


def _text(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#xD;")


@dataclass(frozen=True, slots=True)
class Operation:
    """One row."""

    method: str
    takes: frozenset[str] = frozenset()
    """S3's names of its parameters."""
    _: KW_ONLY
    of_object: bool = True
    """Whether it needs a key."""
    query: Mapping[str, str] | None = None
    """The constant part of the query."""
    sends: tuple[str, ...] = (_OWNER, _PAYER)
    """The headers of `s3_parameters.REQUEST` that it takes, by how their names begin."""
    body: Callable[[Mapping[str, Any]], bytes | None] | None = None
    """Returns the body of a request with some parameters; None: it is a URL to presign, the client sends the body."""
    has_md5: bool = False
    """Whether S3 requires a Content-MD5 of the body."""
    root: str | None = None
    """The root element of the response; None: the body is returned as it is."""
    has_root: bool = False
    """Whether the response must have that root: another document would look like an empty list. Otherwise, the name
    differs between stores."""
    is_optional: bool = False
    """Whether a response without a body is valid, too."""
    raw: bool = False
    """Whether the document is returned as it is, as "Document", with names without their namespace."""


def _names(names: str) -> frozenset[str]:
    return frozenset(names.split())


def _given(parameters: Mapping[str, Any]) -> bytes | None:
    body: bytes | None = parameters.get("Body")
    return body


def _deletes(parameters: Mapping[str, Any]) -> bytes:
    rows = parameters["Delete"]
    return document("Delete", {"Object": rows["Objects"]})


def _location(parameters: Mapping[str, Any]) -> bytes:
    where = parameters.get("CreateBucketConfiguration")
    return b"" if where is None else document("CreateBucketConfiguration", where)


_CONDITIONS = _names("IfMatch IfNoneMatch")
_COPIES = _names("CopySource CopySourceIfMatch ExpectedSourceBucketOwner")
_on_object = functools.partial(Operation, sends=(_OWNER, _PAYER, CUSTOMER_KEY))
_on_bucket = functools.partial(Operation, of_object=False)
_on_rules = functools.partial(Operation, of_object=False, sends=(_OWNER,))

OPERATIONS: Mapping[str, Operation] = {
    # -- a multipart upload
    "CreateMultipartUpload": _on_object(
        "POST", _names("ChecksumAlgorithm ChecksumType"), query={"uploads": ""}, root="InitiateMultipartUploadResult"
    ),
    "UploadPart": _on_object("PUT", _names("UploadId PartNumber")),
    "UploadPartCopy": _on_object(
        "PUT", _names("UploadId PartNumber CopySourceRange") | _COPIES, root="CopyPartResult", is_optional=True
    ),
    "ListParts": _on_object("GET", _names("UploadId PartNumberMarker MaxParts"), root="ListPartsResult"),
    "CompleteMultipartUpload": _on_object(
        "POST",
        _names("UploadId MultipartUpload ChecksumType MpuObjectSize") | _CONDITIONS | _CHECKSUMS.keys(),
        body=lambda given: document("CompleteMultipartUpload", {"Part": given["MultipartUpload"]["Parts"]}),
        root="CompleteMultipartUploadResult",
    ),
    "AbortMultipartUpload": Operation("DELETE", _names("UploadId")),
    "ListMultipartUploads": _on_bucket(
        "GET",
        _names("Prefix KeyMarker UploadIdMarker MaxUploads"),
        query={"uploads": ""},
        root="ListMultipartUploadsResult",
        has_root=True,
    ),
    # -- objects
    "PutObject": _on_object("PUT", _names("Body") | _CONDITIONS | _CHECKSUMS.keys(), body=_given),
    "CopyObject": _on_object("PUT", _names("MetadataDirective") | _COPIES, root="CopyObjectResult"),
    "HeadObject": _on_object("HEAD", _names("ChecksumMode PartNumber VersionId") | _CONDITIONS),
    "GetObject": _on_object(
        "GET", _names("Range VersionId PartNumber ChecksumMode ResponseContentDisposition") | _CONDITIONS
    ),
    "GetObjectTagging": Operation("GET", query={"tagging": ""}, root="Tagging", raw=True),
    "DeleteObject": Operation("DELETE", _names("VersionId IfMatch")),
    "DeleteObjects": _on_bucket(
        "POST",
        _names("Delete"),
        query={"delete": ""},
        body=_deletes,
        has_md5=True,
        root="DeleteResult",
        has_root=True,
        is_optional=True,  # some stores say nothing if nothing failed: the caller asks again for each key
    ),
    # -- the bucket
    "ListObjectsV2": _on_bucket(
        "GET",
        _names("Prefix Delimiter StartAfter ContinuationToken MaxKeys"),
        query={"list-type": "2", "encoding-type": "url"},
        root="ListBucketResult",
        has_root=True,
    ),
    "CreateSession": _on_bucket(  # of a directory bucket
        "GET", query={"session": ""}, sends=(), root="CreateSessionResult"
    ),
    "CreateBucket": _on_bucket("PUT", _names("CreateBucketConfiguration"), sends=(), body=_location),
    "HeadBucket": _on_rules("HEAD"),
    "GetBucketVersioning": _on_rules("GET", query={"versioning": ""}, root="VersioningConfiguration", is_optional=True),
    "GetBucketPolicy": _on_rules("GET", query={"policy": ""}),
    "PutBucketPolicy": _on_rules("PUT", _names("Body"), query={"policy": ""}, body=_given, has_md5=True),
    "DeleteBucketPolicy": _on_rules("DELETE", query={"policy": ""}),
    "GetBucketCors": _on_rules("GET", query={"cors": ""}, root="CORSConfiguration", has_root=True, raw=True),
    "PutBucketCors": _on_rules("PUT", _names("Body"), query={"cors": ""}, body=_given, has_md5=True),
    "GetBucketLifecycleConfiguration": _on_rules(
        "GET", query={"lifecycle": ""}, root="LifecycleConfiguration", has_root=True, raw=True
    ),
    "PutBucketLifecycleConfiguration": _on_rules(
        "PUT", _names("Body TransitionDefaultMinimumObjectSize"), query={"lifecycle": ""}, body=_given, has_md5=True
    ),
}


@dataclass(frozen=True, slots=True)
class Request:
    """The request of an operation, before it is signed."""

    method: str
    key: str
    """Empty: it is for the bucket."""
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    """One of them may be the customer's key."""
    body: bytes | None


def request_of(
    name: str, parameters: Mapping[str, Any], headers: Mapping[str, str], always: Mapping[str, str]
) -> Request:
    """Build a request.

    Args:
        name: The operation's name.
        parameters: Its parameters, by S3's names.
        headers: More headers: an object's properties.
        always: The headers of every request that takes them: `s3_parameters.REQUEST`.

    Raises:
        TypeError: The operation has no such parameter.
    """
    row = OPERATIONS[name]
    sent = {header: value for header, value in always.items() if header.startswith(row.sends)} if always else {}
    sent.update(headers)
    query = dict(row.query or ())
    for parameter, value in parameters.items():
        if parameter not in row.takes and not (parameter == "Key" and row.of_object):
            raise TypeError(f"{name} has no parameter {parameter}")
        if parameter in _QUERY:
            query[_QUERY[parameter]] = str(value)
        elif parameter in HEADERS:
            sent[HEADERS[parameter]] = str(value)
    body = None if row.body is None else row.body(parameters)
    if row.has_md5 and body is not None:
        sent["content-md5"] = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    return Request(row.method, parameters["Key"] if row.of_object else "", query, sent, body)


def copy_source(bucket: str, key: str, version_id: str | None = None) -> str:
    """Return the parameter CopySource: an object that the store is to copy. The bucket may be an access point's ARN."""
    path = f"{bucket}/object/{key}" if bucket.startswith("arn:") else f"{bucket}/{key}"
    return quote(path, safe="/~") + (f"?versionId={quote(version_id, safe='')}" if version_id else "")


# -- responses


def fields_of(
    name: str, status: int, headers: Mapping[str, str], body: bytes, what: str, *, bucket: str = ""
) -> dict[str, Any]:
    """Read a successful response.

    Args:
        name: The operation's name.
        status: The response's status, 2xx.
        headers: Its headers, by names in lower case.
        body: Its body.
        what: What was requested, for messages.
        bucket: The bucket's name.

    Returns:
        The fields by S3's names, with "Headers".

    Raises:
        Fault: The response refuses the request all the same, is not S3's, or is not whole.
    """
    row = OPERATIONS[name]
    refused = functools.partial(fault_of_response, status, headers, body, what, bucket=bucket)
    strange = functools.partial(fault_of_stranger, status, headers, body, f"the request {what}")
    if row.root is None:
        head = body.lstrip()[:512]
        if name not in ("GetObject", "GetBucketPolicy"):  # whose bodies may be anything
            if b"<Error" in head:
                raise refused()
            if is_page(head):
                raise strange()
        return _of_headers(headers) | ({"Body": body} if body else {})
    found: dict[str, Any] = {"Headers": headers}
    if (version := headers.get("x-amz-version-id")) is not None:
        found["VersionId"] = version
    if row.is_optional and not body.strip():
        return found
    root = _root(body)
    if root is None:
        raise strange()
    tag = _name(root)
    if tag == "Error":
        raise refused()
    if tag.lower() == "html" or (row.has_root and tag != row.root):
        raise strange()
    if row.raw:
        for each in root.iter():
            each.tag = _name(each)
        return found | {"Document": root}
    try:
        return found | _Fields(encoded=root.findtext(f"{root.tag.removesuffix(tag)}EncodingType") == "url").of(root)
    except ValueError:
        raise strange() from None


def is_no_document(body: bytes) -> bool:
    """Whether a body is not one of S3's documents, and must not be parsed.

    S3 declares no document type, and without one there are no entities. In a document of 3 MB, one entity that is named
    ninety times fills 270 MB (expat 2.5), and older versions of expat do not even stop a "billion laughs" document.
    Every response is parsed as UTF-8, unless expat finds by itself that it is UTF-16: then it has zero bytes.
    """
    return b"<!DOCTYPE" in body or b"\0" in body or body.count(b"<") > MOST_TAGS


def load_parser(name: str) -> None:
    """Import what reads the responses of an operation, before it is sent.

    With no descriptor left the import fails, and then nobody would learn the id of the upload that was created.

    Raises:
        Fault: BROKEN: this process has too many files open.
    """
    if OPERATIONS[name].root is None:
        return
    try:
        import xml.etree.ElementTree  # noqa: F401 - to be there
    except (OSError, ImportError) as e:
        if not is_out_of_descriptors(e):
            raise
        raise Fault(FaultKind.BROKEN, OUT_OF_DESCRIPTORS) from None


def _root(body: bytes) -> Element | None:
    """The root of a document; None if the body is not a document."""
    if is_no_document(body):
        return None
    from xml.etree import ElementTree

    try:
        # No document type hides in another encoding.
        parser = ElementTree.XMLParser(encoding="utf-8")  # noqa: S314 - `is_no_document` has refused what would hurt
        return ElementTree.fromstring(body.strip(), parser)  # noqa: S314 - as above
    except (ElementTree.ParseError, ValueError):
        return None


class _Fields:
    """The fields of one document. A page of a list has some thousand elements, and a few names."""

    def __init__(self, *, encoded: bool) -> None:
        """Read nothing yet. `encoded`: whether keys are quoted, as in a URL."""
        self._encoded = encoded
        self._readers: dict[str, tuple[str, Callable[[str], Any]]] = {}
        """By tag: the name without its namespace, and what reads a text."""

    def of(self, element: Element, depth: int = 1) -> dict[str, Any]:
        """The elements below one, by their names, each as `_READ` says. ETags have quotes, whichever store sent them.

        Raises:
            ValueError: One can't be read, or they are nested deeper than in any of S3's documents.
        """
        if depth > _MOST_DEPTH:
            raise ValueError("too deep")
        found: dict[str, Any] = {}
        for child in element:
            name, read = self._readers.get(child.tag) or self._reader(child)
            if name in _LISTED:
                found.setdefault(_LISTED[name], []).append(self.of(child, depth + 1))
            elif len(child):
                inner = self.of(child, depth + 1)
                if name in _STRUCTURES:
                    found[name] = inner
            elif (value := read(child.text or "")) is not None:
                found[name] = value
        return found

    def _reader(self, element: Element) -> tuple[str, Callable[[str], Any]]:
        name = _name(element)
        read = _READ.get(name, str)
        if name in _LISTS:
            read = _refuse_text
        elif self._encoded and name in _ENCODED:
            read = functools.partial(unquote_plus, errors="strict")  # SeaweedFS writes a space as "+"
        self._readers[element.tag] = name, read
        return name, read


def _refuse_text(_: str) -> None:
    raise ValueError("a text in place of a list")


def date_of(text: str | None) -> datetime | None:
    """Read a time in ISO 8601, as S3 writes it, or as in HTTP's headers, always in GMT. None: it is neither.

    https://www.rfc-editor.org/rfc/rfc9110#name-date
    """
    for read in (datetime.fromisoformat, _date_of_header):
        try:
            found = read((text or "").strip())
        except (ValueError, OverflowError):
            continue
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return None


def _date_of_header(text: str) -> datetime:
    import email.utils  # few uploads need it

    return email.utils.parsedate_to_datetime(text)


_READ: Mapping[str, Callable[[str], Any]] = {
    "ContentLength": int,
    "ETag": strong_etag,
    "Expiration": date_of,
    "Initiated": date_of,
    "IsTruncated": lambda text: text.strip().lower() == "true",
    "LastModified": date_of,
    "NextPartNumberMarker": lambda text: int(text or 0),
    "PartNumber": int,
    "PartsCount": int,
    "Size": int,
}
"""The functions that read fields that are not texts."""
_ENCODED = frozenset({"Key", "Prefix", "KeyMarker", "NextKeyMarker", "StartAfter", "Delimiter"})
_OF_HEADERS = {
    **{header: name for name, header in _CHECKSUMS.items()},
    "content-encoding": "ContentEncoding",
    "content-length": "ContentLength",
    "content-range": "ContentRange",
    "content-type": "ContentType",
    "etag": "ETag",
    "last-modified": "LastModified",
    "x-amz-checksum-type": "ChecksumType",
    "x-amz-mp-parts-count": "PartsCount",
    "x-amz-version-id": "VersionId",
}
"""The fields that are headers."""


def _of_headers(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return an object's facts from response headers.

    Raises:
        Fault: BROKEN: they are not a store's.
    """
    found: dict[str, Any] = {"Headers": headers, "Metadata": {}}
    for header, text in headers.items():
        if (name := _OF_HEADERS.get(header)) is not None:
            try:
                if (value := _READ.get(name, str)(text)) is not None:
                    found[name] = value
            except ValueError:
                raise _lacks(name) from None
        elif header.startswith(METADATA):
            # A header's name has no case, so some stores return `X-Amz-Meta-Tok` for `tok`. S3 keeps lower case.
            found["Metadata"][header.removeprefix(METADATA)] = text
    return found


def _name(element: Element) -> str:
    """An element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def required_field(answer: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """Return a field that every store's response has.

    Raises:
        Fault: BROKEN if it is missing. A 200 without it is another page, for example a captive portal's or a proxy's,
            and shows nothing of what the store did.
    """
    found = answer.get(name)
    if not isinstance(found, kind) or found == "":
        raise _lacks(name)
    return found


def _lacks(name: str) -> Fault:
    return Fault(FaultKind.BROKEN, f"the store's response has no {name}: something else may have responded")


def rows(answer: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a list.

    Raises:
        Fault: BROKEN if a row is malformed.
    """
    found: Sequence[Any] = answer.get(name, ())
    if not all(type(row) is dict or isinstance(row, Mapping) for row in found) or isinstance(found, str):
        raise _lacks(name)
    return found


MOST_PAGES = 1000
"""The most pages of one list: a million open uploads, or a hundred times the parts that an upload can have. A list that
is longer, or repeats a page, is refused."""
_MOST_NAME = 1024
"""The longest key or upload id in a list, in bytes. It is S3's limit for keys, and limits the memory for a list."""


@dataclass(frozen=True, slots=True)
class OpenPage:
    """Rows of ListMultipartUploads: (key, upload id, when it was created)."""

    uploads: Sequence[tuple[str, str, datetime]]
    now: datetime | None
    """The store's clock; None if the response has no valid date."""


class _Pages:
    """A walk through the pages of a list: where the next one begins, and that the list ends."""

    _listed: str

    def __init__(self, **start: Any) -> None:
        self.start = start
        """The parameters of the next request."""
        self.ended = False
        """Whether the last page was read."""
        self._been = {hash(tuple(start.items()))}
        """The starts of the pages before. A list of objects may have ten thousand pages, so hashes are enough."""

    def advance(self, page: Mapping[str, Any]) -> None:
        """Move to the next page.

        Raises:
            Fault: FINAL if the list repeats a page.
        """
        self.ended = not page.get("IsTruncated")
        if self.ended:
            return
        start = self._following(page)
        position = hash(tuple(start.items()))
        if position in self._been:
            raise Fault(FaultKind.FINAL, f"the store's list of {self._listed} repeats a page")
        self._been.add(position)
        self.start = start

    def _following(self, page: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


class ObjectPages(_Pages):
    """The pages of ListObjectsV2."""

    _listed = "objects"

    def __init__(self, after: str = "") -> None:
        """Begin with the keys that come after `after`."""
        super().__init__(**({"StartAfter": after} if after else {}))

    def _following(self, page: Mapping[str, Any]) -> dict[str, Any]:
        if token := page.get("NextContinuationToken"):
            return {"ContinuationToken": token}
        rows = page.get("Contents")  # the store gave no continuation token
        return {"StartAfter": rows[-1]["Key"]} if rows else self.start


class UploadPages(_Pages):
    """The pages of ListMultipartUploads."""

    _listed = "open uploads"

    def advance(self, page: Mapping[str, Any]) -> None:
        """Move to the next page.

        Raises:
            Fault: FINAL if the list repeats a page or does not end, BROKEN if a row is incomplete.
        """
        rows = page.get("Uploads", ())
        if any(len(str(row.get(name, "")).encode()) > _MOST_NAME for row in rows for name in ("Key", "UploadId")):
            raise Fault(FaultKind.FINAL, "the store lists names that are longer than 1,024 bytes")
        if not all(row.get("Key") and row.get("UploadId") and row.get("Initiated") for row in rows):
            raise Fault(FaultKind.BROKEN, "the store's list of open uploads has an incomplete row")
        super().advance(page)
        if len(self._been) > MOST_PAGES:
            raise Fault(FaultKind.FINAL, "the store's list of open uploads does not end: name a longer prefix")

    def _following(self, page: Mapping[str, Any]) -> dict[str, Any]:
        # Only the markers that the store gives: SeaweedFS pages by upload ids alone, and skips some if a key is added.
        markers = {n: page[f"Next{n}"] for n in ("KeyMarker", "UploadIdMarker") if page.get(f"Next{n}")}
        if not markers and (rows := page.get("Uploads")):
            markers = {"KeyMarker": rows[-1]["Key"], "UploadIdMarker": rows[-1]["UploadId"]}
        return markers


_BLOCKED = (
    "either the bucket blocks SSE-C (its BlockedEncryptionTypes, AWS's default since April 2026): allow it there with "
    "`aws s3api put-bucket-encryption`, or leave out `sse_customer_key`; or "
)
_WITHOUT_CHECKSUMS = "the refusal names a header of checksums: upload again with `checksum='md5'` `resume=False`"


def name_options(fault: Fault, options: S3Options, *, begun: bool = False) -> None:
    """Name in a refusal the options that it is of. Then neither another form of the request nor a signature helps.

    A refusal that names another header, without which the request may succeed, becomes one of the kind UNSUPPORTED,
    even a 403: a policy or a proxy forbids the header, and the credentials are good.

    Args:
        fault: The refusal of a request that makes an object, or a part of one. Its hint is there already.
        options: The options of the object.
        begun: Whether its upload has begun, so that another run of it has the same options.
    """
    if fault.kind not in (FaultKind.REFUSED, FaultKind.UNSUPPORTED, FaultKind.FINAL) or fault.is_decided:
        return
    fault.options = named_options(fault.named, options)
    if fault.kind is FaultKind.REFUSED and options.if_none_match and HEADERS["IfNoneMatch"] in fault.named:
        # This store may well know the condition. It protects an object, so only the caller may leave it out.
        fault.kind, fault.options = FaultKind.UNSUPPORTED, (*fault.options, "if_none_match")
    if fault.options:
        names = " and ".join(f"`{name}`" for name in fault.options)
        again = ", and upload again with `resume=False`" if begun else ""
        fault.hint = f"the refusal names your option {names}: change it or leave it out{again}"
        fault.is_lasting = True
    elif fault.names_checksum or HEADERS["MpuObjectSize"] in fault.named:
        fault.kind, fault.hint = FaultKind.UNSUPPORTED, _WITHOUT_CHECKSUMS if fault.names_checksum else ""
    elif fault.code == "AccessDenied" and options.sse_customer_key and not fault.is_explained:
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/blocking-unblocking-s3-c-encryption-gpb.html
        fault.hint = f"{_BLOCKED}{fault.hint}"
        # Where others can be had, the credentials may have expired. AWS has a code for that.
        fault.is_lasting = options.credentials is None or options.endpoint_url is None
