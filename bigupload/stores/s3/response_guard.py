"""What a store may answer, before botocore parses it: no document type, no end to it, nothing that takes for ever.

botocore reads an answer whole and hands it to xml.etree. Measured with expat 2.5: a billion laughs is cut off at 84 MB
and external entities are refused, but three megabytes that name one entity ninety times fill 270 MB, two million empty
elements take 24 s, and an answer without end is read until the memory ends. Older expats stop nothing. S3 declares no
document type (without one there are no entities), its longest page has some ten thousands of elements, and botocore
reads whatever comes as UTF-8: so a look at the bytes is enough, and no second parser is needed.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from bigupload.core.retry_policy import Fault, FaultKind

MOST_BYTES = 8 * 1024 * 1024
"""Of an answer: a thousand uploads under keys of a kilobyte each, URL-encoded, are half of it."""
MOST_TAGS = 200_000
MOST_SECONDS = 900.0
"""In which an answer comes to its end. Complete may keep the connection with white space for minutes."""
_PIECE = 64 * 1024


def guard(client: Any) -> None:
    """Make a client of botocore look before it parses."""
    client.meta.events.register("before-parse.s3", _look)
    session = client._endpoint.http_session  # there is no public place before the body is read
    session.send = functools.partial(_send, session.send)


def _send(send: Callable[[Any], Any], request: Any) -> Any:
    """`send`, with the body read here: what is to be streamed stays so, if it is no refusal."""
    streamed, request.stream_output = request.stream_output, True
    response = send(request)
    if not streamed or response.status_code >= 300:
        response._content = read_bounded(response.raw)
    return response


def read_bounded(raw: Any, *, clock: Callable[[], float] = time.monotonic) -> bytes:
    """The whole of a urllib3 response. Raises Fault, and botocore's error where it breaks off."""
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
    if len(body) > MOST_BYTES:
        raise Fault(FaultKind.FINAL, f"the store's answer is longer than any of S3's ({MOST_BYTES:,} bytes)")
    raise Fault(FaultKind.STALLED, f"the store's answer had no end in {MOST_SECONDS:.0f} s")


def _look(response_dict: dict[str, Any], **_: Any) -> None:
    """A handler of `before-parse`. Raises Fault where an answer that would count is none of S3's."""
    body = response_dict.get("body")
    if isinstance(body, bytes) and (b"<!DOCTYPE" in body or body.count(b"<") > MOST_TAGS):
        if response_dict["status_code"] < 300:
            raise Fault(FaultKind.SERVER, "something answers in the store's place: that is none of S3's documents")
        response_dict["body"] = b""  # a proxy's page, say: the status tells all that is to be known
