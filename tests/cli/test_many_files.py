"""`bigupload upload` of directories, patterns and lists of files."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from bigupload.units import escaped
from tests.crash.running import Place
from tests.tools.cases import each_case

from .support import Command, assert_refused, to

AWKWARD = "d e+%#.tmp" if os.name == "nt" else "d e+%#?.tmp"
FILES = {
    "a.txt": b"a", "b.jpg": b"bb", "sub/c.jpg": b"ccc", f"sub/{AWKWARD}": b"dddd", "node_modules/x/y.js": b"y",
    "\U0001f3ac caf\u00e9": b"", "-rf": b"-",
}  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in the working directory."""
    for name, content in FILES.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "tree"


def objects(s3: StrictS3) -> dict[str, bytes]:
    return {key: bytes(stored.body) for key, stored in s3.objects["bucket"].items()}


def sent(s3: StrictS3, since: int) -> list[str]:
    """The keys of the files that were sent since a number of requests."""
    return [request.key for request in s3.requests[since:] if request.op == "PutObject"]


def dry(run: Command, *arguments: str | Path) -> list[str]:
    """The keys that a dry run prints."""
    ended = run("upload", *arguments, "--to", "s3://bucket/", "--dry-run", "--json", "-q")
    *files, total = map(json.loads, ended.out.splitlines())
    assert (ended.code, total["files"], total["exit_status"]) == (0, len(files), 0), ended.err
    return [file["url"].removeprefix("s3://bucket/") for file in files]


