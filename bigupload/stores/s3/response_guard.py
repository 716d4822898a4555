"""Check a store's response before botocore parses it: refuse document types, endless bodies and too many elements.

botocore reads a whole response and parses it with xml.etree. Measured with expat 2.5: expat stops a "billion laughs"
document at 84 MB and refuses external entities. But a document of 3 MB that names one entity ninety times fills 270 MB,
two million empty elements take 24 s, and an endless response is read until memory is exhausted. Older versions of expat
stop none of these. S3 declares no document type, and without one there are no entities. Its longest page has some ten
thousand elements. Every response is parsed as UTF-8, unless it is UTF-16, which expat finds out by itself: then it has
zero bytes, which XML in UTF-8 has not. So checking the bytes is enough, without a second parser.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.stores.s3._compat import set_body, wrap_send

MOST_BYTES = 8 * 1024 * 1024
"""The longest response, in bytes. A thousand uploads with URL-encoded keys of a kilobyte are half of it."""
MOST_TAGS = 200_000
MOST_SECONDS = 900.0
"""The longest duration of a response, in seconds. Complete may send white space for minutes."""
_PIECE = 64 * 1024


def guard(client: Any) -> None:
    """Install the guard in a botocore client."""
    client.meta.events.register("before-parse.s3", _look)
    wrap_send(client, _send)  # botocore has no public hook before the body is read


def _send(send: Callable[[Any], Any], request: Any) -> Any:
    """Wrap `send` so that the body is read here. A streamed response stays a stream, unless it is an error."""
    streamed, request.stream_output = request.stream_output, True
    response = send(request)
    if not streamed or response.status_code >= 300:
        set_body(response, read_bounded(response.raw))
    return response


def read_bounded(raw: Any, *, clock: Callable[[], float] = time.monotonic) -> bytes:
    """Return the whole body of a urllib3 response. Raises Fault, or botocore's error if the connection breaks."""
    import botocore.exceptions

    until = clock() + MOST_SECONDS
    body = bytearray()
    try:
        for piece in raw.stream(_PIECE):
            body += piece
            if len(body) > MOST_BYTES or clock() > until:
                break
        else:
            return bytes(body)
    except Exception as e:
        raise botocore.exceptions.ResponseStreamingError(error=e) from e
    raw.close()
    raise too_long() if len(body) > MOST_BYTES else too_slow()


def too_long() -> Fault:
    """Make the fault of a response that is longer than MOST_BYTES."""
    return Fault(FaultKind.FINAL, f"the store's response is longer than any of S3's ({MOST_BYTES:,} bytes)")


def too_slow() -> Fault:
    """Make the fault of a response that takes longer than MOST_SECONDS."""
    return Fault(FaultKind.STALLED, f"the store's response did not end within {MOST_SECONDS:.0f} s")


def is_no_document(body: bytes) -> bool:
    """Whether a body is none of S3's documents, and is not to be parsed."""
    return b"<!DOCTYPE" in body or b"\0" in body or body.count(b"<") > MOST_TAGS


def _look(response_dict: dict[str, Any], **_: Any) -> None:
    """Handle `before-parse`. Raises Fault if a successful response is not an S3 document."""
    body = response_dict.get("body")
    if isinstance(body, bytes) and is_no_document(body):
        if response_dict["status_code"] < 300:
            raise Fault(FaultKind.SERVER, "the response is no S3 document: something else responded for the store")
        response_dict["body"] = b""  # for example a proxy's page; the status is enough
