"""The published examples, as they were published: only the base URL and the key are put in, and what they print."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from bigupload.service.media.media_types import MEDIA_TYPES
from tests.tools.http_stub import HttpStub, Response
from tests.tools.media import sample
from tests.tools.service import Service

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
EXAMPLES = Path(__file__).with_name("examples")
RESPONSE = Response(
    status=201, headers={"Content-Type": "application/vnd.posts+json; v=1"}, body='{"id": "päst_1"}\n'.encode()
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where an example is run: there is a photo.jpg."""
    (tmp_path / "photo.jpg").write_bytes(sample("jpg"))
    return tmp_path


def published(name: str, service: Service, **put_in: str) -> str:
    text = (EXAMPLES / name).read_text().replace("https://api.socialsyncerapi.com", service.url)
    text = text.replace("sk_your_api_key", service.key)
    for word, value in put_in.items():
        assert word in text
        text = text.replace(word, value)
    return text


def run(folder: Path, *command: str) -> str:
    """What a command prints."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def steps(script: str) -> list[str]:
    """A shell example's, each with its comment."""
    return [f"# Step{step}" for step in script.split("# Step")[1:]]


def check_uploaded(url: str, content: bytes, content_type: str) -> None:
    got = httpx.get(url, trust_env=False)
    assert (got.status_code, got.headers["Content-Type"]) == (200, content_type)
    assert got.content == content


def post(folder: Path, service: Service, posts_api: HttpStub, url: str) -> None:
    """The published post, by curl. The posts API gets it byte for byte, but for the URL, which is that of a copy."""
    posts_api.responses["/v1/posts"] = RESPONSE
    step = steps(published("example.sh", service, PUBLIC_URL=url))[2]
    printed = run(folder, "sh", "-c", f"{step.rstrip()} --silent --show-error --include")
    head, _, body = printed.partition("\n\n")
    assert (head.split()[1], body.encode()) == ("201", RESPONSE.body)
    assert f"content-type: {RESPONSE.headers['Content-Type']}" in head.lower()
    (received,) = posts_api.received
    assert (received.method, received.path) == ("POST", "/v1/posts")
    (item,) = json.loads(received.body)["mediaItems"]
    sent = step.split("-d '")[1].rstrip().removesuffix("'")
    assert received.body == sent.replace(url, item["url"]).encode()
    assert item["type"] == "image"
    check_uploaded(item["url"], sample("jpg"), "image/jpeg")
    assert received.headers["content-type"] == "application/json"
    assert not received.has("sk_")
    assert not received.has(service.key)


@needs_curl
def test_python(folder: Path, posting: Service, posts_api: HttpStub) -> None:
    printed = run(folder, sys.executable, "-c", published("example.py", posting))
    url = printed.removeprefix("Uploaded! Public URL: ").strip()
    check_uploaded(url, sample("jpg"), "image/jpeg")
    post(folder, posting, posts_api, url)


@needs_curl
def test_curl(folder: Path, posting: Service, posts_api: HttpStub) -> None:
    presigned = json.loads(run(folder, "sh", "-c", steps(published("example.sh", posting))[0]))
    step = steps(published("example.sh", posting, PRESIGNED_URL=presigned["uploadUrl"]))[1]
    assert run(folder, "sh", "-c", step) == ""
    check_uploaded(presigned["publicUrl"], sample("jpg"), "image/jpeg")
    post(folder, posting, posts_api, presigned["publicUrl"])


@pytest.mark.slow
@needs_curl
@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_node(folder: Path, posting: Service, posts_api: HttpStub) -> None:
    imports = 'import { readFile } from "node:fs/promises";\n'  # which the example takes for granted
    (folder / "example.mjs").write_text(imports + published("example.mjs", posting))
    url = run(folder, "node", "example.mjs").removeprefix("Uploaded! ").strip()
    check_uploaded(url, sample("jpg"), "image/jpeg")
    post(folder, posting, posts_api, url)


def test_the_response_is_the_published_one(service: Service) -> None:
    response = service.call("POST", "/v1/media/presign", json={"filename": "photo.jpg", "contentType": "image/jpeg"})
    assert response.headers["Content-Type"].partition(";")[0] == "application/json"
    assert list(response.json()) == ["uploadUrl", "publicUrl", "key", "expiresIn"]
    assert response.json()["expiresIn"] == 3600
    name = response.json()["key"].removeprefix("media/local/")
    assert len(name) == 32 + len(".jpg")
    assert response.json()["publicUrl"].endswith(f"/media/local/{name}")
    assert response.json()["uploadUrl"].startswith(f"{response.json()['publicUrl']}?")


@pytest.mark.parametrize("field", ["filename", "contentType"])
def test_both_fields_are_required(service: Service, field: str) -> None:
    body = {"filename": "photo.jpg", "contentType": "image/jpeg"}
    del body[field]
    response = service.call("POST", "/v1/media/presign", json=body)
    assert (response.status_code, response.json()["error"]["field"]) == (422, field)


@pytest.mark.parametrize("recipe", ["jpg", "png", "gif", "animated.gif", "webp", "animated.webp", "mp4", "mov", "webm"])
@pytest.mark.parametrize("sized", [False, True], ids=["any size", "size bound"])
def test_every_format(posting: Service, posts_api: HttpStub, recipe: str, sized: bool) -> None:
    (kind,) = (each for each in MEDIA_TYPES if recipe.rpartition(".")[2] in each.extensions)
    content = sample(recipe)
    assert recipe != "animated.gif" or content.count(b"\x21\xf9\x04") > 1  # pictures
    body = {"filename": f"Holiday 1.{recipe.upper()}", "contentType": kind.content_type}
    made = posting.call("POST", "/v1/media/presign", json=body | ({"size": len(content)} if sized else {})).json()
    sent = httpx.put(made["uploadUrl"], headers={"Content-Type": kind.content_type}, content=content, trust_env=False)
    assert sent.status_code == 200, sent.text
    check_uploaded(made["publicUrl"], content, kind.content_type)
    posts_api.responses["/v1/posts"] = RESPONSE
    for name in {kind.kind, "gif" if kind.name == "GIF" else kind.kind}:
        item = {"type": name, "url": made["publicUrl"]}
        assert posting.call("POST", "/v1/posts", json={"mediaItems": [item]}).status_code == 201
