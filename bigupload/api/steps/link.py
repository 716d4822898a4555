"""`Link`: a link to each object, by which anyone can read it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from bigupload import errors
from bigupload.api.checks import checked_lifetime
from bigupload.api.sharing import refuse_unshareable, share
from bigupload.api.steps import Row, StepCall, Work
from bigupload.api.types import UploadSource
from bigupload.engine.retrying import Contact, Retrier
from bigupload.engine.upload_run import Share
from bigupload.options import S3Options


class Link:
    """A step that makes a link to each object: `UploadResult.share`.

    The upload is complete also if none can be made: `Share.refused` has the reason then. A `sync` and a `watch` make
    links to the objects that they send.
    """

    def __init__(self, lasts: float | str) -> None:
        """Say how long links last.

        Args:
            lasts: Seconds, or like "7d", which is the most. A link ends with temporary credentials, if these end
                sooner.

        Raises:
            UsageError: It is not a time that S3 allows.
        """
        self.lasts = checked_lifetime(lasts, "Link")

    def check(self, options: Mapping[str, Any]) -> None:
        """Raise UsageError if the objects can't be shared."""
        if options.get("service") is not None:
            raise errors.UsageError("the media service decides who reads its files: leave out `Link`")
        refuse_unshareable(options.get("s3") or S3Options())

    def check_source(self, source: UploadSource) -> None:
        """Any source will do."""

    @contextlib.asynccontextmanager
    async def opened(self, call: StepCall) -> AsyncIterator[Work]:
        """Nothing has to be opened."""
        yield partial(self._work, call, Contact())

    async def _work(self, call: StepCall, contact: Contact, row: Row) -> Row:
        result = row.proved
        if result.share is not None or (result.skipped and call.function in ("sync", "watch")):
            return row
        retrier = Retrier(policy=call.resources.retry, emit=lambda _: None, contact=contact)
        url, s3 = f"s3://{result.bucket}/{result.key}", call.options.get("s3") or S3Options()
        try:
            link = await share(url, self.lasts, s3, retrier, call.resources.buckets)
        except errors.BigUploadError as e:
            link = Share(url=None, expires_at=None, refused=str(e))
        return dataclasses.replace(row, result=dataclasses.replace(result, share=link))
