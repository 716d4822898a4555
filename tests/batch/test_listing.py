"""Several sources as one list: keys, patterns, lists of files, and what must not be."""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from bigupload.api import many_items
from bigupload.api.many_items import select_files
from bigupload.batch import listing
from bigupload.batch import tree as trees
from bigupload.batch.listing import FileList, FileListing
from bigupload.batch.tree import FileEntry, Omitted, Selection, check_not_among_sources
from bigupload.errors import UsageError
from bigupload.support.rate_limiter import second_of_day
from tests.tools.cases import each_case
from tests.tools.other_systems import paths_of_windows

EVERYTHING = Selection()
PHOTOS = ["1/x.jpg", "2/x.jpg", "2/y.png", "top.jpg"]
TREE = [".hidden", "[1].txt", "a.txt", "b.jpg", *(f"photos/{name}" for name in PHOTOS)]


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    names = [
        "a.txt",
        "b.jpg",
        ".hidden",
        "photos/1/x.jpg",
        "photos/2/x.jpg",
        "photos/2/y.png",
        "photos/top.jpg",
        "[1].txt",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * len(name))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listed(*sources: str, selection: Selection = EVERYTHING, files: FileList | None = None) -> list[str]:
    """Each file as "key < path", and what was left out as "path: reason"."""
    return [
        f"{item.key} < {item.path}" if isinstance(item, FileEntry) else f"{item.path}: {item.reason}"
        for item in FileListing(list(sources), selection, now=0, files=files).found()
    ]


def keys(*sources: str, selection: Selection = EVERYTHING, files: FileList | None = None) -> list[str]:
    return [line.split(" < ")[0] for line in listed(*sources, selection=selection, files=files)]


def of_list(*paths: str) -> FileList:
    return FileList.parse("\n".join(paths).encode(), "LIST")


@each_case("name", ["photos", "photos/", "./photos", "photos/../photos"])
def test_keys_are_relative_to_the_directory(name: str) -> None:
    assert keys(name) == PHOTOS
    assert all(os.path.isfile(line.split(" < ")[1]) for line in listed(name))


def test_the_working_directory() -> None:
    assert keys(".") == TREE
    assert listed(".", selection=Selection(include=["/a*"])) == ["a.txt < a.txt"]


@each_case(
    ("pattern", "expected"),
    [
        ("*.txt", ["[1].txt < [1].txt", "a.txt < a.txt"]),
        ("photos/*.jpg", ["top.jpg < photos/top.jpg"]),
        ("photos/**/*.jpg", ["1/x.jpg < photos/1/x.jpg", "2/x.jpg < photos/2/x.jpg", "top.jpg < photos/top.jpg"]),
        ("photos/*/x.jpg", ["1/x.jpg < photos/1/x.jpg", "2/x.jpg < photos/2/x.jpg"]),
        ("photos/[2-9]", ["2/x.jpg < photos/2/x.jpg", "2/y.png < photos/2/y.png"]),
        ("*/2", ["photos/2/x.jpg < photos/2/x.jpg", "photos/2/y.png < photos/2/y.png"]),
        ("*.{jpg,png}", ["b.jpg < b.jpg"]),
        (".*", [".hidden < .hidden"]),
        ("[1].txt", ["[1].txt < [1].txt"]),  # a file that exists is no pattern
        ("*.mov", ["*.mov: no file matches it (the working directory is HERE)"]),
        ("photo/*.mov", ["photo: can't read the directory: No such file or directory"]),
        ("nowhere.bin", ["nowhere.bin: no such file (the working directory is HERE)"]),
    ],
)
def test_patterns(pattern: str, expected: list[str]) -> None:
    assert listed(pattern) == [line.replace("HERE", os.getcwd()) for line in expected]


def test_a_file_that_is_set_aside_is_left_out_of_a_pattern(tree: Path) -> None:
    """A job that deletes its files lists those of one pattern while it deletes those of another."""
    (tree / "b.jpg").rename(tree / ".bigupload-moved-0")
    assert listed("*.txt") == ["[1].txt < [1].txt", "a.txt < a.txt"]
    (aside,) = listed(".", selection=Selection(include=["*.mov"]))
    assert aside.startswith(".bigupload-moved-0: a move set it aside: if it is not running any more, run it again")


def test_a_pattern_gives_a_plain_file_the_key_that_a_shell_would(tree: Path) -> None:
    expanded = sorted(str(path.relative_to(tree)) for path in tree.glob("photos/*.jpg"))
    assert listed("photos/*.jpg") == listed(*expanded)
    (absolute,) = listed(f"{tree}/photos/*.jpg")
    assert absolute == f"top.jpg < {tree}/photos/top.jpg"


