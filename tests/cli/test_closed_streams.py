"""A standard stream that the caller closed is the null device: nobody reads it, and no other file gets its number."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import COMMAND, Place

from .support import assert_refused, to

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a POSIX shell")

NUMBERS = """
import json, os, pathlib, sys
from bigupload.cli import _open_closed_streams
_open_closed_streams()
found = [(os.readlink(f"/proc/self/fd/{number}"), os.get_inheritable(number)) for number in range(3)]
pathlib.Path(sys.argv[1]).write_text(json.dumps([found, sys.stdout.fileno(), sys.stderr.fileno()]))
"""


def closing(what: str, *command: str) -> list[str]:
    """A command line that closes streams, and then is the command's."""
    return ["sh", "-c", f'exec "$@" {what}', "sh", *(command or COMMAND)]


SLOW = pytest.mark.slow


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("what", "mode"),
    [
        ("2>&-", "json"),
        (">&-", "auto"),
        ("<&- >&- 2>&-", "bar"),
        pytest.param("2>&-", "auto", marks=SLOW),
        pytest.param("2>&-", "bar", marks=SLOW),
        pytest.param(">&-", "bar", marks=SLOW),
        pytest.param(">&-", "json", marks=SLOW),
        pytest.param("<&- >&- 2>&-", "auto", marks=SLOW),
        pytest.param("<&- >&- 2>&-", "json", marks=SLOW),
    ],
)
def test_files_are_uploaded(s3: StrictS3, place: Place, what: str, mode: str) -> None:
    paths = [place.directory / name for name in ("a", "b")]
    for path in paths:
        path.write_text(path.name)
    upload = ["upload", *paths, *to(s3, "s3://bucket/p/"), "--progress", mode]
    ended = place.run(*upload, command=closing(what))
    assert (ended.code, "Traceback" in ended.err) == (0, False), ended.err
    assert sorted(ended.out.splitlines()) == ([f"{s3.url}/bucket/p/{n}" for n in "ab"] if what == "2>&-" else [])
    assert set(s3.objects["bucket"]) == {"p/a", "p/b"}


@pytest.mark.exhaustive
@pytest.mark.parametrize("what", ["2>&-", ">&-"])
def test_a_directory_is_synchronized(s3: StrictS3, place: Place, what: str) -> None:
    tree = place.directory / "tree"
    tree.mkdir()
    (tree / "a").write_text("a")
    ended = place.run("sync", tree, *to(s3, "s3://bucket/p/"), command=closing(what))
    assert (ended.code, "Traceback" in ended.err) == (0, False), ended.err
    assert set(s3.objects["bucket"]) == {"p/a"}


def test_a_directory_as_standard_input_sends_nothing(s3: StrictS3, place: Place) -> None:
    """Python refuses it before it runs a line of any program (init_sys_streams), so that its words are the user's."""
    before = len(s3.requests)
    ended = place.run("upload", "-", *to(s3), "--allow-empty", command=closing("</"))
    assert ended.code == 1
    assert "<stdin> is a directory" in ended.err
    assert len(s3.requests) == before


def test_a_closed_standard_input_is_not_an_empty_one(s3: StrictS3, place: Place) -> None:
    ended = place.run("upload", "-", *to(s3), "--allow-empty", command=closing("<&-"))
    assert (ended.code, ended.complaint) == (1, "bigupload: key: can't read standard input: Bad file descriptor")
    ended = place.run("store", "remove", command=closing("<&-"))
    assert ended.code == 2
    assert "give --yes" in ended.complaint


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux tells what a number is")
def test_no_other_file_gets_the_numbers(place: Place) -> None:
    wrote = place.directory / "found.json"
    ended = place.run(wrote, command=closing("<&- >&- 2>&-", sys.executable, "-c", NUMBERS))
    assert ended.code == 0
    assert wrote.read_text() == '[[["/dev/null", true], ["/dev/null", true], ["/dev/null", true]], 1, 2]'


def test_no_key_is_made_that_nobody_sees(place: Place) -> None:
    keys = place.directory / "keys"
    ended = place.run("keys", "create", "--owner", "me", "--keys", keys, command=closing(">&-"))
    assert_refused(ended, 1, "no key was created: standard output is closed")
    assert not keys.exists()
