"""The most frequent requests without botocore (`plain_access` says for whom): create, complete, HEAD, and lists.

A request that could not be sent, or went to the wrong region, is sent again through botocore, which finds out why.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.http_errors import out_of_descriptors, tls_connection_lost, why_unreachable
from bigupload.http.plain_connections import PlainConnections
from bigupload.http.proxies import is_direct
from bigupload.http.trust import CaBundle
from bigupload.records import dataclass
from bigupload.stores.s3.errors import WRONG_REGION, refusal
from bigupload.stores.s3.plain_answers import head_answer, list_answer
from bigupload.stores.s3.plain_signing import PlainSigner, is_known_header
from bigupload.stores.s3.response_guard import MOST_BYTES, MOST_SECONDS, is_no_document, too_long, too_slow
from bigupload.support.descriptors import OUT_OF_DESCRIPTORS

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_PIECE = 64 * 1024
_CREATE, _COMPLETE = "create_multipart_upload", "complete_multipart_upload"
_HEAD, _LIST = "head_object", "list_objects_v2"
PLAIN_METHODS = (_CREATE, _COMPLETE, _HEAD, _LIST)
"""The calls that do not need botocore."""
_VERBS = {_CREATE: "POST", _COMPLETE: "POST", _HEAD: "HEAD", _LIST: "GET"}
_OF_LIST = {
    "ContinuationToken": "continuation-token",
    "MaxKeys": "max-keys",
    "Prefix": "prefix",
    "StartAfter": "start-after",
}
_OF_CUSTOMER_KEY = "x-amz-server-side-encryption-customer-"
_XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"


class _NotSent(Exception):
    """The request was not sent, or to the wrong region: botocore's turn."""


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """One request."""

    method: str
    """The method of botocore's client that sends it."""
    key: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    """One of them may be the customer's key."""
    body: bytes


def request_of(method: str, arguments: Mapping[str, Any], signer: PlainSigner) -> PlainRequest | None:
    """Return the request that botocore would send; None if it has something that is not known here.

    Args:
        method: One of PLAIN_METHODS.
        arguments: Its arguments, without the bucket.
        signer: Knows the headers.
    """
    if method == _LIST:
        return _request_of_list(arguments, signer)
    of_query = {"Key", "UploadId", "MultipartUpload", "PartNumber"}
    sent = {name: value for name, value in arguments.items() if name not in of_query}
    if not all(map(is_known_header, sent)):
        return None
    headers = signer.headers_of(sent)
    if method == _HEAD:
        query = f"partNumber={arguments['PartNumber']}" if "PartNumber" in arguments else ""
        return PlainRequest(method, arguments["Key"], query, headers, b"")
    if method == _CREATE:
        return PlainRequest(method, arguments["Key"], "uploads=", headers, b"")
    query = f"uploadId={quote(arguments['UploadId'], safe='')}"
    return PlainRequest(method, arguments["Key"], query, headers, _parts(arguments["MultipartUpload"]["Parts"]))


def _request_of_list(arguments: Mapping[str, Any], signer: PlainSigner) -> PlainRequest | None:
    if not arguments.keys() <= _OF_LIST.keys():
        return None
    pairs = {"list-type": "2", "encoding-type": "url"}
    pairs |= {_OF_LIST[name]: quote(str(value), safe="-_.~") for name, value in arguments.items()}
    headers = {name: value for name, value in signer.headers_of({}).items() if not name.startswith(_OF_CUSTOMER_KEY)}
    return PlainRequest(_LIST, "", "&".join(f"{name}={pairs[name]}" for name in sorted(pairs)), headers, b"")


def _parts(rows: Any) -> bytes:
    listed = "".join(
        f"<Part>{''.join(f'<{name}>{_escaped(str(value))}</{name}>' for name, value in row.items())}</Part>"
        for row in rows
    )
    return f'<CompleteMultipartUpload xmlns="{_XMLNS}">{listed}</CompleteMultipartUpload>'.encode()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#xD;")


