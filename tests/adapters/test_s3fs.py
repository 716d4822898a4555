"""Uploads of s3fs's file system, made by bigupload. tests/adapters/foreign_s3fs.py runs s3fs's own tests."""

# mypy: disable-error-code="import-untyped,misc"

from __future__ import annotations

import asyncio
import csv
import errno
import gc
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bigupload.stores import local_store
from bigupload.stores.local_store import LocalStore
from bigupload.testing.fault_proxy import FaultProxy
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.surroundings import only_strict_s3
from tests.tools.weed import weed_client

pytest.importorskip("s3fs")

import fsspec
import s3fs
from fsspec.callbacks import Callback

from bigupload.adapters.s3fs import NotTakenOver, S3FileSystem

MIB = 1024 * 1024
BUCKET = "s3fs"


@pytest.fixture(scope="session")  # as the store lives
def bucket(weed: LocalStore) -> str:
    client = weed_client(weed)
    client.create_bucket(Bucket=BUCKET)
    client.close()
    local_store.make_room(BUCKET, weed.data_dir)
    return BUCKET


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    only_strict_s3(monkeypatch, tmp_path)
    yield
    # Where another event loop runs, s3fs's finalizer of a file system would close its connections in that one.
    S3FileSystem.clear_instance_cache()
    gc.collect()


def options_of(weed: LocalStore) -> dict[str, Any]:
    return {
        "endpoint_url": weed.endpoint_url,
        "key": weed.access_key,
        "secret": weed.secret_key,
        "client_kwargs": {"region_name": weed.region},
    }


@pytest.fixture
def fs(weed: LocalStore, bucket: str) -> S3FileSystem:
    return S3FileSystem(**options_of(weed))


@pytest.fixture
def strict() -> Iterator[StrictS3]:
    with StrictS3() as running:
        running.create_bucket(BUCKET)
        yield running


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(os.urandom(MIB) * 12)
    return path


def head(weed: LocalStore, key: str) -> dict[str, Any]:
    client = weed_client(weed)
    found: dict[str, Any] = client.head_object(Bucket=BUCKET, Key=key)
    client.close()
    return found


