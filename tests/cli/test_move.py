"""`bigupload move`, and `--delete-source` of the other commands."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
from pathlib import Path

import pytest

from bigupload.testing.faults import Call
from bigupload.testing.strict_s3 import StoreResponse, StrictS3
from tests.crash.running import Place
from tests.tools.cases import each_case

from .support import IN_PARTS, PART, Command, assert_refused, to


@pytest.fixture
def tree(place: Place, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = place.directory / "tree"
    (root / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (root / name).write_bytes(name.encode() * 100)
    (root / "large").write_bytes(b"x" * (PART + 1000))
    monkeypatch.chdir(place.directory)
    return root


def there(s3: StrictS3) -> set[str]:
    return set(s3.objects["bucket"])


def here(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def quiet(s3: StrictS3, url: str = "s3://bucket/p/") -> list[str]:
    return [*to(s3, url), "--progress", "none"]


@each_case("command", [("move",), ("upload", "--delete-source")])
def test_one_file(bigupload: Command, s3: StrictS3, tree: Path, command: tuple[str, ...]) -> None:
    path = tree / command[0]
    path.write_bytes(b"frames")
    result = bigupload(*command, path, *quiet(s3), "--json").result
    assert result["source_deleted"]
    assert not path.exists()
    assert f"p/{command[0]}" in there(s3)
    assert_refused(bigupload(*command, path, *quiet(s3)), 1, "no such file")


def test_what_becomes_of_one_file_is_said(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    there = [*to(s3, "s3://bucket/p/"), "--progress", "plain"]
    assert bigupload("move", tree / "a", *there).err.endswith(f"bigupload: {tree / 'a'}: deleted here\n")


def test_a_directory(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    ended = bigupload("move", tree, *to(s3, "s3://bucket/p/"), "--delete-empty-dirs", "--progress", "plain", *IN_PARTS)
    assert ended.code == 0
    assert "uploaded 4 files" in ended.err
    assert "4 deleted here" in ended.err
    assert there(s3) == {"p/a", "p/b", "p/sub/c", "p/large"}
    assert here(tree) == []
    assert tree.is_dir()
    again = bigupload("move", tree, *to(s3, "s3://bucket/p/"))
    assert (again.code, again.out) == (0, "")
    assert "nothing to upload" in again.err


@each_case("command", ["upload", "sync"])
def test_with_others(bigupload: Command, s3: StrictS3, tree: Path, command: str) -> None:
    """What was in the store already is deleted, too; what changed is sent before."""
    root = tree / command
    root.mkdir()
    (root / "old").write_bytes(b"old")
    (root / "new").write_bytes(b"new")
    url = f"s3://bucket/{command}/"
    assert bigupload("sync", root, *quiet(s3, url)).code == 0
    (root / "new").write_bytes(b"newer")
    more = ("--skip-existing",) if command == "upload" else ()
    ended = bigupload(command, root, *quiet(s3, url), "--delete-source", "--json", *more)
    assert ended.code == 0
    *files, total = map(json.loads, ended.out.splitlines())
    assert {Path(each["path"]).name: each["skipped"] for each in files} == {"old": True, "new": False}
    assert total["sources_deleted"] == 2
    assert here(root) == []
    assert bytes(s3.objects["bucket"][f"{command}/new"].body) == b"newer"
    ended = bigupload(command, root, *quiet(s3, url), "--delete-source")
    assert ended.code == 0
    assert f"{command}/old" in there(s3)


@each_case("command", [("move", "--skip-existing"), ("upload", "--skip-existing", "--delete-source")])
def test_a_second_checksum_that_contradicts_the_file_keeps_it(
    bigupload: Command, s3: StrictS3, tree: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """The object has other bytes, and the file's CRC still. Without a new upload, the file would be lost."""
    path = tree / "a"
    path.write_bytes(b"frames")
    assert bigupload("upload", path, *quiet(s3)).code == 0
    s3.objects["bucket"]["p/a"].parts[0].body = b"FRAMES"

    def respond(op: str, response: StoreResponse) -> StoreResponse:
        if op != "HeadObject":
            return response
        sha256 = bytes.fromhex(s3.objects["bucket"]["p/a"].sha256())
        more = {"x-amz-checksum-sha256": base64.b64encode(sha256).decode()}
        return dataclasses.replace(response, headers={**response.headers, **more})

    monkeypatch.setattr(s3.knobs, "respond", respond)
    result = bigupload(*command, path, *quiet(s3), "--json").result
    assert (result["skipped"], result["source_deleted"]) == (False, True)
    assert s3.objects["bucket"]["p/a"].body == b"frames"


