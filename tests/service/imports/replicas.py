"""One process of a service that imports, without its HTTP: it looks at the notes when a test says so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service import contract as c
from bigupload.service.access_log import AccessLog
from bigupload.service.callers import Caller
from bigupload.service.handles import Handle, Handles
from bigupload.service.imports.fetching import Fetching
from bigupload.service.imports.queue import Imports
from bigupload.service.media_objects import MediaBucket
from bigupload.service.object_keys import IMPORTS_PREFIX, KeyTemplate
from bigupload.service.policy import PUBLISHED_POLICY, Policy
from bigupload.service.upload_tokens import Revocations, TokenRequest, UploadToken, UploadTokens
from bigupload.service.uploads import MediaUploads
from bigupload.service.webhooks.notes import WAITING, Notes
from bigupload.service.webhooks.telling import Telling
from bigupload.stores.s3.bucket import S3Bucket
from tests.service.webhooks.support import Clock
from tests.tools.waiting import until

SECRET = "s" * 32
OWNER = Caller(owner="local", key_id=None)


def by_token(**limits: Any) -> Caller:
    """Somebody with an upload token."""
    tokens = UploadTokens([SECRET], clock=Clock())
    minted = tokens.mint("local", TokenRequest(**limits), key_id=None)
    token: UploadToken = tokens.verify(minted.token)
    return Caller(owner="local", user=token.user, key_id=None, token=token)


class Replica:
    """One process."""

    def __init__(
        self, bucket: S3Bucket, clock: Clock, most: int, policy: Policy, allow_private: bool, limits: dict[str, Any]
    ) -> None:
        self.bucket = bucket
        self.log: list[str] = []
        self.results: list[str] = []
        self.telling = Telling(bucket, public_url=bucket.url, keys=KeyTemplate(), clock=clock)
        self.uploads = MediaUploads(
            bucket, Handles([SECRET], clock=clock), policy=policy, telling=self.telling, clock=clock, **limits
        )
        self.revocations = Revocations(MediaBucket(bucket), clock=clock)
        self.notes = Notes(bucket, clock, IMPORTS_PREFIX)
        self.noted = asyncio.Event()
        """Set with each note that is written."""
        put = self.notes._put

        async def note(*arguments: Any, **more: Any) -> None:
            try:
                await put(*arguments, **more)
            finally:
                self.noted.set()

        self.notes._put = note  # type: ignore[method-assign]  # of this object
        self.fetching = Fetching(bucket, self.uploads, allow_private=allow_private)
        self.imports = Imports(
            self.fetching,
            self.notes,
            self.uploads,
            most=most,
            secrets=[SECRET],
            keys=None,
            revocations=self.revocations,
            log=AccessLog(write=self.log.append),
            count=self.results.append,
            renew_every=0.01,
        )

    async def begin(self, url: str, caller: Caller = OWNER, **more: Any) -> c.ImportResponse:
        return await self.imports.begin(caller, c.ImportRequest(url=url, **more))

    def handle(self, made: c.ImportResponse) -> Handle:
        return self.uploads.decode(made.upload, "local", None)

    async def run(self) -> str:
        """Look once, and return the result of the import that was taken."""
        await self.imports.look()
        before = len(self.results)
        await until(lambda: len(self.results) > before)
        return self.results[-1]

    async def stored(self, made: c.ImportResponse) -> list[int]:
        """The numbers of the parts that the store has."""
        return [part.part_number for part in (await self.uploads.parts("local", made.upload)).parts]

    async def kill(self) -> None:
        """End without a word to the store."""

        async def silent(*_: object) -> bool:
            raise Fault(FaultKind.BROKEN, "killed")

        self.notes._put = silent  # type: ignore[method-assign,assignment]  # of this object
        await self.leave()

    async def leave(self) -> None:
        """End as a service that stops."""
        async with self.imports.running():
            pass


@contextlib.asynccontextmanager
async def replica(
    bucket: S3Bucket,
    clock: Clock | None = None,
    *,
    most: int = 1,
    policy: Policy = PUBLISHED_POLICY,
    allow_private: bool = True,
    **limits: Any,
) -> AsyncIterator[Replica]:
    made = Replica(bucket, clock or Clock(), most, policy, allow_private, limits)
    async with made.fetching:
        yield made
        await made.leave()


async def events(bucket: S3Bucket, clock: Clock) -> list[dict[str, Any]]:
    """The events that are noted, in no order."""
    import json

    notes, found = Notes(bucket, clock), []
    async for page in notes.pages(WAITING):
        for key, _ in page:
            note = await notes.read(key)
            if note is not None and note.event is not None:
                found.append(json.loads(note.event.body))
    return found
