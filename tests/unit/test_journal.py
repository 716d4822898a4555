"""The manifest's file: real files, real locks, and a disk that fails at every place where it can."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bigupload import errors
from bigupload.journal import FileJournal, read_manifest
from bigupload.manifest import Completing, PartDropped, encode
from tests.unit.samples import ALL_PARTS, header, lines, part


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "upload.manifest.jsonl"


@pytest.fixture
def journal(path: Path) -> Iterator[FileJournal]:
    with FileJournal(path) as opened:
        yield opened


@pytest.fixture
def begun(journal: FileJournal) -> FileJournal:
    journal.begin(header())
    return journal


def existing(path: Path, data: bytes) -> Path:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(data)
    return path


def no_space(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# -- writing


async def test_what_is_written_is_what_is_read(path: Path, begun: FileJournal) -> None:
    assert await begun.append(part(1), part(3, 5)) is begun.manifest
    await begun.append(PartDropped(1, "why"))
    assert path.read_bytes() == lines(header(), part(1), part(3, 5), PartDropped(1, "why"))
    found = read_manifest(path)
    assert found.damage is None
    assert vars(found.manifest) == vars(begun.manifest)
    assert set(begun.manifest.parts) == {3}


async def test_going_on_in_another_process(path: Path) -> None:
    with FileJournal(path) as first:
        first.begin(header())
        await first.append(part(1))
    with FileJournal(path) as second:
        assert second.exists
        assert set(second.manifest.parts) == {1}
        await second.append(part(2))
    assert path.read_bytes() == lines(header(), part(1), part(2))


def test_before_the_first_record(path: Path, journal: FileJournal) -> None:
    assert not journal.exists
    assert not path.exists()
    with pytest.raises(LookupError):
        _ = journal.manifest


async def test_many_appends_share_a_few_syncs(path: Path, begun: FileJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = header(size=1000, part_size=10)
    begun.set_aside()
    begun.begin(plan)
    syncs: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: syncs.append(fd) or real(fd))
    await asyncio.gather(*(begun.append(part(number)) for number in range(1, 101)))
    assert len(syncs) == 2  # the first alone, and all that came meanwhile
    assert set(begun.manifest.parts) == set(range(1, 101))
    assert set(read_manifest(path).manifest.parts) == set(range(1, 101))


async def test_a_record_counts_only_after_its_sync(begun: FileJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    counted_at_sync: list[set[int]] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: counted_at_sync.append(set(begun.manifest.parts)) or real(fd))
    await begun.append(part(1))
    assert counted_at_sync == [set()]
    assert set(begun.manifest.parts) == {1}


async def test_a_cancelled_append_is_seen_through(path: Path, begun: FileJournal) -> None:
    task = asyncio.create_task(begun.append(part(1), part(2)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(begun.manifest.parts) == {1, 2}
    assert path.read_bytes() == lines(header(), part(1), part(2))


def test_only_the_owner_may_look(path: Path, begun: FileJournal) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(f"{path}.lock").stat().st_mode) == 0o600


def test_a_directory_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with FileJournal(tmp_path / "m") as journal:
        journal.begin(header())
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


async def test_no_name_is_left_beside(path: Path, begun: FileJournal) -> None:
    await begun.append(part(1))
    begun.close()
    assert {file.name for file in path.parent.iterdir()} <= {path.name, f"{path.name}.lock"}


# -- the lock


def test_two_journals_of_one_manifest(path: Path, begun: FileJournal) -> None:
    for _ in range(2):  # and asking does not make the holder forgotten
        with pytest.raises(errors.ManifestLocked, match=rf"\(process {os.getpid()}\)") as caught:
            FileJournal(path).open()
        assert caught.value.exit_code == 75
    begun.close()
    with FileJournal(path) as second:
        assert second.exists


def test_two_journals_of_two_manifests(path: Path, begun: FileJournal) -> None:
    with FileJournal(path.with_name("other")) as other:
        assert not other.exists


_HOLD = """
import sys
from pathlib import Path
from bigupload.journal import FileJournal
with FileJournal(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin
        assert holder.stdout
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(errors.ManifestLocked, match=rf"\(process {holder.pid}\)"):
                FileJournal(path).open()
        finally:
            holder.stdin.close()
    assert holder.returncode == 0
    with FileJournal(path) as journal:
        assert not journal.exists


def test_a_killed_process_holds_nothing(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    with FileJournal(path):
        pass


def test_a_holder_that_left_no_name(path: Path, begun: FileJournal) -> None:
    Path(f"{path}.lock").write_text("")
    with pytest.raises(errors.ManifestLocked, match="is running: wait"):
        FileJournal(path).open()


def test_an_open_that_fails_gives_the_lock_back(path: Path) -> None:
    existing(path, b"garbage\n")
    with pytest.raises(errors.ManifestCorrupt):
        FileJournal(path).open()
    path.unlink()
    with FileJournal(path):
        pass


def test_close_is_idempotent(path: Path) -> None:
    journal = FileJournal(path)
    journal.close()
    journal.open()
    journal.close()
    journal.close()
    with FileJournal(path) as other:
        assert not other.exists, "the lock is free"


@pytest.mark.parametrize("place", ["a file", "a link that leads nowhere"])
def test_a_place_where_no_lock_can_be(tmp_path: Path, place: str) -> None:
    if place == "a file":
        (tmp_path / "state").write_bytes(b"")
    else:
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "m.lock").symlink_to(tmp_path / "nowhere" / "x")
    with pytest.raises(errors.ManifestUnwritable, match="can't write the manifest"):
        FileJournal(tmp_path / "state" / "m").open()


# -- damage


@pytest.mark.parametrize("tail", [b'{"type":"part","num', b"\0" * 4096, b"garbage\n" + encode(part(2))])
async def test_a_torn_tail_is_saved_and_cut(path: Path, tail: bytes) -> None:
    good = lines(header(), part(1))
    existing(path, good + tail)
    with FileJournal(path) as journal:
        assert journal.warning is not None
        assert journal.warning.startswith("line 3 can't be read")
        assert path.read_bytes() == good
        saved = path.with_name(f"{path.name}.damaged")
        assert saved.read_bytes() == tail
        assert str(saved) in journal.warning
        assert stat.S_IMODE(saved.stat().st_mode) == 0o600
        await journal.append(part(3, 5))
    assert path.read_bytes() == good + encode(part(3, 5))


def test_a_tail_that_can_not_be_saved_is_not_cut(path: Path) -> None:
    data = lines(header(), part(1)) + b"garbage"
    existing(path, data)
    path.with_name(f"{path.name}.damaged").mkdir()
    with pytest.raises(errors.ManifestUnwritable) as caught:
        FileJournal(path).open()
    assert path.read_bytes() == data
    assert caught.value.manifest == path


def test_a_tail_is_not_saved_through_a_link(path: Path, tmp_path: Path) -> None:
    existing(path, lines(header()) + b"garbage")
    (tmp_path / "precious").write_bytes(b"precious")
    path.with_name(f"{path.name}.damaged").symlink_to(tmp_path / "precious")
    with pytest.raises(errors.ManifestUnwritable):
        FileJournal(path).open()
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_reading_alone_cuts_nothing(path: Path) -> None:
    data = lines(header()) + b"garbage"
    existing(path, data)
    found = read_manifest(path)
    assert found.damage is not None
    assert path.read_bytes() == data
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # no lock either


@pytest.mark.parametrize("read", [read_manifest, lambda path: FileJournal(path).open()])
def test_a_first_line_that_can_not_be_read(path: Path, read: Callable[[Path], Any]) -> None:
    existing(path, b"garbage\n" + lines(header()))
    with pytest.raises(errors.ManifestCorrupt, match=str(path)):
        read(path)
    assert path.read_bytes() == b"garbage\n" + lines(header())


def test_an_empty_file_is_no_manifest_yet(path: Path) -> None:
    existing(path, b"")
    with FileJournal(path) as journal:
        assert not journal.exists
        journal.begin(header())
    assert path.read_bytes() == lines(header())


@pytest.mark.parametrize("read", [read_manifest, lambda path: FileJournal(path).open()])
@pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
def test_what_is_no_regular_file(path: Path, tmp_path: Path, kind: str, read: Callable[[Path], Any]) -> None:
    path.parent.mkdir()
    real = existing(tmp_path / "real", lines(header()))
    match kind:
        case "link":
            path.symlink_to(real)
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
    with pytest.raises(errors.ManifestMismatch):
        read(path)
    assert real.read_bytes() == lines(header())


def test_a_missing_manifest(path: Path) -> None:
    with pytest.raises(errors.ManifestNotFound, match=str(path)):
        read_manifest(path)


def test_a_disk_that_can_not_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __enter__(self) -> Broken:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    existing(path, lines(header()))
    monkeypatch.setattr(os, "fdopen", lambda *_, **__: Broken())
    with pytest.raises(errors.ManifestMismatch, match="Input/output error"):
        read_manifest(path)


def test_a_manifest_that_may_be_read_but_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write everything, so the refusal is played."""
    existing(path, lines(header()))
    real = os.open

    def read_only(name: Any, flags: int, *rest: Any, **more: Any) -> int:
        if Path(name) == path and flags & os.O_WRONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(name, flags, *rest, **more)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(errors.ManifestUnwritable, match="Read-only file system") as caught:
        FileJournal(path).open()
    assert caught.value.manifest == path
    monkeypatch.undo()
    with FileJournal(path):  # the lock was given back
        pass


# -- a disk that fails


def fail_after(journal: FileJournal, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """os.write writes `count` bytes more, in small pieces, and then the disk is full."""
    real = os.write
    left = count

    def write(fd: int, data: bytes) -> int:
        nonlocal left
        if left == 0:
            no_space()
        done = real(fd, data[: min(left, 7)])
        left -= done
        return done

    monkeypatch.setattr(os, "write", write)


@pytest.mark.parametrize("count", [0, 1, 50, len(encode(part(1))), len(encode(part(1))) + 1])
async def test_a_full_disk_leaves_the_file_as_it_was(
    path: Path, begun: FileJournal, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    fail_after(begun, monkeypatch, count)
    with pytest.raises(errors.ManifestUnwritable, match="No space left on device") as caught:
        await begun.append(part(1), part(2))
    assert path.read_bytes() == lines(header())
    assert begun.manifest.parts == {}
    assert caught.value.exit_code == 75
    assert caught.value.manifest == path


async def test_short_writes_are_continued(path: Path, begun: FileJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_after(begun, monkeypatch, 10_000)
    await begun.append(part(1))
    assert path.read_bytes() == lines(header(), part(1))


async def test_after_a_failed_sync_nothing_counts_any_more(
    path: Path, begun: FileJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """https://wiki.postgresql.org/wiki/Fsync_Errors: a second fsync that succeeds says nothing of the first's data."""
    await begun.append(part(1))
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(errors.ManifestUnwritable):
        await begun.append(part(2))
    monkeypatch.undo()
    for _ in range(2):
        with pytest.raises(errors.ManifestUnwritable):
            await begun.append(part(2))
    assert set(begun.manifest.parts) == {1}
    begun.close()
    with FileJournal(path) as again:  # but another run may try
        assert set(again.manifest.parts) == {1}
        await again.append(part(2))


async def test_a_failure_reaches_every_append_that_waits(begun: FileJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", no_space)
    results = await asyncio.gather(*(begun.append(part(n)) for n in (1, 2)), return_exceptions=True)
    assert [type(result) for result in results] == [errors.ManifestUnwritable] * 2
    assert begun.manifest.parts == {}


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
def test_a_begin_that_fails_leaves_nothing(
    path: Path, journal: FileJournal, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    match failing:
        case "write":
            fail_after(journal, monkeypatch, 20)
        case "fsync":
            monkeypatch.setattr(os, "fsync", no_space)
        case "replace":
            monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(errors.ManifestUnwritable) as caught:
        journal.begin(header())
    assert caught.value.manifest is None  # there is nothing to resume from
    assert not journal.exists
    assert [file.name for file in path.parent.iterdir()] == [f"{path.name}.lock"]


async def test_after_a_begin_that_failed_another_may_come(
    path: Path, journal: FileJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(errors.ManifestUnwritable):
        journal.begin(header())
    monkeypatch.undo()
    journal.begin(header())
    await journal.append(part(1))
    fail_after(journal, monkeypatch, 5)
    with pytest.raises(errors.ManifestUnwritable):
        await journal.append(part(2))
    assert path.read_bytes() == lines(header(), part(1))  # truncated to where the good ones end, no byte further


def test_a_begin_does_not_write_through_a_link(path: Path, journal: FileJournal, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    path.symlink_to(tmp_path / "precious")
    path.with_name(f"{path.name}.new").symlink_to(tmp_path / "precious")
    with pytest.raises(errors.ManifestUnwritable):
        journal.begin(header())
    assert (tmp_path / "precious").read_bytes() == b"precious"


# -- setting aside


async def test_set_aside_numbers(path: Path) -> None:
    with FileJournal(path) as journal:
        for number in range(1, 4):
            journal.begin(dataclasses.replace(header(), upload_id=f"upload {number}"))
            await journal.append(*ALL_PARTS, Completing(None))
            assert journal.set_aside() == path.with_name(f"{path.name}.{number}")
            assert not journal.exists
        assert not path.exists()
        journal.begin(header())
        await journal.append(part(1))
    for number in range(1, 4):
        kept = read_manifest(path.with_name(f"{path.name}.{number}")).manifest
        assert kept.upload_id == f"upload {number}"
        assert kept.status == "completing"
    assert path.read_bytes() == lines(header(), part(1))


def test_set_aside_keeps_the_lock(path: Path, begun: FileJournal) -> None:
    begun.set_aside()
    with pytest.raises(errors.ManifestLocked):
        FileJournal(path).open()


def test_set_aside_that_fails(path: Path, begun: FileJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "rename", no_space)
    with pytest.raises(errors.ManifestUnwritable):
        begun.set_aside()
    assert path.read_bytes() == lines(header())


def test_a_directory_that_can_not_be_synced_is_no_obstacle(
    path: Path, journal: FileJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows opens no directories, and some file systems sync none."""
    real = os.open

    def no_directories(name: Any, flags: int, *rest: Any, **more: Any) -> int:
        if Path(name) == path.parent:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(name, flags, *rest, **more)

    monkeypatch.setattr(os, "open", no_directories)
    journal.begin(header())
    assert path.read_bytes() == lines(header())


def test_a_device_is_no_manifest() -> None:
    with pytest.raises(errors.ManifestMismatch, match="not a regular file"):
        read_manifest(Path(os.devnull))
