"""What `list_uploads` tells, and how a manifest is named."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

import bigupload
from bigupload import errors
from bigupload.core.integrity import Verified
from bigupload.core.manifest import Aborted, Completed, CompletingRecord
from bigupload.manifests import listing
from bigupload.manifests.listing import completed_uploads, known_uploads, locate_manifest
from bigupload.manifests.state_directory import SUFFIX
from tests.core.samples import ALL_PARTS, header, lines, part


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir(mode=0o700)
    return tmp_path / "state"


async def test_list_uploads(state: Path) -> None:
    completed = (*ALL_PARTS, CompletingRecord(None), Completed(etag='"e"', verified=Verified.SIZE))
    for name, records in {"a": (), "b": (part(1),), "c": completed, "d": (Aborted(),)}.items():
        (state / f"{name}{SUFFIX}").write_bytes(lines(header(), *records))
    (state / f"e{SUFFIX}").write_bytes(b"garbage\n")
    (state / f"b{SUFFIX}.1").write_bytes(lines(header()))
    found = {upload.id: upload for upload in await bigupload.list_uploads(uploader=bigupload.Uploader(state_dir=state))}
    assert [(each.id, each.status, each.resumable) for each in found.values()] == [
        ("a", "uploading", True),
        ("b", "uploading", True),
        ("c", "completed", False),
        ("d", "aborted", False),
        ("e", "unreadable", False),
    ]
    assert (found["b"].parts_uploaded, found["b"].bytes_uploaded) == (1, part(1).size)
    assert (found["b"].source, found["b"].target) == (header().source.path, str(header().target))
    assert found["c"].verified is Verified.SIZE
    assert found["e"].error is not None
    assert found["e"].source is None


async def test_list_uploads_of_nothing(tmp_path: Path) -> None:
    assert await bigupload.list_uploads(uploader=bigupload.Uploader(state_dir=tmp_path / "missing")) == []
    (tmp_path / "file").touch()
    with pytest.raises(errors.ManifestError, match="can't list"):
        await bigupload.list_uploads(uploader=bigupload.Uploader(state_dir=tmp_path / "file"))


def test_a_manifest_that_is_renamed_while_it_is_listed(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when another process sets it aside between the listing and the reading."""
    for name in ("a", "b"):
        (state / f"{name}{SUFFIX}").write_bytes(lines(header()))
    real = listing.read_manifest

    def late(path: Path) -> object:
        (state / f"a{SUFFIX}").rename(state / f"a{SUFFIX}.1") if path.name.startswith("a") else None
        return real(path)

    monkeypatch.setattr(listing, "read_manifest", late)
    assert [upload.id for upload in known_uploads(state)] == ["b"]


def test_a_manifest_by_its_id(state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    one, other = state / f"0123456789{SUFFIX}", state / f"0123999999{SUFFIX}"
    for path in (one, other):
        path.write_bytes(lines(header()))
    for name in (one, str(one), one.name, "0123456789", "01234"):
        assert locate_manifest(name, state) == one
    with pytest.raises(errors.UsageError, match="fits several manifests, write more of its id: 0123456789, 0123999999"):
        locate_manifest("0123", state)
    for name in ("012", "9999", "x/0123456789", "", "0123456789.lock"):
        with pytest.raises(errors.ManifestNotFound):
            locate_manifest(name, state)
    with pytest.raises(errors.ManifestNotFound, match="`bigupload status` shows"):
        locate_manifest("nothing-like-it", state)
    with pytest.raises(errors.ManifestNotFound):
        locate_manifest("0123456789", None)
    here = tmp_path / "01234"
    here.touch()
    assert locate_manifest("01234", state) == Path("01234"), "a file of that name goes first"


def test_the_completed_uploads_of_a_target_the_latest_first(state: Path) -> None:
    done = (*ALL_PARTS, CompletingRecord(None), Completed(etag='"e"', verified=Verified.SIZE))
    elsewhere = dataclasses.replace(header(), target=dataclasses.replace(header().target, key="another"))
    manifests = {
        f"old{SUFFIX}": lines(dataclasses.replace(header(), id="old"), *done),
        f"new{SUFFIX}.2": lines(dataclasses.replace(header(), id="new"), *done),
        f"open{SUFFIX}": lines(header(), part(1)),
        f"other{SUFFIX}": lines(elsewhere, *done),
        f"bad{SUFFIX}": b"garbage\n",
        f"new{SUFFIX}.lock": b"",
    }
    for number, (name, data) in enumerate(manifests.items()):
        (state / name).write_bytes(data)
        os.utime(state / name, (number, number))
    assert [each.header.id for each in completed_uploads(state, header().target)] == ["new", "old"]
    assert list(completed_uploads(state / "missing", header().target)) == []
