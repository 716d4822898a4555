"""A key is made, found and revoked; and what the keys' file is by default."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from pathlib import Path

import pytest

from bigupload.errors import UsageError
from bigupload.service.access import keys as module
from bigupload.service.access.keys import KeyFile
from tests.service.keys.support import NOON, NOON_TEXT, run_code
from tests.tools.cases import each_case

# -- a key's life


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


@each_case("owner", ["", "A", "a" * 64, "-a", "_a", "a/b", "..", "a.b", "a b", "a\n", "é", "٣"])
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


# -- the defaults, and what it needs


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
    code = "import sys, bigupload.service.access.keys, bigupload.cli.keys; print(*sys.modules)"
    process = run_code(code)
    loaded = {name.partition(".")[0] for name in process.communicate(timeout=60)[0].split()}
    assert "click" in loaded
    assert not loaded & {"pydantic", "itsdangerous", "prometheus_client", "aiohttp", "boto3", "botocore"}


def test_an_empty_file_is_made_once(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "deep" / "keys.json")
    keys.ensure()
    keys.load()
    assert keys.list() == []
    made, _ = keys.create("me")
    keys.ensure()
    assert keys.list() == [made]
