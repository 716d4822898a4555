"""The page of a service that an application has mounted at a prefix, beside another one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from bigupload.stores.local_store import LocalStore
from tests.tools.browser import window
from tests.tools.page import PART, clip, quiet

pytestmark = pytest.mark.slow

PROGRAM = """
import asyncio, sys
from pathlib import Path
from aiohttp import web
from bigupload import S3Options
from bigupload.service import ServiceConfig
from bigupload.service import create_app
from bigupload.service.uploads.bucket_rules import set_up
from bigupload.service.access.keys import KeyFile
from bigupload.stores.s3.bucket import S3Bucket

async def main(url, region, access_key, secret_key, keys):
    s3 = S3Options(endpoint_url=url, region=region, access_key=access_key, secret_key=secret_key)
    app = web.Application()
    for name in ("one", "two", "users"):
        bucket = S3Bucket(f"mounted-{name}", s3)
        await set_up(bucket)
        await bucket.aclose()
        who = (lambda request: request.cookies.get("user")) if name == "users" else None
        config = ServiceConfig(
            bucket=bucket.name, s3=s3, keys=Path(keys), secrets=("s" * 32,), authorize=who, log=lambda _: None
        )
        app.add_subapp(f"/media/{name}/", create_app(config))
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(KeyFile(Path(keys)).create("me")[1], runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()

Path(sys.argv[5]).parent.mkdir(exist_ok=True)
KeyFile(Path(sys.argv[5])).ensure()
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def mounted(weed: LocalStore, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """An API key, and the application's URL."""
    place = [weed.endpoint_url, weed.region, weed.access_key, weed.secret_key, str(tmp_path / "keys.json")]
    command = [sys.executable, "-c", PROGRAM, *place]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        key, port = process.stdout.readline().split()
        yield key, f"http://127.0.0.1:{port}"
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


def test_two_pages_of_one_origin(browser: Browser, mounted: tuple[str, str], tmp_path: Path) -> None:
    """Neither takes the other's unfinished uploads for its own."""
    key, url = mounted
    file = clip(tmp_path, PART + 1)
    with window(browser) as page:
        for name in ("one", "two"):
            page.open(f"{url}/media/{name}/", key)
            assert page.page.locator(".row").count() == 0
            page.choose(file)
            done = page.expect_done()
            assert f"/mounted-{name}/media/me/" in done
            assert httpx.get(done, trust_env=False).content == file.read_bytes()
        names = page.page.evaluate("indexedDB.databases().then((found) => found.map(({ name }) => name).sort())")
        assert names == ["bigupload /media/one/", "bigupload /media/two/"]
        quiet(page)


def test_a_user_of_the_application_needs_no_key(browser: Browser, mounted: tuple[str, str], tmp_path: Path) -> None:
    _, url = mounted
    file = clip(tmp_path, PART + 1)
    with window(browser) as page:
        page.page.context.add_cookies([{"name": "user", "value": "ada", "url": url, "sameSite": "Lax"}])
        page.open(f"{url}/media/users/")
        expect(page.page.locator("#owner")).to_have_text("Uploading as ada")
        expect(page.page.get_by_label("API key")).to_be_hidden()
        page.choose(file)
        done = page.expect_done()
        assert "/mounted-users/media/ada/" in done
        assert httpx.get(done, trust_env=False).content == file.read_bytes()
        quiet(page)