def test_several_sources_are_merged_in_the_order_of_their_keys() -> None:
    assert listed("photos/1/", "b.jpg", "a.txt", "photos/2/y.png") == [
        "a.txt < a.txt",
        "b.jpg < b.jpg",
        "x.jpg < photos/1/x.jpg",
        "y.png < photos/2/y.png",
    ]


def test_a_file_that_is_named_twice_is_one() -> None:
    assert listed("a.txt", "./a.txt", "a.txt", "*.txt") == ["[1].txt < [1].txt", "a.txt < a.txt"]


def collision(*sources: str, files: FileList | None = None) -> str:
    listing = FileListing(list(sources), EVERYTHING, now=0, files=files)
    assert listing.may_collide
    with pytest.raises(UsageError) as error:
        listing.check()
    return str(error.value)


def test_two_files_with_one_key_are_refused_before_anything_is_sent() -> None:
    says = "photos/1/x.jpg and photos/2/x.jpg would both become x.jpg: upload them to different prefixes"
    assert collision("photos/1/x.jpg", "photos/2/x.jpg") == says
    assert collision("photos/1/", "photos/2/") == says
    assert collision("photos/2/*.jpg", "photos/1/") == says.replace("1/x", "?").replace("2/x", "1/x").replace(
        "?", "2/x"
    )
    assert not FileListing(["photos"], EVERYTHING, now=0).may_collide
    FileListing(["photos/1/", "photos/2/"], Selection(exclude=["x.jpg"]), now=0).check()


def test_a_directory_beside_others_needs_a_slash() -> None:
    says = "photos is a directory beside other sources, and its name would not be in the keys"
    with pytest.raises(UsageError, match=says):
        listed("photos", "a.txt")
    with pytest.raises(UsageError, match=r"^no such file: docs\.zip; and photos is a directory beside other sources"):
        listed("photos", "a.txt", "docs.zip")
    assert keys("photos/", "a.txt")[:2] == ["1/x.jpg", "2/x.jpg"]


def test_patterns_are_matched_against_keys_whatever_the_source() -> None:
    assert keys("photos", selection=Selection(exclude=["/1/"])) == ["2/x.jpg", "2/y.png", "top.jpg"]
    assert keys("a.txt", "b.jpg", selection=Selection(include=["*.jpg"])) == ["b.jpg"]
    assert keys(files=of_list("photos/1/x.jpg", "a.txt"), selection=Selection(exclude=["photos"])) == ["a.txt"]


def test_a_list_of_files(tree: Path) -> None:
    assert listed(files=of_list("photos/top.jpg", "./a.txt", "", "photos//1/./x.jpg")) == [
        "a.txt < ./a.txt",
        "photos/1/x.jpg < photos//1/./x.jpg",
        "photos/top.jpg < photos/top.jpg",
    ]
    assert listed("photos", files=of_list("1/x.jpg")) == ["1/x.jpg < photos/1/x.jpg"]
    assert keys("photos", files=of_list(f"{tree}/photos/1/x.jpg")) == ["1/x.jpg"]
    assert keys(files=of_list(f"{tree}/a.txt")) == ["a.txt"]
    assert keys("/", files=of_list(f"{tree}/a.txt")) == [f"{tree}/a.txt"[1:]]
    assert listed(files=of_list("gone", "photos", "#x")) == [
        "#x: no such file",
        "gone: no such file",
        "photos: a directory, and not a file",
    ]
    assert keys(files=of_list("a.txt", "a.txt")) == ["a.txt"]


def test_a_list_that_find_wrote_with_nul(tree: Path) -> None:
    (tree / "two\nlines").touch()
    content = b"./two\nlines\0./a.txt\0"
    assert keys(files=FileList.parse(content, "-", null=True)) == ["a.txt", "two\nlines"]


@each_case("path", ["../x", "photos/../../x", "photos/../a.txt", "/etc/passwd", ".", "/"])
def test_a_path_of_a_list_that_leads_out_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match=r"^LIST, path 2: '.*' is not below the working directory: name the directory"):
        listed(files=of_list("a.txt", path))


@pytest.mark.parametrize("sources", [["photos", "photos/1"], ["a.txt"]])
def test_a_list_has_at_most_one_directory(sources: Sequence[str]) -> None:
    with pytest.raises(UsageError, match="name at most the one directory that they are in"):
        listed(*sources, files=of_list("x"))


def test_a_link_that_is_named_is_followed(tree: Path) -> None:
    (tree / "link").symlink_to("a.txt")
    (tree / "broken").symlink_to("nowhere")
    assert listed("link") == ["link < link"]
    assert listed(files=of_list("link")) == ["link < link"]
    assert listed("broken") == ["broken: a symbolic link to a file that does not exist"]


