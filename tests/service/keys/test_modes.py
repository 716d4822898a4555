"""Who may read and write the keys' file, and that no link leads elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bigupload.errors import ServiceError
from bigupload.service.access import keys
from bigupload.service.access.keys import KeyFile, load_secret
from tests.tools.other_systems import OtherOs


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


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
    with pytest.raises(ServiceError, match=f"other users can write it.*chmod go-w {path}"):
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


def test_where_files_have_no_modes(file: KeyFile, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows shows 0o666 for each file, and has `os.fchmod` since Python 3.13."""
    monkeypatch.setattr(keys, "os", OtherOs("geteuid", "fchown"))
    secret = tmp_path / "secret"
    before = load_secret(secret, create=True)
    _, plain = file.create("me")
    for written in (path, secret):
        written.chmod(0o666)
    file.load()
    assert file.find(plain) is not None
    assert load_secret(secret, create=False) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
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


@pytest.mark.parametrize(
    ("owner", "reader", "mode", "accepted"),
    [(0, 10001, 0o440, True), (0, 10001, 0o444, False), (0, 10001, 0o460, False), (0, 0, 0o440, False),
     (10001, 10001, 0o440, False), (10001, 10001, 0o400, True)],
)  # fmt: skip
def test_a_secret_of_roots_may_be_read_by_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, reader: int, mode: int, accepted: bool
) -> None:
    """So Kubernetes mounts it for a user who is not root."""
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef" * 2)
    secret.chmod(mode)
    before = secret.stat()
    status = os.stat_result((*before[:4], owner, *before[5:]))
    monkeypatch.setattr(keys, "read_regular", lambda path: (path.read_bytes(), status))
    monkeypatch.setattr(os, "geteuid", lambda: reader)
    if accepted:
        assert load_secret(secret, create=False) == ["0123456789abcdef" * 2]
    else:
        with pytest.raises(ServiceError, match="other users can read"):
            load_secret(secret, create=False)
