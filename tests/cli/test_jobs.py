"""Jobs of many files, as `status`, `abort` and `resume` know them."""

from __future__ import annotations

import concurrent.futures
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from bigupload.cli import unfinished
from bigupload.cli.unfinished import command_of
from bigupload.manifests.job_record import JobRecord, KnownJob, known_jobs
from bigupload.stores.targets import LOCAL
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Place

from .support import Command, assert_refused, to

SAME = "with the options that it had (shown are those that are recorded)"
NONE = "this machine knows no upload\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    made.mkdir()
    for name in ("a", "b"):
        (made / name).write_text(name)
    return made


def job(command: str | None, *arguments: str, at: str | None = None, **facts: str) -> KnownJob:
    fields = {"target": "s3://b/p/", **facts}
    if at is not None:
        fields |= {"target": f"{fields['target']} at {at}", "endpoint": at}
    made = {"record": Path("x.job.sqlite"), "id": "x", "status": "unfinished", **fields}
    return KnownJob(command=command, arguments=arguments, **made)


def test_a_job_without_a_file_leaves_no_record(bigupload: Command, s3: StrictS3, tree: Path, place: Place) -> None:
    where = [*to(s3, "s3://bucket/p/"), "--progress", "none"]
    assert_refused(bigupload("upload", tree, "--include", "*.typo", *where), 2, "nothing to upload")
    assert bigupload("upload", tree, "--newer-than", "2199-01-01", *where).code == 0
    assert bigupload("status").err == NONE
    assert not [path for path in place.state.iterdir() if ".job." in path.name]


