"""`bigupload keys`: what is on which stream, and what a full disk leaves behind."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from bigupload.service.access.keys import KeyFile, load_secret, token_signing_key
from tests.crash.running import COMMAND, REPOSITORY, Ended, Place, driver

from .support import Command


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "service" / "keys.json"


def create(bigupload: Command, path: Path, owner: str = "me") -> str:
    ended = bigupload("keys", "create", "--owner", owner, "--keys", path)
    assert ended.code == 0, ended.err
    return ended.out.strip()


def assert_refused(ended: Ended, code: int, *says: str) -> None:
    assert (ended.code, ended.out) == (code, ""), ended.err
    for words in ("bigupload: ", *says):
        assert words in ended.complaint


def test_the_key_alone_is_on_standard_output(place: Place, path: Path) -> None:
    ended = place.run("keys", "create", "--owner", "me", "--keys", path)
    assert ended.code == 0
    assert re.fullmatch(r"sk_[A-Za-z0-9_-]{43}\n", ended.out)
    assert "shown only once" in ended.complaint
    assert ended.out.strip() not in ended.err
    found = KeyFile(path).find(ended.out.strip())
    assert found is not None
    assert f"key {found.id} of me" in ended.complaint


def test_a_key_as_json(bigupload: Command, path: Path) -> None:
    made = bigupload("keys", "create", "--owner", "me", "--keys", path, "--json").result
    (key,) = KeyFile(path).list()
    assert made == {"id": key.id, "owner": "me", "created_at": key.created_at, "key": made["key"]}
    assert KeyFile(path).find(made["key"]) == key


def test_the_default_place(bigupload: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bigupload("keys", "create", "--owner", "me").code == 0
    (made,) = tmp_path.rglob("keys.json")
    assert made.parts[-3:] == ("bigupload", "service", "keys.json")
    monkeypatch.setenv("BIGUPLOAD_KEYS", str(tmp_path / "mine"))
    assert bigupload("keys", "create", "--owner", "you").code == 0
    assert [key.owner for key in KeyFile(tmp_path / "mine").list()] == ["you"]
    assert bigupload("keys", "list").out.splitlines()[1].split()[1] == "you"


def test_a_signing_key_before_the_first_start_of_the_service(bigupload: Command, tmp_path: Path) -> None:
    """It makes the secret file, as `serve` does, and names it: the service must use the same."""
    file = tmp_path / "service" / "secret"
    made = bigupload("keys", "signing-key", "--owner", "me", "--secret", file)
    assert made.code == 0, made.err
    assert str(file) in made.complaint
    assert made.out.strip() == token_signing_key(load_secret(file, create=True)[-1], "me")
    again = bigupload("keys", "signing-key", "--owner", "me", "--secret", file)
    assert (again.code, again.out, again.err) == (0, made.out, "")


def test_a_secret_that_nothing_has_made(bigupload: Command, tmp_path: Path) -> None:
    ended = bigupload("keys", "secret", "add", "--secret", tmp_path / "none")
    assert_refused(ended, 1, "there is no secret file", "bigupload serve makes one")


def test_the_table(bigupload: Command, path: Path) -> None:
    create(bigupload, path, "somebody-with-a-name")
    plain = create(bigupload, path)
    assert bigupload("keys", "revoke", plain, "--keys", path).code == 0
    ended = bigupload("keys", "list", "--keys", path)
    assert (ended.code, ended.err) == (0, "")
    first, second = KeyFile(path).list()
    head, *rows = ended.out.splitlines()
    assert head.split() == ["id", "owner", "created", "revoked"]
    assert [row.split() for row in rows] == [
        [first.id, "somebody-with-a-name", first.created_at, "-"],
        [second.id, "me", second.created_at, second.revoked_at],
    ]
    for row, key in zip(rows, (first, second), strict=True):
        assert row.index(key.created_at) == head.index("created")
    assert plain not in ended.out
    assert hashlib.sha256(plain.encode()).hexdigest() not in ended.out


def test_the_list_as_json(bigupload: Command, path: Path) -> None:
    create(bigupload, path)
    create(bigupload, path, "you")
    lines = bigupload("keys", "list", "--keys", path, "--json").out.splitlines()
    assert [json.loads(line) for line in lines] == [vars(key) for key in KeyFile(path).list()]


def test_no_keys_yet(bigupload: Command, path: Path) -> None:
    ended = bigupload("keys", "list", "--keys", path)
    assert (ended.code, ended.out) == (0, "")
    assert "bigupload keys create --owner NAME" in ended.complaint
    assert not path.parent.exists()


def test_revoking(bigupload: Command, path: Path) -> None:
    plain = create(bigupload, path)
    (key,) = KeyFile(path).list()
    ended = bigupload("keys", "revoke", key.id, "--keys", path)
    assert (ended.code, ended.out) == (0, "")
    assert f"key {key.id} of me: revoked at " in ended.complaint
    again = bigupload("keys", "revoke", plain, "--keys", path)
    assert again.code == 0
    assert f"key {key.id} of me: was already revoked at " in again.complaint
    assert KeyFile(path).find(plain) is None


def test_revoking_what_is_not_there(bigupload: Command, path: Path) -> None:
    create(bigupload, path)
    ended = bigupload("keys", "revoke", "sk_secret", "--keys", path)
    assert_refused(ended, 2, "has no such key")
    assert "secret" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["create"], "Missing option '--owner'"),
        (["create", "--owner", "../you"], "1 to 63 of a-z"),
        (["revoke"], "Missing argument 'ID'"),
        (["rename"], "No such command 'rename'"),
    ],
)
def test_usage(bigupload: Command, arguments: list[str], says: str) -> None:
    assert_refused(bigupload("keys", *arguments), 2, says)


def test_a_broken_file(bigupload: Command, path: Path) -> None:
    path.parent.mkdir()
    path.write_text("{")
    for arguments in (["list"], ["create", "--owner", "me"], ["revoke", "x"]):
        assert_refused(bigupload("keys", *arguments, "--keys", path), 1, f"can't read the file {path}: it is not JSON")
    assert path.read_text() == "{"


def test_a_symbolic_link(bigupload: Command, path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    ended = bigupload("keys", "create", "--owner", "me", "--keys", path)
    assert_refused(ended, 1, "is a symbolic link: name the file itself")
    assert not (tmp_path / "elsewhere").exists()


def test_modes_under_any_umask(place: Place, path: Path) -> None:
    process = subprocess.run(
        [*COMMAND, "keys", "create", "--owner", "me", "--keys", str(path)],
        cwd=REPOSITORY, env=place.environment(), umask=0, capture_output=True, check=True,
    )  # fmt: skip
    assert process.stdout
    modes = {entry.name: entry.stat().st_mode & 0o777 for entry in path.parent.iterdir()}
    assert modes.pop("keys.json") == 0o600
    assert not any(mode & 0o077 for mode in modes.values())
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_several_at_once(place: Place, path: Path) -> None:
    processes = [place.start("keys", "create", "--owner", f"owner{n}", "--keys", path) for n in range(3)]
    made = [process.communicate(timeout=60)[0].strip() for process in processes]
    file = KeyFile(path)
    assert [found.owner for plain in made if (found := file.find(plain))] == [f"owner{n}" for n in range(3)]
    assert len(file.list()) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_key_that_could_not_be_shown_is_revoked(place: Place, path: Path) -> None:
    environment = place.environment(PYTHONUNBUFFERED="")  # what is still buffered must not fail again at the end
    with open("/dev/full", "w") as full:
        ended = place.run(
            "keys", "create", "--owner", "me", "--keys", path, environment=environment, output=full.fileno()
        )
    assert_refused(ended, 1, "can't be printed (No space left on device), and was revoked: create another")
    (key,) = KeyFile(path).list()
    assert key.revoked_at is not None


# --- no room


def test_a_file_that_may_not_grow(bigupload: Command, place: Place, path: Path) -> None:
    plain = create(bigupload, path)
    before = path.read_bytes()
    command = driver(["--largest-file", str(len(before))])
    ended = place.run("keys", "create", "--owner", "me", "--keys", path, command=command)
    why = "this process may not write so large a file: allow more (ulimit -f)"
    assert_refused(ended, 1, f"can't write {path}: {why}; the file is unchanged")
    assert path.read_bytes() == before
    assert not path.with_name("keys.json.new").exists()
    assert KeyFile(path).find(plain)


def test_a_disk_that_is_full(bigupload: Command, small_disk: Path) -> None:
    path = small_disk / "keys.json"
    plain = create(bigupload, path)
    before = path.read_bytes()
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(os.sysconf("SC_PAGE_SIZE")))
    for arguments in (["create", "--owner", "me"], ["revoke", plain]):
        ended = bigupload("keys", *arguments, "--keys", path)
        assert_refused(ended, 1, f"can't write {path}: No space left on device; the file is unchanged")
        assert path.read_bytes() == before
    assert KeyFile(path).find(plain)
    filler.unlink()
    create(bigupload, path)
    assert len(KeyFile(path).list()) == 2