class Steps(Callback):
    """Counts what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def relative_update(self, inc: int = 1) -> None:
        self.steps.append(inc)
        super().relative_update(inc)


def test_a_file(fs: S3FileSystem, weed: LocalStore, film: Path) -> None:
    assert fs.ls(BUCKET, refresh=True) == []
    callback = Steps()
    fs.put_file(str(film), f"s3://{BUCKET}/raw/film.mp4", callback=callback)
    assert (callback.size, callback.value) == (12 * MIB, 12 * MIB)
    assert min(callback.steps) > 0
    assert fs.cat_file(f"{BUCKET}/raw/film.mp4") == film.read_bytes()
    assert fs.ls(BUCKET) == [f"{BUCKET}/raw"], "what was listed before counted on"
    found = head(weed, "raw/film.mp4")
    assert (found["ContentType"], "bigupload-token" in found["Metadata"]) == ("video/mp4", True)


def test_many_files_share_connections(fs: S3FileSystem, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02}.txt").write_bytes(b"x" * number)
    fs.put(str(folder), f"{BUCKET}/", recursive=True)
    assert [(each["size"]) for each in fs.ls(f"{BUCKET}/many", detail=True)] == list(range(20))
    assert fs._uploader._users == 1, "the file system holds its uploader, and every call gave it back"


@pytest.mark.slow
def test_in_a_program_s_own_event_loop(weed: LocalStore, bucket: str, film: Path) -> None:
    async def main() -> bytes:
        fs = S3FileSystem(asynchronous=True, skip_instance_cache=True, **options_of(weed))
        session = await fs.set_session()
        await asyncio.gather(*(fs._put_file(film, f"{BUCKET}/async/{n}.mp4") for n in range(3)))
        assert (fs._uploader._open, fs._uploader._users) == (None, 0)
        data: bytes = await fs._cat_file(f"{BUCKET}/async/2.mp4")
        await session.close()
        return data

    assert asyncio.run(main()) == film.read_bytes()


def test_what_s3_takes_for_an_object(fs: S3FileSystem, weed: LocalStore, film: Path) -> None:
    fs.put_file(film, f"{BUCKET}/o.bin", ContentType="a/b", Metadata={"take": "7"}, CacheControl="max-age=7")
    found = head(weed, "o.bin")
    assert (found["ContentType"], found["CacheControl"], found["Metadata"]["take"]) == ("a/b", "max-age=7", "7")
    for_all = S3FileSystem(s3_additional_kwargs={"StorageClass": "STANDARD_IA", "VersionId": "x"}, **options_of(weed))
    for_all.put_file(film, f"{BUCKET}/o.bin")
    assert head(weed, "o.bin").get("StorageClass") == "STANDARD_IA"


def test_its_proxies(weed: LocalStore, film: Path) -> None:
    fs = S3FileSystem(**options_of(weed), config_kwargs={"proxies": {"http": "http://127.0.0.1:1", "ftp": "x"}})
    with pytest.raises(Exception, match=r"127\.0\.0\.1"):
        fs.put_file(film, f"{BUCKET}/by-proxy")
    assert fs._uploader.options["proxies"] == {"http": "http://127.0.0.1:1"}


def test_what_bigupload_has_not_is_s3fs_own(fs: S3FileSystem, film: Path) -> None:
    with pytest.warns(NotTakenOver, match="s3fs makes this upload itself, .*BucketKeyEnabled"):
        fs.put_file(film, f"{BUCKET}/own.mp4", BucketKeyEnabled=True)
    assert fs.cat_file(f"{BUCKET}/own.mp4") == film.read_bytes()


def test_create_replaces_nothing(fs: S3FileSystem, film: Path, tmp_path: Path) -> None:
    fs.put_file(film, f"{BUCKET}/once", mode="create")
    other = tmp_path / "other"
    other.write_bytes(b"other")
    with pytest.raises(FileExistsError, match="once"):
        fs.put_file(other, f"{BUCKET}/once", mode="create")
    assert fs.size(f"{BUCKET}/once") == 12 * MIB


def test_exceptions_are_those_of_s3fs(
    weed: LocalStore, fs: S3FileSystem, strict: StrictS3, film: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4"):
        fs.put_file(tmp_path / "gone.mp4", f"{BUCKET}/a")
    with pytest.raises(FileNotFoundError):
        S3FileSystem(endpoint_url=strict.url).put_file(film, "no-such-bucket-here/a")
    with pytest.raises(PermissionError):
        S3FileSystem(**{**options_of(weed), "secret": "wrong"}).put_file(film, f"{BUCKET}/a")
    with pytest.raises(ValueError, match="part"):
        fs.put_file(film, f"{BUCKET}/a", chunksize=1000)
    with pytest.raises(ValueError, match="concurrency"):
        S3FileSystem(max_concurrency=5000)
    with pytest.raises(ValueError, match="proof"):
        S3FileSystem(require_proof="proof")


def test_a_proof_that_is_too_weak_is_an_oserror(strict: StrictS3, film: Path, monkeypatch: Any) -> None:
    strict.knobs.echo_checksums, strict.knobs.etags = False, "opaque"
    fs = S3FileSystem(endpoint_url=strict.url, require_proof="full-object", skip_instance_cache=True)
    with pytest.raises(OSError, match="proved"):
        fs.put_file(film, f"{BUCKET}/weak")


def test_a_failed_upload_goes_on_where_it_stopped(strict: StrictS3, film: Path, monkeypatch: Any) -> None:
    fs = S3FileSystem(endpoint_url=strict.url, max_concurrency=1, skip_instance_cache=True)
    strict.script("UploadPart", *[Status(403, "AccessDenied")] * 9, part_number=3)
    with pytest.raises(PermissionError):
        fs.put_file(film, f"{BUCKET}/film", chunksize=5 * MIB)
    strict.clear()
    before = len(strict.requests)
    fs.put_file(film, f"{BUCKET}/film", chunksize=5 * MIB)
    sent = {each.part_number for each in strict.requests[before:] if each.op == "UploadPart"}
    assert 3 in sent
    assert len(sent) < 3
    assert strict.objects[BUCKET]["film"].body == film.read_bytes()


def test_pickled_it_uploads_too(fs: S3FileSystem, film: Path) -> None:
    fs.put_file(film, f"{BUCKET}/p")
    again = pickle.loads(pickle.dumps(fs))
    assert type(again) is S3FileSystem
    again.put_file(film, f"{BUCKET}/p")


def test_registered_it_is_everyone_s(weed: LocalStore, bucket: str, film: Path, monkeypatch: Any) -> None:
    """The line that the documentation names: pandas and DVC get it by fsspec."""
    registry = sys.modules["fsspec.registry"]
    monkeypatch.setitem(registry._registry, "s3", S3FileSystem)
    monkeypatch.setitem(registry.known_implementations, "s3", registry.known_implementations["s3"])
    fsspec.register_implementation("s3", "bigupload.adapters.s3fs.S3FileSystem", clobber=True)
    fs, path = fsspec.core.url_to_fs(f"s3://{BUCKET}/registered", **options_of(weed))
    assert type(fs) is S3FileSystem
    fs.put_file(film, path)
    assert isinstance(fs, s3fs.S3FileSystem)


# -- open(path, "wb")


class Broken(Exception):
    """What goes wrong in a block."""


def write_and_break(file: Any, chunk: Any, count: int = 1) -> None:
    """Write, and leave the file's block by an exception."""
    with file as opened:
        for _ in range(count):
            opened.write(chunk)
        raise Broken


