"""The plan of a stream of unknown size: parts that grow in steps, and a manifest that is open until the end."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.core.manifest import (
    CompletingRecord,
    Header,
    Manifest,
    PartDropped,
    PlanRecord,
    Restart,
    SourceIdentity,
    SourceRecord,
)
from bigupload.core.manifest_lines import decode, encode, replay
from bigupload.core.part_plan import GIB, MIB, Limits, Plan, PlanStep, plan_parts, plan_stream
from bigupload.core.upload_state import Stage, StageResult, UploadState
from bigupload.errors import ManifestCorrupt, UsageError
from tests.core import samples
from tests.core.samples import part
from tests.tools.cases import each_case, examples

SMALL = Limits(min_part_size=2, max_part_size=20, max_parts=20, default_part_size=3, granule=1, enough_parts=4)
TIB = 1024 * GIB


def test_the_steps_at_the_limits_of_s3() -> None:
    plan = plan_stream()
    sizes = [16 * MIB << number for number in range(9)]
    assert plan.steps == tuple(PlanStep(1000, size) for size in (*sizes, 5 * GIB))
    assert (plan.size, plan.part_size, plan.count) == (None, 16 * MIB, 10_000)
    assert 12 * TIB < plan.capacity < 13 * TIB


def assert_covers(plan: Plan, size: int) -> None:
    parts = list(plan)
    assert len(parts) == plan.count
    assert [each.number for each in parts] == list(range(1, plan.count + 1))
    assert parts[0].offset == 0
    for before, after in itertools.pairwise(parts):
        assert after.offset == before.offset + before.size
        assert after.size >= before.size or after is parts[-1]
    assert parts[-1].offset + parts[-1].size == size
    assert all(each.size > 0 for each in parts) or (size == 0 and len(parts) == 1)


def test_every_size_of_a_small_store() -> None:
    """A closed plan is the beginning of the open one, but for its last part."""
    plan = plan_stream(limits=SMALL)
    whole = list(plan)
    assert_covers(plan, plan.capacity)
    assert max(each.size for each in whole) == SMALL.max_part_size
    for size in range(plan.capacity + 1):
        closed = plan.closed(size)
        assert_covers(closed, size)
        assert list(closed)[:-1] == whole[: closed.count - 1]
        assert closed.part(closed.count).size <= whole[closed.count - 1].size
        assert closed.has_equal_parts == (len({each.size for each in list(closed)[:-1]} | {plan.part_size}) == 1) or (
            closed.count == plan.steps[0].parts + 1
        )
    for size in (-1, plan.capacity + 1):
        with pytest.raises(ValueError, match="does not hold"):
            plan.closed(size)
    for number in (0, plan.count + 1):
        with pytest.raises(ValueError, match="is not one of"):
            plan.part(number)


def test_parts_of_a_chosen_size_do_not_grow() -> None:
    plan = plan_stream(7, limits=SMALL)
    assert {each.size for each in plan} == {7}
    assert plan.count == SMALL.max_parts
    assert plan.closed(15).has_equal_parts


@each_case("part_size", [-1, 0, 1, 21])
def test_a_part_size_that_the_store_does_not_take(part_size: int) -> None:
    with pytest.raises(UsageError, match="part size"):
        plan_stream(part_size, limits=SMALL)


def test_the_least_store_there_is() -> None:
    one = Limits(min_part_size=1, max_part_size=1, max_parts=1, default_part_size=1, granule=1, enough_parts=1)
    assert list(plan_stream(limits=one)) == list(plan_parts(1, limits=one))


# -- the manifest


def header(*steps: PlanStep) -> Header:
    plan = Plan(None, steps[0].part_size, steps)
    source = SourceIdentity("stream", 0, 0, 0, 0)
    first = samples.header()
    return Header(
        id=first.id, source=source, target=first.target, plan=PlanRecord.of(plan), checksum=first.checksum,
        upload_id="first", token="token", created_at=first.created_at, version=2,
    )  # fmt: skip


TENS = header(PlanStep(2, 10), PlanStep(2, 20))


def test_steps_are_written_and_read() -> None:
    line = encode(TENS)
    assert b'"steps":[{"parts":2,"part_size":10},{"parts":2,"part_size":20}]' in line
    assert b'"version":2' in line
    assert decode(line) == TENS


def test_a_file_is_written_as_version_1() -> None:
    """Programs of that version resume it."""
    line = encode(samples.header())
    assert b'"version":1' in line
    assert b"steps" not in line
    assert b"kind" not in line


@each_case(
    "plan",
    ['{"parts":5,"part_size":10,"steps":[{"parts":2,"part_size":10}]}', '{"parts":0,"part_size":10,"steps":[]}',
     '{"parts":1,"part_size":10,"steps":[{"parts":0,"part_size":10},{"parts":1,"part_size":0}]}',
     '{"parts":1,"part_size":10,"steps":{"parts":1,"part_size":10}}', '{"parts":1,"part_size":10,"steps":[7]}'],
)  # fmt: skip
def test_steps_that_contradict_themselves(plan: str) -> None:
    line = encode(TENS)
    begin = line.index(b'"plan":') + 7
    with pytest.raises(ManifestCorrupt):
        replay(line[:begin] + plan.encode() + line[line.index(b',"checksum"') :])


def test_any_part_of_an_open_plan_may_be_the_last_one() -> None:
    manifest = Manifest(TENS)
    assert manifest.plan.size is None
    for number, size in [(1, 10), (2, 3), (3, 20), (1, 0)]:
        manifest.apply(part(number, size))
    for number, size in [(3, 21), (2, 0)]:
        with pytest.raises(ValueError, match="does not have"):
            manifest.apply(part(number, size))
    with pytest.raises(ValueError, match="is not one of"):
        manifest.apply(part(5, 20))


def test_completing_closes_the_plan_and_a_part_opens_it_again() -> None:
    manifest = Manifest(TENS)
    for each in (part(1), part(2), part(3, 5)):
        manifest.apply(each)
    for size in (20, 24, 26, 60):  # as if parts were missing or smaller
        if size != 20:
            with pytest.raises(ValueError, match="missing"):
                manifest.apply(CompletingRecord(None, size))
    with pytest.raises(ValueError, match="missing"):
        manifest.apply(CompletingRecord(None))
    manifest.apply(CompletingRecord("c", 25))
    assert (manifest.status, manifest.plan.size, manifest.plan.count) == ("completing", 25, 3)
    assert manifest.expected_object().size == 25
    manifest.apply(part(3, 20))
    assert (manifest.status, manifest.plan.size) == ("uploading", None)
    manifest.apply(CompletingRecord("c", 40))
    assert manifest.plan.size == 40
    manifest.apply(PartDropped(1, "why"))
    assert (manifest.status, manifest.plan.size) == ("uploading", None)


def test_a_file_may_take_the_streams_place() -> None:
    """Its size is no part of the plan, also while the upload completes."""
    manifest = Manifest(TENS)
    manifest.apply(part(1, 7))
    manifest.apply(CompletingRecord("c", 7))
    for size in (7, 0):
        manifest.apply(SourceRecord(SourceIdentity("/file", size, 1, 2, 3)))
    assert (manifest.status, manifest.plan.size, manifest.source.path) == ("completing", 7, "/file")


def test_a_restart_opens_the_plan_again() -> None:
    manifest = Manifest(TENS)
    manifest.apply(part(1, 7))
    manifest.apply(CompletingRecord("c", 7))
    manifest.apply(Restart("second", "token", "why"))
    assert (manifest.status, manifest.plan.size, manifest.parts) == ("uploading", None, {})


def test_a_file_has_no_other_size_at_its_end() -> None:
    manifest = Manifest(samples.header())
    for each in samples.ALL_PARTS:
        manifest.apply(each)
    with pytest.raises(ValueError, match="does not hold"):
        manifest.apply(CompletingRecord("c", 25))


def test_an_empty_stream() -> None:
    data = samples.lines(TENS, part(1, 0), CompletingRecord("c", 0))
    assert (replay(data).damage, replay(data).manifest.plan.count) == (None, 1)


# -- the state


def test_the_state_of_a_stream_ends_with_it() -> None:
    state = UploadState(plan_stream(limits=SMALL))
    state.advance(StageResult.CREATED)
    for number in (1, 2):
        state.take(number)
        state.record(number)
    state.end(5)
    assert state.missing == 0
    assert (state.plan.size, state.plan.count) == (5, 2)
    assert state.advance(StageResult.ALL_UPLOADED) is Stage.COMPLETING
    state.advance(StageResult.CONFLICT)
    assert state.plan.size is None


@settings(deadline=None, max_examples=examples(100))
@given(size=st.integers(0, plan_stream().capacity))
def test_real_limits(size: int) -> None:
    closed = plan_stream().closed(size)
    last = closed.part(closed.count)
    assert last.offset + last.size == size
    assert closed.count <= 10_000
