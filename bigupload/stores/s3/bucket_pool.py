"""Connections to buckets that several uploads share.

To find out how a bucket is reached costs file reads, and with roles calls to other services.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any

from bigupload.http.client import HttpClients
from bigupload.options import S3Options, identity_of
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


@dataclass(slots=True, eq=False)
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
        self._newest: dict[tuple[Any, ...], _PooledBucket] = {}
        """Those that new uploads get."""
        self._open: dict[int, _PooledBucket] = {}
        """All that are not closed, by the identity of their buckets. The one that was given back last is at the end."""

    def lease(self, name: str, options: S3Options) -> S3Bucket:
        """Return a connection to a bucket, to be given back by `release`. Object properties do not matter."""
        key = connection_of(name, options)
        entry = self._newest.get(key)
        if entry is None or self._clock() - entry.made > MAX_AGE:
            bucket = S3Bucket(name, options, client=self._client_of)
            entry = self._newest[key] = self._open[id(bucket)] = _PooledBucket(bucket, self._clock(), key)
        entry.users += 1
        return entry.bucket

    async def release(self, bucket: S3Bucket) -> None:
        """Give a connection back. Those that nobody uses are closed if they are too many, or too old for others."""
        given = self._open[id(bucket)] = self._open.pop(id(bucket))
        given.users -= 1
        while (entry := None if given.users else self._superfluous()) is not None:
            del self._open[id(entry.bucket)]
            if self._newest.get(entry.key) is entry:
                del self._newest[entry.key]
            await entry.bucket.aclose()

    def _superfluous(self) -> _PooledBucket | None:
        idle = [entry for entry in self._open.values() if not entry.users]
        kept = [entry for entry in idle if self._newest.get(entry.key) is entry][-MOST_IDLE:]
        return next((entry for entry in idle if entry not in kept), None)

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        self._newest.clear()
        for entry in [*self._open.values()]:
            await entry.bucket.aclose()


def connection_of(name: str, options: S3Options) -> tuple[Any, ...]:
    """Return what makes two connections different: store, credentials, and the environment that both may come from."""
    return (name, connection_options(options), aws_environment())


def connection_options(options: S3Options) -> tuple[Any, ...]:
    """Return what of the options makes two connections different."""
    identities = (id(options.session), identity_of(options.credentials))
    return (*(getattr(options, field) for field in _OF_THE_CONNECTION), *identities)


def aws_environment() -> tuple[tuple[str, str | None], ...]:
    """Return the variables of AWS."""
    named = sorted(name for name in os.environ if name.startswith("AWS_"))  # to get all values takes twice as long
    return tuple((name, os.environ.get(name)) for name in named)
