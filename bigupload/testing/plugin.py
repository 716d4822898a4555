"""The pytest plugin: stores to upload to, and faults by name. `docs/testing.md` shows how to use it.

pytest imports this module at every start where bigupload is installed. So it imports nothing at its top but what pytest
has imported already, and each fixture imports what it needs.
"""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bigupload.stores.local_store import LocalStore
    from bigupload.testing.local_bucket import LocalBucket
    from bigupload.testing.named_faults import Faults
    from bigupload.testing.strict_s3 import StrictS3

_FAULTS = pytest.StashKey["Faults"]()


@pytest.fixture
def bigupload_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep the test away from the developer's uploads, settings and AWS accounts.

    The variables AWS_* and BIGUPLOAD_* of the environment are gone. Manifests, the configuration file and the local
    store of `--local` are in a new directory, which is removed at the end.

    Returns:
        The directory of the manifests.
    """
    home = tmp_path_factory.mktemp("bigupload")
    for name in [name for name in os.environ if name.startswith(("AWS_", "BIGUPLOAD_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("BIGUPLOAD_STATE_DIR", str(home / "state"))
    monkeypatch.setenv("BIGUPLOAD_LOCAL_STORE_DIR", str(home / "store"))
    if (boto3 := sys.modules.get("boto3")) is not None:  # its default session keeps the credentials that it has found
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    try:
        yield home / "state"
    finally:
        if (home / "store").exists():  # the test used `--local`
            from bigupload.stores import local_store

            local_store.remove(home / "store")
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def bigupload_strict_s3(bigupload_state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictS3]:
    """A strict fake of AWS S3 with an empty bucket named `bucket`, for one test.

    The environment names it as the endpoint and has its credentials, so that bigupload and boto3 use it without
    further arguments.
    """
    from bigupload.testing.strict_s3 import StrictS3

    # AWS takes a part's checksum without one declared at create: boto3 sends such since 1.36.
    with StrictS3(undeclared_checksums="accept") as s3:
        s3.create_bucket("bucket")
        _use(monkeypatch, s3.url, s3.access_key, s3.secret_key, s3.region)
        yield s3


@pytest.fixture
def bigupload_faults(bigupload_strict_s3: StrictS3, request: pytest.FixtureRequest) -> Faults:
    """Let requests to the strict fake fail: `bigupload_faults("slow down", part=2)`.

    The test fails at its end if too few requests met a fault, for then it has not tested what it says.
    """
    from bigupload.testing.named_faults import Faults

    faults = request.node.stash[_FAULTS] = Faults(bigupload_strict_s3)
    return faults


@pytest.hookimpl(trylast=True)  # after the test; not `wrapper=True`, which pluggy before 1.2 refuses in every run
def pytest_runtest_call(item: pytest.Item) -> None:
    """Fail a test that passed although a fault it asked for did not happen as often as it asked."""
    faults = item.stash.get(_FAULTS, None)
    if faults is not None and (unmet := faults.unmet()):
        pytest.fail(unmet, pytrace=False)


@pytest.fixture(scope="session")
def bigupload_local_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    """A real S3 store, SeaweedFS, for the whole session: one for each process of pytest-xdist.

    It is stopped and deleted at the end. It needs the extra `testing` or `local`.
    """
    from bigupload.errors import LocalStoreError
    from bigupload.stores import local_store

    directory = tmp_path_factory.mktemp("bigupload-store")
    try:
        yield local_store.start(directory)
    except LocalStoreError as error:
        pytest.fail(str(error), pytrace=False)
    finally:
        local_store.remove(directory)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def bigupload_bucket(
    bigupload_local_store: LocalStore, bigupload_state: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalBucket]:
    """A new bucket in the local store, for one test.

    The environment names the store as the endpoint and has its credentials, so that bigupload and boto3 use it without
    further arguments.
    """
    from bigupload.testing.local_bucket import LocalBucket

    store = bigupload_local_store
    monkeypatch.setenv("BIGUPLOAD_LOCAL_STORE_DIR", str(store.data_dir))  # `--local` is this store, too
    _use(monkeypatch, store.endpoint_url, store.access_key, store.secret_key, store.region)
    with LocalBucket(store, f"test-{uuid.uuid4().hex[:16]}") as bucket:
        yield bucket


def _use(monkeypatch: pytest.MonkeyPatch, url: str, access_key: str, secret_key: str, region: str) -> None:
    """Let every AWS client that starts with the environment's settings talk to this store."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret_key)
    monkeypatch.setenv("AWS_REGION", region)
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)  # boto3 reads this one
    unproxied = [os.environ.get("no_proxy"), os.environ.get("NO_PROXY"), "127.0.0.1"]
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, ",".join(filter(None, dict.fromkeys(unproxied))))
