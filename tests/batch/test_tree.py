"""Reading a directory: every awkward name, the order of keys, links, special files, and what can't be read."""

from __future__ import annotations

import errno
import os
import random
import socket
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload.batch import tree
from bigupload.batch.tree import FileEntry, Omitted, WalkOptions, walk
from bigupload.core.selection import ALL, exclude, include, scope_of
from bigupload.stores.local_store import LocalStore
from bigupload.support.files import STORE_MARKS

AWKWARD = [
    " ", "a b", "a+b", "a%20b", "a#b", "a?b", "-rf", "--help", "~", "$HOME", "`id`", "'", '"', "\\", "a\nb", "a\tb",
    "*", "[1]", "{a,b}", "\U0001f3ac", "caf\u00e9", "cafe\u0301", "\u202etxt.exe", "...", ".hidden", "a:b", "a&b",
    "a=b", "<x>", "x" * 255, "\ufffd", "\U0010ffff", "name", "name-2", "name.txt", "name0",
]  # fmt: skip


def write(root: Path, *names: str, size: int = 1) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)


def found(root: Path | str, options: WalkOptions = WalkOptions(), *patterns: str) -> tuple[list[str], dict[str, str]]:  # noqa: B008 - frozen
    """The keys, and why each other path was left out. Failures end in "!"."""
    keys, omitted = [], {}
    for item in walk(str(root), [scope_of([exclude(pattern) for pattern in patterns])], options):
        if isinstance(item, FileEntry):
            keys.append(item.key)
        else:
            omitted[os.path.relpath(item.path, root)] = item.reason + "!" * item.is_failure
    return keys, omitted


def test_names_that_no_key_can_have_are_failures(tmp_path: Path) -> None:
    """Those that the upload would refuse, so that `--dry-run` and the upload say the same."""
    names = {"a\x01b": "\\x01", "\x1f": "\\x1f", "\ufffe": "\\ufffe", "dir\x1b/c": "\\x1b"}
    write(tmp_path, *names, "\na", "\t", "cr\r", "dir\n/b", "\x7f")
    keys, omitted = found(tmp_path)
    assert keys == ["\t", "\na", "cr\r", "dir\n/b", "\x7f"]
    assert omitted == {
        name.partition("/")[0]: f"its name has the character '{character}', which a key can't have: rename it!"
        for name, character in names.items()
    }


def test_awkward_names_are_listed_exactly_and_as_s3_lists_them(tmp_path: Path) -> None:
    long = "/".join(["y" * 127] * 8)
    assert len(long) == 1023
    names = [
        *AWKWARD,
        *(f"{name}.d/{inner}" for name in ("name", "-", "caf\u00e9") for inner in AWKWARD[:12]),
        long + "y",
    ]
    write(tmp_path, *names, "dir/a", "dir-1", "dir.txt", "dir0", "dir/sub/x", "dir/sub.y")
    expected = [*names, "dir/a", "dir-1", "dir.txt", "dir0", "dir/sub/x", "dir/sub.y"]
    keys, omitted = found(tmp_path)
    assert keys == sorted(expected, key=lambda key: key.encode())
    assert omitted == {}
    for entry in walk(str(tmp_path), [ALL], WalkOptions()):
        assert isinstance(entry, FileEntry)
        assert os.path.samefile(entry.path, tmp_path / entry.key)


def test_an_entry_has_the_files_metadata(tmp_path: Path) -> None:
    write(tmp_path, "a/b", size=7)
    os.utime(tmp_path / "a/b", ns=(1, 123_456_789))
    status = (tmp_path / "a/b").stat()
    (entry,) = walk(str(tmp_path), [ALL], WalkOptions())
    assert entry == FileEntry(f"{tmp_path}/a/b", "a/b", 7, 123_456_789, status.st_ctime_ns, status.st_ino)
    assert isinstance(entry, FileEntry)
    assert entry.fingerprint.size == 7
    assert entry.fingerprint.inode == status.st_ino


def test_the_working_directory_needs_no_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "-x", "a/b")
    monkeypatch.chdir(tmp_path)
    assert [(item.path, item.key) for item in walk("", [ALL], WalkOptions()) if isinstance(item, FileEntry)] == [
        ("-x", "-x"),
        ("a/b", "a/b"),
    ]


