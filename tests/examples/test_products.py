"""The products of two how-to pages, built by the page alone and used in a Chromium up to a received webhook."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from bigupload.stores.local_store import LocalStore
from tests.tools.buckets import fresh_name
from tests.tools.media import sample
from tests.tools.page import clip
from tests.tools.service import serving
from tests.tools.uvicorn_host import listen

if TYPE_CHECKING:
    from playwright.sync_api import Page, Playwright

pytestmark = pytest.mark.slow

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
HOST = """
import asyncio, importlib, socket, sys
from tests.tools.uvicorn_host import serve
application = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])
asyncio.run(serve(application, socket.socket(fileno=int(sys.argv[3]))))
"""


class HowTo:
    """A page, with the addresses and the bucket of a test in place of its own."""

    def __init__(self, name: str, **instead: str) -> None:
        self.text = (PAGES / f"{name}.md").read_text()
        for old, new in instead.items():
            assert old in self.text
            self.text = self.text.replace(old, new)

    def file(self, name: str) -> str:
        """The first block after a file's name in code font."""
        return re.split(r"^```\w+\n(.*?)^```$", self.text.split(f"`{name}`", 1)[1], flags=re.MULTILINE | re.DOTALL)[1]

    def commands(self, program: str) -> list[list[str]]:
        """The commands that begin with this word, without it and without a comment."""
        found = re.findall(rf"^\$ {program} (.*?)(?:\s+#.*)?$", self.text, re.MULTILINE)
        return [shlex.split(each) for each in found]

    def snippet(self, name: str) -> Any:
        """The function of this name, out of the page's last block of Python."""
        block = re.findall(r"^```python\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)[-1]
        import fastapi

        module: dict[str, Any] = {"fastapi": fastapi}
        exec(compile(block, "how-to", "exec"), module)
        return module[name]


@pytest.fixture
def playwright() -> Iterator[Playwright]:
    from playwright.sync_api import sync_playwright

    from tests.tools.browser import CHROMIUM

    if CHROMIUM is None:
        pytest.skip("no Chromium: install one that is called `chromium`")
    with sync_playwright() as running:
        yield running


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """The product's port, which stays its own from here on."""
    with listen() as opened:
        yield opened


@contextlib.contextmanager
def served(how_to: HowTo, listener: socket.socket, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """What the page has uvicorn serve, as a process in its folder. Gives its URL."""
    [[target, *_]] = how_to.commands("uvicorn")
    command = [sys.executable, "-c", HOST, *target.split(":"), str(listener.fileno())]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment | {"PYTHONPATH": f"{folder}:{PAGES.parents[1]}"},
            pass_fds=[listener.fileno()],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        assert process.stdout.readline(), (folder / "log").read_text()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def run(*command: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def environment(weed: LocalStore, tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BIGUPLOAD_"))}
    return kept | {
        "BIGUPLOAD_LOCAL_STORE_DIR": str(weed.data_dir),
        "BIGUPLOAD_STATE_DIR": str(tmp_path / "state"),
        "PYTHONPATH": str(PAGES.parents[1]),
        "NO_PROXY": "127.0.0.1",
    }


@contextlib.contextmanager
def browser(playwright: Playwright) -> Iterator[Page]:
    from tests.tools.browser import launch, window

    with launch(playwright) as chromium, window(chromium) as tab:
        tab.page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
        yield tab.page


def visitors_have_ids_of_their_own(who: Any) -> None:
    """What a page offers for those who have not signed in."""
    one, two = (SimpleNamespace(session={}, user=SimpleNamespace(is_authenticated=False, pk=None)) for _ in range(2))
    assert who(one) == who(one) != who(two)
    assert "None" not in who(one)


def test_a_product_on_another_origin(
    weed: LocalStore, playwright: Playwright, listener: socket.socket, tmp_path: Path, environment: dict[str, str]
) -> None:
    pytest.importorskip("fastapi")
    from playwright.sync_api import expect

    from tests.tools.browser import SENT

    own = f"127.0.0.1:{listener.getsockname()[1]}"
    [serve, _] = HowTo("other-origin", **{"127.0.0.1:8000": own}).commands("bigupload serve")
    assert serve.pop(0) == "--local"
    with serving(weed, tmp_path / "service", *serve) as service:
        how_to = HowTo("other-origin", **{"127.0.0.1:8000": own, "http://127.0.0.1:8080": service.url})
        (product := tmp_path / "product").mkdir()
        for name in ("app.py", "index.html"):
            (product / name).write_text(how_to.file(name))
        secret = run("-m", "bigupload", "webhooks", "secret", folder=product, environment=environment)
        keys = {"MEDIA_KEY": service.key, "WEBHOOK_SECRET": secret, "SESSION_SECRET": "s" * 32}
        (photo := tmp_path / "photo.jpg").write_bytes(sample("jpg"))
        with served(how_to, listener, product, environment | keys) as url:
            with browser(playwright) as page:
                page.goto(url)
                expect(page.get_by_role("button", name="Sign in")).to_be_visible()
                expect(page.locator("big-upload")).to_be_hidden()
                page.get_by_label("Name").fill("ada")
                page.get_by_label("Password").fill("lovelace")
                page.get_by_role("button", name="Sign in").click()
                page.get_by_label("Choose files or drop them here").set_input_files([photo, clip(tmp_path)])
                for name in ("photo.jpg", "clip.mp4"):
                    row = page.locator("#files").get_by_role("link", name=name)
                    expect(row).to_be_visible(timeout=SENT)  # the webhook has come
                    href = row.get_attribute("href") or ""
                    assert "/media/local/~ada/" in href
                    assert httpx.get(href, trust_env=False).content == (tmp_path / name).read_bytes()
            # Nobody who has not signed in gets a token, and nobody's files are listed to others.
            with httpx.Client(base_url=url, trust_env=False) as visitor:
                assert visitor.post("/upload-token").status_code == 401
                assert visitor.get("/files").status_code == 401
                assert visitor.post("/media-events", json={"type": "media.completed"}).status_code == 401
                visitor.post("/sign-in", json={"name": "bob", "password": "ross"}).raise_for_status()
                assert visitor.get("/files").json() == []
    visitors_have_ids_of_their_own(how_to.snippet("visitor"))


def test_a_page_and_its_service_on_two_origins(weed: LocalStore, tmp_path: Path, environment: dict[str, str]) -> None:
    """The commands of the page for browsers: the token that a backend gets with them is one that the service takes."""
    bucket = fresh_name(weed)
    how_to = HowTo("browser", **{"my-media": bucket})
    [setup], [_, serve] = how_to.commands("bigupload bucket setup"), how_to.commands("bigupload serve")
    [create] = re.findall(r"^\$ export MEDIA_KEY=\$\(bigupload (.*)\)$", how_to.text, re.MULTILINE)
    [curl] = re.findall(r"^\$ (curl (?:.*\\\n)*.*)$", how_to.text, re.MULTILINE)
    home = tmp_path / "service"
    environment |= {"BIGUPLOAD_KEYS": str(home / "keys.json")}
    run("-m", "bigupload", "bucket", "setup", *setup, "--local", folder=tmp_path, environment=environment)
    key = run("-m", "bigupload", *create.split(), folder=tmp_path, environment=environment)
    with serving(weed, home, *serve) as service:  # with --local
        asked = curl.replace("https://media.example.com", service.url)
        answer = subprocess.run(
            ["bash", "-c", asked],
            env=environment | {"MEDIA_KEY": key},
            capture_output=True,
            text=True,
            timeout=60,
        )
        token = json.loads(answer.stdout)["token"]
        origin = {"Origin": serve[serve.index("--cors-origin") + 1]}
        me = service.call("GET", "/v1/me", key=token, headers=origin)
        assert (me.status_code, me.json()["owner"], me.json()["user"]) == (200, "my-app", "u-17")
        assert me.headers["Access-Control-Allow-Origin"] == origin["Origin"]
        made = service.call("POST", "/v1/media/multipart", key=token, json={
            "filename": "a.mp4", "contentType": "video/mp4", "size": 5_000_000,
        })  # fmt: skip
        assert made.status_code == 200, made.text


def test_a_django_project(
    weed: LocalStore, playwright: Playwright, listener: socket.socket, tmp_path: Path, environment: dict[str, str]
) -> None:
    pytest.importorskip("storages")
    from playwright.sync_api import expect

    from tests.tools.browser import SENT

    bucket = fresh_name(weed)
    how_to = HowTo("django", **{"127.0.0.1:8000": f"127.0.0.1:{listener.getsockname()[1]}", "my-media": bucket})
    [made] = how_to.commands("django-admin")
    run("-m", "django", *made, folder=tmp_path, environment=environment)
    folder = tmp_path / "product"
    [setup, *_] = how_to.commands("bigupload bucket setup")
    assert setup[-1] == "--local"
    run("-m", "bigupload", "bucket", "setup", *setup, folder=folder, environment=environment)
    with (folder / "product" / "settings.py").open("a") as settings:
        settings.write(how_to.file("product/settings.py"))
    (folder / "product" / "templates").mkdir()
    for name in ("asgi.py", "models.py", "views.py", "urls.py", "templates/films.html"):
        (folder / "product" / name).write_text(how_to.file(f"product/{name}"))
    secret = run("-m", "bigupload", "webhooks", "secret", folder=folder, environment=environment)
    environment |= {"UPLOAD_SECRET": "s" * 32, "WEBHOOK_SECRET": secret, "DJANGO_SUPERUSER_PASSWORD": "lovelace"}
    managed = how_to.commands("python manage.py")
    assert [name for name, *_ in managed] == ["makemigrations", "migrate", "createsuperuser"]
    for arguments in managed:
        alone = ["--noinput"] if "createsuperuser" in arguments else []  # it asks for the password
        run("manage.py", *arguments, *alone, folder=folder, environment=environment)

    film = clip(tmp_path)
    with served(how_to, listener, folder, environment) as url:
        with browser(playwright) as page:
            page.goto(url)
            expect(page).to_have_url(re.compile("/sign-in/"))  # nobody is the user "None"
            page.get_by_label("Username").fill("ada")
            page.get_by_label("Password").fill("lovelace")
            page.get_by_role("button", name="Send").click()
            page.get_by_label("Choose a file or drop it here").set_input_files(film)
            expect(page.get_by_role("link", name="clip.mp4")).to_be_visible(timeout=SENT)
            second = page.context.new_page()
            second.route("**/favicon.ico", lambda route: route.fulfill(status=204))
            untitled = second.get_by_role("link", name="Without a title")
            second.goto(url)
            until = time.monotonic() + SENT / 1000
            while not untitled.count():
                assert time.monotonic() < until, "no webhook has come"
                second.wait_for_timeout(200)
                second.reload()
            href = untitled.get_attribute("href") or ""
            assert "/media/my-app/~1/" in href
            assert httpx.get(href, trust_env=False).content == film.read_bytes()
            page.get_by_label("Title").fill("Clip")
            page.get_by_role("button", name="Send").click()
            expect(page.get_by_role("link", name="Clip", exact=True)).to_have_attribute("href", href)
            expect(page.get_by_role("listitem")).to_have_count(1)
        forged = httpx.post(f"{url}/media-events/", json={"type": "media.completed"}, trust_env=False)
        assert forged.status_code == 401
    visitors_have_ids_of_their_own(how_to.snippet("who"))