def test_a_sha256_of_the_object_that_is_not_the_files_keeps_it(
    bigupload: Command, s3: StrictS3, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def respond(op: str, response: StoreResponse) -> StoreResponse:
        more = {"x-amz-checksum-sha256": base64.b64encode(bytes(32)).decode()} if op == "HeadObject" else {}
        return dataclasses.replace(response, headers={**response.headers, **more})

    monkeypatch.setattr(s3.knobs, "respond", respond)
    ended = bigupload("move", tree / "a", *quiet(s3), "--sha256")
    assert ended.code == 1
    assert "p/a is no longer the object that was proved (its sha256 is 0000" in ended.err
    assert (tree / "a").exists()


BAD = {
    "input": (("-",), "standard input can't be deleted"),
    "url": (("https://127.0.0.1:1/film.mov",), "a URL can't be deleted here"),
    "object": (("s3://bucket/key",), "a URL can't be deleted here"),
    "beside": (("tree/a", "https://127.0.0.1:1/film.mov"), "a URL can't be deleted here"),
    "nothing": ((), "name the files to move"),
    "follow": (("tree/a", "--follow"), "can't be used with --delete-source"),
    "sums": (("tree", "--write-checksums", "sums"), "add --skip-existing --delete-source instead"),
    "checksum": (("tree/a", "--checksum", "md5"), "use --delete-if-proved composite-etag"),
}


@each_case("name", BAD)
def test_what_can_t_be_moved(bigupload: Command, s3: StrictS3, tree: Path, name: str) -> None:
    arguments, says = BAD[name]
    count = len(s3.requests)
    assert_refused(bigupload("move", *arguments, *quiet(s3)), 2, says)
    assert len(s3.requests) == count
    assert len(here(tree)) == 5


def test_a_file_that_grows(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    """Nothing tells that it will, but that a program has it open: the object is complete, and the file stays."""
    with (tree / "a").open("ab") as file:
        ended = bigupload("move", tree / "a", *quiet(s3))
        assert ended.code == 1
        assert "open for writing" in ended.err
        file.write(b"more")
    assert bigupload("move", tree / "a", *quiet(s3)).code == 0
    assert bytes(s3.objects["bucket"]["p/a"].body).endswith(b"more")
    assert "a" not in here(tree)


@each_case("command", ["upload", "sync", "watch"])
def test_an_option_without_delete_source(bigupload: Command, s3: StrictS3, tree: Path, command: str) -> None:
    for option in (("--delete-links",), ("--delete-empty-dirs",)):
        ended = bigupload(command, tree, *quiet(s3), *option)
        assert_refused(ended, 2, "is for --delete-source", option[0])


def test_a_sync_that_deletes_both(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    ended = bigupload("sync", tree, *quiet(s3), "--delete", "--delete-source", "--progress", "plain")
    assert_refused(ended, 2, "--delete can't be used with --delete-source")
    assert ended.err.count("\n") == 1, "nothing was begun"


def test_hard_links(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    os.link(tree / "a", tree / "d")
    assert_refused(bigupload("move", tree / "a", *quiet(s3)), 1, "2 hard links", "--delete-links deletes this one")
    ended = bigupload("move", tree, *to(s3, "s3://bucket/p/"), "--progress", "plain")
    assert ended.code == 1
    assert "failed: 2" in ended.err
    assert there(s3) == {"p/b", "p/sub/c", "p/large"}
    assert here(tree) == ["a", "d", "sub"]


def test_a_weak_proof(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    s3.knobs.echo_checksums = False
    try:
        ended = bigupload("move", tree / "large", *quiet(s3), *IN_PARTS)
        assert (ended.code, ended.out) == (1, "")
        assert "is in the store and stays here" in ended.err
        assert "--delete-if-proved composite-etag deletes it" in ended.err
        assert (tree / "large").exists()
        command = ("move", tree / "large", *quiet(s3), *IN_PARTS, "--delete-if-proved", "composite-etag")
        assert bigupload(*command).code == 0
    finally:
        s3.knobs.echo_checksums = True
    assert not (tree / "large").exists()


def test_a_file_that_changes_while_the_store_is_asked(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    def rewrite(_: object) -> None:
        """Of its name: while it is set aside, another program makes a new one."""
        (tree / "a").write_bytes(b"new")

    s3.script("HeadObject", Call(rewrite), key="p/a")
    ended = bigupload("move", tree / "a", *quiet(s3))
    assert ended.code == 0
    assert (tree / "a").read_bytes() == b"new"  # it is another file
    assert bytes(s3.objects["bucket"]["p/a"].body) == b"a" * 100
