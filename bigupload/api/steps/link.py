"""`Link`: a link to each object, by which anyone can read it. It is a presigned GET, with the moment when it ends.

A link is only a signature, and is made without the store. So the store is asked first whether these credentials may
read the object. Else nobody would know that they may not, until the link's receiver opens it and is refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from bigupload import errors
from bigupload.api.checks import checked_lifetime
from bigupload.api.steps import OurStep, Row, StepCall, Work
from bigupload.core.retry_policy import Fault
from bigupload.engine.retrying import Contact, Retrier
from bigupload.engine.upload_run import Share
from bigupload.options import S3Options
from bigupload.s3_parameters import dot_segment
from bigupload.stores.s3.bucket import BucketPool
from bigupload.stores.targets import connect, parse_s3_url
from bigupload.units import format_span


class Link(OurStep):
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


def refuse_unshareable(s3: S3Options) -> None:
    """Raise UsageError if objects can't be read by a link alone."""
    if s3.no_sign_request:
        raise errors.UsageError("a link is signed with credentials: leave out `no_sign_request`")
    if s3.sse_customer_key is not None:
        raise errors.UsageError("an object with a key of your own (`sse_customer_key`) can't be read by a link alone")


async def share(url: str, lasts: float | str, s3: S3Options, retrier: Retrier, pool: BucketPool) -> Share:
    """Make a link to an object.

    Args:
        url: "s3://BUCKET/KEY" of the object.
        lasts: For how long.
        s3: How to reach the store.
        retrier: Repeats failed requests.
        pool: Where to take the connection to the bucket from.

    Raises:
        ObjectNotFound: There is no object.
        AccessDenied: These credentials may not read it, so nobody could by the link.
        UsageError: The link would last for longer than the store allows, or the object can't be shared, as one whose
            key has the segment "..".
        StoreError: The store refused, or can't be reached.
    """
    seconds = checked_lifetime(lasts, "lasts")
    refuse_unshareable(s3)
    bucket, key = parse_s3_url(url)
    if (segment := dot_segment(key)) is not None:
        raise errors.UsageError(
            f"{url} can't be shared: browsers and curl resolve the segment {segment!r} of its key, so a link leads "
            "elsewhere. Copy it to a key without that"
        )
    store = await connect(bucket, key, s3, pool, creates_bucket=False)
    async with contextlib.aclosing(store):
        try:
            found = await retrier.request(lambda: store.attributes(with_size=False))
        except errors.AccessDenied as e:
            # The clock is off, for example: no permission is missing.
            if isinstance(e.__cause__, Fault) and e.__cause__.is_explained:
                raise
            raise errors.AccessDenied(
                f"these credentials may not read {url} (it takes s3:GetObject), so a link would be refused: {e}"
            ) from e
        if found is None:
            raise errors.ObjectNotFound(f"there is no object at {url}, or no such bucket")
        link = await retrier.request(lambda: store.share(seconds))
    note = None
    if link.is_shortened:
        note = f"sooner than the {format_span(seconds)} asked for, because the temporary credentials end then"
    elif not link.end_is_known:
        note = "or sooner: the credentials are temporary, and do not say when they end"
    return Share(url=link.url, expires_at=link.expires_at.isoformat(), note=note)
