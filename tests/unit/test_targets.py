"""Targets: URLs, manifest identities, content types and where manifests are kept."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload import errors, local_store, targets
from bigupload.manifest import SourceIdentity, Target
from bigupload.stores.s3 import S3Options, S3Store
from bigupload.targets import (
    belongs_to,
    connect,
    guess_content_type,
    manifest_id,
    parse_s3_url,
    reconnect,
    state_dir,
)
from tests.unit.samples import PATHS, header


@pytest.mark.parametrize(
    ("url", "name", "expected"),
    [
        ("s3://bucket/key", None, ("bucket", "key")),
        ("s3://bucket/key", "file", ("bucket", "key")),
        ("S3://bucket/a/b c+d?e#f%20", None, ("bucket", "a/b c+d?e#f%20")),
        ("s3://bucket", "file", ("bucket", "file")),
        ("s3://bucket/", "file", ("bucket", "file")),
        ("s3://bucket/folder/", "file", ("bucket", "folder/file")),
        ("s3://bucket//", "file", ("bucket", "/file")),
        ("s3://bucket/x://y", None, ("bucket", "x://y")),
        ("s3://b/" + "k" * 1024, None, ("b", "k" * 1024)),
        ("s3://b/" + "é" * 512, None, ("b", "é" * 512)),
    ],
)
def test_urls(url: str, name: str | None, expected: tuple[str, str]) -> None:
    assert parse_s3_url(url, name) == expected


@pytest.mark.parametrize(
    ("url", "name", "says"),
    [
        ("", "file", "not a target"), ("bucket/key", "file", "not a target"),
        ("s3:/bucket/key", "file", "not a target"),
        ("s3://", "file", "not a target"), ("s3:///key", "file", "not a target"),
        ("https://bucket/key", "file", "not a target"),
        ("s3://bucket", None, "names no object"), ("s3://bucket/", None, "names no object"),
        ("s3://bucket/folder/", None, "names no object"), ("s3://b/" + "k" * 1025, None, "1,024 bytes"),
        ("s3://b/" + "é" * 513, None, "1,024 bytes"), ("s3://b/" + "k" * 1020 + "/", "file", "1,024 bytes"),
        ("s3://b/folder/", "no utf-8 \udcff", "UTF-8"), ("s3://b/no utf-8 \udcff", None, "UTF-8"),
    ],
)  # fmt: skip
def test_what_is_no_target(url: str, name: str | None, says: str) -> None:
    with pytest.raises(errors.UsageError, match=says) as caught:
        parse_s3_url(url, name)
    assert "\n" not in str(caught.value)


# -- the identity of an upload

TARGETS = st.builds(
    Target,
    key=st.text(max_size=6),
    bucket=st.none() | st.text(max_size=6),
    endpoint=st.none() | st.text(max_size=6),
    region=st.none() | st.text(max_size=6),
    service=st.none() | st.text(max_size=6),
)


@settings(deadline=None, max_examples=80)
@given(path=PATHS, target=TARGETS)
def test_the_id_is_a_file_name(path: str, target: Target) -> None:
    found = manifest_id(path, target)
    assert len(found) == 32
    assert set(found) <= set("0123456789abcdef")
    assert manifest_id(path, target) == found
    assert manifest_id(path, dataclasses.replace(target, region="another")) == found


def test_the_id_does_not_change_between_versions() -> None:
    """Else an upload that is under way would begin again after an update."""
    target = Target(bucket="b", key="k", endpoint="https://e")
    assert manifest_id("/p", target) == hashlib.sha256(b"/p\0b\0k\0https://e\0").hexdigest()[:32]


OTHER: list[dict[str, Any]] = [{"bucket": "b2"}, {"key": "k2"}, {"endpoint": "https://e2"}, {"service": "https://s"}]


@pytest.mark.parametrize("change", OTHER)
def test_another_target_is_another_upload(change: dict[str, Any]) -> None:
    target = Target(bucket="b", key="k", endpoint="https://e")
    other = dataclasses.replace(target, **change)
    assert manifest_id("/p", target) != manifest_id("/p", other)
    known = dataclasses.replace(header(), source=SourceIdentity("/p", 25, 1, 1, 1), target=target)
    assert belongs_to(known, "/p", target)
    assert belongs_to(known, "/p", dataclasses.replace(target, region="elsewhere"))
    assert not belongs_to(known, "/p", other)


def test_another_file_is_another_upload() -> None:
    target = header().target
    assert manifest_id("/p", target) != manifest_id("/q", target)
    assert belongs_to(header(), header().source.path, target)
    assert not belongs_to(header(), "/other", target)


# -- stores


async def test_connect_reaches_no_network() -> None:
    store = await connect("bucket", "key", S3Options(endpoint_url="https://minio.example", region="r"))
    assert store.target == Target(bucket="bucket", key="key", endpoint="https://minio.example", region="r")
    assert store.options() == {"endpoint_url": "https://minio.example", "region": "r"}


async def test_reconnect_from_what_a_manifest_recorded() -> None:
    first = await connect("bucket", "key", S3Options(storage_class="STANDARD_IA", metadata={"a": "b"}, profile="p"))
    second = await reconnect(first.target, first.options())
    assert second.target == first.target
    assert (
        second.options() == first.options() == {"storage_class": "STANDARD_IA", "metadata": {"a": "b"}, "profile": "p"}
    )


async def test_a_manifest_of_a_service_is_not_mistaken_for_a_bucket() -> None:
    with pytest.raises(errors.ManifestMismatch):
        await reconnect(Target(key="k", service="https://media.example"), {})


async def test_the_local_store_is_started_and_its_secrets_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    running = type(
        "Running",
        (),
        {"endpoint_url": "http://127.0.0.1:1", "region": "us-east-1", "access_key": "AK", "secret_key": "SK"},
    )()
    made: list[S3Store] = []

    async def ensure_bucket(self: S3Store) -> None:
        made.append(self)

    monkeypatch.setattr(local_store, "start", lambda: running)
    monkeypatch.setattr(S3Store, "ensure_bucket", ensure_bucket)
    store = await connect("bucket", "key", S3Options(local=True, content_type="text/plain"))
    assert made == [store]
    assert store.target == Target(bucket="bucket", key="key", endpoint=targets.LOCAL)
    assert store.options() == {"local": True, "content_type": "text/plain"}


async def test_a_local_store_without_its_bucket_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    running = type("Running", (), dict.fromkeys(("endpoint_url", "region", "access_key", "secret_key"), "x"))()
    closed: list[S3Store] = []

    async def ensure_bucket(self: S3Store) -> None:
        raise errors.LocalStoreError("no")

    monkeypatch.setattr(local_store, "start", lambda: running)
    monkeypatch.setattr(S3Store, "ensure_bucket", ensure_bucket)
    monkeypatch.setattr(S3Store, "close", lambda self: closed.append(self))
    with pytest.raises(errors.LocalStoreError):
        await connect("bucket", "key", S3Options(local=True))
    assert len(closed) == 1


# -- small things


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("a.mp4", "video/mp4"), ("a.MOV", "video/quicktime"), ("/x/a.jpg", "image/jpeg"), (Path("a.png"), "image/png"),
     ("a", "application/octet-stream"), ("a.unheard-of", "application/octet-stream"), ("", "application/octet-stream")],
)  # fmt: skip
def test_content_types(name: str | Path, content_type: str) -> None:
    assert guess_content_type(name) == content_type


def test_the_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIGUPLOAD_STATE_DIR", str(tmp_path))
    assert state_dir() == tmp_path
    monkeypatch.setenv("BIGUPLOAD_STATE_DIR", "")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert state_dir().name == "bigupload"
    assert state_dir().is_absolute()