def test_names_that_are_not_utf8() -> None:
    name = os.fsdecode(b"caf\xe9")
    Path(name).touch()
    assert listed(name) == [
        f"{name}: its name is not UTF-8, as a key must be: rename it, or name its object, as s3://bucket/key"
    ]
    assert FileList.parse(b"caf\xe9\n", "-").paths == [name]


@pytest.mark.parametrize(
    ("sources", "says"), [([""], "the name of a source is empty"), (["[a/*"], "has a \\[ without a")]
)
def test_a_source_that_is_none(sources: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        listed(*sources)


def test_the_prefix_counts_for_the_length_of_a_key() -> None:
    prefix = "p" * (1024 - len("1/x.jpg"))
    found = list(FileListing(["photos"], EVERYTHING, now=0, prefix=prefix).found())
    assert [isinstance(item, FileEntry) for item in found] == [True] * 4
    found = list(FileListing(["photos"], EVERYTHING, now=0, prefix=prefix + "p").found())
    assert [isinstance(item, FileEntry) for item in found] == [False] * 4


# --- what a caller says


def test_a_selections_times() -> None:
    def instant(text: str | datetime.datetime) -> int | None:
        return Selection(newer_than=text).walk_options(now=1_000_000.0).limits.newer_than

    assert instant("1d") == (1_000_000 - 86_400) * 10**9
    assert instant("1970-01-02T00:00:00Z") == 86_400 * 10**9
    assert instant("1970-01-02T00:00:00.000001+00:00") == 86_400 * 10**9 + 1000
    local = datetime.datetime(2026, 1, 31)
    assert instant("2026-01-31") == instant(local) == round(local.timestamp()) * 10**9


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="Windows sets no time zone for one process")
def test_a_time_zone_of_more_than_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library takes it, and `datetime.astimezone` refuses it."""
    monkeypatch.setenv("TZ", "XXX-25")
    time.tzset()
    try:
        limits = Selection(newer_than="1970-01-03").walk_options(now=1_000_000.0).limits
        of_day = second_of_day()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert limits.newer_than is not None
    assert 0 <= of_day < 86_400


@each_case(
    ("wrong", "says"),
    [
        ({"newer_than": "7"}, "`newer_than`: not a time: '7' .write it like 7d, 12h, 2026-01-31 or"),
        ({"newer_than": "0001-01-01"}, "`newer_than`: not a time: '0001-01-01'"),
        ({"older_than": "yesterday"}, "`older_than`: not a time: 'yesterday'"),
        ({"min_size": -1}, "`min_size` is a number of bytes"),
        ({"max_size": "big"}, "not a size: 'big'"),
        ({"min_size": "2MB", "max_size": "1MB"}, "no file can be selected: `min_size` is more than `max_size`"),
        ({"newer_than": "1d", "older_than": "2d"}, "no file can be selected: `newer_than` must be the earlier"),
        ({"exclude": ["[a"]}, "has a \\[ without a"),
        ({"include": "*.jpg"}, "`include` is a list, not one text or path"),
        ({"exclude_from": ["nowhere"]}, "can't read `exclude_from` nowhere: No such file"),
        ({"exclude_from": ["bytes"]}, "`exclude_from` bytes is not a text in UTF-8"),
    ],
)
def test_a_selection_that_is_wrong(wrong: dict[str, object], says: str) -> None:
    Path("bytes").write_bytes(b"\xff")
    with pytest.raises(UsageError, match=says):
        Selection(**wrong)  # type: ignore[arg-type]  # that is what is tested


def test_include_and_exclude() -> None:
    assert keys("photos", selection=Selection(include=["*.jpg"], exclude=["/1/"])) == ["2/x.jpg", "top.jpg"]
    assert keys("photos", selection=Selection(exclude=["*", "!*.png"])) == ["2/y.png"]
    Path("rules").write_bytes(b"# no\r\n*.jpg\r\n!top.jpg\r\n")
    assert keys("photos", selection=Selection(exclude_from=["rules"])) == ["2/y.png", "top.jpg"]
    assert keys("photos", selection=Selection(exclude_from=[Path("rules")], exclude=["*.png"])) == ["top.jpg"]


# --- from a program


async def test_a_program_selects_files_for_upload_many() -> None:
    os.mkfifo("photos/pipe")
    found = [item async for item in select_files("photos", selection=Selection(exclude=["*.jpg"]))]
    assert [item.path for item in found] == ["photos/2/y.png", "photos/pipe"]
    assert [isinstance(item, Omitted) for item in found] == [False, True]


async def test_a_program_is_told_what_can_not_be() -> None:
    for sources, says in (((), "name at least one"), (("photos/1/", Path("photos/2")), "beside other sources")):
        with pytest.raises(UsageError, match=says):
            await anext(select_files(*sources))


# -- paths of Windows


@each_case(
    ("path", "key"),
    [
        ("a\\b.txt", "a/b.txt"),
        ("a/b.txt", "a/b.txt"),
        (".\\a\\\\b.txt", "a/b.txt"),
        ("C:\\work\\a\\b.txt", "a/b.txt"),
        ("C:/work\\a/b.txt", "a/b.txt"),
        ("C:\\works\\b.txt", None),
        ("D:\\work\\b.txt", None),
        ("C:b.txt", None),
        ("\\work\\b.txt", None),
        ("..\\b.txt", None),
    ],
)
def test_a_list_with_backslashes(monkeypatch: pytest.MonkeyPatch, path: str, key: str | None) -> None:
    with monkeypatch.context() as patch:
        paths_of_windows(patch, listing)
        if key is None:
            with pytest.raises(UsageError, match="is not below the working directory"):
                listing._listed(FileList([path], "list"), [])
        else:
            assert [each for each, _ in listing._listed(FileList([path], "list"), [])] == [key]


def test_a_directory_with_a_backslash_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    paths_of_windows(monkeypatch, listing)
    listing._check_beside(["films\\", "photos/"])
    with pytest.raises(UsageError, match="photos is a directory beside other sources"):
        listing._check_beside(["films\\", "photos"])


@each_case(
    ("file", "is_among"), [("C:\\work\\films\\r.json", True), ("C:\\work\\r.json", False), ("D:\\films\\r.json", False)]
)
def test_a_receipt_beside_what_is_read(monkeypatch: pytest.MonkeyPatch, file: str, is_among: bool) -> None:
    """The pattern has a slash, and there is no path from one drive to another."""
    with monkeypatch.context() as patch:
        paths_of_windows(patch, trees)
        chosen = Selection(include=["/films/*"])
        refused = pytest.raises(UsageError, match="would be uploaded itself") if is_among else contextlib.nullcontext()
        with refused:
            check_not_among_sources("--receipt", cast("Path", file), "C:\\work", chosen)


@each_case(("path", "key"), [("dir\\b.txt", "b.txt"), ("dir/b.txt", "b.txt"), ("dir\\sub/b.txt", "b.txt")])
def test_the_key_of_a_path(monkeypatch: pytest.MonkeyPatch, path: str, key: str) -> None:
    with monkeypatch.context() as patch:
        paths_of_windows(patch, many_items)
        assert many_items.item_of(path).key == key


@each_case("end", [b"\r\n", b"\n", b"\r\n\r\n"])
def test_a_list_of_windows(monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    with monkeypatch.context() as patch:
        paths_of_windows(patch, listing)
        patch.setattr(listing.os, "fsdecode", os.fsdecode, raising=False)
        assert FileList.parse(b"a.txt" + end + b"b.txt\r", "list").paths == ["a.txt", "b.txt"]
        assert FileList.parse(b"a.txt\r\0", "list", null=True).paths == ["a.txt\r"]
        assert FileList.parse("é.txt\r\na".encode("utf-16"), "list").paths == ["é.txt", "a"]
        patch.setattr(listing.os, "fsdecode", lambda name: name.decode("utf-8", "surrogatepass"), raising=False)
        for content in ("é.txt".encode("cp850"), "é.txt".encode("utf-16")[:-1]):
            with pytest.raises(UsageError, match="list is not in UTF-8: write it with "):
                FileList.parse(content, "list")


def test_a_pattern_with_a_backslash(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shells of Windows expand no patterns. Elsewhere, a backslash makes a wildcard a character."""
    assert listed("photos\\*.jpg")[0].startswith("photos\\*.jpg: no file matches it")
    with monkeypatch.context() as patch:
        paths_of_windows(patch, listing)
        patch.setattr(listing.os, "path", SimpleNamespace(**vars(listing.os.path) | {"isdir": os.path.isdir}))
        tree = listing._tree("photos\\*.jpg")
    assert tree is not None
    assert [item.key for item in tree.found(EVERYTHING.scope(), EVERYTHING.walk_options(now=0))] == ["top.jpg"]


def test_elsewhere_a_backslash_is_part_of_a_name() -> None:
    assert many_items.item_of("dir/a\\b.txt").key == "a\\b.txt"
    assert listing._listed(FileList(["a\\b.txt"], "list"), [])[0][0] == "a\\b.txt"
