"""Buckets as the media service reaches them, with a way to come between it and the store."""

from __future__ import annotations

import http.client
import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from bigupload.options import S3Options
from bigupload.stores.local_store import LocalStore
from bigupload.stores.s3.client import S3Bucket
from bigupload.testing.strict_s3 import StrictS3

Next = Callable[..., Awaitable[Any]]
_numbers = itertools.count()


class Meddled(S3Bucket):
    """Notes each call's method in `calls`. What `meddle` has for a method is called in its place."""

    def __init__(self, name: str, options: S3Options) -> None:
        super().__init__(name, options)
        self.calls: list[str] = []
        self.meddle: dict[str, Callable[[Next, Mapping[str, Any]], Awaitable[Any]]] = {}

    async def call(self, what: str, method: str, **arguments: Any) -> Any:
        self.calls.append(method)

        async def proceed() -> Any:
            return await super(Meddled, self).call(what, method, **arguments)

        meddler = self.meddle.get(method)
        return await (proceed() if meddler is None else meddler(proceed, arguments))


def fresh_name() -> str:
    """A bucket that no other test has."""
    return f"media-{next(_numbers)}"


def options_for(store: LocalStore | StrictS3) -> S3Options:
    """How to reach a test's store, whatever the environment says."""
    url = store.endpoint_url if isinstance(store, LocalStore) else store.url
    return S3Options(endpoint_url=url, region=store.region, access_key=store.access_key, secret_key=store.secret_key)


def ask(
    url: str, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> tuple[int, dict[str, str], bytes]:
    """One plain request to the store at `url`: status, headers by their names in lower case, body."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()
