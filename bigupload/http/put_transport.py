"""Sends each part by one HTTP PUT through aiohttp, and judges the response. `part_body` writes the bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType

import aiohttp
import yarl

from bigupload.core.part_plan import Part
from bigupload.http.connections import RotatingResolver, new_session
from bigupload.http.http_errors import MAX_ERROR_BODY, fault_of_exception
from bigupload.http.memory_put import MOST_BYTES, MemoryBody, MemoryPuts
from bigupload.http.part_body import RESPONSE_AFTER_WRITE_ERROR, PartBody
from bigupload.http.proxies import Proxy, proxy_for
from bigupload.http.put_messages import judge, unusable
from bigupload.http.send_resources import SendResources
from bigupload.http.socket_tuning import AUTO
from bigupload.http.socket_tuning import check_congestion_control as check_congestion_control
from bigupload.http.trust import CaBundle
from bigupload.ports import Gauge, PutResponse, SignedRequest, Source
from bigupload.support.rate_limiter import RateLimiter
from bigupload.support.shielding import run_shielded

_CLOSE_GRACE = 2.0
"""Seconds that connections may take to close after the caller was cancelled."""


class HttpTransport:
    """The `ports.Transport` over HTTP: an async context manager that all uploads of one `Uploader` share."""

    def __init__(
        self,
        *,
        ca_bundle: CaBundle = None,
        limiter: RateLimiter | None = None,
        congestion: str = AUTO,
    ) -> None:
        """Open no connection yet.

        Args:
            ca_bundle: Which certificates to trust.
            limiter: The bandwidth limit for all parts together, or None.
            congestion: The name of a congestion control of the kernel, "auto" to choose one by each connection's round
                trip, or "system" to change nothing.
        """
        self._ca_bundle = ca_bundle
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._resolver: RotatingResolver | None = None
        self._proxies: dict[yarl.URL, Proxy] = {}
        self._direct: dict[str, bool] = {}
        """By origin, whether there is no proxy: a quicker look-up than that of `_proxies`."""
        self._memory_puts: dict[aiohttp.ClientSession, MemoryPuts] = {}
        self._resources = SendResources(limiter, congestion)

    async def __aenter__(self) -> HttpTransport:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        sessions = list(self._sessions.values())
        self._sessions.clear()
        self._memory_puts.clear()
        try:
            await run_shielded(_close(sessions), grace=_CLOSE_GRACE)
        finally:  # a cancelled scope of anyio cancels each await
            self._resources.close()

    def _session(self, *, fresh: bool) -> aiohttp.ClientSession:
        """The pool of kept connections, or the one that gives each request a new connection."""
        if fresh:
            self._forget_proxies()  # the last attempt failed or is slow: the network may have changed
        if fresh not in self._sessions:
            self._resolver = self._resolver or RotatingResolver()
            self._sessions[fresh] = new_session(self._ca_bundle, reuse=not fresh, resolver=self._resolver)
        return self._sessions[fresh]

    def _proxy_for(self, url: yarl.URL) -> Proxy:
        """The proxy for a URL. It is kept until something fails, because looking it up costs more than a request."""
        origin = url.origin()
        if origin not in self._proxies:
            self._proxies[origin] = proxy_for(url)
        return self._proxies[origin]

    def _forget_proxies(self) -> None:
        self._proxies.clear()
        self._direct.clear()

    async def put(
        self,
        request: SignedRequest,
        source: Source,
        part: Part,
        *,
        on_start: Callable[[Gauge], None],
        fresh: bool = False,
    ) -> PutResponse:
        """Send one part. See `ports.Transport.put`."""
        session = self._session(fresh=fresh)
        view = source.view(part.offset, part.size) if part.size <= MOST_BYTES else None
        if view is not None and self._resources.limiter is None and self._goes_direct(request.url):
            return await self._put_memory(session, request, view, part, on_start)
        payload = PartBody(source, part, self._resources)
        on_start(payload)
        try:
            url = yarl.URL(request.url, encoded=True)  # as it was signed, byte for byte
            where = f"{url.host}:{url.port}"
            proxy = self._proxy_for(url)
        except ValueError as e:
            raise unusable(e) from None
        try:
            async with session.put(
                url, data=payload, allow_redirects=False, **proxy.arguments(url, request.headers)
            ) as response:
                # Before anything is judged: a thread may have sent the last bytes and not counted them yet.
                await payload.stop_and_wait()
                body = b"" if response.status // 100 == 2 else await _error_body(response)
                if not payload.complete:
                    response.close()  # half a body was sent: nothing more can follow on this connection
                if payload.failure is not None:
                    raise payload.failure
                what = request.subject or f"part {part.number}"
                return judge(response.status, response.headers, body, what, complete=payload.complete)
        except (aiohttp.ClientError, OSError) as e:
            if payload.failure is not None:
                raise payload.failure from None
            self._forget_proxies()
            fault = fault_of_exception(e, where)
            raise fault from OSError(getattr(e, "errno", None), type(e).__name__)  # e's own text may hold the URL
        except ValueError as e:
            raise unusable(e) from None
        finally:
            await payload.stop_and_wait()

    def _goes_direct(self, url: str) -> bool:
        """Whether there is no proxy for a URL."""
        origin = url[: url.find("/", url.find("://") + 3)]
        if origin not in self._direct:
            try:
                self._direct[origin] = self._proxy_for(yarl.URL(url, encoded=True)).url is None
            except ValueError:  # a URL that can't be used: the other way says so
                return False
        return self._direct[origin]

    async def _put_memory(
        self,
        session: aiohttp.ClientSession,
        request: SignedRequest,
        view: memoryview,
        part: Part,
        on_start: Callable[[Gauge], None],
    ) -> PutResponse:
        """Send what is in memory, as `put` does."""
        body = MemoryBody(len(view))
        on_start(body)
        if session not in self._memory_puts:
            self._memory_puts[session] = MemoryPuts(session, self._resources)
        try:
            puts = self._memory_puts[session]
            response = await puts.put(request.url, request.headers, view, body, RESPONSE_AFTER_WRITE_ERROR)
        except (aiohttp.ClientError, OSError) as e:
            self._forget_proxies()
            where = yarl.URL(request.url, encoded=True)
            fault = fault_of_exception(e, f"{where.host}:{where.port}")
            raise fault from OSError(getattr(e, "errno", None), type(e).__name__)  # e's own text may hold the URL
        except ValueError as e:
            raise unusable(e) from None
        what = request.subject or f"part {part.number}"
        return judge(response.status, response.headers, response.body, what, complete=body.complete)


async def _close(sessions: list[aiohttp.ClientSession]) -> None:
    await asyncio.gather(*(session.close() for session in sessions))


async def _error_body(response: aiohttp.ClientResponse) -> bytes:
    """What arrives of an error's body within a few seconds. The status alone is a result, too."""
    body = b""
    with contextlib.suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(RESPONSE_AFTER_WRITE_ERROR):
            while len(body) < MAX_ERROR_BODY and (piece := await response.content.read(MAX_ERROR_BODY)):
                body += piece
    return body
