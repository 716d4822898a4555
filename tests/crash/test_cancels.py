"""Cancelled a hundred times and more at random, by each means that a program has: resumable, and nothing is left."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bigupload.stores.local_store import LocalStore
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.weed import weed_client

from .cancels import WAYS, Order
from .running import REPOSITORY, Place, random_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # more than a hundred uploads

BUCKET = "cancels"
CANCELS = {"http": 96, "https": 24, "SeaweedFS": 18}
"""What differs from one store to the next are connections, and the time that a request takes."""
KIB = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A store, and how its objects and open uploads can be seen."""

    endpoint: str
    region: str
    ca_bundle: Path | None
    access_key: str
    secret_key: str
    part_size: int
    parts: int
    client: Any


@contextlib.contextmanager
def strict(*, tls: bool) -> Iterator[Stage]:
    part_size = 256 * KIB
    with StrictS3(tls=tls, min_part_size=part_size, keep_bodies="disk") as s3:
        s3.create_bucket(BUCKET)
        with contextlib.closing(s3.client()) as client:
            yield Stage(
                endpoint=s3.url, region=s3.region, ca_bundle=s3.ca_bundle, part_size=part_size, parts=16, client=client,
                access_key=s3.access_key, secret_key=s3.secret_key,
            )  # fmt: skip


@contextlib.contextmanager
def seaweedfs(weed: LocalStore) -> Iterator[Stage]:
    with contextlib.closing(weed_client(weed)) as client:
        client.create_bucket(Bucket=BUCKET)
        yield Stage(
            endpoint=weed.endpoint_url, region=weed.region, ca_bundle=None, part_size=5120 * KIB, parts=4,
            client=client, access_key=weed.access_key, secret_key=weed.secret_key,
        )  # fmt: skip


STAGES: dict[str, Callable[[pytest.FixtureRequest], contextlib.AbstractContextManager[Stage]]] = {
    "http": lambda _: strict(tls=False),
    "https": lambda _: strict(tls=True),
    "SeaweedFS": lambda request: seaweedfs(request.getfixturevalue("weed")),
}


def cancelled(place: Place, stage: Stage, cancels: int) -> dict[str, Any]:
    """What the program tells, and `exit`: the seconds from its last cancel to its end."""
    temporary = place.directory / "tmp"
    temporary.mkdir()
    order = Order(
        seed=1, cancels=cancels, directory=str(place.directory), bucket=BUCKET, part_size=stage.part_size,
        endpoint=stage.endpoint, region=stage.region,
        ca_bundle=None if stage.ca_bundle is None else str(stage.ca_bundle),
    )  # fmt: skip
    strictly = [sys.executable, "-X", "dev", "-W", "error"]
    done = subprocess.run(
        [*strictly, "-m", "tests.crash.cancels", json.dumps(dataclasses.asdict(order))],
        cwd=REPOSITORY, env=place.environment(TMPDIR=str(temporary)), capture_output=True, text=True, check=False,
        timeout=840,
    )  # fmt: skip
    ended = time.monotonic()
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-6000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told | {"exit": ended - told.pop("last_cancel")}


@pytest.mark.parametrize("store", STAGES)
def test_random_cancels(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Neither a task, thread, socket or descriptor nor a temporary file is left, and nothing is said on stderr."""
    with STAGES[store](request) as stage:
        place = Place(tmp_path, stage.access_key, stage.secret_key)
        whole = random_file(tmp_path / "file.bin", stage.parts * stage.part_size - 100, seed=5)
        told = cancelled(place, stage, CANCELS[store])
        print(f"{store}: {told}")
        assert told["ways"] == dict.fromkeys(WAYS, CANCELS[store] // len(WAYS))
        assert "uploading" in told["stages"]
        for number in range(1, told["uploads"]):  # of the last one, nothing was asked but to stop
            body = stage.client.get_object(Bucket=BUCKET, Key=str(number))["Body"].read()
            assert hashlib.sha256(body).hexdigest() == whole
        left = stage.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
        assert {upload["Key"] for upload in left} <= {str(told["uploads"])}, "uploads are open that no manifest has"
        left_files = {p.name for p in tmp_path.iterdir()} - {"file.bin", "state", "tmp", "home"}
        assert {name.partition(".")[2] for name in left_files} <= {"manifest.jsonl"}, left_files
        assert not os.listdir(tmp_path / "tmp")
