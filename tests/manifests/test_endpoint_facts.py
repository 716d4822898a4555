"""What is remembered of stores: by endpoint, for a day, and never needed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bigupload.manifests.state_directory import KEPT_FOR, EndpointFacts

HERE, THERE = "https://here.example", "https://there.example"


class World:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "state" / "facts.json"
        self.now = 1e9

    def facts(self, endpoint: str = HERE) -> EndpointFacts:
        return EndpointFacts(self.path, endpoint, lambda: self.now)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_fact_is_there_for_the_next_run_at_the_same_endpoint(world: World) -> None:
    assert world.facts().recall("checksums") is None
    world.facts().record("checksums", "refused")
    world.facts(THERE).record("lists", "none")
    assert world.facts().recall("checksums") == "refused"
    assert world.facts().recall("lists") is None
    assert world.facts(THERE).recall("lists") == "none"
    assert world.path.stat().st_mode & 0o077 == 0
    world.facts().record("checksums", None)
    assert world.facts().recall("checksums") is None
    assert world.facts(THERE).recall("lists") == "none"
    assert [each.name for each in world.path.parent.iterdir()] == ["facts.json"]


def test_a_fact_ends_after_a_day_however_often_it_is_used(world: World) -> None:
    world.facts().record("checksums", "refused")
    world.now += KEPT_FOR - 1
    assert world.facts().recall("checksums") == "refused"
    world.facts(THERE).record("lists", "none")
    world.now += 1
    assert world.facts().recall("checksums") is None
    assert world.facts(THERE).recall("lists") == "none"


def test_a_fact_of_the_future_is_none(world: World) -> None:
    """The clock was ahead when it was noted: it must not last until then."""
    world.facts().record("checksums", "refused")
    world.now -= 10
    assert world.facts().recall("checksums") is None


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"\xff", b'"x"', b"null", b'{"https://here.example": 1}', b"[" * 30_000,
        b'{"https://here.example": {"checksums": "refused"}}', b'{"https://here.example": {"checksums": [1, "x"]}}',
        b'{"https://here.example": {"checksums": ["x", null]}}', b" " * 70_000,
    ],
    ids=lambda content: repr(content[:40]),
)  # fmt: skip
def test_a_damaged_file_is_none_and_written_anew(world: World, content: bytes) -> None:
    world.path.parent.mkdir()
    world.path.write_bytes(content)
    assert world.facts().recall("checksums") is None
    world.facts().record("checksums", "refused")
    assert world.facts().recall("checksums") == "refused"


def test_what_can_t_be_written_is_not_remembered(world: World) -> None:
    world.path.parent.write_bytes(b"a file where the directory should be")
    world.facts().record("checksums", "refused")
    assert world.facts().recall("checksums") is None


def test_another_s_file_is_not_read(world: World, tmp_path: Path) -> None:
    other = EndpointFacts(tmp_path / "other.json", HERE, lambda: world.now)
    other.record("checksums", "refused")
    world.path.parent.mkdir()
    world.path.symlink_to(tmp_path / "other.json")
    assert world.facts().recall("checksums") is None


def test_a_write_that_fails_leaves_no_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, *args: object) -> None:
        os.close(fd)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fdopen", fail)
    world.facts().record("checksums", "refused")
    assert list(world.path.parent.iterdir()) == []
