"""The keys' file: what it holds, who may read it, and that nothing makes it half a file."""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import logging
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bigupload.errors import ServiceError, UsageError
from bigupload.service import _files
from bigupload.service import keys as module
from bigupload.service.keys import KeyFile

NOON = 1_700_000_000.0
NOON_TEXT = "2023-11-14T22:13:20+00:00"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "service" / "keys.json"


@pytest.fixture
def file(path: Path) -> KeyFile:
    return KeyFile(path, clock=lambda: NOON)


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- a key's life


def test_a_key_is_made_found_and_revoked(file: KeyFile) -> None:
    key, plain = file.create("me")
    assert (key.owner, key.created_at, key.revoked_at) == ("me", NOON_TEXT, None)
    assert file.find(plain) == key
    revoked = file.revoke(key.id)
    assert revoked.revoked_at == NOON_TEXT
    assert file.find(plain) is None
    assert file.list() == [revoked]


def test_what_a_key_looks_like(file: KeyFile) -> None:
    made = [file.create("me") for _ in range(20)]
    for key, plain in made:
        assert re.fullmatch(r"sk_[A-Za-z0-9_-]{43}", plain)
        assert re.fullmatch(r"[0-9a-f]{8,}", key.id)
    assert len({plain for _, plain in made}) == len({key.id for key, _ in made}) == 20


def test_an_id_that_is_taken_is_drawn_again(file: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["aaaaaaaa", "aaaaaaaa", "bbbbbbbb"])
    monkeypatch.setattr(module.secrets, "token_hex", lambda _: next(drawn))
    assert [file.create("me")[0].id for _ in range(2)] == ["aaaaaaaa", "bbbbbbbb"]


def test_only_the_hash_is_kept(file: KeyFile, path: Path) -> None:
    key, plain = file.create("me")
    assert json.loads(path.read_text()) == {
        "version": 1,
        "keys": [
            {"id": key.id, "owner": "me", "sha256": hashlib.sha256(plain.encode()).hexdigest(), "created_at": NOON_TEXT}
        ],
    }
    assert plain[3:] not in path.read_text()


def test_nothing_secret_in_a_repr(file: KeyFile) -> None:
    key, plain = file.create("me")
    file.load()
    shown = repr(key) + repr(file) + repr(file._good)
    assert plain[3:] not in shown
    assert hashlib.sha256(plain.encode()).hexdigest() not in shown
    assert repr(hashlib.sha256(plain.encode()).digest()) not in shown


@pytest.mark.parametrize("presented", ["", "sk_", "sk_" + "A" * 43, "\udc80\ud800", "ключ", "x" * 100_000])
def test_an_unknown_key(file: KeyFile, presented: str) -> None:
    file.create("me")
    assert file.find(presented) is None


def test_an_id_or_a_hash_is_no_key(file: KeyFile) -> None:
    key, plain = file.create("me")
    assert file.find(key.id) is None
    assert file.find(hashlib.sha256(plain.encode()).hexdigest()) is None
    assert file.find(plain + " ") is None