def test_a_directory(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    ended = bigupload("upload", "tree", *to(s3, "s3://bucket/p/"), "--progress", "none")
    assert (ended.code, ended.err) == (0, "")
    assert objects(s3) == {f"p/{name}": content for name, content in FILES.items()}
    assert sorted(ended.out.splitlines()) == sorted(f"{s3.url}/bucket/p/{quote(name)}" for name in FILES)


def test_the_target_may_come_last(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    ended = bigupload("upload", "tree/sub", "s3://bucket", "--endpoint-url", s3.url, "--json", "--progress", "none")
    assert ended.code == 0, ended.err
    *files, total = map(json.loads, ended.out.splitlines())
    assert {file["key"] for file in files} == {"c.jpg", AWKWARD}
    assert total.pop("seconds") >= 0
    assert total == {
        "files": 2, "size": 7, "skipped": 0, "failed": 0, "bytes_sent": 7, "bytes_copied": 0, "sources_deleted": 0,
        "exit_status": 0,
    }  # fmt: skip


def test_a_dry_run_prints_keys_and_sizes_and_needs_nothing(
    bigupload: Command, s3: StrictS3, tree: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    before = len(s3.requests)
    ended = bigupload("upload", "tree", *to(s3, "s3://bucket/p/"), "--dry-run", "--exclude", "node_modules")
    assert ended.code == 0
    assert ended.out.splitlines() == [
        "       1 B  s3://bucket/p/-rf",
        "       1 B  s3://bucket/p/a.txt",
        "       2 B  s3://bucket/p/b.jpg",
        "       3 B  s3://bucket/p/sub/c.jpg",
        f"       4 B  s3://bucket/p/sub/{AWKWARD}",
        "       0 B  s3://bucket/p/\U0001f3ac caf\u00e9",
    ]
    assert ended.err == "bigupload: would upload 6 files, 11 B; nothing was sent\n"
    assert len(s3.requests) == before
    assert not place.state.exists()


def test_a_dry_run_of_one_file(bigupload: Command, tree: Path) -> None:
    ended = bigupload("upload", "tree/b.jpg", "s3://bucket/other.jpg", "--dry-run")
    assert (ended.code, ended.out) == (0, "       2 B  s3://bucket/other.jpg\n")
    assert dry(bigupload, "tree/b.jpg") == ["b.jpg"]
    ended = bigupload("upload", "tree/b.jpg", "--service", "http://127.0.0.1:9", "--dry-run")
    assert (ended.code, ended.out) == (0, "       2 B  tree/b.jpg\n")
    assert_refused(bigupload("upload", "nowhere", "s3://bucket/", "--dry-run"), 1, "bigupload: nowhere: no such file")


def test_a_name_that_no_key_can_have_fails_in_a_dry_run_as_in_the_upload(
    bigupload: Command, s3: StrictS3, tree: Path
) -> None:
    (tree / "bad\x01name").write_bytes(b"x")
    why = r"its name has the character '\x01', which a key can't have: rename it"
    says = rf"bigupload: tree/bad\x01name: {why}"
    for more in ([], ["--dry-run"]):
        ended = bigupload("upload", "tree", *to(s3, "s3://bucket/p/"), *more)
        assert ended.code == 1
        assert says in ended.err.splitlines()
    (tree / "bad\x01name").rename(tree.parent / "bad\x01name")
    ended = bigupload("upload", "bad\x01name", *to(s3, "s3://bucket/good"), "--dry-run")
    assert ended.code == 0, "the key is another one"


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "folder", "why"),
    [
        (b"bad\x01name", "p/", r"its name has the character '\x01', which a key can't have: rename it, or name its"),
        (b"odd\xff", "p/", "its name is not UTF-8, as a key must be: rename it, or name its object"),
        (b"long", f"{'k' * 1021}/", "its key would be 2 bytes longer than the 1,024 bytes that S3 allows"),
    ],
)
def test_one_file_whose_name_no_key_can_have_ends_alike_in_a_dry_run(
    bigupload: Command, s3: StrictS3, tree: Path, name: bytes, folder: str, why: str
) -> None:
    file = Path(os.fsdecode(os.fsencode(tree.parent) + b"/" + name))
    try:
        file.write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    for more in ([], ["--dry-run"]):
        assert_refused(bigupload("upload", file, *to(s3, f"s3://bucket/{folder}"), *more), 1, escaped(str(file)), why)
    ended = bigupload("upload", file, *to(s3, "s3://bucket/good"), "--dry-run")
    assert (ended.code, ended.out) == (0, "       1 B  s3://bucket/good\n")


def test_a_dry_run_escapes_control_characters(bigupload: Command, tree: Path) -> None:
    (tree / "sub" / "c.jpg").rename(tree / "sub" / "a\rb ")
    for target, shown in (
        (["--to", "s3://bucket/"], "s3://bucket/"),
        (["--service", "http://127.0.0.1:9"], "tree/sub/"),
    ):
        ended = bigupload("upload", "tree/sub", *target, "--dry-run")
        assert ended.out.splitlines()[0] == rf"       3 B  {shown}a\x0db\x20"


def test_a_dry_run_as_json(bigupload: Command, tree: Path) -> None:
    ended = bigupload("upload", "tree/sub", "s3://bucket/", "--dry-run", "--json")
    assert [json.loads(line) for line in ended.out.splitlines()] == [
        {"would": "upload", "source": "tree/sub/c.jpg", "url": "s3://bucket/c.jpg", "size": 3},
        {"would": "upload", "source": f"tree/sub/{AWKWARD}", "url": f"s3://bucket/{AWKWARD}", "size": 4},
        {"files": 2, "size": 7, "failed": 0, "exit_status": 0},
    ]
    assert ended.err == ""


def test_a_dry_run_counts_failures_and_is_silent_with_quiet(bigupload: Command, tree: Path) -> None:
    (tree / "sub" / "bad\x01name").write_bytes(b"x")
    ended = bigupload("upload", "tree/sub", "s3://bucket/", "--dry-run")
    assert ended.err.endswith("bigupload: would upload 2 files, 7 B, 1 failed; nothing was sent\n")
    ended = bigupload("upload", "tree/sub", "s3://bucket/", "--dry-run", "-q")
    assert (ended.code, "would upload" in ended.err) == (1, False)
    ended = bigupload("upload", "tree/sub", "s3://bucket/", "--dry-run", "--json")
    failed, *_, total = map(json.loads, ended.out.splitlines())
    assert total == {"files": 2, "size": 7, "failed": 1, "exit_status": 1}
    assert (failed["path"], failed["key"], failed["error"]) == (str(tree / "sub" / "bad\x01name"), "", "SourceError")
    assert "which a key can't have" in failed["message"]


def test_a_dry_run_names_what_can_not_be_read(bigupload: Command, tree: Path) -> None:
    (tree / "sub" / "c.jpg").chmod(0)
    for path in (tree, *tree.parents[:-2]):
        path.chmod(path.stat().st_mode | 0o055)
    root = os.geteuid() == 0
    bigupload("upload", "tree", "s3://bucket/", "--dry-run")  # imports what it imports
    try:
        if root:
            os.setresuid(65534, 65534, 0)  # `access` asks for the real user
        ended = bigupload("upload", "tree/sub", "s3://bucket/", "--dry-run")
    finally:
        if root:
            os.setresuid(0, 0, 0)
    assert (ended.code, ended.out) == (1, f"       4 B  s3://bucket/{AWKWARD}\n")
    assert "bigupload: tree/sub/c.jpg: can't read it: Permission denied\n" in ended.err


# --- what is selected


def test_the_last_rule_decides_in_the_order_of_the_command_line(bigupload: Command, tree: Path) -> None:
    (tree.parent / "rules").write_text("# mine\nsub/\n!sub/c.jpg\n")
    assert dry(bigupload, "tree", "--exclude", "*", "--include", "*.jpg") == ["b.jpg", "sub/c.jpg"]
    assert dry(bigupload, "tree", "--include", "*.jpg") == ["b.jpg", "sub/c.jpg"]
    assert dry(bigupload, "tree", "--include", "*.jpg", "--exclude", "/b*") == ["sub/c.jpg"]
    assert dry(bigupload, "tree", "--include", "*.jpg", "--exclude-from", "rules") == ["b.jpg", "sub/c.jpg"]
    assert dry(
        bigupload, "tree", "--exclude-from", "rules", "--exclude", "*.jpg", "--exclude", "*.js", "--exclude", "[!a]*"
    ) == ["a.txt"]
    refused = bigupload("upload", "tree", "s3://bucket/", "--dry-run", "--include", "*.jpg", "--exclude", "*")
    assert_refused(refused, 2, "nothing to upload: tree has no file that the options select")


def test_rules_of_the_command_line_replace_those_of_the_environment(
    bigupload: Command, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGUPLOAD_EXCLUDE", "*.jpg node_modules [!a-z]*")
    monkeypatch.setenv("BIGUPLOAD_INCLUDE", "*.jpg *.tmp")
    assert dry(bigupload, "tree") == [f"sub/{AWKWARD}"]
    assert dry(bigupload, "tree", "--exclude", "[!a]*") == ["a.txt"]


def test_sizes_times_and_links(bigupload: Command, tree: Path) -> None:
    os.utime(tree / "a.txt", (0, 0))
    (tree / "link").symlink_to("b.jpg")
    assert dry(bigupload, "tree", "--min-size", "2", "--max-size", "3B") == ["b.jpg", "sub/c.jpg"]
    assert "a.txt" not in dry(bigupload, "tree", "--newer-than", "7d")
    assert dry(bigupload, "tree", "--newer-than", "7d", "--include", "/a*") == []
    assert "link" in dry(bigupload, "tree", "--follow-symlinks")
    ended = bigupload("upload", "tree", "s3://bucket/", "--dry-run")
    assert "bigupload: tree/link: left out: a symbolic link: --follow-symlinks uploads its target\n" in ended.err
    assert ended.code == 0


def test_patterns_files_and_directories(bigupload: Command, tree: Path) -> None:
    assert dry(bigupload, "tree/**/*.jpg") == ["b.jpg", "sub/c.jpg"]
    assert dry(bigupload, "tree/sub/", "tree/a.txt") == ["a.txt", "c.jpg", AWKWARD]
    assert dry(bigupload, "tree/a.txt", "tree/b.jpg") == ["a.txt", "b.jpg"]


def test_a_list_of_files(bigupload: Command, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree.parent / "list").write_text("tree/a.txt\n./tree/sub/c.jpg\n")
    assert dry(bigupload, "--files-from", "list") == ["tree/a.txt", "tree/sub/c.jpg"]
    (tree.parent / "list").write_text("a.txt\nsub/c.jpg\n")
    assert dry(bigupload, "tree", "--files-from", "list") == ["a.txt", "sub/c.jpg"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"./tree/-rf\0tree/a.txt\0")))
    assert dry(bigupload, "--files-from", "-", "-0") == ["tree/-rf", "tree/a.txt"]


