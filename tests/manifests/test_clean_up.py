"""What is deleted from a state directory, and what never is."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import pytest

from bigupload import errors
from bigupload.cli import store
from bigupload.core.integrity import Verified
from bigupload.core.manifest import Aborted, Completed, CompletingRecord, Record
from bigupload.manifests import clean_up
from bigupload.manifests.clean_up import DAY, KEEP_FINISHED, clean, clean_if_due, forget_endpoint
from bigupload.manifests.journal import FileJournal
from bigupload.manifests.lock import ManifestLock
from bigupload.manifests.state_directory import MANIFEST_INDEX, SUFFIX, find_manifests, state_dir
from tests.core.samples import ALL_PARTS, header, lines

NOW = 2_000_000_000.0
COMPLETED = (*ALL_PARTS, CompletingRecord(None), Completed(etag='"e"', verified=Verified.SIZE))
ENDINGS: dict[str, tuple[Record, ...]] = {"completed": COMPLETED, "aborted": (*ALL_PARTS[:1], Aborted())}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir(mode=0o700)
    return tmp_path / "state"


def manifest(state: Path, name: str, *records: Record, days: float = 365, tail: bytes = b"") -> Path:
    path = state / name
    path.write_bytes(lines(header(), *records) + tail)
    os.utime(path, (NOW - days * DAY,) * 2)
    return path


@pytest.mark.parametrize("name", ["a.manifest.jsonl", "a.manifest.jsonl.7"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_finished_manifest_is_deleted_once_it_is_old(state: Path, name: str, ending: str) -> None:
    old = manifest(state, name, *ENDINGS[ending], days=31)
    young = manifest(state, f"b{name}", *ENDINGS[ending], days=29)
    assert clean(state, now=NOW).manifests == 1
    assert not old.exists()
    assert list(state.iterdir()) == [young]


@pytest.mark.parametrize("name", ["a.manifest.jsonl", "a.manifest.jsonl.7"])
@pytest.mark.parametrize(
    ("records", "tail"),
    [
        ((), b""),
        (ALL_PARTS, b""),
        ((*ALL_PARTS, CompletingRecord(None)), b""),
        ((), b'{"type":"completed"'),
        (ALL_PARTS, b'{"type":"aborted"}\0'),
        (COMPLETED, b"torn"),
        (COMPLETED, b'{"type":"from a newer version"}\n'),
    ],
    ids=["begun", "uploading", "completing", "torn completed", "torn aborted", "torn after completed", "newer"],
)
def test_what_may_be_resumed_stays(state: Path, name: str, records: tuple[Record, ...], tail: bytes) -> None:
    path = manifest(state, name, *records, tail=tail)
    before = path.read_bytes()
    assert clean(state, now=NOW, older_than=0, keep=0).manifests == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("data", [b"", b"\n", b"garbage\n", b"\0" * 100])
def test_what_cannot_be_read_stays(state: Path, data: bytes) -> None:
    path = state / "a.manifest.jsonl"
    path.write_bytes(data)
    clean(state, now=NOW, older_than=0, keep=0)
    assert path.exists()


def test_the_youngest_finished_manifests_are_kept(state: Path) -> None:
    paths = [manifest(state, f"{n}.manifest.jsonl", *COMPLETED, days=n) for n in range(1, 6)]
    assert clean(state, now=NOW, keep=3).manifests == 2
    assert [path.exists() for path in paths] == [True, True, True, False, False]


def test_what_lies_beside_manifests_is_deleted_once_it_is_old(state: Path) -> None:
    unfinished = manifest(state, "a.manifest.jsonl", *ALL_PARTS)
    names = ["a.manifest.jsonl.damaged", "a.manifest.jsonl.2.damaged", "a.manifest.jsonl.new", "b.readback.json",
             "b.readback.json.4711"]  # fmt: skip
    for name in names:
        (state / name).write_text("x")
        os.utime(state / name, (NOW - KEEP_FINISHED,) * 2)
        (state / f"young-{name}").write_text("x")
        os.utime(state / f"young-{name}", (NOW - KEEP_FINISHED + 1,) * 2)
    cleaned = clean(state, now=NOW)
    assert (cleaned.manifests, cleaned.others, cleaned.bytes) == (0, len(names), len(names))
    assert {path.name for path in state.iterdir()} == {unfinished.name, *(f"young-{name}" for name in names)}


def test_what_is_none_of_ours_stays(state: Path, tmp_path: Path) -> None:
    for name in ("local-store.json", "a.manifest.jsonl.bak", "other.lock", "notes.txt"):
        (state / name).write_text("x")
        os.utime(state / name, (1, 1))
    target = manifest(tmp_path, "elsewhere.manifest.jsonl", *COMPLETED)
    (state / "link.manifest.jsonl").symlink_to(target)
    (state / "directory.manifest.jsonl").mkdir()
    before = sorted(state.iterdir())
    assert clean(state, now=NOW, older_than=0, keep=0) == clean_up.Cleaned()
    assert sorted(state.iterdir()) == before
    assert target.exists()


def test_locks_that_nobody_holds_are_deleted(state: Path) -> None:
    """Earlier versions left one for each upload, also where no manifest was ever written."""
    for name in ("a.manifest.jsonl.lock", "a.manifest.jsonl.3.lock"):
        (state / name).write_text("4711\n")
    with FileJournal(state / "held.manifest.jsonl") as journal:
        journal.begin(header())
        clean(state, now=NOW)
        assert {path.name for path in state.iterdir()} == {"held.manifest.jsonl", "held.manifest.jsonl.lock"}
        with pytest.raises(errors.ManifestLocked):
            FileJournal(journal.path).open()


@pytest.mark.parametrize("rest", ["", ".damaged", ".new"])
def test_what_a_process_has_open_stays(state: Path, rest: str) -> None:
    manifest(state, "a.manifest.jsonl", *COMPLETED)
    path = state / f"a.manifest.jsonl{rest}"
    if rest:
        path.write_text("x")
    with FileJournal(state / "a.manifest.jsonl"):
        clean(state, now=NOW, older_than=0, keep=0)
        assert path.exists()
    clean(state, now=NOW, older_than=0, keep=0)
    assert list(state.iterdir()) == []


def test_index_entries_are_deleted_after_half_a_year(state: Path) -> None:
    (state / MANIFEST_INDEX).mkdir(mode=0o700)
    for days in (179, 181):
        (state / MANIFEST_INDEX / str(days)).touch()
        os.utime(state / MANIFEST_INDEX / str(days), (NOW - days * DAY,) * 2)
    clean(state, now=NOW)
    assert [path.name for path in (state / MANIFEST_INDEX).iterdir()] == ["179"]


async def test_the_index_entry_goes_with_the_completed_upload(state: Path, tmp_path: Path) -> None:
    index = state / MANIFEST_INDEX
    with FileJournal(tmp_path / "m", index=index) as journal:
        journal.begin(header())
        assert len(list(index.iterdir())) == 1
        await journal.append(*COMPLETED)
    assert list(index.iterdir()) == []


def test_a_directory_is_cleaned_once_a_day(state: Path) -> None:
    assert clean_if_due(state, now=NOW) is not None
    old = manifest(state, "a.manifest.jsonl", *COMPLETED)
    assert clean_if_due(state, now=NOW + DAY - 1) is None
    assert old.exists()
    cleaned = clean_if_due(state, now=NOW + DAY + 1)
    assert cleaned is not None
    assert cleaned.manifests == 1
    assert clean_if_due(state, now=NOW + DAY + 2) is None


def test_a_directory_is_cleaned_where_times_of_links_cannot_be_set(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows."""
    set_times = os.utime

    def utime(path: Path, times: tuple[float, float], *, follow_symlinks: bool = True) -> None:
        if not follow_symlinks:
            raise NotImplementedError("utime: follow_symlinks unavailable on this platform")
        set_times(path, times)

    monkeypatch.setattr(os, "utime", utime)
    assert clean_if_due(state, now=NOW) is not None
    assert clean_if_due(state, now=NOW) is None