def test_every_key_is_compared(file: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time must not tell where in the file a key is, or that it is there."""
    made = [file.create("me")[1] for _ in range(3)]
    file.load()
    compare, calls = hmac.compare_digest, []
    monkeypatch.setattr(module.hmac, "compare_digest", lambda a, b: calls.append(a) or compare(a, b))
    for presented in (*made, "sk_unknown"):
        calls.clear()
        file.find(presented)
        assert len(calls) == 3


def test_a_key_is_revoked_by_itself(file: KeyFile) -> None:
    other, _ = file.create("you")
    key, plain = file.create("me")
    assert file.revoke(f" {plain}\n").id == key.id
    assert file.list()[0] == other


def test_revoked_twice_keeps_the_first_date(path: Path) -> None:
    now = NOON
    file = KeyFile(path, clock=lambda: now)
    key, _ = file.create("me")
    first = file.revoke(key.id)
    now += 1000
    assert file.revoke(key.id) == first


def test_an_unknown_id_is_not_repeated(file: KeyFile, path: Path) -> None:
    """It may be a key that belongs into another file."""
    for before in ("no file", "a file"):
        with pytest.raises(UsageError, match="has no such key") as caught:
            file.revoke("sk_pasted")
        assert "pasted" not in str(caught.value), before
        if before == "no file":
            assert not path.parent.exists()
        file.create("me")


@pytest.mark.parametrize("owner", ["a", "0", "owner123", "a-b_c", "a" * 63])
def test_owners(file: KeyFile, owner: str) -> None:
    assert file.create(owner)[0].owner == owner


@pytest.mark.parametrize("owner", ["", "A", "a" * 64, "-a", "_a", "a/b", "..", "a.b", "a b", "a\n", "é", "٣"])
def test_what_is_no_owner(file: KeyFile, path: Path, owner: str) -> None:
    with pytest.raises(UsageError, match="1 to 63 of a-z, 0-9, '-' and '_'"):
        file.create(owner)
    assert not path.exists()


def test_no_file_is_no_keys(file: KeyFile, path: Path) -> None:
    assert file.list() == []
    assert not path.parent.exists()


def test_fields_that_are_not_ours_are_kept(file: KeyFile, path: Path) -> None:
    file.create("me")
    document = json.loads(path.read_text())
    document["keys"][0]["note"] = "the laptop"
    path.write_text(json.dumps(document))
    file.revoke(file.create("you")[0].id)
    assert json.loads(path.read_text())["keys"][0]["note"] == "the laptop"


# --- who may read it


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_modes(file: KeyFile, path: Path, umask: Callable[[int], int], mask: int) -> None:
    path.parent.parent.chmod(0o755)
    umask(mask)
    file.create("me")
    file.create("me")
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


def test_a_loose_mode_is_mended(file: KeyFile, path: Path) -> None:
    file.create("me")
    path.chmod(0o644)
    file.create("me")
    assert mode(path) == 0o600


@pytest.mark.parametrize("loose", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_makes_nobody_an_owner(file: KeyFile, path: Path, loose: int) -> None:
    _, plain = file.create("me")
    file.load()
    path.chmod(loose)
    with pytest.raises(ServiceError, match=f"others can write it.*chmod go-w {path}"):
        KeyFile(path).load()
    document = json.loads(path.read_text())
    row = document["keys"][0]
    theirs = row | {"id": "evil", "owner": "eve", "sha256": hashlib.sha256(b"sk_eve").hexdigest()}
    path.write_text(json.dumps(document | {"keys": [row, theirs]}))
    assert file.find("sk_eve") is None
    assert file.find(plain) is not None  # what it last said holds


def test_a_directory_that_was_there_keeps_its_mode(file: KeyFile, path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o755)
    file.create("me")
    assert (mode(path), mode(path.parent)) == (0o600, 0o755)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_changes_stays_the_services(file: KeyFile, path: Path) -> None:
    file.create("me")
    os.chown(path, 1234, 4321)
    file.create("me")
    assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (1234, 4321, 0o600)


@pytest.mark.parametrize("dangling", [True, False])
def test_a_link_is_not_written_through(file: KeyFile, path: Path, tmp_path: Path, dangling: bool) -> None:
    target = tmp_path / "target"
    if not dangling:
        KeyFile(target).create("me")
    before = None if dangling else target.read_bytes()
    path.parent.mkdir()
    path.symlink_to(target)
    with pytest.raises(ServiceError, match="is a symbolic link: name the file itself"):
        file.create("me")
    assert path.is_symlink()
    assert (None if dangling else target.read_bytes()) == before
    assert target.exists() is not dangling


def test_nor_is_one_in_the_place_of_the_new_file(file: KeyFile, path: Path, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    path.parent.mkdir()
    path.with_name("keys.json.new").symlink_to(tmp_path / "target")
    _, plain = file.create("me")
    assert file.find(plain)
    assert (tmp_path / "target").read_text() == "mine"


def test_a_link_is_read_through(file: KeyFile, path: Path, tmp_path: Path) -> None:
    """So are secrets mounted into containers, and a change is a change of the link."""
    one, two = KeyFile(tmp_path / "one"), KeyFile(tmp_path / "two")
    (_, first), (_, second) = one.create("me"), two.create("me")
    path.parent.mkdir()
    path.symlink_to(one.path)
    assert file.find(first)
    path.unlink()
    path.symlink_to(two.path)
    assert file.find(second)
    assert not file.find(first)


# --- at start


def row(**changed: object) -> dict[str, object]:
    return {"id": "aaaaaaaa", "owner": "me", "sha256": "0" * 64, "created_at": NOON_TEXT, **changed}


def document(*rows: object) -> str:
    return json.dumps({"version": 1, "keys": rows})


BROKEN = {
    "empty": ("", "is not JSON"),
    "half": (document(row())[:-20], "is not JSON (line 1)"),
    "no text": ("\udcff", "is not JSON"),
    "deep": ("[" * 100_000, "is not JSON"),
    "a list": ("[]", "is no key file"),
    "no keys": ('{"version": 1}', "is no key file"),
    "another version": ('{"version": 2, "keys": []}', "version is not 1"),
    "a row that is none": (document(row(), []), "key number 2 is not whole"),
    "no id": (document({k: v for k, v in row().items() if k != "id"}), "number 1 is not whole"),
    "an id for terminals": (document(row(id="\x1b[2J")), "number 1 is not whole"),
    "an owner who goes up": (document(row(owner="../you")), "number 1 is not whole"),
    "a short hash": (document(row(sha256="0" * 63)), "number 1 is not whole"),
    "no date": (document(row(created_at="yesterday")), "number 1 is not whole"),
    "revoked, but when": (document(row(revoked_at=True)), "number 1 is not whole"),
    "an id twice": (document(row(), row(sha256="1" * 64)), "same id"),
    "a hash twice": (document(row(), row(id="bbbbbbbb", revoked_at=NOON_TEXT)), "same sha256"),
}


@pytest.mark.parametrize(("text", "says"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_file(file: KeyFile, path: Path, text: str, says: str) -> None:
    path.parent.mkdir()
    path.write_text(text, errors="surrogateescape")
    for use in (file.load, file.list, lambda: file.find("sk_"), lambda: file.create("me"), lambda: file.revoke("x")):
        with pytest.raises(ServiceError) as caught:
            use()
        assert str(caught.value).startswith(f"can't read the file {path}: ")
        assert says in str(caught.value)
    assert path.read_text(errors="surrogateescape") == text


def test_what_is_broken_there_is_whole_otherwise(file: KeyFile, path: Path) -> None:
    path.parent.mkdir()
    path.write_text(document(row(), row(id="b", sha256="1" * 64, revoked_at=NOON_TEXT)))
    file.load()
    assert [key.id for key in file.list()] == ["aaaaaaaa", "b"]


def test_a_missing_file(file: KeyFile, path: Path) -> None:
    for use in (file.load, lambda: file.find("sk_")):
        with pytest.raises(ServiceError, match=r"there is no key file .*: bigupload keys create"):
            use()


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_what_is_no_file(file: KeyFile, path: Path, kind: str) -> None:
    path.parent.mkdir()
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    for use in (file.load, file.list, lambda: file.create("me")):
        with pytest.raises(ServiceError, match="directory" if kind == "directory" else "not a regular file"):
            use()


# --- while it serves


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
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
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
        assert warning.endswith("the keys that it last held go on to be valid"), outage
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


# --- several at once, killed, disk full

CREATE = """
import sys
from pathlib import Path
from bigupload.service.keys import KeyFile
for _ in range(int(sys.argv[2])):
    print(KeyFile(Path(sys.argv[1])).create("me")[1])
"""


def run_code(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_several_processes_lose_no_key(file: KeyFile, path: Path) -> None:
    processes = [run_code(CREATE, path, 10) for _ in range(4)]
    made = []
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        made += out.split()
    assert len(set(made)) == 40
    assert {found.id for plain in made if (found := file.find(plain))} == {key.id for key in file.list()}
    assert len(file.list()) == 40


def test_who_does_not_get_the_lock_says_so(file: KeyFile, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_files, "_LOCK_SECONDS", 0)
    with _files.locked(path), pytest.raises(ServiceError, match="another process is writing it"):
        file.create("me")
    file.create("me")


KILLED = """
import os, signal, sys
from pathlib import Path
from bigupload.service.keys import KeyFile
def die(*args):
    if sys.argv[2] == "half written":
        os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)
