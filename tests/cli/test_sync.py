"""`bigupload sync`: what it prints, and what a wrong call says. What it does is in tests/integration/test_sync.py."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from bigupload.core.retry_policy import RetryPolicy
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3

from .support import Command, assert_refused


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in the working directory."""
    for name in ("a.txt", "sub/b c.txt", "sub/x.log"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(name.encode())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "tree"


def at(s3: StrictS3, *more: str) -> list[str]:
    return ["tree", "s3://bucket/p/", "--endpoint-url", s3.url, *more]


def quiet(s3: StrictS3, *more: str) -> list[str]:
    return [*at(s3)[1:], "--progress", "none", *more]


def sum_of(err: str) -> str:
    """The last line, without the time."""
    return err.splitlines()[-1].rpartition(" in ")[0]


@pytest.mark.parametrize("option", ["--json=summary", "--json-summary"])
def test_only_the_sums_as_json(bigupload: Command, s3: StrictS3, tree: Path, option: str) -> None:
    s3.script("PutObject", Status(403, "AccessDenied"), key="p/a.txt", repeat=True)
    for skipped in (0, 2):
        ended = bigupload("sync", "tree", *quiet(s3, option))
        assert ended.code == 1
        total = json.loads(ended.out)
        assert (total["files"], total["skipped"], total["failed"], total["exit_status"]) == (2, skipped, 1, 1)


def test_control_characters_are_escaped(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    (tree / "a.txt").rename(tree / "a\r.txt")
    lines = bigupload("sync", *at(s3), "--dry-run").out.splitlines()
    assert r"s3://bucket/p/a\x0d.txt" in [line.split()[-1] for line in lines]
    assert bigupload("sync", *at(s3)).code == 0
    (tree / "a\r.txt").unlink()
    assert bigupload("sync", *at(s3), "--delete").out == "deleted s3://bucket/p/a\\x0d.txt\n"


@pytest.mark.parametrize("more", [(), ("--receipt", "receipt.json")])
def test_what_was_there_is_in_the_sum(bigupload: Command, s3: StrictS3, tree: Path, more: tuple[str, ...]) -> None:
    """Whether each of them counts for something, or only how many there are."""
    assert bigupload("sync", *at(s3)).code == 0
    (tree / "a.txt").write_bytes(b"another one")
    ended = bigupload("sync", *at(s3), *more)
    assert (ended.code, sum_of(ended.err)) == (0, "bigupload: uploaded 1 file, 11 B, 2 already there")


def test_nights_without_a_complete_sync_are_told(
    bigupload: Command, s3: StrictS3, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What docs/how-to/nightly.md does: nobody need hear of a night with a store that is down, but of three."""
    monkeypatch.setattr(RetryPolicy, "delay", lambda *_: 0.0)
    check = ["status", "--complete-within", "60h"]
    now = time.time()

    def night(number: int, *more: str) -> tuple[int, int]:
        monkeypatch.setattr(time, "time", lambda: now + number * 86_400 + 600)
        status = bigupload("sync", "tree", *quiet(s3, *more)).code
        return status, bigupload(*check).code

    assert_refused(bigupload(*check), 1, "no sync is recorded on this machine")
    assert night(0) == (0, 0)
    first = json.loads(bigupload("status", "--json").out)["last_finished"]
    s3.script("ListObjectsV2", Status(503, "SlowDown"), repeat=True)
    (tree / "a.txt").write_bytes(b"another day")
    assert [night(number) for number in (1, 2, 3)] == [(75, 0), (75, 0), (75, 1)]
    assert "the last complete one ended 3 d ago" in bigupload(*check).err
    assert json.loads(bigupload("status", "--json").out)["last_finished"] == first
    s3.clear()
    s3.script("PutObject", Status(403, "AccessDenied"), key="p/a.txt", repeat=True)
    assert night(4, "--no-resume") == (1, 1)
    assert json.loads(bigupload("status", "--json").out)["last_finished"] == first, "it is not forgotten"
    s3.clear()
    monkeypatch.setattr(time, "time", lambda: now)
    assert (bigupload("sync", "tree", *quiet(s3)).code, bigupload(*check).code) == (0, 0)


def test_the_lines_of_a_sync(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    (tree / "link").symlink_to("a.txt")
    ended = bigupload("sync", *at(s3, "--dry-run", "--delete"))
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == [
        "upload         5 B  s3://bucket/p/a.txt",
        "upload        11 B  s3://bucket/p/sub/b c.txt",
        "upload         9 B  s3://bucket/p/sub/x.log",
    ]
    assert "bigupload: tree/link: left out: a symbolic link: --follow-symlinks uploads its target" in ended.err
    assert ended.err.splitlines()[-1] == "bigupload: would upload 3 files, 25 B; nothing was changed"
    ended = bigupload("sync", *at(s3))
    assert ended.err.startswith("bigupload: comparing the directory with the bucket\n")
    assert (ended.code, sum_of(ended.err)) == (0, "bigupload: uploaded 3 files, 25 B")
    assert set(ended.out.splitlines()) == {
        f"{s3.url}/bucket/p/{name}" for name in ("a.txt", "sub/b%20c.txt", "sub/x.log")
    }
    (tree / "a.txt").unlink()
    (tree / "sub" / "x.log").write_bytes(b"new")
    ended = bigupload("sync", *at(s3, "--delete", "--dry-run"))
    assert ended.out.splitlines() == [
        "upload         3 B  s3://bucket/p/sub/x.log",
        "delete         5 B  s3://bucket/p/a.txt",
    ]
    assert "would upload 1 file, 3 B, 1 already there, would delete 1; nothing was changed" in ended.err
    ended = bigupload("sync", *at(s3, "--delete"))
    assert ended.out.splitlines() == [f"{s3.url}/bucket/p/sub/x.log", "deleted s3://bucket/p/a.txt"]
    assert sum_of(ended.err) == "bigupload: uploaded 1 file, 3 B, 1 already there, 1 deleted"
    assert set(s3.objects["bucket"]) == {"p/sub/b c.txt", "p/sub/x.log"}
    ended = bigupload("-q", "sync", *at(s3))
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_as_json(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    assert bigupload("sync", *at(s3)).code == 0
    (tree / "a.txt").unlink()
    (tree / "new").touch()
    s3.script("PutObject", Status(403, "AccessDenied"), key="p/new", repeat=True)
    ended = bigupload("sync", *at(s3, "--delete", "--json"))
    *lines, total = map(json.loads, ended.out.splitlines())
    assert {line["key"]: line.get("error", line.get("skipped")) for line in lines} == {
        "p/sub/b c.txt": True, "p/sub/x.log": True, "p/new": "AccessDenied",
    }  # fmt: skip
    total.pop("seconds")
    assert total == {
        "files": 2, "skipped": 2, "size": 0, "failed": 1, "deleted": 0, "not_deleted": "1 file failed",
        "exit_status": ended.code, "bytes_sent": 0, "bytes_copied": 0, "sources_deleted": 0,
    }  # fmt: skip
    assert ended.code == 1
    assert "bigupload: nothing was deleted: 1 file failed" in ended.err
    s3.clear()
    s3.knobs.undeletable = {"p/a.txt": "AccessDenied"}
    ended = bigupload("sync", *at(s3, "--delete", "--json"))
    failed = next(line for line in map(json.loads, ended.out.splitlines()) if "error" in line)
    assert (failed["path"], failed["key"], failed["error"]) == ("s3://bucket/p/a.txt", "p/a.txt", "AccessDenied")
    s3.knobs.undeletable = {}
    ended = bigupload("sync", *at(s3, "--delete", "--json"))
    steps = [line for line in map(json.loads, ended.out.splitlines()) if "did" in line]
    assert steps == [{"did": "delete", "url": "s3://bucket/p/a.txt", "size": 5}]


def test_options_of_selection_and_of_comparison(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    assert bigupload("sync", *at(s3, "--exclude", "*.log")).code == 0
    assert set(s3.objects["bucket"]) == {"p/a.txt", "p/sub/b c.txt"}
    (tree / "a.txt").write_bytes(b"A.TXT")
    assert "2 already there" in bigupload("sync", *at(s3, "--exclude", "*.log", "--size-only")).err
    assert "uploaded 1 file, 5 B, 1 already there" in bigupload("sync", *at(s3, "--exclude", "*.log")).err
    before = len(s3.requests)
    assert bigupload("sync", *at(s3, "--exclude", "*.log", "--no-resume")).code == 0
    assert sum(request.op == "HeadObject" for request in s3.requests[before:]) == 2


def test_wrong_calls(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    assert_refused(
        bigupload("sync", "tree", "--service", "http://127.0.0.1:9"), 2, "name a bucket, as s3://BUCKET/FOLDER/"
    )
    assert_refused(bigupload("sync", "tree"), 2, "name one target: bigupload sync DIR s3://BUCKET/FOLDER/")
    assert_refused(
        bigupload("sync", "tree", "s3://b/", "--to", "s3://c/"), 2, "name one target: --to s3://c/, or s3://b/"
    )
    says = "sync takes one directory and one target, and the command names 3"
    several = bigupload("sync", "tree", "tree/sub", "s3://b/")
    assert_refused(several, 2, f"{says}: bigupload upload takes several (see bigupload sync --help)")
    unquoted = bigupload("sync", "tree", "s3://b/", "--exclude", "a.tmp", "b.tmp")
    assert_refused(unquoted, 2, f"{says}; was a pattern after --exclude not quoted?")
    assert_refused(bigupload("sync", "", "s3://b/"), 2, "the directory's name is empty")
    both = bigupload("sync", "tree", "--local", "--endpoint-url", s3.url)
    assert_refused(both, 2, "--local has its own endpoint: leave out --endpoint-url")
    assert_refused(
        bigupload("sync", "tree", "s3://bucket/p", "--endpoint-url", s3.url, "--progress", "none"),
        2,
        "end the target with a slash",
    )
    assert_refused(bigupload("sync", "nowhere", *quiet(s3)), 1, "no such directory: nowhere")
    assert_refused(
        bigupload("sync", "tree/a.txt", *quiet(s3)), 1, "is not a directory: sync the directory that it is in"
    )
    for directory, target in (
        ("nowhere", "s3://bucket/p/"),
        ("tree/a.txt", "s3://bucket/p/"),
        ("tree", "s3://bucket/p"),
    ):
        ended = bigupload("sync", directory, target, "--endpoint-url", s3.url)
        assert ended.err.count("\n") == 1, "nothing is announced of what can't be"
    shutil.rmtree(tree)
    tree.mkdir()
    assert bigupload("sync", *at(s3)).err.startswith("bigupload: nothing to sync")
    assert_refused(
        bigupload("sync", "tree", *quiet(s3, "--delete")), 2, "tree has no file. If that is right: --allow-empty"
    )
    assert bigupload("sync", *at(s3, "--delete", "--allow-empty")).code == 0
