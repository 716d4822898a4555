"""A service with webhooks, a clock, and what its receivers got."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from standardwebhooks import Webhook

from bigupload.service.access.handles import Handles
from bigupload.service.call import AccessLog
from bigupload.service.media.object_keys import KeyTemplate
from bigupload.service.uploads.sweep import Sweep, SweepReport
from bigupload.service.uploads.uploads import MediaUploads
from bigupload.service.webhooks.hooks import Ask, Hooks, Signer, connections, new_secret
from bigupload.service.webhooks.telling import BODIES, DONE, WAITING, Deliverer, Telling
from bigupload.stores.s3.bucket import S3Bucket
from tests.tools.http_stub import HttpStub

SECRET = new_secret()


class Clock:
    """The time, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Replica:
    """One process of a service, without its HTTP. It looks at the notes when a test says so."""

    def __init__(self, bucket: S3Bucket, clock: Clock, hook: Ask | None, *, uploads: bool = False) -> None:
        self.bucket = bucket
        self.clock = clock
        self.log: list[str] = []
        self.counted: list[str] = []
        self.waiting: list[int] = []
        self.telling = Telling(bucket, KeyTemplate(), None, clock=clock, uploads=uploads)
        handles = Handles(["secret"], clock=clock)
        hooks = Hooks(None, hook)
        self.uploads = MediaUploads(bucket, handles, telling=self.telling, hooks=hooks, clock=clock)
        self.deliverer: Deliverer

    async def sweep(self, later: float = 0.0) -> SweepReport:
        """One that leaves notes, and delivers nothing."""
        telling = Telling(self.bucket, KeyTemplate(), None, clock=self.clock, uploads=self.telling.uploads)
        now = datetime.fromtimestamp(self.clock() + later, UTC)
        return await Sweep(self.bucket, now=lambda: now, telling=telling).run()

    @property
    def results(self) -> list[dict[str, Any]]:
        """What the log says of deliveries."""
        lines = [json.loads(line) for line in self.log]
        return [line for line in lines if line.get("event") == "webhook"]


@asynccontextmanager
async def replica(
    bucket: S3Bucket,
    urls: Sequence[str],
    clock: Clock | None = None,
    hook: Ask | None = None,
    *,
    uploads: bool = False,
) -> AsyncIterator[Replica]:
    """One whose clock a test sets."""
    made = Replica(bucket, clock or Clock(), hook, uploads=uploads)
    async with connections() as http:
        made.deliverer = Deliverer(
            made.telling, urls, http=http, signer=Signer([SECRET]), settle_upload=made.uploads.settle,
            log=AccessLog(write=made.log.append), count=made.counted.append, on_waiting=made.waiting.append,
            chance=lambda: 0.5,
        )  # fmt: skip
        yield made


def told(stub: HttpStub) -> list[tuple[str, dict[str, Any]]]:
    """The events that a receiver got, each verified by the reference library and as documented: webhook-id and body."""
    events = [(one.headers["webhook-id"], Webhook(SECRET).verify(one.body, dict(one.headers))) for one in stub.received]
    for _, event in events:
        documented(event)
    return events


def documented(event: dict[str, Any]) -> None:
    """Assert that an event is as the OpenAPI document says, and has no other fields."""
    told = BODIES[event["type"]].model_validate(event, extra="forbid")
    assert set(told.model_dump(by_alias=True)["data"]) == set(event["data"])


async def names(bucket: S3Bucket, prefix: str) -> list[str]:
    rows = (await bucket.call("to list", "ListObjectsV2", Prefix=prefix)).get("Contents", ())
    return [row["Key"].removeprefix(prefix) for row in rows]


async def waiting(bucket: S3Bucket) -> list[str]:
    """The notes of events that were not delivered yet, and of intents."""
    return await names(bucket, WAITING)


async def done(bucket: S3Bucket) -> list[str]:
    return await names(bucket, DONE)
