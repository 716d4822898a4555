"""The secrets that sign handles: made once, for all who start at once, and read by nobody else."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload.errors import ServiceError
from bigupload.service.access import keys
from bigupload.service.access.keys import load_secret

LONG = "0123456789abcdef" * 2


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "service" / "secret"


def write(path: Path, data: str | bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    path.chmod(0o600)


def test_made_once(path: Path) -> None:
    (secret,) = load_secret(path, create=True)
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", secret)
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    assert load_secret(path, create=True) == load_secret(path, create=False) == [secret]


def test_no_two_are_alike(path: Path) -> None:
    assert load_secret(path, create=True) != load_secret(path.with_name("other"), create=True)


@pytest.mark.slow
def test_all_who_start_at_once_have_the_same(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bigupload.service.access.keys import load_secret;"
        "print(*load_secret(Path(sys.argv[1]), create=True))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert {process.communicate(timeout=60)[0].strip() for process in processes} == set(load_secret(path, create=False))


def test_another_was_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = keys.locked

    @contextlib.contextmanager
    def late(locked: Path) -> Iterator[None]:
        with real(locked):
            write(path, LONG)  # by whoever had the lock before
            yield

    monkeypatch.setattr(keys, "locked", late)
    assert load_secret(path, create=True) == [LONG]


def test_one_a_line_in_order(path: Path) -> None:
    write(path, f"old{LONG}\r\n\n  new{LONG}  \n")
    assert load_secret(path, create=False) == [f"old{LONG}", f"new{LONG}"]


def test_a_link_is_read_through(path: Path, tmp_path: Path) -> None:
    write(tmp_path / "mounted", LONG)
    path.parent.mkdir()
    path.symlink_to(tmp_path / "mounted")
    assert load_secret(path, create=True) == [LONG]


def test_a_link_to_nowhere_is_not_made_a_file(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ServiceError, match="there is no secret file"):
        load_secret(path, create=True)
    assert path.is_symlink()
    assert not (tmp_path / "nowhere").exists()


def test_a_missing_file(path: Path) -> None:
    with pytest.raises(ServiceError, match="there is no secret file"):
        load_secret(path, create=False)
    assert not path.parent.exists()


@pytest.mark.parametrize("data", ["", "\n", "  \n\n"])
def test_an_empty_file(path: Path, data: str) -> None:
    write(path, data)
    with pytest.raises(ServiceError, match="is empty: write one secret on each line"):
        load_secret(path, create=True)
    assert path.read_text() == data


def test_a_short_secret(path: Path) -> None:
    write(path, f"{LONG}\n{LONG[:-1]}\n")
    with pytest.raises(ServiceError, match=r"line 2 .* is shorter than 32 characters") as caught:
        load_secret(path, create=False)
    assert "0123" not in str(caught.value)


def test_no_text(path: Path) -> None:
    write(path, b"\xff" * 40)
    with pytest.raises(ServiceError, match="is not text"):
        load_secret(path, create=False)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_can_read(path: Path, mode: int) -> None:
    write(path, LONG)
    path.chmod(mode)
    with pytest.raises(ServiceError, match=f"other users can read .*: run chmod 600 {path}"):
        load_secret(path, create=True)
    path.chmod(0o600)  # as it says
    assert load_secret(path, create=True) == [LONG]


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_what_is_no_file(path: Path, kind: str) -> None:
    path.parent.mkdir()
    path.mkdir() if kind == "directory" else os.mkfifo(path, 0o600)
    with pytest.raises(ServiceError, match="can't read the file"):
        load_secret(path, create=True)
