"""One journal of a manifest at a time, by a real lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bigupload import errors
from bigupload.manifests.journal import FileJournal
from bigupload.manifests.lock import ManifestLock
from tests.manifests.support import existing


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


def test_a_lock_that_is_held_for_a_moment_is_waited_for(path: Path) -> None:
    """As the clean-up of the state directory holds it."""
    holder = ManifestLock(path)
    holder.acquire()
    lock = ManifestLock(path, sleep=lambda _: holder.release())
    lock.acquire()
    with pytest.raises(errors.ManifestLocked):
        ManifestLock(path, wait=0.0).acquire()
    lock.release()


def test_how_long_a_lock_is_waited_for(path: Path) -> None:
    holder = ManifestLock(path)
    holder.acquire()
    slept: list[float] = []
    for wait in (0.0, 0.5):
        slept.clear()
        with pytest.raises(errors.ManifestLocked):
            ManifestLock(path, wait=wait, sleep=slept.append).acquire()
        assert sum(slept) == pytest.approx(wait)
    holder.release()


_HOLD = """
import sys
from pathlib import Path
from bigupload.manifests.journal import FileJournal
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
