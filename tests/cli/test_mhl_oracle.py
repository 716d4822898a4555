"""The reference implementation reads what `--mhl` writes, and `verify --mhl` what that writes."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Place
from tests.tools.ascmhl import Ascmhl, install
from tests.tools.directories import session_directory

from .support import Command, to

pytestmark = pytest.mark.slow
FILES = 200
FLIPPED = "day 2/clip 0077 & <b>.mov"
VERIFICATION_FAILED = 11
NEW_FILES = 21


@pytest.fixture(scope="session")
def ascmhl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ascmhl]:
    with session_directory(tmp_path_factory, "ascmhl") as directory:
        yield install(directory)


@pytest.fixture
def card(place: Place) -> Path:
    root, chance = place.directory / "A001", random.Random(5)
    for number in range(FILES):
        path = root / f"day {number % 3}" / f"clip {number:04} & <b>.mov"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(chance.choice([0, 1, 1000, 70_000])))
    (root / FLIPPED).parent.mkdir(exist_ok=True)
    (root / FLIPPED).write_bytes(b"x" * 100)
    return root


def count(card: Path) -> int:
    return sum(path.is_file() for path in card.rglob("*") if "ascmhl" not in path.parts)


def flip(card: Path) -> None:
    data = bytearray((card / FLIPPED).read_bytes())
    data[50] ^= 1
    (card / FLIPPED).write_bytes(data)


def offload(bigupload: Command, s3: StrictS3, card: Path) -> None:
    ended = bigupload("upload", card, *to(s3, "s3://bucket/A001/"), "--mhl", "--progress", "none")
    assert ended.code == 0, ended.err


def test_it_verifies_what_is_written(bigupload: Command, s3: StrictS3, card: Path, ascmhl: Ascmhl) -> None:
    offload(bigupload, s3, card)
    ended = ascmhl.run("verify", card)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    flip(card)
    ended = ascmhl.run("verify", card)
    assert ended.returncode == VERIFICATION_FAILED
    assert FLIPPED in ended.stdout + ended.stderr


def test_it_verifies_two_generations_and_what_the_bucket_has(
    bigupload: Command, s3: StrictS3, card: Path, ascmhl: Ascmhl
) -> None:
    for _ in range(2):
        offload(bigupload, s3, card)
    assert ascmhl.run("verify", card).returncode == 0
    restored = card.parent / "restored"
    for key, stored in s3.objects["bucket"].items():
        path = restored / key.removeprefix("A001/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stored.body)
    assert ascmhl.run("verify", restored).returncode == 0


@pytest.mark.parametrize("format_", ["xxh128", "md5", "c4", "xxh64", "xxh3", "sha1"])
def test_what_it_writes_is_verified(bigupload: Command, card: Path, ascmhl: Ascmhl, format_: str) -> None:
    assert ascmhl.run("create", card, "-h", format_).returncode == 0
    total = count(card)
    assert bigupload("verify", "--mhl", card).out == f"{format_}: {total:,} files\n"
    flip(card)
    ended = bigupload("verify", "--mhl", card, "--progress", "none")
    assert (ended.code, ended.out) == (1, f"{format_}: {total - 1:,} files\n")
    assert f"{FLIPPED} differs from the hash list: its {format_.upper()} is another one" in ended.err


def test_a_generation_follows_on_its_own(bigupload: Command, s3: StrictS3, card: Path, ascmhl: Ascmhl) -> None:
    """Each file that its list has in another format is verified by that, too, in the same generation."""
    assert ascmhl.run("create", card, "-h", "md5").returncode == 0
    offload(bigupload, s3, card)
    listed = sorted((card / "ascmhl").glob("0002_*.mhl"))[0].read_text()
    assert listed.count('<md5 action="verified"') == listed.count('<xxh128 action="verified"') == count(card)
    assert ascmhl.run("verify", card).returncode == 0
    assert ascmhl.run("create", card, "-h", "xxh128").returncode == 0, "and its own follows that"
    assert bigupload("verify", "--mhl", card).code == 0


def test_lists_of_a_directory_within(bigupload: Command, card: Path, ascmhl: Ascmhl) -> None:
    assert ascmhl.run("create", card / "day 1").returncode == 0
    assert ascmhl.run("create", card).returncode == 0
    assert bigupload("verify", "--mhl", card).out == f"xxh128: {count(card):,} files\n"
    shutil.copy(card / FLIPPED, card / "day 1" / "new")
    assert ascmhl.run("verify", card).returncode == NEW_FILES
    ended = bigupload("verify", "--mhl", card, "--progress", "none")
    assert ended.code == 1
    assert "no hash list has this file" in ended.err
