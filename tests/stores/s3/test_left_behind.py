"""A call whose caller was cancelled goes on in its thread, and ends after its bucket was closed."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bigupload.stores.s3.client import ANSWER_WITHIN, S3Bucket
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.buckets import options_for
from tests.tools.leaks import no_leaks
from tests.tools.waiting import until


@pytest.fixture
def uncollected() -> Iterator[None]:
    """The garbage collector would close connections too, and warn of them."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
async def test_a_request_that_begins_after_its_bucket_was_closed(s3: StrictS3) -> None:
    bucket = S3Bucket("bucket", options_for(s3))
    begun, closed = threading.Event(), threading.Event()

    def wait_until_closed(**_: Any) -> None:
        begun.set()
        closed.wait(60)

    client = await bucket._client(ANSWER_WITHIN)
    client.meta.events.register("before-send.s3", wait_until_closed)
    async with no_leaks():
        asking = asyncio.create_task(bucket.call("to look at the bucket", "head_bucket"))
        await until(begun.is_set)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await bucket.aclose()
        closed.set()
        await s3.wait_for_async("HeadBucket")
