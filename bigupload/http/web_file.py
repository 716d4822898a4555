"""Reads a file from a web server: in ranges of one version, or as one stream. Knows neither parts nor retries.

No cookie, no credential and no Referer is sent anywhere, so that a redirect to another host carries nothing along but
what the redirecting server wrote into it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import aiohttp
import yarl
from aiohttp.multipart import content_disposition_filename, parse_content_disposition

from bigupload import errors
from bigupload.core.part_plan import MIB
from bigupload.core.remote_url import RemoteUrl, content_range, is_strong, redirected
from bigupload.core.retry_policy import Fault, FaultKind, classify
from bigupload.http._compat import received
from bigupload.http.http_errors import PROXY_AUTH_REQUIRED, fault_of_exception, fault_of_proxy, retry_after
from bigupload.http.proxies import proxy_for
from bigupload.http.sessions import new_session, timeouts
from bigupload.records import dataclass

HEAD = 4096
"""Bytes that the first request asks for."""
_BUFFER = MIB // 4
"""What one read of a socket gives at most. aiohttp buffers twice as much of each response as is asked for at once."""
_MOST_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_THERE = frozenset({404, 410})
_NO_CODING = frozenset({"", "identity"})
_ALWAYS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "bigupload"}
"""Many servers refuse requests that do not say who makes them. `identity`: the bytes of the file, not compressed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebFacts:
    """What a server says of a file."""

    size: int | None
    """In bytes; None: it does not say."""
    pin: str | None
    """The strong ETag, if ranges of this version can be read; None: the file has to be read as one stream."""
    head: bytes
    """The first bytes, if there is a pin."""
    file_name: str | None
    """What Content-Disposition suggests."""
    content_type: str | None


