"""Uploads whose manifest `--manifest` keeps outside the state directory: `status`, `resume` and `gc` know them."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bigupload.manifests import journal, manifest_index
from bigupload.manifests.clean_up import KEEP_INDEX_ENTRIES, clean
from bigupload.manifests.state_directory import MANIFEST_INDEX
from bigupload.support import daemon_threads
from bigupload.testing.faults import Ok, Status
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Place

from .support import Command, assert_refused, to


class NoteKill(BaseException):
    """What ends a process between two steps."""


@pytest.fixture
def state(place: Place) -> Path:
    return Path(place.environment()["BIGUPLOAD_STATE_DIR"])


def stop(bigupload: Command, s3: StrictS3, file: Path, manifest: str | Path, *more: str) -> None:
    """Begin an upload, whose second part is refused."""
    s3.script("UploadPart", Status(403, "AccessDenied"), part_number=2, repeat=True)
    pace = ["--part-size", "5MiB", "--concurrency", "1", "--progress", "none"]
    assert bigupload("upload", file, *to(s3), "--manifest", manifest, *pace, *more).code in (1, 75)
    s3.clear()


@pytest.fixture
def apart(bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The manifest of an unfinished upload, named by a relative path."""
    (tmp_path / "apart").mkdir()
    monkeypatch.chdir(tmp_path / "apart")
    stop(bigupload, s3, file, "./my.jsonl")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "apart" / "my.jsonl"


def gc(bigupload: Command, s3: StrictS3) -> str:
    return bigupload("gc", "s3://bucket/", "--older-than", "0s", "--endpoint-url", s3.url).err


def test_gc_leaves_it(bigupload: Command, s3: StrictS3, apart: Path) -> None:
    assert gc(bigupload, s3) == "aborted 0 orphaned uploads (0 B); 1 owned by manifests of this machine\n"
    moved = apart.rename(apart.with_name("moved"))  # nobody knows where: as before, --state says so
    assert bigupload("resume", moved, "--source", "nowhere").code == 1  # but who opens it there tells
    assert gc(bigupload, s3).endswith("; 1 owned by manifests of this machine\n")
    moved.unlink()
    assert gc(bigupload, s3).startswith("aborted 1 orphaned upload")


def test_status_and_resume_find_it(bigupload: Command, s3: StrictS3, apart: Path, state: Path) -> None:
    shown = bigupload("status").out
    row = json.loads(bigupload("status", "--json").out)
    assert (row["manifest"], row["status"]) == (str(apart), "uploading")
    assert shown.startswith(f"{row['id'][:8]}  unfinished")
    ended = bigupload("resume", "--progress", "none")
    assert (ended.code, ended.out) == (0, f"{s3.url}/bucket/key\n")
    assert list((state / MANIFEST_INDEX).iterdir()) == []
    assert bigupload("status").err == "this machine knows no upload\n"


def test_abort_takes_its_id(bigupload: Command, s3: StrictS3, apart: Path) -> None:
    name = bigupload("status").out.split()[0]
    assert bigupload("abort", name).code == 0
    assert not s3.uploads
    assert bigupload("status").out == ""
    assert bigupload("abort", apart).code == 0  # a part may have been in flight: who began it is known still


def test_two_of_one_name(bigupload: Command, s3: StrictS3, file: Path, apart: Path, tmp_path: Path) -> None:
    stop(bigupload, s3, file, tmp_path / "my.jsonl")
    rows = [line.split()[0] for line in bigupload("status").out.splitlines()]
    assert len(set(rows)) == 2
    assert bigupload("abort", rows[1]).code == 0
    assert json.loads(bigupload("status", "--json").out)["manifest"] == str(apart)


def test_an_entry_of_an_earlier_version_is_filled(bigupload: Command, s3: StrictS3, apart: Path, state: Path) -> None:
    (entry,) = (state / MANIFEST_INDEX).iterdir()
    entry.write_bytes(b"")
    assert bigupload("status").out == ""
    assert bigupload("resume", apart, "--source", "nowhere").code == 1
    assert len(bigupload("status").out.splitlines()) == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("step", ["mkdir", "write", "sync_to_disk", "replace"])