def test_an_unfinished_job_is_named_and_forgotten(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    s3.script("PutObject", Status(403, "AccessDenied"), key="p/b", repeat=True)
    assert bigupload("upload", tree, *to(s3, "s3://bucket/p/"), "--progress", "none").code == 1
    s3.clear()
    known = json.loads(bigupload("status", "--json").out)
    command = f"bigupload upload {tree} s3://bucket/p/ --endpoint-url {s3.url}"
    for name in (known["id"][:8], known["record"]):
        told = f"is a job of many files: to continue it, run its command again, {SAME}: {command}"
        assert_refused(bigupload("resume", name), 2, told)
    assert bigupload("status", "--clean").out.startswith(known["id"][:8])  # it has a file
    ended = bigupload("abort", known["id"][:8])
    assert (ended.code, ended.err) == (0, "forgot the job: 1 file stays in the bucket\n")
    assert "p/a" in s3.objects["bucket"]
    assert bigupload("status").err == NONE
    assert_refused(bigupload("abort", known["id"]), 1, "no such manifest")


def test_jobs_are_told_with_their_commands(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    s3.script("PutObject", Status(403, "AccessDenied"), key="p/b", repeat=True)
    assert bigupload("upload", tree, *to(s3, "s3://bucket/p/"), "--progress", "none").code == 1
    name = bigupload("status").out.split()[0]
    told = [
        f"1 job of many files is unfinished; its command continues it, {SAME}:",
        f"  {name}  bigupload upload {tree} s3://bucket/p/ --endpoint-url {s3.url}",
        "bigupload abort ID forgets a job: its files stay in the bucket",
    ]
    assert bigupload("status").err.splitlines() == told
    ended = bigupload("resume")
    nothing = "nothing to resume: this machine knows no unfinished upload of one file"
    assert (ended.code, ended.err.splitlines()) == (0, [nothing, *told])
    tree.rename(tree.with_name("moved"))
    told[1] = f"  {name}  nothing can continue it: no such file or directory: {tree}"
    assert bigupload("status").err.splitlines() == told
    assert json.loads(bigupload("status", "--json").out)["running"] is False


def test_a_damaged_manifest_is_named(bigupload: Command, place: Place) -> None:
    """It may be of an upload that somebody wants to resume."""
    place.state.mkdir(exist_ok=True)
    (place.state / f"{0:032x}.manifest.jsonl").write_bytes(b'{"type": "upl')
    ended = bigupload("resume")
    assert (ended.code, ended.err) == (0, "1 manifest can't be read: see bigupload status\n")


def test_a_job_of_which_only_missing_files_are_left(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    names = tree.parent / "names"
    names.write_text("a\nb\nnone\n")
    upload = ["upload", tree, "--files-from", names, *to(s3, "s3://bucket/p/"), "--progress", "none"]
    assert bigupload(*upload).code == 1
    ended = bigupload("status")
    assert (ended.out.split()[1], ended.err) == ("incomplete", "")
    assert ended.out.endswith(" (1 file did not exist)\n")
    known = json.loads(bigupload("status", "--json").out)
    assert (known["status"], known["gone"]) == ("unfinished", 1)
    (tree / "none").touch()
    sent = s3.count("PutObject")
    assert bigupload(*upload).code == 0
    assert s3.count("PutObject") == sent + 1, "it is sent alone"
    known = json.loads(bigupload("status", "--json").out)
    assert (known["status"], known["gone"]) == ("finished", 0)
    (tree / "none").unlink()
    assert bigupload(*upload).code == 1
    assert bigupload("status", "--clean").err.endswith("this machine knows no upload\n")


def test_what_a_killed_job_left_is_cleaned(bigupload: Command, place: Place) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        path = place.state / "0123456789abcdef.job.sqlite"
        path.parent.mkdir(parents=True, exist_ok=True)
        record = JobRecord(path, "/d", "s3://b/", now=lambda: "2026-01-01", executor=threads)
        record.open(resume=True)
        assert bigupload("status", "--clean").out.startswith("01234567  unfinished"), "it runs"
        assert_refused(bigupload("abort", "01234567"), 75, "this job is running")
        copy = path.read_bytes()
        record.close()
    assert known_jobs(place.state) == []
    path.write_bytes(copy)
    path.chmod(0o600)
    assert bigupload("status", "--clean").out == ""
    assert known_jobs(place.state) == []


def test_the_command_of_a_job() -> None:
    found = [
        command_of(each)
        for each in (
            job("upload", "/a b", "--include=*.jpg"),
            job("watch", "/a b", at=LOCAL),
            job("sync", "/a", target="s3://b/meet at noon/", at="https://h"),
            job("upload", "/a", target="https://media.example"),
            job("upload", "--files-from=-", directory="/c"),
            job(None, name="nightly"),
        )
    ]
    assert job("upload", "/a b", "--files-from=-").shown == "'/a b' --files-from=-"
    assert job("sync", "/a", name="sync /a").shown == "sync /a"
    assert found == [
        "bigupload upload '/a b' '--include=*.jpg' s3://b/p/",
        "bigupload watch '/a b' s3://b/p/ --local",
        "bigupload sync /a 's3://b/meet at noon/' --endpoint-url https://h",
        "bigupload upload /a --service https://media.example",
        "cd /c && LIST | bigupload upload --files-from=- s3://b/p/",
        None,
    ]


def test_what_has_ended_is_deleted_by_age_and_by_number(
    bigupload: Command, s3: StrictS3, tree: Path, place: Place
) -> None:
    now = time.time()
    place.state.mkdir(mode=0o700)
    for days in range(6):
        to_folder = to(s3, f"s3://bucket/{days}/")
        one = (tree / "a", "--manifest", place.state / f"{days}.manifest.jsonl")  # else one PUT of it has none
        assert bigupload("upload", *one, *to_folder, "--progress", "none").code == 0
        assert bigupload("upload", tree, *to_folder, "--progress", "none").code == 0
        for path in place.state.glob("*[.]manifest.jsonl"), place.state.glob("*.sqlite"):
            newest = max(path, key=lambda each: each.stat().st_mtime)
            os.utime(newest, (now - (6 - days) * 86_400 - 60,) * 2)

    def left() -> tuple[int, int]:
        known = [json.loads(line) for line in bigupload("status", "--json").out.splitlines()]
        jobs = sum(each.get("kind") == "job" for each in known)
        return len(known) - jobs, jobs

    assert left() == (6, 6)
    assert bigupload("status", "--clean", "--older-than", "7d").code == 0
    assert left() == (6, 6)
    assert bigupload("status", "--clean", "--older-than", "5d").code == 0
    assert left() == (4, 4)
    assert bigupload("status", "--clean", "--keep", "3").code == 0
    assert left() == (3, 3)
    assert bigupload("status", "--clean", "--older-than", "2d", "--keep", "100").code == 0
    assert left() == (1, 1)
    assert bigupload("status", "--clean").code == 0
    assert left() == (0, 0)


def test_clean_keeps_what_the_next_sync_needs(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    """Without its record, a sync asks about every object."""
    sync = ["sync", tree, *to(s3, "s3://bucket/p/"), "--progress", "none"]
    assert bigupload(*sync).code == 0
    heads = s3.count("HeadObject")
    for limits in ([], ["--older-than", "0s"], ["--keep", "0"]):
        ended = bigupload("status", "--clean", *limits)
        assert "kept the record of syncs and watches: the next run needs it" in ended.err
    assert bigupload(*sync).code == 0
    assert s3.count("HeadObject") == heads
    (job_id,) = [line.split()[0] for line in ended.out.splitlines()]
    assert bigupload("abort", job_id).code == 0
    assert bigupload("status").err == "this machine knows no upload\n"


@pytest.mark.parametrize("limit", [["--older-than", "1d"], ["--keep", "1"]])
def test_the_limits_are_for_clean(bigupload: Command, limit: list[str]) -> None:
    assert_refused(bigupload("status", *limit), 2, "--older-than and --keep are for --clean: add it")


def test_the_sources_of_all_jobs_are_looked_at_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[set[str]] = []

    def hanging(paths: Iterable[str]) -> set[str]:
        looked.append(set(paths))
        return {"/dead"}

    monkeypatch.setattr(unfinished, "hanging", hanging)
    gone = str(tmp_path / "gone")
    known = {"a": ("watch", "/dead"), "b": ("sync", gone), "c": ("upload", gone, "/dead", "--exclude=x")}
    known |= {"d": ("sync", str(tmp_path)), "e": (None,), "f": ("upload", f"{gone}/*.x")}
    jobs = [job(*words, id=id_) for id_, words in known.items()]
    assert unfinished.gone_sources(jobs) == {"b": gone}
    assert looked == [{"/dead", gone, str(tmp_path)}]
