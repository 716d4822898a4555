"""Send an event to a receiver once: a signed POST. Knows neither notes nor media."""

from __future__ import annotations

import hashlib
import os
from typing import Literal
from urllib.parse import urlsplit

import aiohttp

from bigupload.errors import UsageError
from bigupload.records import dataclass
from bigupload.service.webhooks.events import Event
from bigupload.service.webhooks.signing import Signer
from bigupload.version import __version__

ANSWER_WITHIN = 15.0
"""Seconds that a receiver may take. It should note the event and answer, and work afterwards."""
_GONE = 410
_LONGEST_WAIT = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The outcome of one attempt."""

    result: Literal["delivered", "stopped", "failed"]
    """`stopped`: the receiver wants no more events (410)."""
    said: str
    """The status, or the reason without one. No secret is in it."""
    retry_after: float | None = None
    """Seconds that the receiver asks to wait."""
    answered: bool = True
    """Whether there was any answer."""


def check_webhook_url(url: str) -> None:
    """Raise UsageError unless `url` is an http(s) URL without a user name. It may be secret, so it is not repeated."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.username is None and parts.port != 0
    except ValueError:
        sound = False
    if not sound or parts.fragment or any(c.isspace() or not c.isprintable() for c in url):
        raise UsageError("a webhook's URL is not one: write it like https://app.example.com/webhooks")


def receiver_of(url: str) -> str:
    """Return a name for a receiver that hides its URL."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def host_of(url: str) -> str:
    """Return the part of a webhook's URL that may be logged."""
    return urlsplit(url).hostname or ""


def connections() -> aiohttp.ClientSession:
    """Return the connections to the operator's URLs: without cookies, proxies and passwords of the environment.

    Each is closed after its request. A server may close an idle one at the moment when it is used again, and then
    nobody knows whether the request arrived.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
    )


def why_no_answer(e: Exception) -> str:
    """Say in plain words why a URL did not answer. aiohttp's own texts can hold the URL, which may be secret."""
    match e:
        case aiohttp.ClientConnectorDNSError():
            return "there is no such host"
        case aiohttp.ClientSSLError():
            return "its TLS certificate is not trusted, or it speaks no TLS"
        case aiohttp.ClientConnectorError(errno=int(number)):
            return os.strerror(number)  # like "Connection refused"
    return "the connection ended early"


async def send(
    http: aiohttp.ClientSession, url: str, event: Event, *, signer: Signer, now: float, within: float = ANSWER_WITHIN
) -> Sent:
    """Send an event. Redirects are not followed: they could lead anywhere, and are a failure.

    Args:
        http: From `connections`.
        url: The receiver.
        event: What is sent.
        signer: Signs it.
        now: The time, in seconds since 1970, which is signed, too.
        within: The time limit, in seconds.
    """
    body = event.body.encode()
    headers = signer.headers(event.id, body, now) | {"User-Agent": f"bigupload/{__version__}"}
    timeout = aiohttp.ClientTimeout(total=within)
    try:
        async with http.post(url, data=body, headers=headers, allow_redirects=False, timeout=timeout) as response:
            status, wait = response.status, response.headers.get("Retry-After", "")
    except TimeoutError:
        return Sent(result="failed", said=f"no answer within {within:g} s", answered=False)
    except (aiohttp.ClientError, OSError) as e:  # its text can hold the URL
        return Sent(result="failed", said=f"no answer: {why_no_answer(e)}", answered=False)
    if 200 <= status < 300:
        return Sent(result="delivered", said=str(status))
    if status == _GONE:
        return Sent(result="stopped", said=str(status))
    seconds = float(min(int(wait), _LONGEST_WAIT)) if wait.isascii() and wait.isdigit() and len(wait) < 10 else None
    said = f"{status}, and redirects are not followed" if 300 <= status < 400 else str(status)
    return Sent(result="failed", said=said, retry_after=seconds)