class WebFile:
    """One file of a web server. An async context manager, over a connection pool of its own."""

    def __init__(self, url: RemoteUrl, *, ca_bundle: Path | None, stall_after: float) -> None:
        """Open no connection yet.

        Args:
            url: Where the file is.
            ca_bundle: Certificates to trust beside the system's.
            stall_after: Seconds without a byte after which a request fails with Fault(STALLED).

        Raises:
            UsageError: The CA bundle can't be used.
        """
        self._url = url
        self._final: str | None = None
        """Where the redirects led. Such a URL is often presigned, and expires sooner than the first one."""
        self._timeout = timeouts(sock_read=stall_after)
        self._session = new_session(ca_bundle, with_system=True)
        self._stream: aiohttp.ClientResponse | None = None
        self._pin = ""
        self._size = 0

    async def aclose(self) -> None:
        """Close all connections. May be called again."""
        if self._stream is not None:
            self._stream.close()
        await self._session.close()

    async def look(self, *, without_length: bool = False) -> WebFacts:
        """Ask for the first bytes, and for what the server says of the file. If it has no pin, `fill` reads it.

        Args:
            without_length: Whether to accept a response whose end nobody can tell from a broken connection.

        Raises:
            Fault: A retry may help.
            SourceError: No retry can help.
        """
        response = await self._get({"Range": f"bytes=0-{HEAD - 1}"})
        try:
            found = content_range(response.headers.get("Content-Range"))
            etag = response.headers.get("ETag")
            if response.status == 206 and found is not None and found.start == 0 and is_strong(etag):
                self._pin, self._size = etag, found.size
                head = await self._body(response, min(HEAD, found.end or 0))
                return self._facts(response, size=found.size, pin=etag, head=head)
            if response.status != 200:  # a part of the file that can't be pinned, or an empty file: 416
                response.release()
                response = await self._get({})
            if response.status != 200:
                raise Fault(FaultKind.FINAL, f"{self._url.shown}: the server responded {response.status}").of_source()
            has_end = response.content_length is not None or _coding(response, "Transfer-Encoding") == "chunked"
            if not has_end and not without_length:
                raise errors.SourceUnsupported(
                    f"{self._url.shown}: the response says neither how long it is nor where it ends, so that a broken "
                    "connection would look like its end: give its size as `expected_size`"
                )
        except BaseException:
            response.close()
            raise
        self._stream = response
        return self._facts(response, size=response.content_length, pin=None, head=b"")

    def _facts(self, response: aiohttp.ClientResponse, *, size: int | None, pin: str | None, head: bytes) -> WebFacts:
        disposition, parameters = parse_content_disposition(response.headers.get("Content-Disposition"))
        name = content_disposition_filename(parameters) if disposition else None
        kind = response.headers.get("Content-Type")
        return WebFacts(size=size, pin=pin, head=head, file_name=name, content_type=kind)

    async def _body(self, response: aiohttp.ClientResponse, size: int) -> bytes:
        body = b""
        try:
            while len(body) < size and (data := await _next_bytes(response, size - len(body))):
                body += data
        finally:
            response.release()
        if len(body) < size:
            raise _cut_off(response.url)
        return body

    async def read(self, start: int, end: int, take: Callable[[bytes], Awaitable[None]]) -> None:
        """Read one range of the version that `look` found, by more requests if the server caps ranges.

        Args:
            start: The first byte.
            end: The byte after the last one.
            take: Gets the bytes as they arrive. What it got counts, whatever fails later.

        Raises:
            Fault: BROKEN if bytes are missing, or any other failure.
            SourceChanged: It is another file by now.
            SourceError: No retry can help.
        """
        while start < end:
            start = await self._read_once(start, end, take)

    async def _read_once(self, start: int, end: int, take: Callable[[bytes], Awaitable[None]]) -> int:
        """Send one request, and return where its response ended."""
        headers = {"Range": f"bytes={start}-{end - 1}", "If-Match": self._pin, "If-Range": self._pin}
        response = await self._get(headers)
        try:
            reached = self._check(response, start, end)
            wanted = reached - start
            while wanted and (data := await _next_bytes(response, wanted)):
                wanted -= len(data)
                await take(data)
            if wanted:
                raise _cut_off(response.url)
            return reached
        finally:
            response.release()  # what was not read to its end is closed

    def _check(self, response: aiohttp.ClientResponse, start: int, end: int) -> int:
        """Check that these are requested bytes of the same version, also if the server ignores a condition.

        Returns:
            Where they end. A server may send less than was requested.
        """
        etag, found = response.headers.get("ETag"), content_range(response.headers.get("Content-Range"))
        if response.status in (412, 416) or etag not in (None, self._pin) or (found and found.size != self._size):
            raise errors.SourceChanged(
                f"{self._url.shown} changed while it was uploaded: it has another ETag or size now. Nothing was "
                "completed: make the same call again to upload it as it is now",
                same_size=True,
            )
        if response.status != 206 or etag is None or found is None:
            raise Fault(
                FaultKind.FINAL,
                f"{self._url.shown}: the server sent a range before, and now responds {response.status} with something "
                "else. To upload it as a stream: curl URL | bigupload upload -",
            ).of_source()
        if found.start != start or found.end is None or not start < found.end <= end:
            raise Fault(
                FaultKind.UNSUPPORTED,
                f"{self._url.shown}: the server sends another range than the requested one. To upload it as a stream: "
                "curl URL | bigupload upload -",
            ).of_source()
        return found.end

    async def fill(self, buffer: memoryview) -> int:
        """Fill `buffer` with the next bytes of the stream. Implements `sources.producers.Producer`.

        Raises:
            SourceUnreachable: The connection broke, or ended before all bytes had come.
        """
        assert self._stream is not None
        done = 0
        try:
            while done < len(buffer) and (data := await _next_bytes(self._stream, len(buffer) - done)):
                buffer[done : done + len(data)] = data
                done += len(data)
        except Fault as fault:
            raise errors.SourceUnreachable(
                f"{self._url.shown}: {fault}. The server sends no ranges of one version, so "
                "that it has to be read from its beginning again: make the same call again to resume"
            ) from None
        return done

    def close(self) -> None:
        """Read no more of the stream. May be called again."""
        if self._stream is not None:
            self._stream.close()

    # -- requests

    async def _get(self, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Request the file, and follow redirects. The response is 200, 206, 412 or 416; its body is not read yet."""
        known = self._final
        url = known or self._url.url
        for _ in range(_MOST_REDIRECTS + 1):
            response = await self._request(url, headers)
            if response.status not in _REDIRECTS:
                break
            response.release()
            url = redirected(url, response.headers.get("Location"), self._url.shown)
        else:
            raise errors.SourceUnsupported(f"{self._url.shown} redirects more than {_MOST_REDIRECTS} times")
        if response.status in (200, 206, 412, 416):
            self._final = url
            self._refuse_encoded(response)
            return response
        response.close()
        if self._final == known:  # else another request has found out meanwhile
            self._final = None
        raise self._refusal(response, again=known not in (None, self._url.url))

    async def _request(self, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        target = yarl.URL(url, encoded=True)  # as it was signed, byte for byte
        try:
            proxy = proxy_for(target)
            return await self._session.get(
                target,
                timeout=self._timeout,
                allow_redirects=False,
                read_bufsize=_BUFFER,
                **proxy.arguments(target, {**_ALWAYS, **headers}),
            )
        except (aiohttp.ClientError, OSError) as e:
            raise _broken(e, target) from None
        except ValueError as e:
            raise errors.SourceUnsupported(
                f"{self._url.shown}: it, or the proxy of the environment, can't be requested ({type(e).__name__})"
            ) from None

    def _refuse_encoded(self, response: aiohttp.ClientResponse) -> None:
        for header, usable in (("Content-Encoding", _NO_CODING), ("Transfer-Encoding", {*_NO_CODING, "chunked"})):
            encoding = _coding(response, header)
            if encoding not in usable:
                response.close()
                raise errors.SourceUnsupported(
                    f"{self._url.shown}: the server sends it compressed ({encoding[:40]!r}), although that was not "
                    "asked for. If those are the bytes to upload: curl URL | bigupload upload -"
                )

    def _refusal(self, response: aiohttp.ClientResponse, *, again: bool) -> Exception:
        """What an error response means. `again`: the redirects may lead elsewhere by now."""
        status, shown = response.status, self._url.shown
        if status == PROXY_AUTH_REQUIRED:
            return fault_of_proxy(status, f"{response.url.host}:{response.url.port}").of_source()
        kind = FaultKind.REFUSED if again and status in _NOT_THERE else classify(status, "-")
        message = f"{shown}: the server responded {status}"
        if status in _NOT_THERE and kind is not FaultKind.REFUSED:
            return errors.SourceNotFound(f"{message}: there is no such file")
        if kind is FaultKind.REFUSED:
            message += (
                ". No credentials are sent with a URL. Is it complete, in quotes, and not expired? For a server that "
                "wants a password: curl -u NAME URL | bigupload upload -"
            )
        after = retry_after(response.headers.get("Retry-After"))
        return Fault(kind, message, status=status, retry_after=after).of_source()


def _coding(response: aiohttp.ClientResponse, header: str) -> str:
    """What a header says, which may come in several lines."""
    return ", ".join(response.headers.getall(header, ())).strip().lower()


async def _next_bytes(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The next bytes of a body, b"" at its end. What came before the connection broke comes before the Fault."""
    try:
        return await response.content.read(min(most, _BUFFER))
    except (aiohttp.ClientError, OSError) as e:
        if came := received(response.content, most):
            return came
        raise _broken(e, response.url) from None


def _broken(e: Exception, url: yarl.URL) -> Fault:
    if isinstance(e, aiohttp.ClientPayloadError):
        return _cut_off(url)
    return fault_of_exception(e, f"{url.host}:{url.port}").of_source()


def _cut_off(url: yarl.URL) -> Fault:
    return Fault(
        FaultKind.BROKEN, f"the response of {url.host}:{url.port} ended before all of its bytes had come"
    ).of_source()
