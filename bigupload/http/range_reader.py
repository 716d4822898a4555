"""Reads ranges of an object by HTTP GET. The bytes are passed on as they arrive. Knows neither files nor retries."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from types import TracebackType

import aiohttp
import yarl

from bigupload.core.part_plan import MIB
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.http_errors import MAX_ERROR_BODY, fault_of_exception, fault_of_response
from bigupload.http.proxies import proxy_for
from bigupload.http.sessions import new_session, timeouts
from bigupload.http.trust import CaBundle
from bigupload.ports import SignedRequest

_BUFFER = MIB
_OTHER_RANGE = "the store sends another range than the requested one"
_CONTENT_RANGE = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20}|\*)")


class HttpReader:
    """Reads objects over a connection pool of its own. An async context manager."""

    def __init__(self, *, ca_bundle: CaBundle, stall_after: float) -> None:
        """Open no connection yet.

        Args:
            ca_bundle: Which certificates to trust.
            stall_after: Seconds without a byte after which a request fails with Fault(STALLED).
        """
        self._ca_bundle = ca_bundle
        self._timeout = timeouts(sock_read=stall_after)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HttpReader:
        self._session = new_session(self._ca_bundle)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def read(
        self,
        request: SignedRequest,
        start: int,
        end: int,
        *,
        etag: str,
        size: int,
        take: Callable[[bytes], Awaitable[bool]],
    ) -> None:
        """Read one range of an object, by more requests if the store caps ranges. Redirects are not followed.

        Args:
            request: The presigned GET.
            start: The first byte of the range.
            end: The byte after the range.
            etag: The object's ETag, as it was when the caller first looked.
            size: The object's size in bytes.
            take: Gets the bytes as they arrive, until it returns False. What it got counts, whatever fails later.

        Raises:
            Fault: EXISTS if the object has another ETag, UNSUPPORTED if the store sends other bytes than the requested
                ones or no ETag, BROKEN if bytes are missing, or any other failure.
        """
        wanted = True
        while wanted and start < end:
            start, wanted = await self._read_once(request, start, end, etag, size, take)

    async def _read_once(
        self,
        request: SignedRequest,
        start: int,
        end: int,
        etag: str,
        size: int,
        take: Callable[[bytes], Awaitable[bool]],
    ) -> tuple[int, bool]:
        """Send one request. Return where its response ended, and whether `take` wants more."""
        assert self._session is not None
        url = yarl.URL(request.url, encoded=True)
        where = f"{url.host}:{url.port}"
        proxy = proxy_for(url)
        # Neither header is signed. They only narrow down what the URL allows.
        headers = {**request.headers, "Range": f"bytes={start}-{end - 1}", "If-Match": etag}
        try:
            async with self._session.get(
                url,
                timeout=self._timeout,
                allow_redirects=False,
                read_bufsize=_BUFFER,
                **proxy.arguments(url, headers),
            ) as response:
                if response.status not in (200, 206):
                    body = await response.content.read(MAX_ERROR_BODY)
                    raise fault_of_response(response.status, response.headers, body, "to read the object")
                reached = _check(response, start, end, etag, size)
                return reached, await _pass_on(response, reached - start, take)
        except (aiohttp.ClientError, OSError) as e:
            fault = fault_of_exception(e, where)
            raise fault from OSError(getattr(e, "errno", None), type(e).__name__)  # e's own text may hold the URL


async def _pass_on(response: aiohttp.ClientResponse, wanted: int, take: Callable[[bytes], Awaitable[bool]]) -> bool:
    """Hand `wanted` bytes on, and return whether `take` wants more. A store that ignores the range sends more, which is
    not read."""
    async for chunk in response.content.iter_chunked(_BUFFER):
        piece = chunk[:wanted]
        wanted -= len(piece)
        if not await take(piece):
            return False
        if wanted == 0:
            return True
    raise Fault(FaultKind.BROKEN, "the object ended before all of its bytes had arrived")


def _check(response: aiohttp.ClientResponse, start: int, end: int, etag: str, size: int) -> int:
    """Check that these are the requested bytes, also if the store ignores a condition. Return where they end."""
    found = response.headers.get("ETag")
    if found is None:  # If-Match is no proof: not every store looks at it
        raise Fault(
            FaultKind.UNSUPPORTED,
            "the store sends ranges without an ETag, so that they may be of different versions of the object",
        )
    if found != etag:
        raise Fault(FaultKind.EXISTS, "the object was replaced while it was read: its ETag is another")
    if response.status == 200:
        if start:
            raise Fault(FaultKind.UNSUPPORTED, "the store sends whole objects only: it ignores Range")
        return end
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None or int(match[1]) != start or match[3] not in (str(size), "*"):
        raise Fault(FaultKind.UNSUPPORTED, _OTHER_RANGE)
    reached = int(match[2]) + 1
    if not start < reached <= end:  # it may be less than was requested
        raise Fault(FaultKind.UNSUPPORTED, _OTHER_RANGE)
    return reached
