"""A client that openapi-python-client makes of the OpenAPI document: made without a warning, strictly typed, of use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.tools.media import sample
from tests.tools.service import Service

PROGRAM = """
import sys

import httpx
from client import AuthenticatedClient
from client.api.files import delete_media, list_media
from client.api.multipart_uploads import abort_multipart_upload, create_multipart_upload, get_multipart_upload
from client.api.uploads import create_presigned_upload
from client.models import (
    CreateRequest, CreateResponse, ErrorResponse, ListResponse, PresignRequest, PresignResponse, StatusResponse,
)

url, key, picture = sys.argv[1:]
with AuthenticatedClient(base_url=url, token=key) as client:
    made = create_presigned_upload.sync(
        client=client, body=PresignRequest(filename="photo.jpg", content_type="image/jpeg")
    )
    assert isinstance(made, PresignResponse)
    with open(picture, "rb") as file:
        httpx.put(made.upload_url, headers={"Content-Type": "image/jpeg"}, content=file.read()).raise_for_status()
    files = list_media.sync(client=client)
    assert isinstance(files, ListResponse)
    [stored] = files.media
    print(stored.key == made.key, stored.size, made.expires_in)

    film = CreateRequest(filename="film.mp4", content_type="video/mp4", size=10_000_000)
    begun = create_multipart_upload.sync(client=client, body=film)
    assert isinstance(begun, CreateResponse)
    state = get_multipart_upload.sync(client=client, upload=begun.upload)
    assert isinstance(state, StatusResponse)
    aborted = abort_multipart_upload.sync_detailed(client=client, upload=begun.upload)
    print(begun.parts, state.status, aborted.status_code)

    refused = create_presigned_upload.sync(
        client=client, body=PresignRequest(filename="a.exe", content_type="image/jpeg")
    )
    assert isinstance(refused, ErrorResponse)
    print(refused.error.code, refused.error.field)

    delete_media.sync_detailed(client=client, key=made.key)
    files = list_media.sync(client=client)
    assert isinstance(files, ListResponse)
    print(files.media)
"""


def python(*arguments: str, folder: Path) -> str:
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, env=plain)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("service", ["aiohttp"], indirect=True)  # both edges serve one document
def test_a_generated_client(service: Service, tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_bytes(httpx.get(f"{service.url}/openapi.json", trust_env=False).content)
    (tmp_path / "config.yaml").write_text("package_name_override: client\npost_hooks: []\n")
    (tmp_path / "photo.jpg").write_bytes(sample("jpg"))
    (tmp_path / "program.py").write_text(PROGRAM)
    generate = ["-m", "openapi_python_client", "generate", "--fail-on-warning", "--meta", "none", "--path"]
    python(*generate, "openapi.json", "--config", "config.yaml", "--output-path", "client", folder=tmp_path)
    typed = ["-m", "mypy", "--strict", "--config-file", "", "--cache-dir", "types", "client", "program.py"]
    assert python(*typed, folder=tmp_path).startswith("Success")
    told = python("program.py", service.url, service.new_key("generated"), "photo.jpg", folder=tmp_path)
    assert told.splitlines() == [
        f"True {len(sample('jpg'))} 3600",
        "2 open 204",
        "unsupported_media filename",
        "[]",
    ]
