"""One HTTP PUT a part, by aiohttp, and its answer judged. The bytes' own path is in `_body`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType

import aiohttp
import yarl

from bigupload import errors
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.http_errors import MOST_ERROR_BYTES, fault_of_answer, fault_of_exception
from bigupload.http.part_body import RESPONSE_AFTER_WRITE_ERROR, PartBody
from bigupload.http.send_resources import SendResources
from bigupload.http.session import CaBundle, Names, Proxy, new_session, proxy_of
from bigupload.http.socket_tuning import AUTO
from bigupload.http.socket_tuning import check_congestion_control as check_congestion_control
from bigupload.ports import Gauge, PutResponse, SignedRequest, Source
from bigupload.support.rate_limiter import RateLimiter


class HttpTransport:
    """Implements `ports.Transport`. One session for all uploads that share it; an async context manager.

    `congestion`: a congestion control that the kernel offers; "auto" goes by the path, "system" leaves the machine's.
    """

    def __init__(
        self,
        *,
        ca_bundle: CaBundle = None,
        limiter: RateLimiter | None = None,
        congestion: str = AUTO,
    ) -> None:
        self._ca_bundle = ca_bundle
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._names: Names | None = None
        self._proxies: dict[tuple[str, str | None], Proxy] = {}
        self._resources = SendResources(limiter, congestion)

    async def __aenter__(self) -> HttpTransport:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._sessions:
            await self._sessions.popitem()[1].close()
        self._resources.close()

    def _session(self, *, fresh: bool) -> aiohttp.ClientSession:
        if fresh:
            self._proxies.clear()  # what went before has failed, or lags: this may be another network by now
        if fresh not in self._sessions:
            self._names = self._names or Names()
            self._sessions[fresh] = new_session(self._ca_bundle, reuse=not fresh, names=self._names)
        return self._sessions[fresh]

    def _proxy_of(self, url: yarl.URL) -> Proxy:
        """Read once, until something fails: it takes longer than all the rest of a request's set-up."""
        where = url.scheme, url.host
        if where not in self._proxies:
            self._proxies[where] = proxy_of(url)
        return self._proxies[where]

    async def put(
        self,
        request: SignedRequest,
        source: Source,
        part: Part,
        *,
        on_start: Callable[[Gauge], None],
        fresh: bool = False,
    ) -> PutResponse:
        session = self._session(fresh=fresh)
        payload = PartBody(source, part, self._resources)
        on_start(payload)
        try:
            url = yarl.URL(request.url, encoded=True)  # as it was signed, byte for byte
            where = f"{url.host}:{url.port}"
            proxy, proxy_auth = self._proxy_of(url)
        except ValueError as e:
            raise _unusable(e) from None
        try:
            async with session.put(
                url,
                data=payload,
                headers=request.headers,
                allow_redirects=False,
                proxy=proxy,
                proxy_auth=proxy_auth,
            ) as response:
                payload.stop()
                body = b"" if response.status // 100 == 2 else await _error_body(response)
                if payload.complete:
                    await payload.stop_and_wait()  # only then aiohttp lets the next request have the connection
                else:
                    response.close()  # half a body was sent: nothing more can follow on this connection
                return _judge(response, body, payload, f"part {part.number}")
        except (aiohttp.ClientError, OSError) as e:
            if payload.failure is not None:
                raise payload.failure from None
            self._proxies.clear()
            fault = fault_of_exception(e, where)
            raise fault from OSError(getattr(e, "errno", None), type(e).__name__)  # e's own text may hold the URL
        except ValueError as e:
            raise _unusable(e) from None
        finally:
            await payload.stop_and_wait()


def _unusable(e: Exception) -> errors.StoreRefused:
    return errors.StoreRefused(f"the store gave a URL that can't be used ({type(e).__name__})")


async def _error_body(response: aiohttp.ClientResponse) -> bytes:
    """What there is of it, soon: the status alone is an outcome too."""
    body = b""
    with contextlib.suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(RESPONSE_AFTER_WRITE_ERROR):
            while len(body) < MOST_ERROR_BYTES and (piece := await response.content.read(MOST_ERROR_BYTES)):
                body += piece
    return body


def _judge(response: aiohttp.ClientResponse, body: bytes, payload: PartBody, what: str) -> PutResponse:
    if payload.failure is not None:
        raise payload.failure
    if response.status // 100 != 2:
        if response.status // 100 == 3:
            location = yarl.URL(response.headers.get("Location", "")).host or "elsewhere"
            raise Fault(FaultKind.FINAL, f"the store redirects {what} to {location}: use its own endpoint or region")
        raise fault_of_answer(response.status, response.headers, body, what)
    if not payload.complete:
        raise Fault(FaultKind.BROKEN, f"the store answered {response.status} to {what} before it had the whole of it")
    checksums = {k.lower(): v for k, v in response.headers.items() if k.lower().startswith("x-amz-checksum-")}
    etag = response.headers.get("ETag")
    if not etag:
        raise Fault(FaultKind.BROKEN, f"the store's answer to {what} has no ETag")
    return PutResponse(etag, checksums)
