"""Reads a file from a web server: in ranges of one version, or as one stream. Knows neither parts nor retries.

No cookie, no credential and no Referer is sent anywhere, so that a redirect to another host carries nothing along but
what the redirecting server wrote into it.
"""

from __future__ import annotations

import contextlib
import email.message
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from bigupload import errors
from bigupload.core.remote_url import RemoteFacts, RemoteUrl, content_range, is_progress, is_strong, redirected
from bigupload.core.retry_policy import Fault, FaultKind, classify
from bigupload.http.client import HttpClient, OpenResponse
from bigupload.http.http_errors import PROXY_AUTH_REQUIRED, fault_of_proxy, retry_after

HEAD = 4096
"""Bytes that the first request asks for."""
_MOST_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_THERE = frozenset({404, 410})
_NO_CODING = frozenset({"", "identity"})
_LONGEST_DISPOSITION = 8192
"""Characters. The standard library takes a time that grows with the square of the length."""
_ALWAYS = {"Accept": "*/*", "Accept-Encoding": "identity"}
"""`identity`: the bytes of the file, not compressed."""


class WebFile:
    """One file of a web server, over connections of its own. Implements `sources.remote.ServedFile`."""

    def __init__(
        self,
        url: RemoteUrl,
        *,
        ca_bundle: Path | None,
        stall_after: float,
    ) -> None:
        """Open no connection yet."""
        self._url = url
        self._final: str | None = None
        """Where the redirects led. Such a URL is often presigned, and expires sooner than the first one."""
        self._stall_after = stall_after
        self._client = HttpClient(ca_bundle, with_system=True)
        self._stream: OpenResponse | None = None
        self._streaming = contextlib.AsyncExitStack()
        """Ends the stream's response."""
        self.taken = 0
        """Bytes that `fill` has given."""
        self._pin = ""
        self._size = 0

    async def aclose(self) -> None:
        """Close all connections. May be called again."""
        try:
            await self._streaming.aclose()
        finally:
            await self._client.aclose()

    async def look(self, *, without_length: bool = False) -> RemoteFacts:
        """Request the first bytes. See `sources.remote.ServedFile.look`."""
        async with contextlib.AsyncExitStack() as opened:
            response = await opened.enter_async_context(self._get({"Range": f"bytes=0-{HEAD - 1}"}))
            found = content_range(response.headers.get("Content-Range"))
            etag = response.headers.get("ETag")
            if response.status == 206 and found is not None and found.start == 0 and is_strong(etag):
                self._pin, self._size = etag, found.size
                head = await response.read_first(most := min(HEAD, found.end or 0))
                if len(head) < most:
                    raise response.cut_off()
                return _facts(response, size=found.size, pin=etag, head=head)
            if response.status != 200:  # a part of the file that can't be pinned, or an empty file: 416
                await opened.aclose()
                response = await opened.enter_async_context(self._get({}))
            if response.status != 200:
                raise self._fault(FaultKind.FINAL, f"the server responded {response.status}")
            if response.length is None and not response.chunked and not without_length:
                raise errors.SourceUnsupported(
                    f"{errors.IT}: the response has no length and no end mark, so a broken connection would "
                    "look like its end: give its size as `expected_size`",
                    it=self._url.shown,
                )
            self._stream, self._streaming = response, opened.pop_all()
            return _facts(response, size=response.length, pin=None, head=b"")

    async def read(self, start: int, end: int, take: Callable[[bytes], Awaitable[None]]) -> None:
        """Read from `start` to before `end` of the version that `look` found, by more requests if ranges are capped.

        `take` gets them as they arrive. What it got counts, whatever fails later.

        Raises:
            Fault: BROKEN if bytes are missing, or the server sends far fewer than requested; or any other failure.
            SourceChanged: It is another file by now.
            SourceError: No retry can help.
        """
        while start < end:
            headers = {"Range": f"bytes={start}-{end - 1}", "If-Match": self._pin, "If-Range": self._pin}
            async with self._get(headers) as response:
                reached = self._check(response, start, end)
                await response.pass_on(reached - start, take)
                if reached < end and not is_progress(reached - start, end - start):
                    few = f"{reached - start:,} bytes of the {end - start:,} that were requested"
                    raise self._fault(FaultKind.BROKEN, f"the server sent {few}")
            start = reached

    def _check(self, response: OpenResponse, start: int, end: int) -> int:
        """Check that this is a requested range of the same version, also if conditions are ignored. Returns its end."""
        etag, found = response.headers.get("ETag"), content_range(response.headers.get("Content-Range"))
        if response.status in (412, 416) or etag not in (None, self._pin) or (found and found.size != self._size):
            raise errors.SourceChanged(
                f"{errors.IT} changed while it was uploaded: it has another ETag or size now. Nothing was "
                "completed: try again to upload it as it is now",
                it=self._url.shown,
                same_size=True,
            )
        if response.status != 206 or etag is None or found is None:
            raise self._fault(
                FaultKind.FINAL,
                f"the server sent a range before, and now responds {response.status} with something "
                "else. To upload it as a stream: curl URL | bigupload upload -",
            )
        if found.start != start or found.end is None or not start < found.end <= end:
            raise self._fault(
                FaultKind.UNSUPPORTED,
                "the server sends another range than the requested one. To upload it as a stream: "
                "curl URL | bigupload upload -",
            )
        return found.end

    async def fill(self, buffer: memoryview) -> int:
        """Fill `buffer` with the next bytes of the stream.

        Raises:
            SourceUnreachable: The connection broke, or ended before all bytes had come.
        """
        assert self._stream is not None
        done = 0
        try:
            while done < len(buffer) and (data := await self._stream.read(len(buffer) - done)):
                buffer[done : done + len(data)] = data
                done += len(data)
                self.taken += len(data)
        except Fault as fault:
            raise errors.SourceUnreachable(
                f"{errors.IT}: {fault}. The server sends no ranges of one version, so "
                "that it has to be read from its beginning again: try again to resume",
                it=self._url.shown,
            ) from None
        return done

    def close(self) -> None:
        """Read no more of the stream. May be called again."""
        if self._stream is not None:
            self._stream.close()

    # -- requests

    @contextlib.asynccontextmanager
    async def _get(self, headers: Mapping[str, str]) -> AsyncIterator[OpenResponse]:
        """Request the file, and follow redirects. The response is 200, 206, 412 or 416; its body is not read yet.

        Each Fault, also one that is raised inside the `with` statement, becomes one of the source.
        """
        known = self._final
        url = known or self._url.url
        try:
            for _ in range(_MOST_REDIRECTS + 1):
                async with self._client.open("GET", url, {**_ALWAYS, **headers}, within=self._stall_after) as response:
                    if response.status not in _REDIRECTS:
                        self._check_usable(response, url, known)
                        yield response
                        return
                url = redirected(url, _as_sent(response.headers.get("Location", "")), self._url.shown)
        except Fault as fault:
            raise fault.of_source() from None
        except errors.StoreRefused:
            raise errors.SourceUnsupported(
                f"{errors.IT}, or its redirect, has an invalid host name", it=self._url.shown
            ) from None
        raise errors.SourceUnsupported(f"{errors.IT} redirects more than {_MOST_REDIRECTS} times", it=self._url.shown)

    def _check_usable(self, response: OpenResponse, url: str, known: str | None) -> None:
        """Check that a response from `url` is about the file. `known`: where the redirects led before this request."""
        if response.status not in (200, 206, 412, 416):
            if self._final == known:  # else another request has found out meanwhile
                self._final = None
            raise self._refusal(response, again=known not in (None, self._url.url))
        self._final = url
        for header, usable in (("Content-Encoding", _NO_CODING), ("Transfer-Encoding", {*_NO_CODING, "chunked"})):
            encoding = response.headers.get(header, "").strip().lower()
            if encoding not in usable:
                raise errors.SourceUnsupported(
                    f"{errors.IT}: the server sends it compressed ({encoding[:40]!r}), although that was not "
                    "asked for. If those are the bytes to upload: curl URL | bigupload upload -",
                    it=self._url.shown,
                )

    def _refusal(self, response: OpenResponse, *, again: bool) -> Exception:
        """Translate an error response. `again`: the redirects may lead elsewhere by now."""
        status = response.status
        if status == PROXY_AUTH_REQUIRED:
            return fault_of_proxy(status, response.where, response.proxy)
        kind = FaultKind.REFUSED if again and status in _NOT_THERE else classify(status, "-")
        message = f"the server responded {status}"
        if status in _NOT_THERE and kind is not FaultKind.REFUSED:
            return errors.SourceNotFound(f"{errors.IT}: {message}: there is no such file", it=self._url.shown)
        if kind is FaultKind.REFUSED:
            message += (
                ". No credentials are sent with a URL. Is it complete, in quotes, and not expired? For a server that "
                "wants a password: curl -u NAME URL | bigupload upload -"
            )
        return self._fault(kind, message, status=status, retry_after=retry_after(response.headers.get("Retry-After")))

    def _fault(self, kind: FaultKind, message: str, **more: Any) -> Fault:
        fault = Fault(kind, f"{self._url.shown}: {message}", **more)
        fault.it = self._url.shown
        return fault