def drop(files: list[Any]) -> None:
    """Leave files to the garbage collector."""
    files.clear()
    gc.collect()


def test_a_file_that_is_written(fs: S3FileSystem, weed: LocalStore) -> None:
    data = os.urandom(MIB) * 12
    with fs.open(f"s3://{BUCKET}/w/rows.bin", "wb", ContentType="a/b", block_size=5 * MIB) as file:
        assert (file.write(data), file.tell()) == (12 * MIB, 12 * MIB)
        assert (file.writable(), file.seekable(), file.readable()) == (True, False, False)
        file.flush()
        with pytest.raises(OSError, match=r"[Ss]eek"):
            file.seek(0)
        with pytest.raises(ValueError, match="not closed"):
            _ = file.result
    assert (file.closed, str(file.result.verified), file.result.parts) == (True, "full-object", 3)
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.write(b"more")
    assert fs.cat_file(f"{BUCKET}/w/rows.bin") == data
    assert head(weed, "w/rows.bin")["ContentType"] == "a/b"


# Python 3.13 says what the finalizer of a GzipFile meets, whose file is closed.
@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:Exception ignored in. <gzip:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", [{"mode": "wb"}, {"mode": "w"}, {"mode": "wb", "compression": "gzip"}])
def test_an_exception_in_the_block_makes_no_object(strict: StrictS3, how: dict[str, Any]) -> None:
    """s3fs makes a truncated one."""
    fs = S3FileSystem(endpoint_url=strict.url, skip_instance_cache=True)
    chunk: Any = "x" * MIB if how["mode"] == "w" else os.urandom(MIB)
    with pytest.raises(Broken):
        write_and_break(fs.open(f"{BUCKET}/rows", **how), chunk, 12)
    assert strict.objects[BUCKET] == {}
    with fs.open(f"{BUCKET}/rows", **how) as file:
        for _ in range(12):
            file.write(chunk)
    assert list(strict.objects[BUCKET]) == ["rows"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", [{"mode": "wb"}, {"mode": "w"}, {"mode": "wb", "compression": "gzip"}])
def test_a_file_that_is_never_closed_makes_no_object(strict: StrictS3, how: dict[str, Any]) -> None:
    fs = S3FileSystem(endpoint_url=strict.url, skip_instance_cache=True)
    files = [fs.open(f"{BUCKET}/rows", **how)]
    files[0].write("x" if how["mode"] == "w" else b"x")
    with pytest.warns(ResourceWarning, match="never closed"):
        drop(files)
    strict.settle()
    assert strict.objects[BUCKET] == {}


def test_text_and_compressed_bytes(fs: S3FileSystem) -> None:
    with fs.open(f"{BUCKET}/t.txt.gz", "wt", compression="infer", encoding="utf-16", newline="\r\n") as file:
        file.write("é\n")
    with fs.open(f"{BUCKET}/t.txt.gz", "rb", compression="gzip") as file:
        assert file.read().decode("utf-16") == "é\r\n"
    file = fs.open(f"{BUCKET}/t.csv", "w")
    csv.writer(file).writerow([1, "é"])
    file.close()
    assert fs.cat_file(f"{BUCKET}/t.csv").decode() == "1,é\r\n"


def test_fsspec_opens_it_too(weed: LocalStore, bucket: str, monkeypatch: Any) -> None:
    """As pandas does: text around the file, and a close while the exception is handled."""
    registry = sys.modules["fsspec.registry"]
    monkeypatch.setitem(registry._registry, "s3", S3FileSystem)
    path = f"s3://{BUCKET}/by-fsspec.txt.gz"
    with fsspec.open(path, "wt", compression="infer", **options_of(weed)) as file:
        file.write("text")
    with fsspec.open(path, "rt", compression="infer", **options_of(weed)) as file:
        assert file.read() == "text"
    path = f"s3://{BUCKET}/broken.txt"
    with pytest.raises(ValueError, match="nothing was committed"):
        write_and_break(fsspec.open(path, "w", **options_of(weed)), "text")
    fs = S3FileSystem(**options_of(weed))
    fs.invalidate_cache()
    assert not fs.exists(path)


def test_a_transaction_ends_them_together(fs: S3FileSystem) -> None:
    with fs.transaction:
        with fs.open(f"{BUCKET}/x/1", "wb") as one, fs.open(f"{BUCKET}/x/2", "wb") as two:
            one.write(b"1")
            two.write(b"22")
        fs.invalidate_cache()
        assert not fs.exists(f"{BUCKET}/x/1")
    assert (fs.cat_file(f"{BUCKET}/x/1"), fs.cat_file(f"{BUCKET}/x/2")) == (b"1", b"22")
    with fs.open(f"{BUCKET}/x/3", "wb", autocommit=False) as three:
        three.write(b"3")
    three.discard()
    with pytest.raises(Broken), fs.transaction:
        write_and_break(fs.open(f"{BUCKET}/x/3", "wb"), b"3")
    fs.invalidate_cache()
    assert not fs.exists(f"{BUCKET}/x/3")


@pytest.mark.parametrize("kind", [io.TextIOWrapper, io.BufferedWriter])
def test_what_wraps_a_file_and_is_never_closed_makes_no_object(strict: StrictS3, kind: Any) -> None:
    """Python's wrappers close what they wrap when they are collected."""
    fs = S3FileSystem(endpoint_url=strict.url, skip_instance_cache=True)
    files = [kind(fs.open(f"{BUCKET}/rows", "wb"))]
    files[0].write("x" if kind is io.TextIOWrapper else b"x")
    with pytest.warns(ResourceWarning, match="never closed"):
        drop(files)
    strict.settle()
    assert strict.objects[BUCKET] == {}


@pytest.mark.parametrize("how", [{"mode": "wb"}, {"mode": "w"}])
def test_a_transaction_does_not_commit_what_was_never_closed(strict: StrictS3, how: dict[str, Any]) -> None:
    fs = S3FileSystem(endpoint_url=strict.url, skip_instance_cache=True)
    fs.start_transaction()
    file = fs.open(f"{BUCKET}/rows", **how)
    file.write("x" if how["mode"] == "w" else b"x")
    with pytest.raises(ValueError, match="rows was never closed"):
        fs.end_transaction()
    assert file.closed
    assert strict.objects[BUCKET] == {}


@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <gzip:pytest.PytestUnraisableExceptionWarning"
)  # from 3.12 on
@pytest.mark.parametrize("how", [{}, {"compression": "gzip"}])
def test_text_whose_last_write_is_interrupted_makes_no_object(strict: StrictS3, how: dict[str, Any]) -> None:
    """`io.TextIOWrapper` closes what it wraps also if what it had collected could not be written."""
    fs = S3FileSystem(endpoint_url=strict.url, skip_instance_cache=True)

    def interrupt(_: bytes) -> int:
        raise KeyboardInterrupt

    file = fs.open(f"{BUCKET}/rows", "w", **how)
    file.write("text")
    file.buffer.write = interrupt
    with pytest.raises(KeyboardInterrupt):
        file.close()
    assert file.closed
    assert strict.objects[BUCKET] == {}


