"""Whole objects of one bucket, and lists that are none."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.options import S3Options
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.stores.s3.multipart import S3Store
from bigupload.stores.s3.operations import ObjectPages, fields_of


@pytest.mark.parametrize(
    ("status", "kind", "outcome"),
    [
        (403, FaultKind.REFUSED, contextlib.nullcontext()),
        (404, FaultKind.SERVER, pytest.raises(errors.BucketNotFound, match="there is no bucket 'films'")),
        (503, FaultKind.BUSY, pytest.raises(Fault)),
    ],
)
async def test_keys_that_may_only_put_can_put_to_a_bucket_of_any_region(
    status: int, kind: FaultKind, outcome: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A HEAD of the bucket tells its region. The keys may lack the permission for it: that says nothing of a PUT."""
    looked: list[str] = []

    async def call(self: S3Bucket, what: str, operation: str, **arguments: Any) -> dict[str, Any]:
        looked.append(operation)
        raise Fault(kind, "refused", status=status)

    monkeypatch.setattr(S3Bucket, "call", call)
    options = S3Options(access_key="AK", secret_key="SK")
    async with contextlib.aclosing(S3Store("films", "", options)) as store:
        with outcome:
            await store.objects("token").prepare()
    assert looked == ["HeadBucket"]


@pytest.mark.parametrize(
    ("operation", "document"),
    [
        ("ListMultipartUploads", b"<ListMultipartUploadsResult><Uploads>{}</Uploads>{}</ListMultipartUploadsResult>"),
        ("ListParts", b"<ListPartsResult><Parts/><Part/></ListPartsResult>"),
        ("DeleteObjects", b"<DeleteResult><Errors>none</Errors></DeleteResult>"),
    ],
)
def test_a_text_is_no_list(operation: str, document: bytes) -> None:
    """It would be taken for the rows."""
    with pytest.raises(Fault, match="is not S3's") as caught:
        fields_of(operation, 200, {}, document, "to list")
    assert caught.value.kind is FaultKind.BROKEN


def test_a_list_that_goes_in_a_circle() -> None:
    pages = ObjectPages("key")
    for token in ("a", "b"):
        pages.advance({"IsTruncated": True, "NextContinuationToken": token})
        assert (pages.start, pages.ended) == ({"ContinuationToken": token}, False)
    for back in ({"NextContinuationToken": "a"}, {"Contents": [{"Key": "key"}]}, {}):
        with pytest.raises(Fault, match="list of objects repeats a page") as caught:
            pages.advance({"IsTruncated": True, **back})
        assert caught.value.kind is FaultKind.FINAL
