"""A manifest leads to its own store, whatever the environment says by the time that it is resumed or aborted."""

from __future__ import annotations

import json
import socket

import pytest

import bigupload
from bigupload import errors
from bigupload.core.retry_policy import RetryPolicy

from .stopped import lines
from .support import World

NO_RETRIES = RetryPolicy(base_delay=0, max_delay=0, give_up_after=0)


@pytest.fixture
def of_aws(stopped: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The manifest as it would be of an upload to AWS, and the fake store is what the environment names now.

    AWS is behind a proxy that does not respond.
    """
    first, *rest = lines(stopped)
    header = json.loads(first)
    del header["target"]["endpoint"], header["options"]["endpoint_url"]
    header["options"].pop("ca_bundle", None)
    stopped.manifest_path.write_bytes(json.dumps(header).encode() + b"\n" + b"".join(rest))
    monkeypatch.setenv("AWS_ENDPOINT_URL", stopped.s3.url)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{nobody.getsockname()[1]}")
    return stopped


async def test_abort_asks_no_other_store(of_aws: World) -> None:
    """Another store knows no such upload: that must not be recorded as an abort while AWS keeps the parts."""
    (upload,) = of_aws.s3.uploads
    of_aws.s3.uploads.pop(upload)
    before = len(of_aws.s3.requests)
    async with bigupload.Uploader(retry=NO_RETRIES) as uploader:
        with pytest.raises(errors.StoreUnreachable):
            await uploader.abort(of_aws.manifest_path, trust=True)
    assert len(of_aws.s3.requests) == before
    assert of_aws.manifest.status == "uploading"


async def test_resume_sends_nothing_to_another_store(of_aws: World) -> None:
    before = len(of_aws.s3.requests)
    with pytest.raises(errors.StoreUnreachable):
        await of_aws.resume(retry=NO_RETRIES, trust=True)
    assert len(of_aws.s3.requests) == before
    assert of_aws.manifest.status == "uploading"