def test_a_list_of_files_from_windows(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    (tree.parent / "list").write_text("tree/a.txt\ntree/b.jpg\n", encoding="utf-8-sig")
    assert dry(bigupload, "--files-from", "list") == ["tree/a.txt", "tree/b.jpg"]
    for mark, encoding in (("", "utf-16"), ("\ufeff", "utf-16-be")):
        (tree.parent / "list").write_bytes(f"{mark}tree/a.txt\r\ntree/b.jpg\r\n".encode(encoding))
        assert dry(bigupload, "--files-from", "list") == ["tree/a.txt", "tree/b.jpg"]
    upload = ["upload", "--files-from", "list", *to(s3, "s3://bucket/")]
    says = "list is UTF-16, where NUL separates no paths: leave --null out"
    assert_refused(bigupload(*upload, "--null"), 2, says)
    for content in ("tree/a.txt", "tree/\u6620\u753b.txt\n", "tree/\u00e9.txt\r\n"):
        for order in ("UTF-16LE", "UTF-16BE"):
            (tree.parent / "list").write_bytes(content.encode(order))
            says = f"list is UTF-16 without a byte order mark: make it UTF-8 (iconv -f {order} -t UTF-8)"
            assert_refused(bigupload(*upload), 2, says)
    (tree.parent / "list").write_text("tree/a.txt\n\u200btree/b.jpg\n", encoding="utf-8")
    ended = bigupload(*upload, "--progress", "none")
    assert (ended.code, ended.err) == (1, "bigupload: \\u200btree/b.jpg: no such file\n")


def test_what_fails_is_named_and_the_rest_is_uploaded(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    (tree.parent / "list").write_text("tree/a.txt\ntree/gone\ntree/sub\n")
    ended = bigupload("upload", "--files-from", "list", *to(s3, "s3://bucket/"), "--progress", "none")
    assert ended.code == 1
    assert sorted(ended.err.splitlines()) == [
        "bigupload: tree/gone: no such file",
        "bigupload: tree/sub: a directory, and not a file",
    ]
    assert objects(s3) == {"tree/a.txt": b"a"}


def test_files_that_are_named_one_by_one_are_a_job_if_they_are_many(
    bigupload: Command, s3: StrictS3, tree: Path
) -> None:
    names = [f"file{number}" for number in range(20)]
    for name in names:
        (tree / name).write_bytes(name.encode())
    before = len(s3.requests)
    ended = bigupload("upload", *(f"tree/{name}" for name in names), *to(s3, "s3://bucket/p/"), "--json", "-q")
    assert ended.code == 0, ended.err
    assert sorted(json.loads(line)["key"] for line in ended.out.splitlines()) == sorted(f"p/{name}" for name in names)
    assert sorted(sent(s3, before)) == sorted(f"p/{name}" for name in names)
    assert objects(s3)["p/file7"] == b"file7"
    twice = [*(f"tree/{name}" for name in names), "tree/sub/file7"]
    (tree / "sub" / "file7").touch()
    refused = bigupload("upload", *twice, *to(s3, "s3://bucket/p/"))
    assert_refused(refused, 2, "tree/file7 and tree/sub/file7 would both become file7")


def test_a_file_that_fails_is_an_object_of_json(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    s3.script("PutObject", Status(403, "AccessDenied"), key="c.jpg", repeat=True)
    ended = bigupload("upload", "tree/sub", *to(s3, "s3://bucket/"), "--progress", "none", "--json")
    assert ended.code == 1
    assert ended.complaint.startswith("bigupload: tree/sub/c.jpg: ")
    *files, total = map(json.loads, ended.out.splitlines())
    (failed,) = (file for file in files if "error" in file)
    assert (failed["path"], failed["key"], failed["error"]) == (str(tree / "sub" / "c.jpg"), "c.jpg", "AccessDenied")
    assert (total["files"], total["failed"], total["exit_status"]) == (1, 1, 1)


def test_a_job_that_ends_before_its_first_file_is_an_object_of_json(
    bigupload: Command, s3: StrictS3, tree: Path
) -> None:
    options = [*to(s3, "s3://nowhere/p/"), "--progress", "none"]
    for call, json_option in (("upload", "--json"), ("sync", "--json"), ("sync", "--json-summary")):
        ended = bigupload(call, "tree", *options, json_option)
        assert ended.code == 1
        (total,) = map(json.loads, ended.out.splitlines())
        assert (total["files"], total["failed"], total["exit_status"]) == (0, 0, 1)
        assert (total["error"], total["message"]) == ("BucketNotFound", ended.complaint.removeprefix("bigupload: "))
    refused = bigupload("upload", "tree", "--exclude", "**", *options, "--json")
    assert_refused(refused, 2, "nothing to upload")  # a wrong call has none


def test_the_same_command_sends_only_what_is_missing(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    command = ["upload", "tree", "--exclude", "*.js", *to(s3, "s3://bucket/"), "--progress", "plain"]
    s3.script("PutObject", Status(403, "AccessDenied"), key="b.jpg", repeat=True)
    ended = bigupload(*command)
    assert ended.code == 1
    assert ended.err.splitlines()[-1].startswith("bigupload: uploaded 5 files, 9 B, 1 failed in ")
    s3.clear()
    before = len(s3.requests)
    ended = bigupload(*command)
    assert (ended.code, ended.err.partition(" in ")[0]) == (0, "bigupload: uploaded 1 file, 2 B, 5 already there")
    assert sent(s3, before) == ["b.jpg"]
    before = len(s3.requests)
    assert bigupload(*command).code == 0
    assert len(sent(s3, before)) == 6, "the job was done: it begins anew"


def test_what_is_not_found_keeps_the_job_open(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    (tree.parent / "list").write_text("tree/a.txt\ntree/gone\n")
    command = ["upload", "--files-from", "list", *to(s3, "s3://bucket/"), "--progress", "none"]
    assert bigupload(*command).code == 1
    (tree / "gone").touch()
    before = len(s3.requests)
    assert bigupload(*command).code == 0
    assert sent(s3, before) == ["tree/gone"]


def test_a_list_with_windows_line_ends(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    (tree.parent / "list").write_bytes(b"tree/a.txt\r\n")
    ended = bigupload("upload", "--files-from", "list", *to(s3, "s3://bucket/"), "--progress", "none")
    assert_refused(ended, 1, "tree/a.txt", "no such file: the list has Windows line ends (tr -d '\\r' removes them)")


def test_the_sum_is_told_at_the_end(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    ended = bigupload("upload", "tree/sub", *to(s3, "s3://bucket/"))
    assert ended.complaint.startswith("bigupload: uploaded 2 files, 7 B in ")


def test_special_files_do_not_fail(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    os.mkfifo(tree / "sub" / "pipe")
    ended = bigupload("upload", "tree/sub", *to(s3, "s3://bucket/"), "--progress", "plain")
    assert ended.code == 0
    assert "bigupload: tree/sub/pipe: left out: a named pipe\n" in ended.err
    assert len(objects(s3)) == 2


def test_two_files_with_one_key_are_refused_before_anything_is_sent(
    bigupload: Command, s3: StrictS3, tree: Path
) -> None:
    (tree / "node_modules" / "c.jpg").touch()
    before = len(s3.requests)
    ended = bigupload("upload", "tree/sub/", "tree/node_modules/", *to(s3, "s3://bucket/"))
    assert_refused(ended, 2, "tree/sub/c.jpg and tree/node_modules/c.jpg would both become c.jpg")
    assert len(s3.requests) == before


# --- what is refused


@each_case(
    ("arguments", "says"),
    [
        (["tree", "s3://bucket/key"], "many files can't become one object: end the target with a slash, as in s3://bucket/key/"),
        (["tree", "tree/a.txt", "s3://bucket/"], "tree is a directory beside other sources"),
        (["tree", "s3://bucket/", "--name", "x"], "--name is for one file"),
        (["tree", "s3://bucket/", "--manifest", "x"], "--manifest is for one file"),
        (["tree", "s3://bucket/", "--follow"], "--follow is for one file"),
        (["tree", "s3://bucket/", "--exclude", "[a"], "the pattern '[a' has a [ without a ]"),
        (["tree", "s3://bucket/", "--exclude", "!a"], "'!' works in files alone"),
        (["tree", "s3://bucket/", "--exclude-from", "nowhere"], "can't read --exclude-from nowhere: No such file"),
        (["tree", "s3://bucket/", "--newer-than", "soon"], "--newer-than: not a time: 'soon'"),
        (["tree", "s3://bucket/", "--min-size", "2MB", "--max-size", "1MB"], "--min-size is more than --max-size"),
        (["tree", "s3://bucket/", "--null"], "--null is for --files-from"),
        (["tree", "s3://bucket/", "--dry-run", "--skip-existing"], "--dry-run asks no store"),
        (["--files-from", "nowhere", "s3://bucket/"], "can't read --files-from nowhere: No such file"),
        (["tree/a.txt", "--files-from", "list", "s3://bucket/"], "beside --files-from, name at most the directory"),
        (["--files-from", "/dev/null", "s3://bucket/"], "nothing to upload: the list /dev/null has no file"),
        (["-", "s3://bucket/key", "--dry-run"], "standard input can't be listed"),
        (["tree", "-", "s3://bucket/"], "standard input can't be beside a directory or a pattern: upload it by itself"),
        (["tree", "tree/a.zip", "s3://bucket/"], "no such file: tree/a.zip; and tree is a directory beside"),
        (["tree"], "name one target"),
    ],
)  # fmt: skip
def test_a_call_that_can_not_be(bigupload: Command, s3: StrictS3, tree: Path, arguments: list[str], says: str) -> None:
    before = len(s3.requests)
    assert_refused(bigupload("upload", *arguments, "--endpoint-url", s3.url), 2, says)
    assert len(s3.requests) == before


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "names",
    [["tree/a.txt"], ["tree/"], ["tree/*.txt"], ["tree/a.txt", *(f"gone-{n}" for n in range(20))]],
    ids=["a file", "a directory", "a pattern", "many names"],
)
def test_a_named_file_that_is_not_there_fails_alone(
    bigupload: Command, s3: StrictS3, tree: Path, names: list[str]
) -> None:
    ended = bigupload("upload", *names, "nosuch", *to(s3, "s3://bucket/"), "--json", "--progress", "none")
    assert ended.code == 1
    assert "a.txt" in s3.objects["bucket"]
    assert str(tree.parent / "nosuch") in {each.get("path") for each in map(json.loads, ended.out.splitlines())}


@pytest.mark.parametrize("count", [2, 20])
def test_files_named_one_by_one_have_no_object_for_the_job(
    bigupload: Command, s3: StrictS3, tree: Path, count: int
) -> None:
    names = [tree / f"n{number}" for number in range(count)]
    for name in names:
        name.write_bytes(b"x")
    ended = bigupload("upload", *names, *to(s3, "s3://bucket/"), "--json", "--progress", "none")
    assert (ended.code, len(ended.out.splitlines())) == (0, count)
    assert all("url" in json.loads(line) for line in ended.out.splitlines())


def test_a_list_whose_paths_end_in_nul(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    says = "the paths of list end in NUL, as from find -print0: add --null"
    for content in (b"tree/a.txt\0tree/b.jpg\0", b"a\0b\0c\0"):
        (tree.parent / "list").write_bytes(content)
        assert_refused(bigupload("upload", "--files-from", "list", *to(s3, "s3://bucket/")), 2, says)


def test_an_empty_directory(bigupload: Command, s3: StrictS3, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    says = f"nothing to upload: {tmp_path / 'empty'} has no file"
    assert_refused(bigupload("upload", tmp_path / "empty", *to(s3, "s3://bucket/"), "--progress", "none"), 2, says)
    newer = bigupload("upload", tmp_path / "empty", *to(s3, "s3://bucket/"), "--newer-than", "1d", "--dry-run")
    assert (newer.code, newer.err) == (0, f"bigupload: {says} that the options select\n")


def test_rules_of_a_file_do_not_matter_for_standard_input(
    bigupload: Command, s3: StrictS3, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGUPLOAD_EXCLUDE", "*.tmp")
    read, write = os.pipe()
    os.write(write, b"piped")
    os.close(write)
    kept = os.dup(0)
    try:
        os.dup2(read, 0)
        ended = bigupload("upload", "-", *to(s3), "--progress", "none")
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(read)
    assert ended.code == 0, ended.err
    assert objects(s3) == {"key": b"piped"}
