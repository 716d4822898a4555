"""Posts, and the uploads that they are of."""

from __future__ import annotations

from typing import Any

import httpx

from tests.tools.http_stub import Response
from tests.tools.service import Service

CREATED = Response(status=201, headers={"Content-Type": "application/json"}, body=b'{"id": 1}')


def sent(service: Service, content: bytes, name: str = "photo.jpg", kind: str = "image/jpeg", **more: Any) -> str:
    """The public URL of an upload."""
    made = service.call("POST", "/v1/media/presign", json={"filename": name, "contentType": kind}, **more).json()
    response = httpx.put(made["uploadUrl"], headers={"Content-Type": kind}, content=content, trust_env=False)
    assert response.status_code == 200
    return str(made["publicUrl"])


def post(service: Service, *items: tuple[str, str], **more: Any) -> httpx.Response:
    """A post of (type, URL)s."""
    listed = [{"type": kind, "url": url} for kind, url in items]
    return service.call("POST", "/v1/posts", json={"content": "x", "mediaItems": listed}, **more)


def refusal(response: httpx.Response) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    return response.status_code, error["code"], error.get("field")