def test_random_trees_come_in_the_order_of_their_keys(tmp_path: Path) -> None:
    chance = random.Random(11)
    for number in range(10):
        root = tmp_path / str(number)
        root.mkdir()
        for _ in range(40):
            names = ["".join(chance.choices("ab-./0\u00e9\U0001f3ac\ufffd", k=chance.randint(1, 3))) for _ in range(3)]
            path = os.path.normpath("/".join(name.replace("/", "") or "z" for name in names[: chance.randint(1, 3)]))
            if ".." in path.split("/") or path == ".":
                continue
            try:
                write(root, path)
            except OSError:  # a directory has that name, or a file has a directory's
                continue
        there = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
        assert found(root) == (sorted(there, key=lambda key: key.encode()), {})


def test_links_are_left_out_or_followed(tmp_path: Path) -> None:
    write(tmp_path / "tree", "a", "d/x")
    write(tmp_path / "other", "y", size=5)
    root = tmp_path / "tree"
    (root / "to-file").symlink_to(tmp_path / "other" / "y")
    (root / "to-dir").symlink_to(tmp_path / "other")
    (root / "broken").symlink_to("nowhere")
    keys, omitted = found(root)
    assert keys == ["a", "d/x"]
    assert set(omitted) == {"broken", "to-dir", "to-file"}
    assert set(omitted.values()) == {"a symbolic link: `follow_symlinks=True` uploads its target"}
    keys, omitted = found(root, WalkOptions(follow_symlinks=True))
    assert keys == ["a", "d/x", "to-dir/y", "to-file"]
    assert omitted == {"broken": "a symbolic link to a file that does not exist!"}
    sizes = {
        item.key: item.size
        for item in walk(str(root), [ALL], WalkOptions(follow_symlinks=True))
        if isinstance(item, FileEntry)
    }
    assert sizes["to-file"] == 5
    (tmp_path / "link").symlink_to(root)
    assert found(tmp_path / "link")[0] == ["a", "d/x"], "a link that is named is followed"


def test_loops_are_named_and_end(tmp_path: Path) -> None:
    write(tmp_path / "tree", "d/x", "d/e/z")
    root = tmp_path / "tree"
    (root / "d" / "up").symlink_to("..")
    (root / "d" / "self").symlink_to(".")
    (root / "d" / "e" / "top").symlink_to(root)
    (root / "circle").symlink_to("circle")
    keys, omitted = found(root, WalkOptions(follow_symlinks=True))
    assert keys == ["d/e/z", "d/x"]
    loop = "a symbolic link to a directory that it is in: a loop"
    circle = f"can't look at it: {os.strerror(errno.ELOOP)}!"
    assert omitted == {"d/up": loop, "d/self": loop, "d/e/top": loop, "circle": circle}


def test_a_local_store_is_left_out(weed: LocalStore) -> None:
    """An upload of the home directory into that store would upload its own objects, and never end."""
    home = weed.data_dir
    keys, omitted = found(home.parent)
    assert omitted[home.name] == "the local store's own files, which change while it runs"
    assert not any(key.startswith(f"{home.name}/") for key in keys)
    assert "s3.json" in found(home, WalkOptions(), "data", "*.log*")[0]  # its user has named it


def test_a_local_store_without_its_lock_is_one(tmp_path: Path) -> None:
    """On Windows, the lock is a file only as long as it is held."""
    write(tmp_path, *(f"d/{name}" for name in ("s3.json", "security.toml", "weed.log", "data/1.dat")))
    assert found(tmp_path) == ([], {"d": "the local store's own files, which change while it runs"})


@pytest.mark.parametrize("lacks", sorted(STORE_MARKS))
def test_another_directory_may_have_some_of_its_names(tmp_path: Path, lacks: str) -> None:
    names = sorted(f"d/{name}" for name in STORE_MARKS - {lacks})
    write(tmp_path, *names)
    assert found(tmp_path) == (names, {})


def test_special_files_are_named(tmp_path: Path) -> None:
    write(tmp_path, "a", "z")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket"))
    assert found(tmp_path) == (["a", "z"], {"pipe": "a named pipe", "socket": "a socket"})
    assert found(tmp_path, WalkOptions(), "pipe", "socket") == (["a", "z"], {})
    (item,) = walk("/dev", [scope_of([include("/null")])], WalkOptions())
    assert item == Omitted("/dev/null", "a device", is_failure=False)


