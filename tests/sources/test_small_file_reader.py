"""Small files are read at once; everything else is what `FileSource` makes of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bigupload import errors
from bigupload.core.manifest import SourceKind
from bigupload.core.part_plan import Part
from bigupload.sources import objects
from bigupload.sources.file import FileSource, open_in_thread
from bigupload.sources.objects import SmallFile, SmallFileReader


@pytest.fixture(params=["asked", "not asked"], ids=["page cache", "no page cache"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SmallFileReader:
    """Also where the page cache can't be asked, as on a network's file system."""
    if request.param == "not asked":
        monkeypatch.setattr("bigupload.support.pages._NOWAIT", None)
    return SmallFileReader()


@pytest.mark.parametrize("size", [0, 1, 4096, 100_000])
async def test_its_bytes_are_in_memory(reader: SmallFileReader, tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    with FileSource(path) as plain:
        for _ in range(3):  # the second one is opened without a thread
            found = await reader.open(str(path))
            assert isinstance(found, SmallFile)
            assert await found.hold(Part(1, 0, size))
            assert bytes(found.view(0, size)) == path.read_bytes()
            assert (found.kind, found.path, found.fingerprint) == (SourceKind.FILE, plain.path, plain.fingerprint)
            buffer = memoryview(bytearray(10))
            assert bytes(buffer[: found.read_into(buffer, 1)]) == path.read_bytes()[1:11]
            assert reader.held == size
            found.close()
            found.close()
            assert reader.held == 0


async def test_it_stays_as_it_was(reader: SmallFileReader, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    found = await reader.open(str(path))
    path.write_bytes(b"after it")
    path.unlink()
    assert bytes(found.view(0, 6) or b"") == b"before"
    found.check()


async def test_large_files_and_too_many_are_not_held(
    reader: SmallFileReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1234")
    monkeypatch.setattr(objects, "MAX_SMALL_FILE", 3)
    with await reader.open(str(path)) as found:  # type: ignore[union-attr]  # it is a FileSource
        assert isinstance(found, FileSource)
    monkeypatch.setattr(objects, "MAX_SMALL_FILE", 4)
    monkeypatch.setattr(objects, "_BUDGET", 7)
    first = await reader.open(str(path))
    assert isinstance(first, SmallFile)
    second = await reader.open(str(path))
    assert isinstance(second, FileSource)
    second.close()
    first.close()
    assert isinstance(await reader.open(str(path)), SmallFile)


async def test_links_are_followed_and_other_things_refused(reader: SmallFileReader, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1234")
    for _ in range(2):
        assert (await reader.open(str(path))).fingerprint.size == 4
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(path)
        assert (await reader.open(str(tmp_path / "link"))).fingerprint.size == 4
        with pytest.raises(errors.SourceNotFound):
            await reader.open(str(tmp_path / "missing"))
        with pytest.raises(errors.SourceUnsupported):
            await reader.open(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(errors.SourceUnsupported):
        await reader.open(str(tmp_path / "pipe"))
    with pytest.raises(errors.SourceUnsupported):
        await reader.open("/proc/self/status")  # which has more bytes than it says


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has an entry for each file that is opened in a thread. All files are in a page cache that can be asked."""
    taken: list[str] = []

    async def counted(open_it: Callable[[], SmallFile | FileSource]) -> SmallFile | FileSource:
        taken.append("a thread")
        return await open_in_thread(open_it)

    monkeypatch.setattr(objects, "open_in_thread", counted)
    monkeypatch.setattr(objects, "is_on_local_disk", lambda fd: True)
    monkeypatch.setattr(objects, "read_cached", lambda fd, buffer, offset: os.preadv(fd, [buffer], offset))
    return taken


async def test_of_many_files_at_once_only_the_first_of_a_directory_takes_a_thread(
    tmp_path: Path, threads: list[str]
) -> None:
    paths = [tmp_path / folder / str(number) for folder in "ab" for number in range(30)]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text(path.name)
    reader = SmallFileReader()
    found = await asyncio.gather(*(reader.open(str(path)) for path in paths))
    assert [bytes(each.view(0, 2) or b"").decode() for each in found] == [path.name for path in paths]
    assert len(threads) == 2


async def test_a_first_file_that_fails_or_is_cancelled_does_not_hold_up_the_others(
    tmp_path: Path, threads: list[str]
) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    reader = SmallFileReader()
    missing = asyncio.create_task(reader.open(str(tmp_path / "missing")))
    cancelled = asyncio.create_task(reader.open(f"{tmp_path}/other/missing"))
    other = asyncio.create_task(reader.open(str(tmp_path / "file")))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(errors.SourceNotFound):
        await missing
    assert (await other).fingerprint.size == 4
    with pytest.raises(errors.SourceNotFound):
        await reader.open(f"{tmp_path}/other/missing")
    assert len(threads) >= 3
