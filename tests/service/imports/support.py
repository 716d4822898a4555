"""A service that imports from this machine, and what a test asks of it."""

from __future__ import annotations

from typing import Any

import httpx

from tests.tools.service import Service
from tests.tools.waiting import until

MIB = 1024 * 1024


def begin(service: Service, url: str, *, key: str | None = None, **more: Any) -> httpx.Response:
    """Ask for an import."""
    return service.call("POST", "/v1/media/imports", key=key, json={"url": url, **more})


def status(service: Service, upload: str, *, key: str | None = None) -> dict[str, Any]:
    """The state of an upload."""
    found: dict[str, Any] = service.call("GET", "/v1/media/multipart", key=key, params={"upload": upload}).json()
    return found


async def ended(service: Service, upload: str, *, key: str | None = None) -> dict[str, Any]:
    """The state of an import when it is not open any more."""
    found: dict[str, Any] = {}

    def is_over() -> bool:
        found.clear()
        found.update(status(service, upload, key=key))
        return found["status"] != "open"

    await until(is_over)
    return found
