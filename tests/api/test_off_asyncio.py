"""Off asyncio, every public call says so at once: it neither hangs nor keeps a processor busy."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

import bigupload
from bigupload import errors

PROGRAM = """
import functools, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))  # seconds: a loop that spins is killed
import anyio, bigupload

file, call = sys.argv[1:]
s3 = bigupload.S3Options(endpoint_url="http://127.0.0.1:9", access_key="a", secret_key="b", region="r")
to = {"to": "s3://b/k", "s3": s3, "manifest": file + ".manifest"}
CALLS = {
    "upload": lambda: bigupload.upload(file, **to),
    "resume": lambda: bigupload.resume(file),
    "adopt": lambda: bigupload.adopt("s3://b/k", source=file, s3=s3),
    "abort": lambda: bigupload.abort(file),
    "verify": lambda: bigupload.verify(file, "s3://b/k", s3=s3),
    "read_back": lambda: bigupload.read_back(file, "s3://b/k", s3=s3),
    "list_uploads": lambda: bigupload.list_uploads(),
    "abort_orphans": lambda: bigupload.abort_orphans("s3://b/k", s3=s3),
    "Uploader": lambda: bigupload.Uploader().__aenter__(),
}

async def main():
    try:
        if call == "start":
            bigupload.start(file, **to)
        elif call == "upload_sync":
            bigupload.upload_sync(file, **to)
        else:
            await CALLS[call]()
    except bigupload.UsageError as e:
        print(e)

anyio.run(main, backend="trio")
"""
CALLS = ["upload", "start", "upload_sync", "resume", "adopt", "abort", "verify", "read_back", "list_uploads",
         "abort_orphans", "Uploader"]  # fmt: skip


@pytest.mark.parametrize("call", [pytest.param(call, marks=pytest.mark.exhaustive) for call in CALLS])
def test_trio(tmp_path: Path, call: str) -> None:
    pytest.importorskip("trio")
    file = tmp_path / "file"
    file.write_bytes(b"bytes")
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM, file, call],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert "bigupload needs a running asyncio event loop" in done.stdout


def test_no_event_loop(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match=r"needs a running asyncio event loop: use asyncio\.run"):
        bigupload.start(tmp_path / "file", to="s3://b/k")
    call = bigupload.upload(tmp_path / "file", to="s3://b/k")
    with pytest.raises(errors.UsageError, match="needs a running asyncio event loop"):
        call.send(None)


@pytest.mark.slow
def test_the_classifiers_say_the_truth() -> None:
    text = (Path(bigupload.__file__).parents[1] / "pyproject.toml").read_text()
    assert "Framework :: AsyncIO" in text
    assert "Framework :: AnyIO" not in text
    assert "Framework :: Trio" not in text


async def test_an_uploader_is_entered_first() -> None:
    uploader = bigupload.Uploader()
    for call in (uploader.list_uploads(), uploader.upload("f", to="s3://b/k")):
        with pytest.raises(errors.UsageError, match="was not entered: use it inside `async with"):
            await call
    with pytest.raises(errors.UsageError, match="was not entered"):
        uploader.start("f", to="s3://b/k")


async def test_an_uploader_is_entered_once(tmp_path: Path) -> None:
    uploader = bigupload.Uploader(state_dir=tmp_path)
    async with uploader:
        with pytest.raises(errors.UsageError, match="was entered before: create another one"):
            await uploader.__aenter__()
        assert await uploader.list_uploads() == []
    with pytest.raises(errors.UsageError, match="was entered before: create another one"):
        await uploader.__aenter__()
    with pytest.raises(errors.UsageError, match="was closed: create another one"):
        await uploader.list_uploads()


async def test_an_uploader_belongs_to_one_event_loop(tmp_path: Path) -> None:
    async with bigupload.Uploader(state_dir=tmp_path) as uploader:

        def elsewhere() -> None:
            with pytest.raises(errors.UsageError, match=r"another event loop \(in thread .*\): create one for each"):
                asyncio.run(uploader.list_uploads())
            with pytest.raises(errors.UsageError, match="needs a running asyncio event loop"):
                uploader.start("f", to="s3://b/k")

        await asyncio.to_thread(elsewhere)
        assert await uploader.list_uploads() == []  # nothing is broken


def test_a_second_loop_in_the_same_thread() -> None:
    uploader = bigupload.Uploader()
    with asyncio.Runner() as runner, asyncio.Runner() as other:
        runner.run(uploader.__aenter__())
        with pytest.raises(errors.UsageError, match="another event loop"):
            other.run(uploader.list_uploads())
        runner.run(uploader.__aexit__())