def test_an_automatic_clean_up_is_bounded(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean_up, "MOST_EXAMINED", 3)
    for n in range(5):
        manifest(state, f"{n}.manifest.jsonl", *COMPLETED, days=100 - n)
    assert clean_if_due(state, now=NOW) == clean_up.Cleaned(manifests=3, bytes=3 * len(lines(header(), *COMPLETED)))
    assert sorted(path.name for path in find_manifests(state)) == ["3.manifest.jsonl", "4.manifest.jsonl"]


def test_where_nothing_can_be_deleted_the_clean_up_says_so(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that is mounted read-only, of which root's rights make no difference."""
    kept = manifest(state, "a.manifest.jsonl", *COMPLETED)
    monkeypatch.setattr(os, "access", lambda path, mode: (Path(path), mode) != (state, os.W_OK))
    with pytest.raises(OSError, match="no file can be deleted in it"):
        clean(state, now=NOW)
    assert kept.exists()


def test_no_directory_and_no_permission(tmp_path: Path) -> None:
    assert clean(tmp_path / "missing") == clean_up.Cleaned()
    assert clean_if_due(tmp_path / "missing") is None
    assert not (tmp_path / "missing").exists()
    (tmp_path / "file").touch()
    assert clean_if_due(tmp_path / "file") is None


def test_a_manifest_that_vanishes_while_it_is_listed(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when another process sets it aside."""
    manifest(state, "a.manifest.jsonl", days=2)
    (state / "gone.manifest.jsonl").symlink_to(state / "nowhere")  # stat fails as for a file that was just renamed
    newest = manifest(state, "b.manifest.jsonl", days=1)
    found = find_manifests(state)
    assert [path.name for path in found] == ["a.manifest.jsonl", "b.manifest.jsonl"]
    assert found[-1] == newest


def test_a_lock_that_is_deleted_when_it_is_released_excludes(state: Path) -> None:
    """Threads take and release one lock as fast as they can; no two ever hold it."""
    path = state / "a.manifest.jsonl"
    holders, most, taken = 0, 0, 0

    def work() -> None:
        nonlocal holders, most, taken
        for _ in range(100):
            lock = ManifestLock(path)
            try:
                lock.acquire()
            except errors.ManifestLocked:
                continue
            holders += 1
            most = max(most, holders)
            os.stat(state)  # lets another thread run
            holders -= 1
            taken += 1
            lock.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert taken > 0
    assert list(state.iterdir()) == []


def test_what_is_known_of_a_store_that_is_no_more_is_forgotten(state: Path) -> None:
    target = dataclasses.replace(header().target, endpoint="local")
    for name, endpoint in (("a", "local"), ("b", "local"), ("c", None)):
        first = dataclasses.replace(header(), target=dataclasses.replace(target, endpoint=endpoint))
        (state / f"{name}{SUFFIX}").write_bytes(lines(first))
    (state / f"c{SUFFIX}.1").write_bytes(lines(dataclasses.replace(header(), target=target)))
    with FileJournal(state / f"b{SUFFIX}"):  # a process has it open
        assert forget_endpoint(state, "local").manifests == 2
    assert [path.name for path in find_manifests(state, set_aside=True)] == [f"b{SUFFIX}", f"c{SUFFIX}"]
    assert forget_endpoint(state / "none", "local").manifests == 0


@pytest.mark.parametrize("name", ["BIGUPLOAD_LOCAL_STORE_DIR", "BIGUPLOAD_STATE_DIR"])
def test_another_local_store_takes_no_manifest_along(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("BIGUPLOAD_LOCAL_STORE_DIR", raising=False)
    monkeypatch.delenv("BIGUPLOAD_STATE_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv(name, str(state))
    first = dataclasses.replace(header(), target=dataclasses.replace(header().target, endpoint="local"))
    path = state_dir() / f"a{SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lines(first))
    store._forget()
    assert path.exists() == (name == "BIGUPLOAD_LOCAL_STORE_DIR")
