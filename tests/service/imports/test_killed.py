"""Imports of services that are killed for real, and go on when they are back."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bigupload.stores.local_store import LocalStore
from tests.service.imports.conftest import GENEROUS
from tests.service.imports.support import MIB, begin, ended, status
from tests.service.test_multipart import film
from tests.tools.service import Service, serving
from tests.tools.waiting import until
from tests.tools.web_server import Asked, WebFault, WebServer

pytestmark = pytest.mark.slow
DATA = film(40 * MIB)


def last(asked: Asked) -> bool:
    """Whether a request is for the end of the file."""
    return asked.range is not None and asked.range[1] == len(DATA)


@pytest.fixture
def stall(web: WebServer) -> Iterator[WebFault]:
    """The last part does not come."""
    web.serve("/film.mp4", DATA)
    web.faults.append(fault := WebFault(stall_after=1000, when=last, times=99))
    yield fault
    fault.times = 0


def fetches(service: Service) -> bool:
    return "bigupload_imports_running 1.0" in httpx.get(f"{service.url}/metrics", trust_env=False).text


async def test_a_service_that_was_killed_goes_on_when_it_is_back(
    weed: LocalStore, tmp_path: Path, web: WebServer, stall: WebFault
) -> None:
    with serving(weed, tmp_path, *GENEROUS) as one, serving(weed, tmp_path, *GENEROUS) as two:
        upload = begin(one, f"{web.url}/film.mp4").json()["upload"]
        await until(lambda: fetches(one) or fetches(two))
        other = two if fetches(one) else one

        def is_noted() -> bool:
            """Whether the process that does not fetch reads in the note that all parts but the last are stored."""
            return bool(status(other, upload)["importing"]["stored"] == 35 * MIB)

        await until(is_noted)
        for each in (one, two):
            each.stop(signal.SIGKILL)
    stall.times = 0
    web.asked.clear()
    with serving(weed, tmp_path, *GENEROUS) as back:
        found = await ended(back, upload)
        assert found["status"] == "completed", found
        assert found["completed"]["size"] == len(DATA)
        assert web.ranges == [(35 * MIB, 40 * MIB)]
