"""How far a call for many files has come: its rate, the time left, and whether it waits for the store."""

from __future__ import annotations

from typing import Any

import pytest

from bigupload import events
from bigupload.api.many_items import JobTally
from bigupload.batch.listing import FoundFiles
from tests.tools.cases import each_case


def moved(done: int, in_flight: int, *, waiting: bool = False, hangs: float | None = None) -> events.Progress:
    return events.Progress(
        bytes_uploaded=done, bytes_in_flight=in_flight, size=1000, parts_uploaded=0, parts=9, concurrency=2, retries=0,
        is_waiting=waiting, source_hangs_for=hangs,
    )  # fmt: skip


def tally(size: int, *, is_complete: bool = True) -> JobTally:
    found = FoundFiles()
    found.files, found.bytes, found.is_complete = 2, size, is_complete
    return JobTally(found)


@pytest.mark.parametrize(("late", "rate", "left"), [(False, 300, 1100 / 300), (True, 200, 7)])
def test_what_is_in_flight_counts_while_responses_are_not_late(late: bool, rate: float, left: float) -> None:
    job, item = tally(2000), object()
    observe = job.observer(item)  # type: ignore[arg-type]  # a bare object is item enough
    for second in range(4):
        observe(moved(200 * second, 100 * second))
        event = job.progress(float(second), late=late)
    assert event.rate == pytest.approx(rate)
    # of 2,000 bytes, 600 are stored and 300 in flight
    assert event.seconds_left == pytest.approx(left)
    assert event.bytes_in_flight == 300


def test_while_files_are_found_nobody_knows_how_long_it_takes() -> None:
    job = tally(2000, is_complete=False)
    job.progress(0.0)
    job.observer(object())(moved(0, 100))  # type: ignore[arg-type]  # a bare object is item enough
    event = job.progress(1.0)
    assert (event.rate, event.seconds_left) == (pytest.approx(100), None)


@each_case(
    ("files", "late", "waits"),
    [
        ([moved(0, 9, waiting=True), moved(0, 9, waiting=True)], True, True),
        ([moved(0, 9, waiting=True), moved(0, 0)], True, True),  # that one is hashed
        ([moved(0, 9, waiting=True), moved(0, 9)], True, False),
        ([moved(0, 9, waiting=True)], False, False),
        ([], True, False),
    ],
)
def test_it_waits_if_all_that_is_in_flight_does(files: list[Any], late: bool, waits: bool) -> None:
    job, items = tally(2000), [object() for _ in files]
    for item, event in zip(items, files, strict=True):
        job.observer(item)(event)  # type: ignore[arg-type]  # a bare object is item enough
    assert job.progress(0.0, late=late).is_waiting is waits


@each_case(
    ("files", "hangs"),
    [
        ([moved(0, 0, hangs=20.0), moved(0, 0, hangs=30.0)], 30.0),
        ([moved(0, 0, hangs=20.0), moved(0, 9)], None),
        ([moved(0, 0)], None),
    ],
)
def test_reading_hangs_if_nothing_else_moves(files: list[Any], hangs: float | None) -> None:
    job, items = tally(2000), [object() for _ in files]
    observe = job.observer(items[0])  # type: ignore[arg-type]  # a bare object is item enough
    for second in range(3):
        observe(moved(100 * second, 0))
        job.progress(float(second))
    for item, event in zip(items, files, strict=True):
        job.observer(item)(event)  # type: ignore[arg-type]  # a bare object is item enough
    event = job.progress(3.0)
    assert event.source_hangs_for == hangs
    assert hangs is None or event.seconds_left is None