def _facts(response: OpenResponse, *, size: int | None, pin: str | None, head: bytes) -> RemoteFacts:
    name = suggested_name(response.headers.get("Content-Disposition", ""))
    return RemoteFacts(size=size, pin=pin, head=head, file_name=name, content_type=response.headers.get("Content-Type"))


def suggested_name(disposition: str) -> str | None:
    """Return the file name in a Content-Disposition header, each character a byte; None if none can be read.

    https://www.rfc-editor.org/rfc/rfc6266#section-4.3
    """
    if len(disposition) > _LONGEST_DISPOSITION:
        return None
    message = email.message.Message()
    message["Content-Disposition"] = disposition.encode("latin-1").decode(errors="replace")
    try:
        parameters: list[tuple[str, Any]] = message.get_params([], "Content-Disposition")[1:]
    except (TypeError, ValueError):  # a name in parts of which one has no number, or one of thousands of digits
        return None
    found = [value for name, value in parameters if name.lower() == "filename"]
    for value in found:
        if isinstance(value, tuple):  # of `filename*=`: it counts before `filename=`
            charset, _, text = value
            with contextlib.suppress(LookupError, ValueError):
                return str(text.encode("latin-1"), charset or "utf-8")
    plain: list[str] = [value for value in found if isinstance(value, str)]
    is_sound = plain and "\ufffd" not in plain[0] and not plain[0].startswith('"')  # else not UTF-8, or a lone quote
    return plain[0] if is_sound else None


def _as_sent(header: str) -> str:
    """Return a header's text, which may be UTF-8: it was read as if each byte were a character."""
    return header.encode("latin-1").decode(errors="surrogateescape")
