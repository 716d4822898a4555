"""What an object may be served with, and how sizes are told. The headers of a PUT that were not signed are kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from bigupload.service import contract as c
from bigupload.service.access.handles import Handles
from bigupload.service.media.object_keys import note_key
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.finishing import check_headers, check_size
from bigupload.service.uploads.sweep import Removal, Sweep
from bigupload.service.uploads.uploads import MediaUploads
from tests.service.test_races import DATA, once
from tests.service.test_races import sent as sent_in_parts
from tests.tools.buckets import Meddled, Next
from tests.tools.cases import each_case
from tests.tools.media import sample

NOW = datetime(2026, 1, 1, tzinfo=UTC)

HARMLESS = [
    {},
    {"cache-control": ""},
    {"cache-control": "no-cache"},
    {"cache-control": "public, max-age=86400, must-revalidate"},
    {"cache-control": 'private, no-cache="Set-Cookie", s-maxage="0"'},
    {"expires": "Fri, 02 Jan 2026 00:00:00 GMT"},
    {"expires": "0"},
    {"expires": "-1"},
    {"content-encoding": "identity"},
    {"content-encoding": "aws-chunked"},
    {"content-disposition": "inline"},
    {"content-disposition": "Attachment"},
    {"content-language": "de"},
]
HARMFUL = [
    {"Content-Encoding": "gzip"},
    {"Content-Encoding": "aws-chunked, br"},
    {"Cache-Control": "immutable"},
    {"Cache-Control": "max-age=86401"},
    {"Cache-Control": "public,S-MaxAge=999999999999"},
    {"Cache-Control": "max-age"},
    {"Cache-Control": "stale-while-revalidate=604800"},
    {"Expires": "Fri, 02 Jan 2026 00:00:01 GMT"},
    {"Expires": "Fri, 02 Jan 2026 00:00:01 -0000"},
    {"Expires": "Fri, 01 Jan 2099 00:00:00 GMT x"},
    {"Expires": "Fri, 01 Jan 2099 25:00:00 GMT"},
    {"Expires": "2099-01-01T00:00:00Z"},
    {"Content-Disposition": "attachment; filename=evil.html"},
    {"Content-Disposition": "inline; filename*=UTF-8''evil.html"},
]


@each_case("headers", HARMLESS)
def test_headers_that_change_nothing(headers: dict[str, str]) -> None:
    """None is refused."""
    check_headers(headers, NOW)


@each_case("headers", HARMFUL)
def test_headers_that_serve_it_as_something_else(headers: dict[str, str]) -> None:
    (name,) = headers
    with pytest.raises(Refused, match=f"the header {name}: send it without") as refused:
        check_headers({name.lower(): value for name, value in headers.items()}, NOW)
    assert refused.value.problem is Problem.UNSUPPORTED_HEADERS


async def sent(bucket: Meddled, **headers: str) -> tuple[MediaUploads, str]:
    """The key of a picture, PUT with headers that were not signed."""
    uploads = MediaUploads(bucket, Handles(["secret"], clock=lambda: 0))
    made = await uploads.presign("me", c.PresignRequest(filename="a.jpg", content_type="image/jpeg"))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(trust_env=False) as http:
        response = await http.put(
            made.upload_url, headers=named | {"Content-Type": "image/jpeg"}, content=sample("jpg")
        )
    assert response.status_code == 200
    return uploads, made.key


UNSIGNED = [
    {"Content_Encoding": "gzip"},
    {"Cache_Control": "max-age=31536000, immutable"},
    {"Content_Disposition": "attachment; filename=evil.html"},
    {"Expires": "Fri, 01 Jan 2100 00:00:00 GMT"},
]


@pytest.mark.parametrize("headers", UNSIGNED, ids=str)
async def test_at_a_post(bucket: Meddled, headers: dict[str, str]) -> None:
    uploads, key = await sent(bucket, **headers)
    with pytest.raises(Refused) as refused:
        await uploads.finishing.postable("me", key)
    assert refused.value.problem is Problem.UNSUPPORTED_HEADERS
    with pytest.raises(Refused) as refused:
        await uploads.finishing.postable("me", key)
    assert refused.value.problem is Problem.MEDIA_NOT_FOUND  # it was deleted
    note = await bucket.call("", "HeadObject", Key=note_key(key))
    assert note["Metadata"]["code"] == "unsupported_headers"


@pytest.mark.parametrize("headers", UNSIGNED, ids=str)
async def test_in_the_sweep(bucket: Meddled, headers: dict[str, str]) -> None:
    _, key = await sent(bucket, **headers)
    removals: list[Removal] = []
    report = await Sweep(bucket, now=lambda: datetime.now(UTC), on_removal=removals.append).run()
    assert (report.wrong_headers, report.deleted) == (1, 1)
    assert [(removal.key, str(removal.reason)) for removal in removals] == [(key, "wrong headers")]
    note = await bucket.call("", "HeadObject", Key=note_key(key))
    assert note["Metadata"]["code"] == "unsupported_headers"


async def test_at_complete(bucket: Meddled) -> None:
    """The service declares what a multipart upload is served with. The object is judged as it is all the same."""
    uploads = MediaUploads(bucket, Handles(["secret"], clock=lambda: 0))
    request = await sent_in_parts(uploads)

    async def replaced() -> None:
        (row,) = (await bucket.call("", "ListObjectsV2", Prefix="media/"))["Contents"]
        headers = {"content-type": "video/mp4", "content-encoding": "gzip"}
        await bucket.call("", "PutObject", Key=row["Key"], Body=DATA, headers=headers)

    once(bucket, "CompleteMultipartUpload", replaced, before=False)
    for _ in range(2):  # the second finds the note
        with pytest.raises(Refused) as refused:
            await uploads.complete("me", request)
        assert refused.value.problem is Problem.UNSUPPORTED_HEADERS
    assert "Contents" not in await bucket.call("", "ListObjectsV2", Prefix="media/")


async def test_harmless_headers_are_not_copied(bucket: Meddled) -> None:
    uploads, key = await sent(bucket, Cache_Control="no-cache", Content_Language="de")
    posted = await uploads.finishing.postable("me", key)
    response = await bucket.call("", "HeadObject", Key=posted.key)
    headers = response["Headers"]
    assert not {"cache-control", "content-language"} & set(headers)
    assert headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(
    ("size", "limit", "says"),
    [
        (5_000_000_001, 5_000_000_000, "the file has 5,000,000,001 bytes, and the limit is 5,000,000,000 bytes"),
        (6_000_000_000, 5_000_000_000, "the file has 6 GB, and the limit is 5 GB"),
        (1500, 1024, "the file has 1.5 kB, and the limit is 1.0 kB"),
    ],
)
def test_two_sizes_that_would_look_the_same_are_told_in_bytes(size: int, limit: int, says: str) -> None:
    check_size(limit, limit)
    with pytest.raises(Refused) as refused:
        check_size(size, limit)
    assert str(refused.value) == says


async def test_a_date_that_is_none(bucket: Meddled) -> None:
    async def with_bad_date(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        answer = await proceed()
        return answer | {"Headers": {**answer["Headers"], "expires": "Fri, 01 Jan 2100 25:00:00 GMT"}}

    uploads, key = await sent(bucket)
    bucket.meddle["GetObject"] = with_bad_date
    with pytest.raises(Refused) as refused:
        await uploads.finishing.postable("me", key)
    assert refused.value.problem is Problem.UNSUPPORTED_HEADERS
