"""The upload page on a stage: a real service, a real store, and between browser and store a proxy that counts what
passes, so that "not sent again" is what the network says and not what the page claims."""

from __future__ import annotations

import hashlib
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx

from bigupload.testing.fault_proxy import FaultProxy
from bigupload.testing.fault_proxy.exchange import Head, s3_operation
from bigupload.testing.fault_proxy.proxy import PartTraffic
from bigupload.testing.faults import Call
from tests.tools.service import Service

if TYPE_CHECKING:  # Playwright takes half a second, and some who need this need no browser
    from tests.tools.browser import UploadPage

MIB = 1024 * 1024
PART = 5 * MIB
"""Bytes: what the service chooses."""
MP4 = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + b"\x00\x00\x00\x10moov\x00\x00\x00\x08mvhd"
NETWORK = re.compile("Failed to load resource|ERR_")
"""What the browser itself writes to the console of a request that failed."""
_HELD = "HeldPreflight"
"""What `Held` calls the requests that wait."""


@dataclass
class Stage:
    """A service whose URLs lead through a proxy, and the proxy."""

    service: Service
    proxy: FaultProxy

    def attempts(self, url: str) -> dict[int, int]:
        """By part number: how often its PUT began to pass, for the object that is at `url`."""
        path = unquote(urlsplit(url).path)
        return {number: traffic.attempts for (at, _, number), traffic in self.proxy.parts.items() if at == path}

    def newest(self) -> dict[int, PartTraffic]:
        """By part number: what passed of the upload that was begun last."""
        parts = self.proxy.parts
        path, upload_id, _ = list(parts)[-1]
        return {number: traffic for (*of, number), traffic in parts.items() if of == [path, upload_id]}

    def has(self, url: str, file: Path) -> bool:
        """Does the store hold, for everyone, the file's bytes?"""
        there = hashlib.sha256()
        with httpx.stream("GET", url, timeout=120, trust_env=False) as response:
            assert response.status_code == 200
            for chunk in response.iter_bytes(MIB):
                there.update(chunk)
        with file.open("rb") as source:
            return hashlib.file_digest(source, "sha256").digest() == there.digest()


def clip(folder: Path, size: int = 3 * PART, name: str = "clip.mp4") -> Path:
    """Begins as an MP4 does; the rest is a hole, with a mark in each MiB so that no two parts are the same."""
    file = folder / name
    with file.open("wb") as out:
        out.write(MP4)
        out.truncate(size)
        for at in range(MIB, size, MIB):
            out.seek(at)
            out.write(at.to_bytes(8, "big"))
    return file


def _part(url: str) -> tuple[str, str, int]:
    """Which part a URL is for, whenever it was signed; of an object by one PUT, which object."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    return parts.path, query.get("uploadId", ""), int(query.get("partNumber", 1))


class Held:
    """PUTs that wait in the browser until they are let go: the proxy holds back the preflight request of each.

    No body is sent meanwhile. With a route, each body would pass through Playwright, which takes a second for a part.
    Playwright itself responds to preflight requests while a page has any route: then nothing is held.
    """

    def __init__(self, page: UploadPage, stage: Stage, *, after: int = 0) -> None:
        """`after`: so many parts pass before, the first ones of their files, each as often as the page sends it."""
        self._after, self._passing, self._released = after, set[tuple[str, str, int]](), threading.Event()
        stage.proxy.name = self._name
        stage.proxy.at_random(lambda op: Call(lambda _: self._released.wait()) if op == _HELD else None)
        page.after_close.append(self.let_go)

    def _name(self, head: Head) -> tuple[str, int | None]:
        method, url, _ = head.start
        return (_HELD, None) if method == "OPTIONS" and not self._passes(_part(url)) else s3_operation(head)

    def _passes(self, part: tuple[str, str, int]) -> bool:
        if part[2] <= self._after and len(self._passing) < self._after:
            self._passing.add(part)
        return part in self._passing or self._released.is_set()

    def let_go(self) -> None:
        """Those that the page aborted meanwhile are not sent."""
        self._released.set()


def quiet(page: UploadPage, *, lost: bool = False) -> None:
    """Nothing on the console; `lost`: but for the requests that the test made fail."""
    assert [text for text in page.complaints if not (lost and NETWORK.search(text))] == []


def numbers(body: object) -> list[int]:
    assert isinstance(body, dict)
    return [part["partNumber"] for part in body["parts"]]
