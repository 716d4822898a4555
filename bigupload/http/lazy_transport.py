"""The transport of an `Uploader`: aiohttp once it is needed, which many short programs end without."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.plain_put import MOST_BYTES, PlainPuts
from bigupload.http.proxies import is_direct
from bigupload.http.put_messages import split_url
from bigupload.http.trust import CaBundle
from bigupload.ports import Gauge, PutResponse, SignedRequest, Source
from bigupload.support.descriptors import OUT_OF_DESCRIPTORS, is_out_of_descriptors
from bigupload.support.rate_limiter import RateLimiter

if TYPE_CHECKING:
    from bigupload.http.put_transport import HttpTransport


class LazyTransport:
    """A `ports.Transport`. As long as it sends small bodies to one origin one at a time, `plain_put` sends them.

    Whatever else comes makes the `HttpTransport`, which sends all from then on: a larger part, a second one at the same
    time, a retry, another origin, a proxy, a rate limit, certificates that are not checked.
    """

    def __init__(self, *, ca_bundle: CaBundle, limiter: RateLimiter | None, congestion: str) -> None:
        """Open no connection yet. The arguments are those of `HttpTransport`."""
        self._ca_bundle = ca_bundle
        self._limiter = limiter
        self._congestion = congestion
        self._plain: PlainPuts | None = None
        self._origin: str | None = None
        """Where `_plain` sends to."""
        self._full: HttpTransport | None = None

    async def __aenter__(self) -> LazyTransport:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_plain()
        if self._full is not None:
            await self._full.__aexit__(kind, value, trace)

    async def full(self) -> HttpTransport:
        """Return the transport for everything. A coroutine, so that it can be retried as a request is.

        Raises:
            Fault: Too many files are open to import it.
        """
        if self._full is None:
            try:
                from bigupload.http.put_transport import HttpTransport
            except (OSError, ImportError) as e:
                if is_out_of_descriptors(e):
                    raise Fault(FaultKind.BROKEN, OUT_OF_DESCRIPTORS) from e
                raise
            self._full = HttpTransport(ca_bundle=self._ca_bundle, limiter=self._limiter, congestion=self._congestion)
            self._close_plain()
        return self._full

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
        plain = self._plain_for(request.url) if self._full is None and not fresh and part.size <= MOST_BYTES else None
        if plain is not None:
            return await plain.put(request, source, part, on_start)
        full = await self.full()
        return await full.put(request, source, part, on_start=on_start, fresh=fresh)

    def _plain_for(self, url: str) -> PlainPuts | None:
        """What sends a small body to a URL; None: only `HttpTransport` can."""
        if self._limiter is not None or self._ca_bundle is False or not url.isascii() or not is_direct(url):
            return None
        try:
            origin = split_url(url)[0]
        except ValueError:
            return None
        if self._plain is None:
            self._plain, self._origin = PlainPuts(origin, self._ca_bundle), origin
        return self._plain if origin == self._origin and not self._plain.is_busy else None

    def _close_plain(self) -> None:
        if self._plain is not None:
            self._plain.close()
