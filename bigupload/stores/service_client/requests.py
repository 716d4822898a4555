"""One exchange with the media service: the key sent along, the answer read within bounds, every refusal translated.

Knows the service's error codes and nothing of what is asked. The service may be anything that listens under its URL:
what it answers is believed only as far as it has the API's shape. No text of an exception holds the API key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import yarl

from bigupload import errors
from bigupload.core.retry_policy import PASSING, Fault, FaultKind, classify
from bigupload.http.http_errors import fault_of_exception, retry_after
from bigupload.http.session import CaBundle, new_session, proxy_for, timeouts
from bigupload.stores.request_log import log_request
from bigupload.units import one_line

ANSWER_WITHIN = 60.0
"""Seconds in which everything but complete answers, or not at all."""
MOST_BYTES = 16 * 1024 * 1024
"""Of an answer: ten thousand listed parts are two megabytes."""
EXPIRED = "upload_expired"
API = "/v1/media/multipart"
_KEY = re.compile(r"[!-~]{1,512}")
_CODE = re.compile(r"[a-z_]{1,64}")
_BAD_KEY = "set BIGUPLOAD_API_KEY to a valid one and run the same command again"

_FAULTS = {
    "rate_limited": FaultKind.BUSY,
    "too_many_uploads": FaultKind.BUSY,
    "store_unavailable": FaultKind.BUSY,
    "credentials_expiring": FaultKind.BUSY,
    "internal": FaultKind.SERVER,
    "upload_gone": FaultKind.GONE,
    EXPIRED: FaultKind.GONE,
    "part_not_stored": FaultKind.INVALID_PART,
    "checksum_mismatch": FaultKind.CORRUPTED,
    "unsupported_checksum": FaultKind.UNSUPPORTED,
}
"""By the service's code: what the engine knows how to go on from."""
_REFUSED = frozenset(
    {
        "not_media", "unsupported_media", "file_too_large", "size_mismatch", "unsupported_part_size", "wrong_part",
        "invalid_field",
    }
)  # fmt: skip
"""The service does not want this file, and won't the next time."""
_PUBLIC: dict[str, tuple[type[errors.StoreError], str]] = {
    "missing_key": (errors.CredentialsError, f"the service wants an API key: {_BAD_KEY}"),
    "invalid_key": (errors.CredentialsError, f"the service does not accept this API key (revoked?): {_BAD_KEY}"),
    "not_your_upload": (
        errors.AccessDenied,
        "this upload was begun with another owner's API key: set BIGUPLOAD_API_KEY to one of that owner's and run the "
        "same command again, or upload the file anew with --no-resume",
    ),
    "invalid_upload": (
        errors.StoreRefused,
        "the service does not know this upload's handle (was its secret changed?): "
        "upload the file anew with --no-resume",
    ),
}
"""By the service's code: what a person has to do about it."""


def service_url(url: str) -> str:
    """A service's base URL in one spelling, by which uploads to it are known. Raises UsageError."""
    try:
        split = urlsplit(url)
        sound = split.scheme in ("http", "https") and bool(yarl.URL(url).host) and split.port != 0
    except ValueError:
        sound = False
    if not sound or any(c.isspace() or not c.isprintable() for c in url):
        raise errors.UsageError("not a media service: write its URL like https://media.example.com")
    if split.username is not None or split.password is not None:
        raise errors.UsageError("a service's URL holds no credentials: give the API key as BIGUPLOAD_API_KEY")
    if "?" in url or "#" in url:
        raise errors.UsageError("a service's URL has neither a query nor a fragment")
    return f"{split.scheme}://{split.netloc.lower()}{split.path.rstrip('/')}"