def test_names_that_are_not_utf8_are_failures(tmp_path: Path) -> None:
    write(tmp_path, "a", "z")
    for name in (b"caf\xe9", b"dir\xff/x"):
        path = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass
    keys, omitted = found(tmp_path)
    assert keys == ["a", "z"]
    why = "its name is not UTF-8, as a key must be: rename it"
    assert omitted == {os.fsdecode(b"caf\xe9"): f"{why}!", os.fsdecode(b"dir\xff"): f"{why}!"}, "no object can be named"
    assert found(tmp_path, WalkOptions(), "caf*", "dir*") == (["a", "z"], {})


def test_a_key_that_is_too_long(tmp_path: Path) -> None:
    write(tmp_path, "\u00e9" * 6, "a" * 11)
    keys, omitted = found(tmp_path, WalkOptions(most_key_bytes=11))
    assert keys == ["a" * 11]
    assert omitted == {"\u00e9" * 6: "its key would be 1 byte longer than the 1,024 bytes that S3 allows!"}


class _As:
    """This process as another user while it may read less: root may read everything."""

    def __init__(self, uid: int) -> None:
        self._uid, self._is_root = uid, os.geteuid() == 0

    def __enter__(self) -> None:
        if self._is_root:
            os.seteuid(self._uid)

    def __exit__(self, *_: object) -> None:
        if self._is_root:
            os.seteuid(0)


def test_a_directory_that_can_not_be_read(tmp_path: Path) -> None:
    write(tmp_path, "a", "closed/x", "no-search/y", "z")
    if os.geteuid() == 0:
        for path in [tmp_path, *tmp_path.parents[:-2]]:
            path.chmod(path.stat().st_mode | 0o055)
    (tmp_path / "closed").chmod(0o300)
    (tmp_path / "no-search").chmod(0o644)
    try:
        with _As(65534):
            keys, omitted = found(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o700)
        (tmp_path / "no-search").chmod(0o700)
    assert keys == ["a", "z"]
    denied = os.strerror(errno.EACCES)
    assert omitted == {
        "closed": f"can't read the directory: {denied}!",
        "no-search/y": f"can't look at it: {denied}!",
    }


def test_a_directory_that_is_no_directory(tmp_path: Path) -> None:
    write(tmp_path, "file")
    assert found(tmp_path / "nowhere")[1] == {".": f"can't read the directory: {os.strerror(errno.ENOENT)}!"}
    assert found(tmp_path / "file")[1] == {".": f"can't read the directory: {os.strerror(errno.ENOTDIR)}!"}


def test_what_vanishes_meanwhile_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a", "b", "c/x", "d")
    listing = walk(str(tmp_path), [ALL], WalkOptions())
    assert isinstance(next(listing), FileEntry)
    (tmp_path / "b").unlink()
    (tmp_path / "c" / "x").unlink()
    (tmp_path / "c").rmdir()
    told = [(item.path[len(str(tmp_path)) :], getattr(item, "reason", "")) for item in listing]
    assert told == [
        ("/b", "it vanished while its directory was read"),
        ("/c", f"can't read the directory: {os.strerror(errno.ENOENT)}"),
        ("/d", ""),
    ]


def test_excluded_directories_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a/x", "node_modules/y/z", "b/node_modules/c")
    read: list[str] = []
    scandir = os.scandir

    def noted(path: str) -> Iterator[os.DirEntry[str]]:
        read.append(os.path.relpath(path, tmp_path))
        return scandir(path)

    monkeypatch.setattr(tree.os, "scandir", noted)
    assert found(tmp_path, WalkOptions(), "node_modules") == (["a/x"], {})
    assert read == [".", "a", "b"]


@pytest.mark.slow
def test_a_hundred_thousand_files_in_bounded_memory(tmp_path: Path) -> None:
    for directory in range(100):
        os.mkdir(tmp_path / f"{directory:03}")
        for number in range(1000):
            os.close(os.open(tmp_path / f"{directory:03}" / f"{number:04}", os.O_CREAT | os.O_WRONLY))
    tracemalloc.start()
    try:
        count, last = 0, ""
        for item in walk(str(tmp_path), [ALL], WalkOptions()):
            assert isinstance(item, FileEntry)
            assert last < item.key
            count, last = count + 1, item.key
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 100_000
    assert peak < 500_000, "the names of one directory, not of all"
