"""The media service, as a Django application asks it: for upload tokens, and whether an upload is what a form says."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from pathlib import Path
from typing import Any, TypeVar

from bigupload import errors
from bigupload.core.retry_policy import Fault
from bigupload.records import dataclass
from bigupload.stores.service_client.requests import ServiceHttp, service_url

R = TypeVar("R")
_TOKEN_FOR_A_CHECK = 60
"""Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadFacts:
    """The facts that the service returns for an upload that passed all its checks."""

    key: str
    size: int
    """Bytes."""
    content_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaService:
    """A media service, and what proves to it for whom this application asks.

    All uploads belong to one owner, and each to an end user of it: nobody can pass off another user's as theirs.

    Raises:
        UsageError: Neither an `api_key` nor a `secret` with an `owner`, or both; or an invalid URL.
    """

    url: str
    """The URL for this application, as in "https://media.example.com"."""
    secret: str | None = field(default=None, repr=False)
    """The last of the service's secrets, by which this application makes tokens without asking."""
    owner: str | None = None
    """Whose all uploads are, with a `secret`: 1 to 63 of `a-z`, `0-9`, `-` and `_`."""
    api_key: str | None = field(default=None, repr=False)
    """An API key, in place of both: all uploads are its owner's."""
    browser_url: str | None = None
    """The URL for browsers, as in "/media/"; None: that of this application."""
    ca_bundle: Path | str | None = None
    """Trust these certificates, and not those of the system."""
    timeout: float = 10.0
    """Seconds that it may take to respond."""

    def __post_init__(self) -> None:
        service_url(self.url)
        if (self.secret is None) == (self.api_key is None) or (self.secret is None) != (self.owner is None):
            raise errors.UsageError("a MediaService has a `secret` and an `owner`, or an `api_key`: give one")

    @property
    def for_browsers(self) -> str:
        """The URL for browsers, with a slash at the end."""
        return (self.browser_url or self.url).rstrip("/") + "/"

    def token(self, user: str | None, *, expires_in: int, **limits: Any) -> str:
        """Return an upload token for a browser.

        Args:
            user: The end user whose uploads they are, by any name of at most 100 bytes.
            expires_in: Seconds for which it is valid, at most 24 hours.
            **limits: `max_size` and any other, as `mint_token` takes them.

        Raises:
            UsageError: There is no user, or it is "None", which all visitors would share; or the limits can't be.
            StoreError: The service could not be asked.
        """
        if not user or user == str(None):  # as str(request.user.pk) is of a visitor who has not signed in
            raise errors.UsageError(
                "no user: set the field's `user`, as in form.fields['film'].user = str(request.user.pk), and let only "
                "those who are signed in see the form"
            )
        limits = {"user": user} | {name: value for name, value in limits.items() if value}
        if self.secret is not None and self.owner is not None:
            from bigupload.service import mint_token

            return mint_token(self.secret, self.owner, expires_in=expires_in, **limits)
        body: dict[str, Any] = {"expiresIn": expires_in}
        for name, value in limits.items():
            first, *rest = name.split("_")
            body[first + "".join(map(str.capitalize, rest))] = value
        answer = self._call("to make an upload token", "/v1/media/tokens", body, self.api_key)
        return str(answer["token"])

    def check(self, url: str, user: str | None) -> UploadFacts | None:
        """Ask what is at the URL that a form sent.

        Returns:
            The upload; None if it is not one of the user's that was completed, passed all checks and stays as it is.

        Raises:
            UsageError: There is no user.
            StoreError: The service could not be asked.
        """
        token = self.token(user, expires_in=_TOKEN_FOR_A_CHECK)
        answer = self._call("to check an upload", "/v1/media/check", {"url": url}, token)
        key, size, kind = answer.get("key"), answer.get("size"), answer.get("contentType")
        is_good = answer.get("usable") is True and answer.get("url") == url
        if not (is_good and isinstance(key, str) and isinstance(size, int) and isinstance(kind, str)):
            return None
        return UploadFacts(key=key, size=size, content_type=kind)

    def _call(self, what: str, path: str, body: Mapping[str, Any], credential: str | None) -> dict[str, Any]:
        async def call() -> dict[str, Any]:
            http = ServiceHttp(url=self.url, api_key=credential, ca_bundle=self._trusted)
            try:
                return await http.call(what, "POST", path, body=body, within=self.timeout)
            except Fault as fault:
                raise fault.public() from fault
            finally:
                await http.aclose()

        return _run(call())

    @property
    def _trusted(self) -> Path | None:
        return None if self.ca_bundle is None else Path(self.ca_bundle)


def _run(work: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine to its end, also in a thread whose event loop is running, as in an `async def` view."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
