"""`upload --mhl` and `verify --mhl`. `test_mhl_oracle.py` compares with the reference implementation."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import xxhash

from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from bigupload.verification.media_hash_lists import FORMATS, hex_digest, new_hasher_of
from tests.crash.running import Place
from tests.tools.receipts import read

from .support import PART, SIZE, Command, assert_refused, to

QUIET = ("--progress", "none")
NAMES = ("A001.mov", f"sub/B & {'C' if os.name == 'nt' else '<C>'}.wav", "sub/\u00e4.txt")


@pytest.fixture
def card(place: Place, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = place.directory / "card"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (root / "large").write_bytes(b"x" * SIZE)
    (root / ".DS_Store").write_bytes(b"not listed")
    monkeypatch.chdir(place.directory)
    return root


def offload(s3: StrictS3) -> list[str]:
    return [*to(s3, "s3://bucket/card/"), *QUIET, "--part-size", str(PART), "--mhl"]


def lists(card: Path) -> list[Path]:
    return sorted((card / "ascmhl").glob("*.mhl"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_beside_the_files_and_in_the_bucket(bigupload: Command, s3: StrictS3, card: Path) -> None:
    ended = bigupload("upload", "card", *offload(s3), "--json", "--receipt", "receipt")
    assert ended.code == 0, ended.err
    (listed,) = lists(card)
    assert re.fullmatch(r"0001_card_\d{4}-\d\d-\d\d_\d{6}Z\.mhl", listed.name)
    chain = card / "ascmhl" / "ascmhl_chain.xml"
    for path in (listed, chain):
        assert s3.objects["bucket"][f"card/ascmhl/{path.name}"].body == path.read_bytes()
    assert {path.name for path in (card / "ascmhl").iterdir()} == {listed.name, chain.name}
    for row in map(json.loads, ended.out.splitlines()[:-1]):
        assert row["xxh128"] == xxhash.xxh3_128_hexdigest(Path(row["path"]).read_bytes())
    receipt = read(Path("receipt"))
    assert all(row["xxh128"] for row in receipt["files"])
    ended = bigupload("verify", "--mhl", card)
    assert (ended.code, ended.out) == (0, "xxh128: 4 files\n")
    assert "the XXH128 of each file is that of the hash list" in ended.err
    assert bigupload("verify", "--mhl", card / "").out == "xxh128: 4 files\n"


def test_what_verify_finds(bigupload: Command, s3: StrictS3, card: Path) -> None:
    assert bigupload("upload", "card", *offload(s3)).code == 0
    flip(card / "large")
    (card / "A001.mov").unlink()
    (card / "sub" / "new").write_bytes(b"new")
    ended = bigupload("verify", "--mhl", "card", "--json", *QUIET)
    *rows, sums = map(json.loads, ended.out.splitlines())
    assert (ended.code, sums["files"], sums["failed"]) == (1, 2, 3)
    assert {row["key"]: row["message"] for row in rows if "error" in row} == {
        "large": "card/large differs from the hash list: its XXH128 is another one",
        "A001.mov": "card/A001.mov is in the hash list, and not there",
        "sub/new": "no hash list has this file",
    }
    told = bigupload("verify", "--mhl", "card").err
    assert "against card/ascmhl: the XXH128 of each file is that of the hash list; 3 failed" in told


def test_a_named_pipe_in_place_of_a_file_is_not_waited_for(bigupload: Command, s3: StrictS3, card: Path) -> None:
    assert bigupload("upload", "card", *offload(s3)).code == 0
    (card / "A001.mov").unlink()
    os.mkfifo(card / "A001.mov")
    ended = bigupload("verify", "--mhl", "card")
    assert ended.code == 1
    assert "can't read card/A001.mov: it is not a regular file" in ended.err


@pytest.mark.slow
def test_a_second_upload_adds_a_generation(bigupload: Command, s3: StrictS3, card: Path) -> None:
    assert bigupload("upload", "card", *offload(s3)).code == 0
    first = lists(card)[0].read_bytes()
    assert bigupload("upload", "card", *offload(s3), "--exclude", "*.tmp").code == 0
    one, two = lists(card)
    assert one.read_bytes() == first
    text = two.read_text()
    assert two.name.startswith("0002_card_")
    assert (text.count('action="verified"'), text.count('action="original"')) == (4, 0)
    assert "<pattern>*.tmp</pattern>" in text
    assert bigupload("verify", "--mhl", "card").out == "xxh128: 4 files\n"

    flip(card / "large")
    ended = bigupload("upload", "card", *offload(s3))
    assert ended.code == 1
    assert "large differs from an earlier hash list of the directory" in ended.err
    assert lists(card)[2].read_text().count('action="failed"') == 1
    ended = bigupload("verify", "--mhl", "card", *QUIET)
    assert (ended.code, ended.out) == (1, "xxh128: 3 files\n"), "the first hash counts"


def test_a_sync_writes_one_too(bigupload: Command, s3: StrictS3, card: Path) -> None:
    assert bigupload("sync", "card", *offload(s3)).code == 0
    (listed,) = lists(card)
    assert s3.objects["bucket"][f"card/ascmhl/{listed.name}"].body == listed.read_bytes()
    assert bigupload("verify", "--mhl", card).out == "xxh128: 4 files\n"
    (card / "new").write_bytes(b"new")
    assert bigupload("sync", "card", *offload(s3), "--delete").code == 0
    _, second = lists(card)
    assert (second.read_text().count('action="verified"'), second.read_text().count('action="original"')) == (4, 1)
    assert bigupload("verify", "--mhl", card).out == "xxh128: 5 files\n"
    assert bigupload("sync", "card", *to(s3, "s3://bucket/card/"), *QUIET, "--json=summary").result["files"] == 9
    for arguments, says in (
        (["--size-only"], "leave one of them out"), (["--dry-run"], "leave out --mhl"),
        (["--include", "*.mov"], "--mhl lists all files of a directory"),
    ):  # fmt: skip
        assert_refused(bigupload("sync", "card", *offload(s3), *arguments), 2, says)
    assert len(lists(card)) == 2


def test_nothing_is_written_unless_everything_is_proved(bigupload: Command, s3: StrictS3, card: Path) -> None:
    s3.script("PutObject", Status(403, "AccessDenied"), key="card/A001.mov", repeat=True)
    assert bigupload("upload", "card", *offload(s3)).code == 1
    assert not (card / "ascmhl").exists()
    s3.clear()
    assert bigupload("upload", "card", *offload(s3)).code == 0
    assert bigupload("verify", "--mhl", "card").out == "xxh128: 4 files\n", "also those that were there"


def test_a_hash_list_that_does_not_reach_the_bucket(bigupload: Command, s3: StrictS3, card: Path) -> None:
    s3.script("PutObject", Status(403, "AccessDenied"), key="card/ascmhl/ascmhl_chain.xml", repeat=True)
    ended = bigupload("upload", "card", *offload(s3))
    assert ended.code == 3
    assert "the upload is done, but" in ended.err


def test_what_is_refused_before_anything_is_sent(bigupload: Command, s3: StrictS3, card: Path) -> None:
    before = len(s3.requests)
    there = offload(s3)
    for names, options, says in (
        (["card/A001.mov"], [], "--mhl lists the files of one directory: name it as the only source"),
        (["card/", "card/sub/"], [], "--mhl lists the files of one directory: name it as the only source"),
        (["card"], ["--include", "*.mov", "--exclude", "*"], "it takes --exclude alone"),
        (["card"], ["--min-size", "1kB"], "it takes --exclude alone"),
        (["card"], ["--dry-run"], "leave out --mhl"),
    ):
        assert_refused(bigupload("upload", *names, *there, *options), 2, says)
    service = ["--service", "http://127.0.0.1:1", "--mhl", *QUIET]
    assert_refused(bigupload("upload", "card", *service), 2, "a media service makes its own")
    (card / "sub" / "ascmhl").mkdir()
    assert_refused(bigupload("upload", "card", *there), 2, "card/sub has hash lists of its own")
    (card / "sub" / "ascmhl").rmdir()
    (card / "ascmhl").write_text("")
    assert_refused(bigupload("upload", "card", *there), 1, "can't write hash lists into card: ascmhl is a file there")
    (card / "ascmhl").unlink()
    (card / "ascmhl").mkdir()
    assert_refused(bigupload("upload", "card", *there), 1, "can't read card/ascmhl/ascmhl_chain.xml: No such file")
    assert len(s3.requests) == before


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may write everywhere, and Windows has no modes")
def test_a_card_that_can_not_be_written(bigupload: Command, s3: StrictS3, card: Path) -> None:
    card.chmod(0o555)
    assert_refused(bigupload("upload", "card", *offload(s3)), 1, "can't write hash lists into card: Permission denied")


def test_lists_that_are_damaged(bigupload: Command, s3: StrictS3, card: Path) -> None:
    assert_refused(bigupload("verify", "--mhl", "card"), 2, "card/ascmhl is not there")
    assert bigupload("upload", "card", *offload(s3)).code == 0
    (listed,), chain = lists(card), card / "ascmhl" / "ascmhl_chain.xml"
    good, good_chain = listed.read_text(), chain.read_text()

    def signed(content: str) -> None:
        """Change the list, with a chain that knows it."""
        listed.write_text(content)
        hasher = new_hasher_of("c4")
        hasher.update(content.encode())
        chain.write_text(re.sub("<c4>.*</c4>", f"<c4>{hex_digest('c4', hasher)}</c4>", good_chain))

    listed.write_text(good.replace("original", "verified", 1))
    assert_refused(bigupload("verify", "--mhl", "card"), 1, "differs from the chain: it was changed since")
    for content, says in (
        (good.replace(">large<", ">../receipt<"), "has a path that is not below its directory: '../receipt'"),
        (good.replace(">large<", ">/etc/passwd<"), "has a path that is not below its directory: '/etc/passwd'"),
        (good.replace("<hashlist", "<!DOCTYPE a [<!ENTITY b 'c'>]><hashlist"), "it has a document type"),
        (good[:200], "is not a hash list: "),
    ):
        signed(content)
        assert_refused(bigupload("verify", "--mhl", "card"), 1, says)
    signed(good)
    assert bigupload("verify", "--mhl", "card").code == 0
    chain.write_text(good_chain.replace(listed.name, "../x.mhl"))
    assert_refused(bigupload("verify", "--mhl", "card"), 1, "has an entry that is not a hash list")
    listed.unlink()
    chain.write_text(good_chain)
    assert_refused(bigupload("verify", "--mhl", "card"), 1, "No such file or directory")
    assert_refused(bigupload("verify", "--mhl"), 2, "name the directory alone")
    assert_refused(bigupload("verify", "--mhl", "card", "s3://bucket/card/"), 2, "name the directory alone")
    assert_refused(bigupload("verify", "--mhl", "card", "--exclude", "x"), 2, "leave out --exclude")


def test_the_formats() -> None:
    """C4: https://pub.smpte.org/doc/st2114/. The others are those of their libraries."""
    found: dict[str, Any] = {}
    for format_ in FORMATS:
        hasher = new_hasher_of(format_)
        hasher.update(b"")
        found[format_] = hex_digest(format_, hasher)
    assert found["md5"] == hashlib.md5(b"").hexdigest()
    assert found["xxh128"] == "99aa06d3014798d86001c324468d497f"
    assert found["xxh64"] == "ef46db3751d8e999"
    empty = "c459dsjfscH38cYeXXYogktxf4Cd9ibshE3BHUo6a58hBXmRQdZrAkZzsWcbWtDg5oQstpDuni4Hirj75GEmTc1sFT"
    assert found["c4"] == empty


def test_without_the_package(bigupload: Command, s3: StrictS3, card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "xxhash", None)
    before = len(s3.requests)
    ended = bigupload("upload", "card", *offload(s3))
    assert_refused(ended, 2, "XXH128 needs the package xxhash: pip install")
    assert len(s3.requests) == before
