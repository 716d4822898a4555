"""Reads ranges of an object by HTTP GET. The bytes are passed on as they arrive. Knows neither files nor retries."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from bigupload.core.checksums import with_quotes
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.client import HttpClient, OpenResponse
from bigupload.http.http_errors import MAX_ERROR_BODY, fault_of_response
from bigupload.ports import SignedRequest

_CONTENT_RANGE = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20}|\*)")


async def read_range(
    client: HttpClient,
    request: SignedRequest,
    start: int,
    end: int,
    *,
    etag: str,
    size: int,
    within: float,
    take: Callable[[bytes], Awaitable[bool]],
) -> None:
    """Read an object's bytes from `start` to before `end`, by more requests if the store caps ranges.

    Args:
        client: Whose connections to use. Redirects are not followed.
        request: The presigned GET.
        start: The first byte of the range.
        end: The byte after the range.
        etag: The object's ETag, as it was when the caller first looked.
        size: The object's size in bytes.
        within: Seconds without a byte after which it fails with Fault(STALLED).
        take: Gets the bytes as they arrive, until it returns False. What it got counts, whatever fails later.

    Raises:
        Fault: EXISTS if the object has another ETag, UNSUPPORTED if the store sends other bytes than the requested
            ones or no ETag, BROKEN if bytes are missing, or any other failure.
    """
    wanted = True
    while wanted and start < end:
        # Neither header is signed. They only narrow down what the URL allows.
        headers = {**request.headers, "Range": f"bytes={start}-{end - 1}", "If-Match": etag}
        async with client.open("GET", request.url, headers, within=within) as response:
            if response.status in (200, 206):
                reached = _check(response, start, end, etag, size)
                wanted = await response.pass_on(reached - start, take)  # a store that ignores the range sends more
                start = reached
                continue
            body = await response.read_as_far_as_it_comes(MAX_ERROR_BODY, within)
        raise fault_of_response(response.status, response.headers, body, "to read the object")


def _check(response: OpenResponse, start: int, end: int, etag: str, size: int) -> int:
    """Check that these are the requested bytes, also if the store ignores a condition. Return where they end."""
    found = response.headers.get("ETag")
    if found is None:  # If-Match is no proof: not every store looks at it
        raise Fault(
            FaultKind.UNSUPPORTED,
            "the store sends ranges without an ETag, so that they may be of different versions of the object",
        )
    if with_quotes(found) != with_quotes(etag):
        raise Fault(FaultKind.EXISTS, "the object was replaced while it was read: its ETag is another")
    if response.status == 200:
        if start:
            raise Fault(FaultKind.UNSUPPORTED, "the store sends whole objects only: it ignores Range")
        return end
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    first, last, of = match.groups() if match is not None else (-1, -1, "")
    reached = int(last) + 1
    if int(first) != start or of not in (str(size), "*") or not start < reached <= end:  # it may be less than requested
        raise Fault(FaultKind.UNSUPPORTED, "the store sends another range than the requested one")
    return reached
