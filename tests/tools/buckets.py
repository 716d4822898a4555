"""Buckets as the media service reaches them, with a way to come between it and the store."""

from __future__ import annotations

import http.client
import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from bigupload.options import S3Options
from bigupload.stores import local_store
from bigupload.stores.local_store import LocalStore
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.testing.strict_s3 import StrictS3

Next = Callable[..., Awaitable[Any]]
_numbers = itertools.count()


class Meddled(S3Bucket):
    """Notes each call's operation in `calls`. What `meddle` has for an operation is called in its place."""

    def __init__(self, name: str, options: S3Options) -> None:
        super().__init__(name, options)
        self.calls: list[str] = []
        self.meddle: dict[str, Callable[[Next, Mapping[str, Any]], Awaitable[Any]]] = {}

    async def call(self, what: str, operation: str, **arguments: Any) -> Any:
        self.calls.append(operation)

        async def proceed() -> Any:
            return await super(Meddled, self).call(what, operation, **arguments)

        meddler = self.meddle.get(operation)
        return await (proceed() if meddler is None else meddler(proceed, arguments))


def fresh_name(store: LocalStore) -> str:
    """A bucket that no other test has. Its first write does not wait for volumes."""
    name = f"media-{next(_numbers)}"
    local_store.make_room(name, store.data_dir, volumes=2)
    return name


def options_for(store: LocalStore | StrictS3) -> S3Options:
    """How to reach a test's store, whatever the environment says."""
    url = store.endpoint_url if isinstance(store, LocalStore) else store.url
    return S3Options(endpoint_url=url, region=store.region, access_key=store.access_key, secret_key=store.secret_key)


def client_of(bucket: S3Bucket) -> Any:
    """A boto3 client of the bucket's store: an opinion that is not bigupload's."""
    o = bucket.options
    return boto3.client(
        "s3",
        endpoint_url=o.endpoint_url,
        aws_access_key_id=o.access_key,
        aws_secret_access_key=o.secret_key,
        region_name=o.region,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        verify=None if o.ca_bundle is None else str(o.ca_bundle),
    )


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