class PlainCalls:
    """Makes such calls for one bucket. Thread-safe: each has a connection of its own."""

    def __init__(self, bucket: str, signer: PlainSigner, ca_bundle: CaBundle) -> None:
        """Send nothing yet.

        Args:
            bucket: The bucket's name.
            signer: Signs them.
            ca_bundle: Which certificates to trust.
        """
        self._bucket = bucket
        self._signer = signer
        self.endpoint = urlsplit(signer.access.base)._replace(path="").geturl()
        """The store's address."""
        self._connections = PlainConnections(self.endpoint, ca_bundle)
        self._usable = ca_bundle is not False and is_direct(self.endpoint)

    def request(self, method: str, arguments: Mapping[str, Any]) -> PlainRequest | None:
        """Return the request of a call; None if it needs botocore.

        Args:
            method: The method of botocore's client.
            arguments: Its arguments, without the bucket.
        """
        return request_of(method, arguments, self._signer) if self._usable and method in PLAIN_METHODS else None

    def call(self, what: str, request: PlainRequest, within: float) -> dict[str, Any] | None:
        """Send a request. Blocking.

        Args:
            what: What is requested, for messages.
            request: The request.
            within: The timeout in seconds.

        Returns:
            What botocore would return of the response. None: nothing was done, and botocore is to say why: from now on,
            all calls need it.

        Raises:
            Fault: The request failed, and a retry may help.
            BigUploadError: It failed, and no retry helps.
        """
        try:
            return self._call(what, request, within)
        except _NotSent:
            self.close()
            return None

    def close(self) -> None:
        """Close the connections. Those in use are closed when their calls end."""
        self._usable = False
        self._connections.close()

    def _call(self, what: str, request: PlainRequest, within: float) -> dict[str, Any]:
        verb = _VERBS[request.method]
        target, headers = self._signer.authorize(verb, request.key, request.query, request.headers, request.body)
        connection = self._connected(within)
        response = None
        try:
            connection.request(verb, target, body=request.body if verb == "POST" else None, headers=headers)
            response = connection.getresponse()
            if response.status < 200:  # after an interim response, which nobody asked for, `http.client` reads no other
                raise http.client.BadStatusLine(str(response.status))
            body = _read(response)
        except BaseException as e:
            connection.close()
            if response is not None:
                response.close()  # it owns the socket where the store closes the connection
            if isinstance(e, OSError | http.client.HTTPException):
                raise Fault(FaultKind.BROKEN, f"the store's response was lost ({type(e).__name__})") from None
            raise
        if response.will_close:
            connection.close()
        else:
            self._connections.give_back(connection)
        return self._judged(request.method, what, response, body)

    def _connected(self, within: float) -> http.client.HTTPConnection:
        where = self._connections.host
        try:
            return self._connections.take(within)
        except UnicodeError:  # the endpoint's name can't be one, which botocore says
            raise _NotSent from None
        except OSError as e:
            if out_of_descriptors(e):
                raise Fault(FaultKind.BROKEN, OUT_OF_DESCRIPTORS) from None
            if isinstance(e, ConnectionResetError) or tls_connection_lost(e):
                raise Fault(FaultKind.BROKEN, f"the connection to {where} broke while it was made") from None
            if isinstance(e, ssl.SSLError):
                raise _NotSent from None
            raise Fault(FaultKind.UNREACHABLE, why_unreachable(e, where)) from None

    def _judged(self, method: str, what: str, response: http.client.HTTPResponse, body: bytes) -> dict[str, Any]:
        headers = {name.lower(): value for name, value in response.getheaders()}
        status = response.status
        if status // 100 == 2 and is_no_document(body):
            raise Fault(FaultKind.SERVER, "the response is no S3 document: something else responded for the store")
        if method == _HEAD and status // 100 == 2:
            return head_answer(headers)
        document = _document(body if not is_no_document(body) else b"")
        root, fields = _fields(document)
        if status == 200 and body and root in (None, "Error"):
            status = 500  # as botocore: S3 may find out late that it can't complete, and a response may be cut
        if status // 100 != 2:
            error = fields if root == "Error" else {"Code": str(status)}
            is_unexplained = method == _HEAD and status == 400  # no body can say that it is for another region
            if status // 100 == 3 or is_unexplained or error.get("Code") in WRONG_REGION:
                raise _NotSent  # botocore finds the right one out
            answer = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers}}
            raise refusal(answer, what, self._bucket)
        if root is None:
            raise Fault(FaultKind.BROKEN, f"the response to the request {what} is not S3's: a proxy may have sent it")
        if method == _LIST and document is not None:
            if root != "ListBucketResult":  # it would be an empty list
                raise Fault(FaultKind.BROKEN, "the response is no list of objects: a proxy may have sent it")
            return list_answer(document)
        version = headers.get("x-amz-version-id")
        return fields if version is None else {**fields, "VersionId": version}


def _document(body: bytes) -> Element | None:
    """The root of a document; None if it is none."""
    from xml.etree import ElementTree

    try:
        # As with botocore, see `response_guard`: no document type hides in another encoding.
        parser = ElementTree.XMLParser(encoding="utf-8")  # noqa: S314 - `is_no_document` has refused what would hurt
        return ElementTree.fromstring(body, parser)  # noqa: S314 - as above
    except (ElementTree.ParseError, ValueError):
        return None


def _fields(root: Element | None) -> tuple[str | None, dict[str, str]]:
    """The name of a document's root, without its namespace, and the texts below it; no name if it is no document."""
    if root is None:
        return None, {}
    names = (child.tag.rpartition("}")[2] for child in root)
    return root.tag.rpartition("}")[2], {name: child.text or "" for name, child in zip(names, root, strict=True)}


def _read(response: http.client.HTTPResponse, clock: Callable[[], float] = time.monotonic) -> bytes:
    """Read a body as far as S3's are long."""
    until = clock() + MOST_SECONDS
    body = bytearray()
    while piece := response.read1(_PIECE):
        body += piece
        if len(body) > MOST_BYTES:
            raise too_long()
        if clock() > until:
            raise too_slow()
    if response.length:  # read1 does not say that the body ended early
        raise http.client.IncompleteRead(bytes(body), response.length)
    response.close()  # not its connection
    return bytes(body)
