"""The rules of the selection that need files: sizes, times, links, special files, lists, and several rules together.

`tests/core/test_selection.py` has the patterns. What other programs do is from their documentation:

- rclone: https://rclone.org/filtering/ ("Other filters", "--files-from") and https://rclone.org/local/#symlinks-junction-points
- aws: https://docs.aws.amazon.com/cli/latest/reference/s3/ and `customizations/s3/filegenerator.py` of its repository
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bigupload.batch.listing import FileList, FileListing
from bigupload.batch.tree import FileEntry, Omitted, Selection
from tests.tools.cases import each_case

NOW = 1_800_000_000
DAY = 86_400
FILES = {
    "a.jpg": (100, 0), "b.JPG": (101, 1), "c.txt": (99, 2), "sub/d.jpg": (0, 3), "sub/deep/e.txt": (1024, 5),
    "tmp/f.jpg": (1025, 10), ".hidden/g": (1, 0),
}  # fmt: skip
"""Sizes in bytes, and ages in days."""
ALL = {*FILES}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, (size, days) in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        os.utime(path, (NOW - days * DAY,) * 2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keys(files: FileList | None = None, **rules: Any) -> set[str]:
    found = FileListing(["."], Selection(**rules), now=NOW, files=files).found()
    return {item.key for item in found if isinstance(item, FileEntry)}


def omitted(**rules: Any) -> dict[str, bool]:
    """What is left out, and whether that is a failure."""
    found = FileListing(["."], Selection(**rules), now=NOW).found()
    return {item.path: item.is_failure for item in found if isinstance(item, Omitted)}


SAME = [
    # --- rclone: "--min-size 50k lists files of 50 KiB size or larger", "--max-size 1G … of 1 GiB size or smaller"
    ("rclone", {"min_size": "100"}, ALL - {"c.txt", "sub/d.jpg", ".hidden/g"}),
    ("rclone", {"max_size": "100"}, {"a.jpg", "c.txt", "sub/d.jpg", ".hidden/g"}),
    ("rclone", {"min_size": "100", "max_size": "100"}, {"a.jpg"}),
    ("rclone", {"max_size": 0}, {"sub/d.jpg"}),
    ("rclone", {"min_size": 1}, ALL - {"sub/d.jpg"}),
    ("rclone", {"max_size": "1KiB"}, ALL - {"tmp/f.jpg"}),
    # "--max-age 2d lists files of 2 days old or less"; "--min-age 2d … of 2 days old or more"
    ("rclone", {"newer_than": "2d"}, {"a.jpg", "b.JPG", "c.txt", ".hidden/g"}),
    ("rclone", {"newer_than": f"{2 * DAY - 1}s"}, {"a.jpg", "b.JPG", ".hidden/g"}),
    # "applies only to files and not to directories"
    ("rclone", {"newer_than": "5d", "include": ["/sub/"]}, {"sub/d.jpg", "sub/deep/e.txt"}),
    # Filters of names, sizes and times apply together.
    ("rclone", {"include": ["*.jpg"], "max_size": "100", "newer_than": "1d"}, {"a.jpg"}),
    ("rclone", {"include": ["*.jpg"], "min_size": "2000"}, set()),
    # "By default, rclone filter patterns are case sensitive."
    ("rclone", {"include": ["*.jpg"]}, {"a.jpg", "sub/d.jpg", "tmp/f.jpg"}),
    ("rclone", {"include": ["*.[jJ][pP][gG]"]}, {"a.jpg", "b.JPG", "sub/d.jpg", "tmp/f.jpg"}),
    # Names that begin with a dot are as others.
    ("rclone", {"exclude": ["*.*"]}, set()),
    ("rclone", {"include": ["**"]}, ALL),
    # --- aws: "filters that appear later in the command take precedence"
    ("aws", {"exclude": ["*", "!*.jpg"]}, {"a.jpg", "sub/d.jpg", "tmp/f.jpg"}),
    ("aws", {"exclude": ["*", "!*.jpg", "/tmp/*"]}, {"a.jpg", "sub/d.jpg"}),
    ("aws", {"exclude": ["!*.jpg", "*"]}, set()),
    ("aws", {"exclude": ["tmp/*"]}, ALL - {"tmp/f.jpg"}),
]
"""Of whom the rule is, the rule, and which files it selects: here as there."""

DIFFERENT = [
    # rclone: "Default units are KiB", and a unit "K" is KiB. Here sizes are bytes, and kB is decimal as links are sold.
    ("rclone", {"max_size": "1k"}, ALL - {"sub/deep/e.txt", "tmp/f.jpg"}),
    ("rclone", {"max_size": "1"}, {"sub/d.jpg", ".hidden/g"}),
    # rclone: an --exclude of a directory's name is one of files. Here it is one of both.
    ("rclone", {"exclude": ["sub"]}, ALL - {"sub/d.jpg", "sub/deep/e.txt"}),
    # aws: an asterisk matches slashes, and a pattern begins at the top.
    ("aws", {"exclude": ["s*t"]}, ALL),
]
"""The same for what differs from the program that is named. docs/many-files.md has each."""


@each_case(("who", "rules", "selected"), SAME + DIFFERENT)
def test_a_row_of_the_rules(tree: Path, who: str, rules: dict[str, Any], selected: set[str]) -> None:
    assert keys(**rules) == selected, who


def test_older_files(tree: Path) -> None:
    """What is exactly so old is newer: each file is in one of both, and none in both."""
    assert keys(newer_than="2d") | keys(older_than="2d") == ALL
    assert not keys(newer_than="2d") & keys(older_than="2d")


def test_links_and_special_files(tree: Path) -> None:
    """rclone leaves links out unless --copy-links is given, and so does this. The AWS CLI follows them.

    All three leave special files out: the AWS CLI with a warning and the exit status 2, this one without a failure.
    """
    (tree / "link").symlink_to("a.jpg")
    (tree / "dir-link").symlink_to("sub")
    (tree / "broken").symlink_to("nowhere")
    os.mkfifo(tree / "pipe")
    assert keys() == ALL
    assert omitted() == {"link": False, "dir-link": False, "broken": False, "pipe": False}
    assert keys(follow_symlinks=True) == ALL | {"link", "dir-link/d.jpg", "dir-link/deep/e.txt"}
    assert omitted(follow_symlinks=True) == {"broken": True, "pipe": False}
    # Patterns see the link's name; sizes and times are those of what it leads to.
    assert keys(follow_symlinks=True, include=["*link"], min_size=100) == {"link", "dir-link/deep/e.txt"}
    assert omitted(exclude=["*link", "broken", "pipe"]) == {}, "what no rule selects is not told"
