"""The keys' file is read whole or not at all, and read again when it has changed."""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path

import pytest

from bigupload.errors import ServiceError
from bigupload.service.access import keys as module
from bigupload.service.access.keys import KeyFile
from tests.service.keys.support import NOON_TEXT

# -- at start


def row(**changed: object) -> dict[str, object]:
    return {"id": "aaaaaaaa", "owner": "me", "sha256": "0" * 64, "created_at": NOON_TEXT, **changed}


def document(*rows: object) -> str:
    return json.dumps({"version": 1, "keys": rows})


BROKEN = {
    "empty": ("", "is not JSON"),
    "half": (document(row())[:-20], "is not JSON (line 1)"),
    "no text": ("\udcff", "is not JSON"),
    "deep": ("[" * 100_000, "is not JSON"),
    "a list": ("[]", "is not a key file"),
    "no keys": ('{"version": 1}', "is not a key file"),
    "another version": ('{"version": 2, "keys": []}', "version is not 1"),
    "a row that is none": (document(row(), []), "key number 2 is incomplete"),
    "no id": (document({k: v for k, v in row().items() if k != "id"}), "number 1 is incomplete"),
    "an id for terminals": (document(row(id="\x1b[2J")), "number 1 is incomplete"),
    "an owner who goes up": (document(row(owner="../you")), "number 1 is incomplete"),
    "a short hash": (document(row(sha256="0" * 63)), "number 1 is incomplete"),
    "no date": (document(row(created_at="yesterday")), "number 1 is incomplete"),
    "revoked, but when": (document(row(revoked_at=True)), "number 1 is incomplete"),
    "an id twice": (document(row(), row(sha256="1" * 64)), "same id"),
    "a hash twice": (document(row(), row(id="bbbbbbbb", revoked_at=NOON_TEXT)), "same sha256"),
}


@pytest.mark.parametrize(("text", "says"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_file(file: KeyFile, path: Path, text: str, says: str) -> None:
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    for use in (file.load, file.list, lambda: file.find("sk_"), lambda: file.create("me"), lambda: file.revoke("x")):
        with pytest.raises(ServiceError) as caught:
            use()
        assert str(caught.value).startswith(f"can't read the file {path}: ")
        assert says in str(caught.value)
    assert path.read_text(encoding="utf-8", errors="surrogateescape") == text


def test_what_is_broken_there_is_whole_otherwise(file: KeyFile, path: Path) -> None:
    path.parent.mkdir()
    path.write_text(document(row(), row(id="b", sha256="1" * 64, revoked_at=NOON_TEXT)))
    file.load()
    assert [key.id for key in file.list()] == ["aaaaaaaa", "b"]


def test_a_missing_file(file: KeyFile, path: Path) -> None:
    for use in (file.load, lambda: file.find("sk_")):
        with pytest.raises(ServiceError, match=r"there is no key file .*: create it by bigupload keys create"):
            use()


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_what_is_no_file(file: KeyFile, path: Path, kind: str) -> None:
    path.parent.mkdir()
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    for use in (file.load, file.list, lambda: file.create("me")):
        with pytest.raises(ServiceError, match="directory" if kind == "directory" else "not a regular file"):
            use()


# -- while it serves


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    return found


def test_changes_of_others_are_noticed(file: KeyFile, path: Path) -> None:
    command = KeyFile(path)
    _, first = command.create("me")
    assert file.find(first)
    key, second = command.create("you")
    assert file.find(second) == key
    command.revoke(key.id)
    assert file.find(second) is None
    assert file.find(first)


def test_a_change_in_place_of_the_same_length_is_noticed(file: KeyFile, path: Path) -> None:
    _, plain = file.create("me")
    assert file.find(plain)
    status = path.stat()
    path.write_text(path.read_text().replace('"me"', '"my"'))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 100))  # the least of Windows
    assert (path.stat().st_ino, path.stat().st_size) == (status.st_ino, status.st_size)
    assert (found := file.find(plain)) is not None
    assert found.owner == "my"


def test_what_did_not_change_is_not_read(file: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    _, plain = file.create("me")
    file.load()
    monkeypatch.setattr(module, "read_regular", lambda path: pytest.fail(f"{path} was read"))
    assert file.find(plain)


@pytest.mark.parametrize("how", ["half", "empty", "deleted", "directory"])
def test_a_file_that_breaks_locks_nobody_out(
    file: KeyFile, path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    kept, plain = file.create("me")
    gone, revoked = file.create("me")
    file.revoke(gone.id)
    file.load()
    whole = path.read_bytes()
    for outage in range(2):  # one warning each
        path.unlink()
        if how == "directory":
            path.mkdir()
        elif how != "deleted":
            path.write_bytes(whole[:-30] if how == "half" else b"")
        for _ in range(5):
            assert file.find(plain) == kept
            assert file.find(revoked) is None
        (warning,) = warnings_of(caplog)
        assert str(path) in warning
        assert warning.endswith("the keys that it held before stay valid"), outage
        path.rmdir() if how == "directory" else path.unlink(missing_ok=True)
        path.write_bytes(whole)
        assert file.find(plain) == kept
    _, new = KeyFile(path).create("me")
    assert file.find(new)
    assert warnings_of(caplog) == []


def test_a_broken_file_is_parsed_once(file: KeyFile, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, plain = file.create("me")
    file.load()
    path.write_text("{")
    assert file.find(plain)
    monkeypatch.setattr(module, "read_regular", lambda path: pytest.fail(f"{path} was read again"))
    assert file.find(plain)


def test_a_file_that_could_not_be_read_is_tried_again(
    file: KeyFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptors left: that passes, and leaves no trace in the file's dates. The revoked key must end."""
    key, plain = file.create("me")
    file.load()
    KeyFile(path).revoke(key.id)

    def fail(path: Path) -> tuple[bytes, os.stat_result]:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(module, "read_regular", fail)
        assert file.find(plain)
    assert file.find(plain) is None


def test_a_file_that_comes_back_as_it_was(file: KeyFile, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A disk that is mounted again, say. The next time it is gone is another time."""
    _, plain = file.create("me")
    file.load()
    away = path.parent.with_name("away")
    for _ in range(2):
        path.parent.rename(away)
        assert file.find(plain)
        assert len(warnings_of(caplog)) == 1
        away.rename(path.parent)
        assert file.find(plain)


def test_a_chmod_that_makes_it_readable_is_noticed(file: KeyFile, path: Path) -> None:
    file.create("me")
    before = module._stamp(path.stat())
    path.chmod(0o640)
    os.chmod(path, 0o600)
    assert module._stamp(path.stat()) != before