class ServiceHttp:
    """Asks one service with one API key; its connections are kept until `aclose`."""

    def __init__(self, *, url: str, api_key: str | None, ca_bundle: CaBundle) -> None:
        self.url = service_url(url)
        self._api_key = api_key
        self._ca_bundle = ca_bundle
        self._session: aiohttp.ClientSession | None = None
        self._known = False
        """Whether it has answered as a media service does: what else is said from then on is somebody's in between."""

    async def aclose(self) -> None:
        """Idempotent; a call after it opens new connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def key(self) -> str:
        """Raises CredentialsError where there is none, or one that can't be one."""
        if not self._api_key:
            raise errors.CredentialsError("the media service wants an API key: set BIGUPLOAD_API_KEY (sk_…)")
        if not _KEY.fullmatch(self._api_key):  # it would end the header's line, or be sent as something else
            raise errors.CredentialsError("the API key holds characters that no key has: set BIGUPLOAD_API_KEY anew")
        return self._api_key

    async def call(
        self,
        what: str,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        upload: str | None = None,
        within: float = ANSWER_WITHIN,
    ) -> dict[str, Any]:
        """The answer's object. `what` is for people ("to list the parts"), `within` seconds. Raises as `ports` says."""
        headers = {"Authorization": f"Bearer {self.key()}", "Accept": "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body, separators=(",", ":")).encode()
        url = yarl.URL(self.url + path)
        if upload is not None:
            url = url.with_query(upload=upload)
        try:
            with log_request(f"{method} {path}", self.url):
                return await self._request(what, method, url, data=data, headers=headers, within=within)
        except (aiohttp.ClientError, OSError) as e:
            fault = fault_of_exception(e, f"{url.host}:{url.port}")
            raise fault from OSError(getattr(e, "errno", None), type(e).__name__)  # e's own text may hold the handle

    async def _request(
        self, what: str, method: str, url: yarl.URL, *, data: bytes | None, headers: dict[str, str], within: float
    ) -> dict[str, Any]:
        proxy, proxy_auth = proxy_for(url)
        if self._session is None:
            self._session = new_session(self._ca_bundle)
        async with self._session.request(
            method,
            url,
            data=data,
            headers=headers,
            allow_redirects=False,  # the key is this service's alone
            proxy=proxy,
            proxy_auth=proxy_auth,
            timeout=timeouts(total=within),
        ) as response:
            text = await _read(response)
        return self._judge(what, response, text)

    def stranger(self, did: str) -> errors.StoreRefused:
        """Whatever is under the URL, it does not speak as a media service does."""
        return errors.StoreRefused(f"{self.url} is not a bigupload media service: {did}")

    # -- what an answer means

    def _judge(self, what: str, response: aiohttp.ClientResponse, text: bytes | None) -> dict[str, Any]:
        status = response.status
        if status // 100 == 3:
            raise self._moved(response.headers.get("Location", ""), status)
        if status == 204:
            return {}
        answer = _object(text)
        if status // 100 == 2:
            if answer is None:
                raise self._stray(f"it answered {status} without what was asked for", status)
            self._known = True
            return answer
        wait = retry_after(response.headers.get("Retry-After"))
        told = answer.get("error") if answer is not None else None
        if isinstance(told, dict) and isinstance(told.get("code"), str) and isinstance(told.get("message"), str):
            self._known = True
            field = told.get("field")
            message = told["message"]
            if told["code"] == "invalid_field" and isinstance(field, str):
                message = f"{field}: {message}"
            raise self.refusal(told["code"], message, what, status=status, wait=wait)
        kind = classify(status, None)
        if kind in PASSING and status not in (404, 409):  # these two are also what a mistyped URL gets
            raise Fault(kind, f"the media service failed {what}: {status}", status=status, retry_after=wait)
        raise self._stray(f"it answered {status}", status)

    def _stray(self, did: str, status: int) -> Exception:
        """An answer that is none of the API's: a mistyped URL at first, later a portal or balancer that passes."""
        if self._known:
            return Fault(FaultKind.SERVER, f"something before {self.url} answers in its place: {did}", status=status)
        return self.stranger(did)

    def refusal(
        self, code: str, message: str, what: str, *, status: int | None = None, wait: float | None = None
    ) -> Exception:
        """What a problem of the service's means here: a Fault, or the public error where no retry can help."""
        said = one_line(message.replace(self._api_key or "\0", "sk_…"))
        name = code if _CODE.fullmatch(code) else "an unknown code"
        if code in _PUBLIC:
            error, text = _PUBLIC[code]
            return error(text)
        if code in _REFUSED:
            return errors.MediaRefused(said)
        kind = _FAULTS.get(code)
        if kind is None and status is not None and code != "store_refused" and classify(status, code) in PASSING:
            kind = classify(status, code)  # a later version of the service has this code
        if kind is None:
            # What its operator can mend is no reason to give up what was sent.
            error = errors.StoreUnavailable if code == "store_refused" else errors.StoreRefused
            return error(f"the media service refused {what}: {name} ({said})")
        return Fault(
            kind, f"the media service refused {what}: {name} ({said})", status=status, code=code, retry_after=wait
        )

    def _moved(self, location: str, status: int) -> Exception:
        """Says where to, without what a query could hold."""
        try:
            to = yarl.URL(self.url).join(yarl.URL(location)).with_user(None).with_query(None).with_fragment(None)
            place = str(to).partition(API)[0]
        except ValueError:
            place = "elsewhere"
        if self._known:
            return self._stray(f"it redirects to {one_line(place)}", status)
        return errors.StoreRefused(
            f"{self.url} redirects to {one_line(place)}: name the service by that URL if you trust it, "
            "the API key was not sent there"
        )


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    """The body; None where it is longer than any answer of the service's."""
    pieces = bytearray()
    async for piece in response.content.iter_any():
        pieces += piece
        if len(pieces) > MOST_BYTES:
            response.close()
            return None
    return bytes(pieces)


def _object(text: bytes | None) -> dict[str, Any] | None:
    """The JSON object that it is, or None."""
    try:
        answer = json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None