def test_a_kill_at_any_step(
    bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """There is never a manifest whose index entry does not name it."""
    manifest = tmp_path / "my.jsonl"

    def kill(*_: object, **__: object) -> None:
        raise NoteKill

    write_entry = journal.write_entry

    def write_and_be_killed(*arguments: object) -> None:
        with monkeypatch.context() as patch:
            owner: object = {"write": manifest_index.os, "sync_to_disk": manifest_index}.get(step, Path)
            patch.setattr(owner, step, kill)
            write_entry(*arguments)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(journal, "write_entry", write_and_be_killed)
    with pytest.raises(BaseException):  # noqa: B017 - in whatever group
        stop(bigupload, s3, file, manifest)
    assert not manifest.exists()
    monkeypatch.setattr(journal, "write_entry", write_entry)
    s3.clear()
    stop(bigupload, s3, file, manifest)
    assert gc(bigupload, s3).endswith("; 1 owned by manifests of this machine\n")


def test_index_entries_that_can_not_be_written_stop_no_upload(
    bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path, state: Path
) -> None:
    state.mkdir(mode=0o700)
    (state / MANIFEST_INDEX).write_text("in the way")
    assert bigupload("upload", file, *to(s3), "--manifest", tmp_path / "m", "--progress", "none").code == 0
    assert bigupload("status").code == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("entry", [b"", b"my.jsonl\n", b"/no/newline", b"/a\0b\n", b"/no/such/manifest\n"])
def test_index_entries_that_name_nothing(
    bigupload: Command, s3: StrictS3, state: Path, stopped: Path, entry: bytes
) -> None:
    (state / MANIFEST_INDEX).mkdir(mode=0o700)
    (state / MANIFEST_INDEX / ("a" * 64)).write_bytes(entry)
    (state / MANIFEST_INDEX / "another file").write_bytes(os.fsencode(stopped) + b"\n")
    assert gc(bigupload, s3).endswith("; 1 owned by manifests of this machine\n")
    assert len(bigupload("status").out.splitlines()) == 1


def test_nothing_is_aborted_while_it_can_not_be_read(bigupload: Command, s3: StrictS3, apart: Path) -> None:
    apart.write_bytes(b"junk\n")
    ended = bigupload("gc", "s3://bucket/", "--older-than", "0s", "--endpoint-url", s3.url)
    assert_refused(ended, 1, "nothing is aborted: a manifest that can't be read may own the upload", str(apart))
    assert "unreadable" in bigupload("status").out
    apart.unlink()
    apart.parent.rmdir()
    apart.parent.symlink_to(apart.parent)  # ELOOP, as root can read all else
    ended = bigupload("gc", "s3://bucket/", "--older-than", "0s", "--endpoint-url", s3.url)
    assert_refused(ended, 1, "nothing is aborted: a manifest that can't be read may own the upload", str(apart))
    assert len(s3.uploads) == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("make", [Path.mkdir, lambda path: os.mkfifo(path), lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_no_manifest(
    bigupload: Command, s3: StrictS3, apart: Path, state: Path, make: Callable[[Path], None]
) -> None:
    (entry,) = (state / MANIFEST_INDEX).iterdir()
    apart.unlink()
    make(apart)
    assert bigupload("status").out == ""
    assert gc(bigupload, s3).startswith("aborted 1 orphaned upload")
    clean(state, now=entry.stat().st_mtime + 2 * KEEP_INDEX_ENTRIES)
    assert not entry.exists()


def test_index_entries_that_can_not_be_read_hide_nothing_else(
    bigupload: Command, s3: StrictS3, stopped: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root's, say, of an upload with sudo. What `gc` would abort may be theirs, so that it aborts nothing."""

    def refuse(entry: Path) -> Path:
        raise PermissionError(errno.EACCES, "Permission denied", str(entry))

    (state / MANIFEST_INDEX).mkdir(mode=0o700)
    (state / MANIFEST_INDEX / ("a" * 64)).write_bytes(b"/m\n")
    monkeypatch.setattr(manifest_index, "_named_by", refuse)
    row = json.loads(bigupload("status", "--json").out)
    ended = bigupload("gc", "s3://bucket/", "--older-than", "0s", "--endpoint-url", s3.url)
    assert_refused(ended, 1, "can't read the index of manifests", "Permission denied; make its files readable")
    assert bigupload("resume", row["id"], "--progress", "none").code == 0


def test_what_began_later_in_the_same_file(bigupload: Command, s3: StrictS3, file: Path, apart: Path) -> None:
    stop(bigupload, s3, file, apart, "--no-resume")
    row = json.loads(bigupload("status", "--json").out)
    s3.script("UploadPart", Ok())
    assert bigupload("resume", row["id"], "--progress", "none").code == 0
    assert bigupload("status").out == ""


def test_the_index_entry_of_what_can_be_resumed_is_kept(bigupload: Command, apart: Path, state: Path) -> None:
    (entry,) = (state / MANIFEST_INDEX).iterdir()
    late = entry.stat().st_mtime + 10 * KEEP_INDEX_ENTRIES
    clean(state, now=late)
    assert entry.exists()
    apart.rename(apart.with_name("moved"))
    clean(state, now=entry.stat().st_mtime + KEEP_INDEX_ENTRIES - 1)
    assert entry.exists()
    clean(state, now=late)
    assert not entry.exists()


def test_what_resumes_is_told_by_its_source(bigupload: Command, s3: StrictS3, file: Path, stopped: Path) -> None:
    moved = stopped.rename(stopped.with_name("my.jsonl"))
    ended = bigupload("resume", moved, "--progress", "plain")
    assert ended.code == 0
    assert "file.bin: resuming: the store has 1 of 2 parts" in ended.err
    assert "my.jsonl" not in ended.err


# --- a file system that hangs


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Paths at which each look hangs until the test is over. Only threads that are left behind may look."""
    paths, over = set[str](), threading.Event()

    def hanging_at(look: Callable[..., Any]) -> Callable[..., Any]:
        def looking(path: Any, *arguments: Any, **more: Any) -> Any:
            if isinstance(path, str | os.PathLike) and str(path) in paths:
                name = threading.current_thread().name
                assert name.startswith("bigupload-look"), f"{name} hangs at {path}"
                over.wait()
            return look(path, *arguments, **more)

        return looking

    for name in ("stat", "lstat", "open"):
        monkeypatch.setattr(os, name, hanging_at(getattr(os, name)))
    monkeypatch.setattr(daemon_threads, "PATIENCE", 0.05)
    yield paths
    over.set()


def test_a_manifest_that_hangs_holds_up_no_status(
    bigupload: Command, apart: Path, hung: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert "my.jsonl" in bigupload("status", "--json").out
    hung.add(str(apart))
    ended = bigupload("status")
    assert (ended.code, ended.out) == (0, "")
    assert f"left out: the file system of {apart} does not respond" in caplog.text


def test_a_manifest_that_hangs_may_own_any_upload(
    bigupload: Command, s3: StrictS3, apart: Path, hung: set[str]
) -> None:
    hung.add(str(apart))
    said = gc(bigupload, s3)
    assert f"the file system of the manifest {apart} does not respond" in said
    assert s3.uploads


def test_an_old_index_entry_of_a_manifest_that_hangs_stays(apart: Path, state: Path, hung: set[str]) -> None:
    hung.add(str(apart))
    clean(state, now=time.time() + KEEP_INDEX_ENTRIES + 60)
    assert len(list((state / MANIFEST_INDEX).iterdir())) == 1


def test_a_directory_that_hangs_holds_up_no_status(
    bigupload: Command, s3: StrictS3, tmp_path: Path, hung: set[str]
) -> None:
    """That of a job, whose source is looked for."""
    directory = tmp_path / "directory"
    directory.mkdir()
    (directory / "a").write_text("a")
    (directory / "b").write_text("b")
    s3.script("PutObject", Status(403, "AccessDenied"), key="p/b", repeat=True)
    assert bigupload("sync", directory, *to(s3, "s3://bucket/p/")).code == 1
    hung.add(str(directory))
    assert f"bigupload sync {directory}" in bigupload("status").err


def test_healthy_files_beside_many_that_hang_are_looked_at(
    tmp_path: Path, hung: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What hangs keeps its threads."""
    monkeypatch.setattr(daemon_threads, "PATIENCE", 0.5)
    healthy = [tmp_path / f"healthy{n}" for n in range(20)]
    for path in healthy:
        path.touch()
    dead = [tmp_path / f"dead{n}" for n in range(40)]
    hung.update(map(str, dead))
    assert daemon_threads.hanging([*dead, *healthy]) == {*dead}


def test_where_a_directory_hangs_others_are_looked_at_first(
    tmp_path: Path, hung: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_threads, "PATIENCE", 0.5)
    monkeypatch.setattr(daemon_threads, "_MOST_LOOKS", 16)
    healthy = tmp_path / "healthy"
    dead = [tmp_path / "mount" / f"dead{n}" for n in range(400)]
    hung.update(map(str, dead))
    assert daemon_threads.hanging([*dead, healthy]) == {*dead}