def test_one_file_at_a_time_is_written_to_a_key(fs: S3FileSystem) -> None:
    with fs.open(f"{BUCKET}/twice", "wb") as one:
        one.write(bytes(12 * MIB))
        two = fs.open(f"{BUCKET}/twice", "wb")
        with pytest.raises(OSError, match="another upload") as caught:
            two.close()
    assert caught.value.errno == errno.EBUSY
    assert fs.size(f"{BUCKET}/twice") == 12 * MIB


def test_exclusive_writes(fs: S3FileSystem) -> None:
    with fs.open(f"{BUCKET}/exclusive", "xb") as file:
        file.write(b"one")
    with pytest.raises(FileExistsError):
        fs.open(f"{BUCKET}/exclusive", "xb")
    assert fs.cat_file(f"{BUCKET}/exclusive") == b"one"


def test_appending_and_an_unknown_argument_are_s3fs_own(fs: S3FileSystem) -> None:
    with fs.open(f"{BUCKET}/log", "wb") as file:
        file.write(b"one ")
    with fs.open(f"{BUCKET}/log", "ab") as file:
        file.write(b"two")
    assert fs.cat_file(f"{BUCKET}/log") == b"one two"
    with pytest.warns(NotTakenOver, match="BucketKeyEnabled"):
        file = fs.open(f"{BUCKET}/own", "wb", BucketKeyEnabled=True)
    assert type(file) is s3fs.core.S3File
    file.close()


