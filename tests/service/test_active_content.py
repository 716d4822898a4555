"""What browsers would run, declared as a harmless type: no store serves it as a page, whatever types objects there."""

from __future__ import annotations

import httpx
import pytest

from bigupload.core.checksums import Algorithm
from bigupload.service import contract as c
from bigupload.service.access.handles import Handles
from bigupload.service.media.policy import ANY_TYPES, Policy
from bigupload.service.uploads.uploads import MediaUploads
from tests.service.test_multipart import digest
from tests.tools.buckets import Meddled

PAGE = b"<!doctype html><script>alert(document.domain)</script>"
NAMES = ["a.htm", "a.HTML", "a.svg", "a.xml", "a.js", "a.xhtml", "a.mht"]


@pytest.fixture
async def uploads(bucket: Meddled) -> MediaUploads:
    return MediaUploads(bucket, Handles(["secret"], clock=lambda: 0), policy=Policy(types=ANY_TYPES))


async def served(bucket: Meddled, key: str) -> dict[str, str]:
    (url,) = await bucket.presign("GetObject", [{"Key": key}])
    async with httpx.AsyncClient(trust_env=False) as http:
        return {name: value for name, value in (await http.get(url)).headers.items() if name.startswith("content-")}


async def put(url: str, headers: dict[str, str]) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        response = await http.put(url, headers=headers, content=PAGE)
    assert response.status_code == 200, response.text
    return response


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", NAMES)
async def test_a_page_by_one_put(bucket: Meddled, uploads: MediaUploads, name: str) -> None:
    made = await uploads.presign("me", c.PresignRequest(filename=name, content_type="application/octet-stream"))
    await put(made.upload_url, {"Content-Type": "application/octet-stream"} | (made.headers or {}))
    found = await served(bucket, made.key)
    assert (found["content-type"], found["content-disposition"]) == ("application/octet-stream", "attachment")
    posted = await served(bucket, (await uploads.finishing.postable("me", made.key)).key)
    assert (posted["content-type"], posted["content-disposition"]) == ("application/octet-stream", "attachment")


@pytest.mark.parametrize("name", NAMES[:1])
async def test_a_page_in_parts(bucket: Meddled, uploads: MediaUploads, name: str) -> None:
    """It is not refused after all of it was sent."""
    part = c.PartToSign(part_number=1, size=len(PAGE), checksum=digest(Algorithm.CRC64NVME, PAGE))
    made = await uploads.create(
        "me",
        c.CreateRequest(filename=name, content_type="application/octet-stream", size=len(PAGE), first_parts=[part]),
    )
    sent = await put(made.signed[0].url, made.signed[0].headers)
    done = c.CompletedPart(part_number=1, etag=sent.headers["ETag"], checksum=part.checksum)
    key = (await uploads.complete("me", c.CompleteRequest(upload=made.upload, parts=[done]))).key
    found = await served(bucket, key)
    assert (found["content-type"], found["content-disposition"]) == ("application/octet-stream", "attachment")
