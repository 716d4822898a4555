"""An app's own site, of another origin than the service that its pages upload to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from bigupload.stores.local_store import LocalStore
from bigupload.testing.fault_proxy import FaultProxy
from tests.tools.http_stub import HttpStub, Response, http_stub
from tests.tools.page import Stage
from tests.tools.service import serving

if TYPE_CHECKING:
    from tests.tools.browser import UploadPage

HTML, SCRIPT, CSS = "text/html; charset=utf-8", "text/javascript", "text/css"


@dataclass
class App:
    """An app's own site, its service, and the proxy before the store."""

    site: HttpStub
    stage: Stage

    def serve(self, path: str, kind: str, text: str) -> None:
        """Answer `path` with `text`, in which the service's address stands for the example's."""
        body = text.replace("https://media.example.com/", self.stage.service.url + "/").encode()
        self.site.responses[path] = Response(headers={"Content-Type": kind}, body=body)

    def new_token(self) -> None:
        """Answer `POST /upload-token` with a token that is valid."""
        token = self.stage.service.call("POST", "/v1/media/tokens", json={"expiresIn": 600}).json()["token"]
        self.serve("/upload-token", "application/json", json.dumps({"token": token}))

    def acknowledged(self) -> set[int]:
        """The parts that the store has of the upload that was begun last."""
        if not self.stage.proxy.parts:
            return set()
        return {number for number, traffic in self.stage.newest().items() if traffic.acknowledged}


@contextlib.contextmanager
def app_site(weed: LocalStore, home: Path) -> Iterator[App]:
    """One that runs."""
    port = urlsplit(weed.endpoint_url).port
    assert port is not None
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(FaultProxy("127.0.0.1", port))
        site = stack.enter_context(http_stub())
        options = ("--client-endpoint-url", proxy.url, "--cors-origin", site.url, "--requests", "10000")
        service = stack.enter_context(serving(weed, home, *options, "--sweep-every", "0"))
        site.responses["/favicon.ico"] = Response()
        running = App(site, Stage(service, proxy))
        running.new_token()
        yield running


def has_checksum(page: UploadPage) -> bool:
    """Whether each PUT had a checksum, for which its URL is signed."""
    puts = [request for request in page.requests if request.method == "PUT"]
    signed = [parse_qs(urlsplit(request.url).query)["X-Amz-SignedHeaders"][0] for request in puts]
    return bool(puts) and all(
        "x-amz-checksum-sha256" in request.headers and "x-amz-checksum-sha256" in names
        for request, names in zip(puts, signed, strict=True)
    )
