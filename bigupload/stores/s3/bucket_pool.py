"""Connections to buckets that several uploads share.

To find out how a bucket is reached costs file reads, and with roles calls to other services.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any

from bigupload.credentials import identity_of
from bigupload.http.client import HttpClients
from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.s3_parameters import OBJECT
from bigupload.stores.s3.bucket import S3Bucket

MAX_AGE = 900.0
"""Seconds for which a connection is given to new uploads. A later upload reads the AWS configuration again, so that
credentials which were replaced in a file are found."""
MOST_IDLE = 8
"""Connections that are kept although nobody uses them. A program may upload for thousands of users, each with
credentials or a bucket of their own."""

_OF_THE_CONNECTION = tuple(
    field.name
    for field in dataclasses.fields(S3Options)
    if field.name not in (*OBJECT, "if_none_match", "local", "session", "credentials")
)
"""The fields of S3Options that are not the object's, without those that count by their identity."""


@dataclass(slots=True)
class _PooledBucket:
    bucket: S3Bucket
    made: float
    key: tuple[Any, ...]
    users: int = 0


class BucketPool:
    """The connections of one `Uploader`."""

    def __init__(self, clients: HttpClients | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without connections.

        Args:
            clients: Whose connections all buckets use, which their owner closes; None: each bucket has its own.
            clock: A monotonic clock in seconds. Tests pass their own.
        """
        self._client_of = None if clients is None else clients.of
        self._clock = clock
        self._entries: dict[tuple[Any, ...], _PooledBucket] = {}
        """Those that new uploads get, the one that was given back last at the end."""
        self._in_use: dict[int, _PooledBucket] = {}
        self._outdated: list[_PooledBucket] = []
        """Those that nobody uses and nobody will get. The next `release` closes them."""

    def lease(self, name: str, options: S3Options) -> S3Bucket:
        """Return a connection to a bucket, which the caller gives back by `release`.

        Args:
            name: The bucket's name.
            options: How to reach it. Its object properties do not matter.
        """
        key = _key(name, options)
        entry = self._entries.get(key)
        if entry is not None and self._clock() - entry.made > MAX_AGE:
            if not entry.users:
                self._outdated.append(entry)
            entry = None
        if entry is None:
            entry = self._entries[key] = _PooledBucket(self._new(name, options), self._clock(), key)
        entry.users += 1
        self._in_use[id(entry.bucket)] = entry
        return entry.bucket

    def _new(self, name: str, options: S3Options) -> S3Bucket:
        return S3Bucket(name, options, client=self._client_of)

    async def release(self, bucket: S3Bucket) -> None:
        """Give a connection back. Those that nobody uses are closed if they are too many, or too old for others."""
        entry = self._in_use[id(bucket)]
        entry.users -= 1
        if entry.users == 0:
            del self._in_use[id(bucket)]
            if self._entries.get(entry.key) is entry:
                self._entries[entry.key] = self._entries.pop(entry.key)
            else:
                self._outdated.append(entry)
            idle = [each for each in self._entries.values() if not each.users]
            for each in idle[:-MOST_IDLE]:
                self._outdated.append(self._entries.pop(each.key))
        while self._outdated:
            await self._outdated.pop().bucket.aclose()

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        entries = [*self._entries.values(), *self._in_use.values(), *self._outdated]
        self._entries.clear()
        for entry in entries:
            await entry.bucket.aclose()


def _key(name: str, options: S3Options) -> tuple[Any, ...]:
    """What makes two connections different: the store, the credentials, and the environment that both may come from."""
    environment = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    identities = (id(options.session), identity_of(options.credentials))
    return (name, *(getattr(options, field) for field in _OF_THE_CONNECTION), *identities, environment)
