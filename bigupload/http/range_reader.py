"""Ranges of an object by HTTP GET: streamed, never held. Knows neither files nor retries."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from types import TracebackType

import aiohttp
import yarl

from bigupload.core.part_plan import MIB
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.http_errors import MOST_ERROR_BYTES, fault_of_answer, fault_of_exception
from bigupload.http.session import CaBundle, new_session, proxy_of, timeouts
from bigupload.ports import SignedRequest

_BUFFER = MIB
_CONTENT_RANGE = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20}|\*)")


class HttpReader:
    """A pool of connections. An async context manager."""

    def __init__(self, *, ca_bundle: CaBundle, stall_after: float) -> None:
        """`stall_after`: seconds in which something arrives, or it is a Fault(STALLED)."""
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
        """Hand the bytes from `start` to before `end`, of an object of `size` bytes, to `take` as they arrive, until
        it says False. What it was given counts, whatever comes after.

        Raises Fault: EXISTS where the object has another ETag than `etag` by now, BROKEN where fewer bytes came.
        Redirects are not followed.
        """
        assert self._session is not None
        url = yarl.URL(request.url, encoded=True)
        where = url.host or "the store"
        proxy, auth = proxy_of(url)
        # Neither is signed: they only narrow down what the URL allows.
        headers = {**request.headers, "Range": f"bytes={start}-{end - 1}", "If-Match": etag}
        try:
            async with self._session.get(
                url,
                headers=headers,
                proxy=proxy,
                proxy_auth=auth,
                timeout=self._timeout,
                allow_redirects=False,
                read_bufsize=_BUFFER,
            ) as answer:
                if answer.status not in (200, 206):
                    body = await answer.content.read(MOST_ERROR_BYTES)
                    raise fault_of_answer(answer.status, answer.headers, body, "to read the object")
                _check(answer, start, end, etag, size)
                await _pass_on(answer, end - start, take)
        except (aiohttp.ClientError, OSError) as e:
            fault = fault_of_exception(e, where)
            raise fault from OSError(getattr(e, "errno", None), type(e).__name__)  # e's own text may hold the URL


async def _pass_on(answer: aiohttp.ClientResponse, wanted: int, take: Callable[[bytes], Awaitable[bool]]) -> None:
    """A store that ignores the range sends more: the rest is not read."""
    async for chunk in answer.content.iter_chunked(_BUFFER):
        piece = chunk[:wanted]
        wanted -= len(piece)
        if not await take(piece) or wanted == 0:
            return
    raise Fault(FaultKind.BROKEN, "the object's bytes ended too soon")


def _check(answer: aiohttp.ClientResponse, start: int, end: int, etag: str, size: int) -> None:
    """That these are the bytes that were asked for, also where a store ignores a condition."""
    if answer.headers.get("ETag", etag) != etag:
        raise Fault(FaultKind.EXISTS, "the object has another ETag by now")
    if answer.status == 200:
        if start:
            raise Fault(FaultKind.UNSUPPORTED, "the store sends whole objects only: it ignores Range")
        return
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if match is None or (int(match[1]), int(match[2])) != (start, end - 1) or match[3] not in (str(size), "*"):
        raise Fault(FaultKind.FINAL, "the store sends another range than was asked for")