def test_bad_arguments_of_open(fs: S3FileSystem, strict: StrictS3) -> None:
    with pytest.raises(ValueError, match="non key-like path"):
        fs.open(BUCKET, "wb")
    with pytest.raises(ValueError, match="ACL"):
        fs.open(f"{BUCKET}/a", "wb", acl="everyone")
    with pytest.raises(ValueError, match="Block size"):
        fs.open(f"{BUCKET}/a", "wb", block_size=1000)
    file = S3FileSystem(endpoint_url=strict.url, skip_instance_cache=True).open("no-such-bucket-here/a", "wb")
    file.write(b"a")
    with pytest.raises(FileNotFoundError):
        file.close()
    file = fs.open(f"{BUCKET}/a", "wb")
    with pytest.raises(RuntimeError, match="Pickling"):
        pickle.dumps(file)
    file.discard()


# -- a kill

PROGRAM = """
import json, os, sys
from bigupload.adapters.s3fs import S3FileSystem
from fsspec.callbacks import Callback

class Killed(Callback):
    def relative_update(self, inc=1):
        super().relative_update(inc)
        if self.value >= int(sys.argv[3]):
            os._exit(9)

S3FileSystem(**json.loads(sys.argv[1])).put_file(sys.argv[2], "s3fs/killed.bin", callback=Killed())
"""


@pytest.mark.slow
def test_put_file_of_a_large_file_killed_and_repeated_sends_only_the_rest(
    weed: LocalStore, bucket: str, tmp_path: Path
) -> None:
    """As DVC uses it. The bytes are counted between the process and the store."""
    size = 256 * MIB
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        for _ in range(size // (64 * MIB)):
            file.write(os.urandom(64 * MIB))
    port = urlsplit(weed.endpoint_url).port
    assert port is not None
    with FaultProxy("127.0.0.1", port) as proxy:
        options = json.dumps({**options_of(weed), "endpoint_url": proxy.url})
        for at, status in ((size // 3, 9), (2 * size // 3, 9), (10 * size, 0)):
            command = [sys.executable, "-c", PROGRAM, options, path, str(at)]
            done = subprocess.run(command, timeout=280, check=False)
            assert done.returncode == status
        sent = proxy.bytes_taken
    print(f"{size:,} bytes, killed twice: {sent:,} bytes sent")
    assert size <= sent < 1.6 * size, "what was stored was sent again"
    fs = S3FileSystem(**options_of(weed))
    assert fs.size(f"{BUCKET}/killed.bin") == size
    with fs.open(f"{BUCKET}/killed.bin") as stored, path.open("rb") as file:
        assert hashlib.file_digest(stored, "sha256").digest() == hashlib.file_digest(file, "sha256").digest()
