"""Sources that are no paths: bytes in memory and file objects, whole uploads of them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

import bigupload
from bigupload import Verified, errors, events
from bigupload.core.part_plan import MIB
from bigupload.testing.faults import Status

from .backends import Backend
from .stopped import PARTS, SIZE
from .support import BUCKET, FAST, PART, World, content, no_leaks

DATA = content(11 * MIB + 5)
"""Two parts and a bit for a real store."""


@contextlib.contextmanager
def zipped(directory: Path) -> Iterator[Any]:
    path = directory / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("member", DATA)
    with zipfile.ZipFile(path) as archive, archive.open("member") as member:
        yield member


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[Any]:
    (directory / "file").write_bytes(DATA)
    with (directory / "file").open("rb") as file:
        yield file


@contextlib.contextmanager
def in_fsspec(directory: Path) -> Iterator[Any]:
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.pipe("/object", DATA)
    with memory.open("/object", "rb") as file:
        yield file
    memory.rm("/object")


SOURCES: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda _: contextlib.nullcontext(DATA),
    "zip member": zipped,
    "bytearray": lambda _: contextlib.nullcontext(bytearray(DATA)),
    "memoryview": lambda _: contextlib.nullcontext(memoryview(DATA)),
    "BytesIO": lambda _: contextlib.nullcontext(io.BytesIO(DATA)),
    "open": opened,
    "fsspec": in_fsspec,
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", SOURCES)
async def test_every_kind_of_source(kind: str, real_store: Backend, tmp_path: Path) -> None:
    async with no_leaks():
        with SOURCES[kind](tmp_path) as source:
            result = await bigupload.upload(
                source, to=f"s3://{BUCKET}/folder/", name="movie.mov", s3=real_store.options, part_size="5MiB"
            )
            assert not getattr(source, "closed", False)
    assert (result.key, result.size, result.parts) == ("folder/movie.mov", len(DATA), 3)
    assert result.verified is Verified.FULL_OBJECT
    assert result.guarded_by == ("fingerprint" if kind == "open" else "checksums")
    assert result.path == (tmp_path / "file" if kind == "open" else Path("movie.mov"))
    assert sha256_of(real_store, result.key) == hashlib.sha256(DATA).hexdigest()


def sha256_of(store: Backend, key: str) -> str:
    if store.s3 is not None:
        found: str = store.s3.objects[BUCKET][key].sha256()
        return found
    client = boto3.client(
        "s3", endpoint_url=store.options.endpoint_url, region_name=store.options.region,
        aws_access_key_id=store.options.access_key, aws_secret_access_key=store.options.secret_key,
    )  # fmt: skip
    with contextlib.closing(client):
        return hashlib.sha256(client.get_object(Bucket=BUCKET, Key=key)["Body"].read()).hexdigest()


async def test_a_source_without_a_name_is_called_as_the_key_is(world: World) -> None:
    result = await world.upload(b"data", to=f"s3://{BUCKET}/folder/key.mp4")
    assert result.path == Path("key.mp4")
    assert world.manifest.header.options["content_type"] == "video/mp4"


async def test_a_source_needs_a_name(world: World) -> None:
    with pytest.raises(errors.UsageError, match="no name of its own"):
        await world.upload(b"data", to=f"s3://{BUCKET}/folder/")
    with pytest.raises(errors.UsageError, match="not 'a/b'"):
        await world.upload(b"data", name="a/b")
    assert not world.s3.requests


async def test_a_file_can_be_given_another_name(world: World) -> None:
    result = await world.upload(world.file(10), to=f"s3://{BUCKET}/folder/", name="other.mp4")
    assert (result.key, result.path) == ("folder/other.mp4", world.directory / "file.bin")


async def test_the_bytes_before_the_position_are_left_out_and_that_is_said(world: World) -> None:
    file = io.BytesIO(content(1000))
    file.seek(300)
    result = await world.upload(file)
    assert result.size == 700
    assert world.object().sha256() == hashlib.sha256(content(1000)[300:]).hexdigest()
    assert "key is uploaded from its position on: without its first 300 bytes" in world.warnings()


async def test_without_on_event_python_warns_of_the_bytes_left_out(world: World) -> None:
    file = io.BytesIO(content(1000))
    file.seek(300)
    with pytest.warns(UserWarning, match="key is uploaded from its position on: without its first 300 bytes"):
        await bigupload.upload(file, to=f"s3://{BUCKET}/key", s3=world.options(), manifest=world.manifest_path)


async def test_a_file_object_that_was_written_and_not_rewound_is_refused(world: World) -> None:
    buffer = io.BytesIO()
    buffer.write(b"abc" * 1000)
    (world.directory / "written").write_bytes(b"abc")
    with (world.directory / "written").open("rb") as file:
        file.read()
        for source in (buffer, file):
            with pytest.raises(errors.UsageError, match=r"is at its end, after [\d,]+ bytes.*seek\(0\)"):
                await world.upload(source)
    assert not world.s3.requests
    assert (await world.upload(buffer, allow_empty=True)).size == 0
    assert (await world.upload(io.BytesIO())).size == 0  # it has no bytes at all


async def test_what_is_no_single_source(world: World) -> None:
    """Said before names are asked for."""
    for wrong, says in (
        (None, "a source is a path, a URL, bytes.*, not None"),
        (3, "not int"),
        (["a", Path("b")], "upload_many takes a list, and select_files"),
    ):
        with pytest.raises(errors.UsageError, match=says):
            await world.upload(wrong, to=f"s3://{BUCKET}/folder/")
    with pytest.raises(errors.SourceUnsupported, match=r"is a directory.*upload_many\(select_files\(directory\)\)"):
        await world.upload(world.directory)
    async with bigupload.Uploader() as uploader:
        for one in ("small.bin", Path("small.bin"), b"small"):
            with pytest.raises(errors.UsageError, match=r"many sources are a list.*\[source\]"):
                uploader.upload_many(one, to=f"s3://{BUCKET}/")  # type: ignore[arg-type]  # what is refused
            with pytest.raises(errors.UsageError, match="many sources are a list"):
                uploader.verify_many(one, f"s3://{BUCKET}/")  # type: ignore[arg-type]  # what is refused


async def test_a_manifest_in_a_directory_that_is_not_there(world: World) -> None:
    """A misspelled directory is not created, as none is for `temp_dir` or a log."""
    with pytest.raises(errors.UsageError, match=r"`manifest` is in a directory that must exist, and .*none does not"):
        await world.upload(world.file(10), manifest=world.directory / "none" / "m")
    assert not (world.directory / "none").exists()


async def test_nothing_at_all(world: World) -> None:
    assert (await world.upload(b"")).size == 0
    assert world.object().sha256() == hashlib.sha256(b"").hexdigest()


async def test_skip_existing_is_for_files(world: World) -> None:
    with pytest.raises(errors.UsageError, match="`skip_existing` is for files"):
        await world.upload(b"data", skip_existing=True)


# -- resumed by the same call


WHOLE = content(SIZE)


async def test_only_what_is_missing_is_sent(world: World) -> None:
    """The same bytes, name and target find the manifest in the state directory."""
    await world.interrupted(io.BytesIO(WHOLE), after=3, manifest=None)
    missing, before = world.missing(), len(world.s3.requests)
    result = await world.upload(WHOLE, manifest=None)
    assert sorted(world.sent(since=before)) == missing
    assert result.resumed_parts == PARTS - len(missing)
    assert world.object().sha256() == hashlib.sha256(WHOLE).hexdigest()


async def test_other_bytes_of_the_same_name_are_found_by_hashing(world: World) -> None:
    """No metadata shows that they are others."""
    await world.interrupted(WHOLE, after=3)
    (recorded, *_) = world.manifest.parts
    other = bytearray(WHOLE)
    other[(recorded - 1) * PART] ^= 1
    before = len(world.s3.requests)
    await world.upload(other)
    assert recorded in world.sent(since=before)
    assert world.object().sha256() == hashlib.sha256(other).hexdigest()
    assert world.told(events.Hashing)


async def test_bytes_of_another_size_touch_nothing(world: World) -> None:
    await world.interrupted(WHOLE, after=3)
    before = world.manifest_path.read_bytes()
    with pytest.raises(errors.SourceChanged, match="on_change"):
        await world.upload(WHOLE[1:])
    assert world.manifest_path.read_bytes() == before
    await world.upload(WHOLE[1:], resume=False)
    assert world.object().size == SIZE - 1


async def test_a_manifest_alone_can_not_resume_it(world: World) -> None:
    await world.interrupted(WHOLE, after=3)
    with pytest.raises(errors.UsageError, match="upload the same bytes once more"):
        await world.resume()


async def test_a_file_with_the_bytes_resumes_it(world: World) -> None:
    await world.interrupted(WHOLE, after=3)
    (world.directory / "saved").write_bytes(WHOLE)
    before = len(world.s3.requests)
    await world.resume(source=world.directory / "saved")
    assert len(world.sent(since=before)) < PARTS
    assert world.holds(world.directory / "saved")


@pytest.mark.parametrize("changed", [True, False])
async def test_an_object_whose_record_was_lost(world: World, changed: bool) -> None:
    """It was completed by a run that was killed. Whether it is made of these bytes, only hashing them shows."""
    await world.upload(WHOLE)
    lines = world.manifest_path.read_bytes().splitlines(keepends=True)
    assert b'"completed"' in lines[-1]
    world.manifest_path.write_bytes(b"".join(lines[:-1]))
    now = bytes(SIZE) if changed else WHOLE
    before = len(world.s3.requests)
    await world.upload(now)
    assert len(world.sent(since=before)) == (PARTS if changed else 0)
    assert world.object().sha256() == hashlib.sha256(now).hexdigest()
    assert ("the source has changed since" in world.warnings()) == changed


# -- bytes that change meanwhile


async def test_bytes_that_change_after_they_were_hashed_are_never_an_object(world: World) -> None:
    data = bytearray(WHOLE)

    def change(event: bigupload.Event) -> None:
        if isinstance(event, events.Retrying):
            data[PART + 5] = WHOLE[PART + 5] ^ 1

    world.s3.script("UploadPart", Status(503, "SlowDown"), part_number=2)
    with pytest.raises(errors.SourceChanged, match="part 2") as caught:
        await bigupload.upload(
            data, to=f"s3://{BUCKET}/key", s3=world.options(), on_event=change, uploader=bigupload.Uploader(retry=FAST)
        )
    assert caught.value.resumable
    assert world.object() is None


async def test_a_file_object_that_fails_on_its_way(world: World) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 3 * PART:
                raise OSError(5, "Input/output error")
            return super().read(size)

    class Wrapped:
        """No BytesIO, which would be viewed and not read."""

        def __init__(self, file: io.BytesIO) -> None:
            self.read, self.seek, self.tell, self.seekable = file.read, file.seek, file.tell, file.seekable

    says = r"can't read key at byte (196,608|262,144|327,680): Input/output error"  # of the part that is hashed first
    with pytest.raises(errors.SourceUnreadable, match=says) as caught:
        await world.upload(Wrapped(Failing(WHOLE)))
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert world.object() is None
    await world.upload(WHOLE)
    assert world.object().sha256() == hashlib.sha256(WHOLE).hexdigest()
