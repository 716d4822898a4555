"""The stores that integration tests talk to, and surroundings without the developer's own AWS configuration."""

from __future__ import annotations

import asyncio
import gc
import hashlib
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from bigupload.api import checks, watching
from bigupload.core import hedging
from bigupload.core.settling import SettlingFiles
from bigupload.engine import context, multipart_upload
from bigupload.stores import local_store
from bigupload.stores.local_store import LocalStore
from bigupload.stores.s3.multipart import S3Store
from bigupload.testing.certificates import make_certificates
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.surroundings import only_strict_s3
from tests.tools.web_server import WebServer, web_server
from tests.tools.weed import weed_client

from .backends import Backend, backend, strict
from .remotes import DATA, SECRET
from .stopped import PARTS, SIZE
from .support import BUCKET, KIB, LIMITS, PART, World
from .wire import Wire, wired


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those of StrictS3, and the pace of a machine without people."""
    only_strict_s3(monkeypatch, tmp_path)
    monkeypatch.setattr(multipart_upload, "_LOOK_EVERY", 0.01)
    monkeypatch.setattr(context, "TICK", 0.02)
    # A machine that stops for a moment makes any part seem to lag: those that are sent twice are test_stragglers'.
    monkeypatch.setattr(hedging, "_GRACE", 600.0)


@pytest.fixture
async def no_complaints() -> AsyncIterator[None]:
    """Nothing is left for asyncio to complain about, such as "Task exception was never retrieved"."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    yield
    gc.collect()
    assert complaints == []


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(S3Store, "limits", LIMITS)


@pytest.fixture
def s3() -> Iterator[StrictS3]:
    """One for each test: it starts and stops in 1.5 ms of CPU, and nothing of another test is in it."""
    with StrictS3(min_part_size=KIB) as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture
def s3_tls() -> Iterator[StrictS3]:
    with StrictS3(min_part_size=KIB, tls=True) as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture
def world(s3: StrictS3, tmp_path: Path, small_limits: None) -> World:
    return World(s3, tmp_path)


@pytest.fixture(scope="session")
def weed(weed: LocalStore) -> LocalStore:
    """The session's SeaweedFS, with the bucket that these tests use."""
    client = weed_client(weed)
    client.create_bucket(Bucket=BUCKET)
    client.close()
    local_store.make_room(BUCKET, weed.data_dir)
    return weed


@pytest.fixture
async def stopped(world: World) -> World:
    """Six parts, of which the store has some and misses some; its file is `file.bin`."""
    await world.interrupted(world.file(SIZE), after=3)
    await world.settled()
    assert 0 < len(world.missing()) < PARTS
    assert world.manifest.status == "uploading"
    return world


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="moto-secret-key", region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET)
    client.close()
    yield url
    server.stop()


@pytest.fixture(params=["strict-http", "strict-https", "seaweedfs"])
def real_store(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """A store that checks what it is sent."""
    return backend(request.param, request, tmp_path)


@pytest.fixture(params=["strict-http", "strict-https", "seaweedfs", "moto"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Also a store that believes everything."""
    return backend(request.param, request, tmp_path)


@pytest.fixture
def fake(s3: StrictS3, tmp_path: Path) -> Backend:
    return strict(s3, tmp_path)


@pytest.fixture
def wire(weed: LocalStore, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Wire]:
    with wired(weed, tmp_path, _key_of(request)) as made:
        yield made


@pytest.fixture
def tls_wire(weed: LocalStore, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Wire]:
    """https to the proxy; the signature does not bind the scheme."""
    with wired(weed, tmp_path, _key_of(request), make_certificates(tmp_path)) as made:
        yield made


def _key_of(request: pytest.FixtureRequest) -> str:
    return hashlib.sha256(request.node.nodeid.encode()).hexdigest()


@pytest.fixture
def web() -> Iterator[WebServer]:
    """A web server with a file."""
    with web_server() as server:
        server.serve("/film.mov", DATA)
        yield server


@pytest.fixture
def url(web: WebServer) -> str:
    """Of the file, as a presigned one."""
    return f"{web.url}/film.mov?X-Amz-Signature={SECRET}"


@pytest.fixture
def recordings(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to watch, whose files settle in no time."""
    monkeypatch.setattr(checks, "_LEAST_IDLE", 0.0)
    monkeypatch.setattr(watching, "SettlingFiles", partial(SettlingFiles, follow_from=2 * PART))
    made = world.directory / "recordings"
    made.mkdir()
    return made
