"""A file that something still writes. The clock and the writer are the test's own: each sleep is one step of both."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bigupload import errors
from bigupload.core.part_plan import Part, Plan, PlanStep
from bigupload.sources.file import GrowingFile
from tests.tools.cases import each_case

IDLE = 10.0
OPEN = Plan(None, 10, (PlanStep(2, 10), PlanStep(1, 20)))


class Scribe:
    """Does one step at each sleep, and then nothing for ever."""

    def __init__(self, path: Path, *steps: Callable[[], object]) -> None:
        self.path = path
        self.steps: Iterator[Callable[[], object]] = iter(steps)
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        assert len(self.slept) < 1000, "nobody ends the file"
        self.now += seconds
        next(self.steps, lambda: None)()

    def open(self, *, allow_empty: bool = False) -> GrowingFile:
        return GrowingFile(self.path, idle=IDLE, allow_empty=allow_empty, clock=lambda: self.now, sleep=self.sleep)

    def append(self, data: bytes) -> Callable[[], object]:
        def act() -> None:
            with self.path.open("ab") as file:
                file.write(data)

        return act

    def rewrite(self, offset: int, data: bytes) -> Callable[[], object]:
        def act() -> None:
            before = self.path.stat()
            with self.path.open("r+b") as file:
                file.seek(offset)
                file.write(data)
            os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns + 1000))  # coarse clocks may not have moved

        return act


def nothing() -> None:
    pass


@pytest.fixture
def writer(tmp_path: Path) -> Scribe:
    (tmp_path / "movie.mp4").touch()
    return Scribe(tmp_path / "movie.mp4")


async def parts_of(file: GrowingFile, plan: Plan = OPEN) -> list[tuple[int, int, int]]:
    found = []
    while (part := await file.next_part(plan)) is not None:
        found.append((part.number, part.offset, part.size))
    assert await file.next_part(plan) is None
    return found


async def test_parts_come_as_they_are_complete(writer: Scribe) -> None:
    writer.steps = iter([writer.append(b"x" * 9), writer.append(b"x"), nothing, writer.append(b"x" * 5)])
    with writer.open() as file:
        assert await file.next_part(OPEN) == Part(1, 0, 10)
        assert len(writer.slept) == 2
        assert await file.next_part(OPEN) == Part(2, 10, 5)
        assert writer.now == pytest.approx(2 + IDLE)
        assert await file.next_part(OPEN) is None
        assert file.position == 15
        assert await file.is_settled()


@each_case("size", range(1, 41))
async def test_every_size(tmp_path: Path, size: int) -> None:
    writer = Scribe(tmp_path / f"{size}.mp4")
    writer.path.touch()
    writer.steps = iter([writer.append(b"x") for _ in range(size)])
    with writer.open() as file:
        found = await parts_of(file)
        assert sum(part[2] for part in found) == size == file.position
        assert [part[1] for part in found] == [0, 10, 20][: len(found)]
        assert set(writer.slept) == {0.5}
        assert len(writer.slept) <= size + IDLE / 0.5 + 1


async def test_a_file_that_outgrows_its_parts(writer: Scribe) -> None:
    writer.steps = iter([writer.append(b"x" * 41)])
    with writer.open() as file, pytest.raises(errors.SourceUnsupported, match="longer than 40 bytes"):
        await parts_of(file)


async def test_a_rewrite_begins_the_wait_again(writer: Scribe) -> None:
    writer.steps = iter([writer.append(b"x" * 9), *[nothing] * 18, writer.rewrite(0, b"y")])
    with writer.open() as file:
        assert await parts_of(file) == [(1, 0, 9)]
    assert writer.now == pytest.approx(10 + IDLE)


async def test_what_is_written_after_the_end(writer: Scribe) -> None:
    writer.path.write_bytes(b"x" * 15)
    with writer.open() as file:
        assert await parts_of(file) == [(1, 0, 10), (2, 10, 5)]
        writer.append(b"x" * 5)()
        assert not await file.is_settled()
        assert await file.rewind()
        assert await parts_of(file) == [(1, 0, 10), (2, 10, 10)]
        assert await file.is_settled()
        writer.rewrite(0, b"y")()
        assert not await file.is_settled()


async def test_an_empty_file(writer: Scribe) -> None:
    with writer.open() as file, pytest.raises(errors.StreamInterrupted, match="is empty, and nothing was written"):
        await file.begin()
    assert writer.now == pytest.approx(IDLE)
    with writer.open(allow_empty=True) as file:
        await file.begin()
        assert await parts_of(file) == [(1, 0, 0)]
        assert await file.is_settled()


async def test_a_file_whose_writer_begins_late(writer: Scribe) -> None:
    writer.steps = iter([nothing, nothing, writer.append(b"x")])
    with writer.open() as file:
        await file.begin()
    assert len(writer.slept) == 3


def truncate(path: Path) -> None:
    os.truncate(path, 3)


def replace(path: Path) -> None:
    path.with_suffix(".new").write_bytes(b"z" * 50)
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize(
    ("change", "message", "resumable"),
    [(truncate, "was truncated .* had 9 bytes, and has 3", False), (replace, "was replaced by another file", True)],
)
async def test_what_ends_it(writer: Scribe, change: Callable[[Path], None], message: str, resumable: bool) -> None:
    writer.steps = iter([writer.append(b"x" * 9), nothing, lambda: change(writer.path)])
    with writer.open() as file, pytest.raises(errors.SourceChanged, match=message) as caught:
        await parts_of(file)
    assert caught.value.resumable is resumable


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.rename(path.with_suffix(".done"))])
async def test_a_file_that_was_renamed_or_deleted_is_still_read(
    writer: Scribe, change: Callable[[Path], object]
) -> None:
    writer.steps = iter([writer.append(b"x" * 9), lambda: change(writer.path)])
    with writer.open() as file:
        assert await parts_of(file) == [(1, 0, 9)]
        assert file.is_away
        buffer = bytearray(9)
        assert file.read_into(memoryview(buffer), 0) == 9


async def test_the_plan_of_an_upload_that_began_without_following(writer: Scribe) -> None:
    writer.path.write_bytes(b"x" * 15)
    with writer.open() as file:
        assert await parts_of(file, Plan(15, 10)) == [(1, 0, 10), (2, 10, 5)]
    writer.steps = iter([writer.append(b"x")])
    with writer.open() as file, pytest.raises(errors.SourceChanged, match="16 bytes now and had 15"):
        await parts_of(file, Plan(15, 10))
    with writer.open() as file, pytest.raises(errors.SourceChanged, match="16 bytes now and had 20"):
        await parts_of(file, Plan(20, 10))