name = {"empty": "fchmod", "half written": "fsync", "whole": "replace"}[sys.argv[2]]
setattr(os, name, die)
KeyFile(Path(sys.argv[1])).create("killed")
"""


@pytest.mark.parametrize("moment", ["empty", "half written", "whole"])
def test_killed_in_the_middle_of_a_write(file: KeyFile, path: Path, moment: str) -> None:
    _, plain = file.create("me")
    before = path.read_bytes()
    process = run_code(KILLED, path, moment)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, err
    assert path.read_bytes() == before
    assert (leftover := path.with_name("keys.json.new")).exists()  # so it was the middle
    assert (leftover.stat().st_size == 0) is (moment == "empty")
    file.create("me")
    assert file.find(plain)
    assert [key.owner for key in file.list()] == ["me", "me"]
    assert not leftover.exists()


def test_the_bytes_reach_the_disk_before_the_name_and_the_name_too(
    file: KeyFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.create("me")
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_sync(fd: int) -> None:
        fsync(fd)
        done.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")

    def note_replace(source: Path, target: Path) -> None:
        replace(source, target)
        done.append("replace")

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    file.create("me")
    assert done == ["file", "replace", "directory"]


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_a_write_that_fails_leaves_all_as_it_was(
    file: KeyFile, path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    key, _ = file.create("me")
    before = path.read_bytes()
    real_open = os.open

    def fail(name: Any, *arguments: Any, **more: Any) -> int:
        if call == "open" and not str(name).endswith(".new"):
            return real_open(name, *arguments, **more)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        for use in (lambda: file.create("me"), lambda: file.revoke(key.id)):
            with pytest.raises(ServiceError, match=r"can't write .*: No space left on device; it is as it was"):
                use()
    assert path.read_bytes() == before
    assert not path.with_name("keys.json.new").exists()
    assert file.list() == [key]


# --- the defaults, and what it needs


def test_default_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("BIGUPLOAD_KEYS", "BIGUPLOAD_SECRET_FILE", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path in module.default_key_file().parents
    assert module.default_key_file().parts[-3:] == ("bigupload", "service", "keys.json")
    assert module.default_secret_file() == module.default_key_file().with_name("secret")
    monkeypatch.setenv("BIGUPLOAD_KEYS", "~/k")
    monkeypatch.setenv("BIGUPLOAD_SECRET_FILE", "/s")
    assert module.default_key_file() == tmp_path / "k"
    assert module.default_secret_file() == Path("/s")


def test_the_extra_is_not_needed() -> None:
    code = "import sys, bigupload.service.keys, bigupload.service.limits, bigupload.cli.keys; print(*sys.modules)"
    process = run_code(code)
    loaded = {name.partition(".")[0] for name in process.communicate(timeout=60)[0].split()}
    assert "filelock" in loaded
    assert not loaded & {"pydantic", "itsdangerous", "prometheus_client", "puremagic", "aiohttp", "boto3", "botocore"}


def test_an_empty_file_is_made_once(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "deep" / "keys.json")
    keys.ensure()
    keys.load()
    assert keys.list() == []
    made, _ = keys.create("me")
    keys.ensure()
    assert keys.list() == [made]
