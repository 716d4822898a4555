"""What the media service's client is given: its key, its URL, and what of them it may keep."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest

from bigupload import errors
from bigupload.stores.service_client import ServiceStore
from tests.stores.service_client.support import KEY, Fake, begun, create, listening, part
from tests.tools.cases import each_case


@pytest.mark.parametrize("key", [None, "", "sk_a\r\nX: 1", "sk_ a", "sk_é", "x" * 9000])
async def test_without_a_key_nothing_is_asked(fake: Fake, key: str | None) -> None:
    async with listening(fake) as url:
        store = ServiceStore(url=url, api_key=key, filename="a.png", content_type="image/png")
        for call in (store.precheck, lambda: create(store)):
            with pytest.raises(errors.CredentialsError, match="BIGUPLOAD_API_KEY") as caught:
                await call()
            assert not key or key not in str(caught.value)
        await store.aclose()
    assert fake.asked == []


@each_case(
    "url",
    ["", "media.example", "ftp://media.example", "https://", "https://u@media.example", "https://u:p@media.example",
     "https://media.example?a", "https://media.example/#a", "https://media.example/?", "https://media.example:x",
     "https://media.example:0", "https://media .example", "https://xn--/", "https://media.example/\n", "s3://bucket/key"],
)  # fmt: skip
def test_what_is_no_service(url: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        ServiceStore(url=url, api_key=KEY, filename="a.png", content_type="image/png")
    assert "u:p" not in str(caught.value)


@each_case(
    ("url", "target"),
    [("https://Media.Example/", "https://media.example"), ("http://h:8080/Base//", "http://h:8080/Base"),
     ("HTTPS://h", "https://h"), ("http://[::1]:8080", "http://[::1]:8080")],
)  # fmt: skip
def test_one_spelling(url: str, target: str) -> None:
    assert ServiceStore(url=url, api_key=KEY, filename="a", content_type="a/b").target.service == target


@pytest.mark.parametrize("path", ["base", "bäse", "b%C3%A4se", "b+{}"])
async def test_a_service_below_a_path(fake: Fake, path: str) -> None:
    fake.says(begun())
    async with listening(fake) as url:
        store = ServiceStore(url=f"{url}/{path}/", api_key=KEY, filename="a.png", content_type="image/png")
        await create(store)
        await store.aclose()
    assert fake.asked[0].path == f"/{unquote(path)}/v1/media/multipart"
    assert "head" not in fake.asked[0].body


async def test_options_hold_no_secret(fake: Fake, store: ServiceStore) -> None:
    fake.says(begun([part(1)]))
    await create(store, [part(1)])
    assert store.options() == {"filename": "movie.mp4", "content_type": "video/mp4"}
    assert KEY not in repr(vars(store))
    other = ServiceStore(url="http://h", api_key=KEY, filename="a", content_type="a/b", ca_bundle=Path("/ca.pem"))
    assert other.options() == {"filename": "a", "content_type": "a/b", "ca_bundle": "/ca.pem"}
    trusting = ServiceStore(url="http://h", api_key=KEY, filename="a", content_type="a/b", ca_bundle=False)
    assert trusting.options() == {"filename": "a", "content_type": "a/b", "no_verify_ssl": True}


async def test_an_upload_goes_on_with_the_type_that_it_began_with(store: ServiceStore) -> None:
    assert store.restore_options({"content_type": "video/quicktime"}) == ["content_type"]
    assert store.restore_options({"content_type": "video/quicktime"}) == []
    assert store.restore_options({}) == []
    assert store.options()["content_type"] == "video/quicktime"


async def test_adopting_needs_the_stores_own_credentials(store: ServiceStore) -> None:
    with pytest.raises(errors.UsageError, match="credentials"):
        await store.find_open()
