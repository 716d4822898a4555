"""The transition table, cell by cell, and the parts against a simple model."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bigupload.core.part_plan import Part, Plan
from bigupload.core.upload_state import TRANSITIONS, InvalidTransition, PartState, Stage, StageResult, UploadState
from tests.tools.cases import each_case, examples

# Written out a second time, as DESIGN section 4 tells it: the table is only worth what it is compared with.
EXPECTED = {
    (Stage.NEW, StageResult.CREATED): Stage.UPLOADING,
    (Stage.RECONCILING, StageResult.LISTED): Stage.UPLOADING,
    (Stage.RECONCILING, StageResult.UPLOAD_UNKNOWN): Stage.NEW,
    (Stage.RECONCILING, StageResult.RESPONSE_LOST): Stage.OUTCOME_UNKNOWN,
    (Stage.UPLOADING, StageResult.ALL_UPLOADED): Stage.COMPLETING,
    (Stage.UPLOADING, StageResult.UPLOAD_UNKNOWN): Stage.NEW,
    (Stage.COMPLETING, StageResult.PROVED): Stage.COMPLETED,
    (Stage.COMPLETING, StageResult.RESPONSE_LOST): Stage.OUTCOME_UNKNOWN,
    (Stage.COMPLETING, StageResult.INVALID_PARTS): Stage.RECONCILING,
    (Stage.COMPLETING, StageResult.CONFLICT): Stage.NEW,
    (Stage.OUTCOME_UNKNOWN, StageResult.PROVED): Stage.COMPLETED,
    (Stage.OUTCOME_UNKNOWN, StageResult.STILL_OPEN): Stage.RECONCILING,
}


def finished(stage: Stage) -> UploadState:
    state = UploadState(Plan(25, 10), stage)
    for number in (1, 2, 3):
        state.record(number)
    return state


@each_case(("stage", "happened"), list(itertools.product(Stage, StageResult)))
def test_every_cell(stage: Stage, happened: StageResult) -> None:
    state = finished(stage)
    after = EXPECTED.get((stage, happened))
    if after is None:
        with pytest.raises(InvalidTransition, match="can't happen in"):
            state.advance(happened)
        assert state.stage is stage
        assert state.missing == 0
        return
    assert state.advance(happened) is after
    assert state.stage is after
    assert state.missing == (3 if after is Stage.NEW else 0)


def test_every_stage_has_a_row_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(Stage)
    reached = {Stage.NEW, Stage.RECONCILING, Stage.OUTCOME_UNKNOWN}  # where a run begins
    reached |= set(EXPECTED.values())
    assert reached == set(Stage)


def test_every_stage_can_still_end_in_completed() -> None:
    ends = {Stage.COMPLETED}
    for _ in Stage:
        ends |= {before for (before, _), after in EXPECTED.items() if after in ends}
    assert ends == set(Stage)


def test_what_vanished_after_a_complete_is_looked_for_and_keeps_its_parts() -> None:
    """The upload may be gone because complete worked; if the object is not there, it is reconciled once more."""
    state = finished(Stage.COMPLETING)
    assert state.advance(StageResult.INVALID_PARTS) is Stage.RECONCILING
    assert state.advance(StageResult.RESPONSE_LOST) is Stage.OUTCOME_UNKNOWN
    assert state.missing == 0
    assert state.advance(StageResult.STILL_OPEN) is Stage.RECONCILING
    assert state.advance(StageResult.RESPONSE_LOST) is Stage.OUTCOME_UNKNOWN
    assert state.advance(StageResult.PROVED) is Stage.COMPLETED


def test_parts_done_is_refused_while_one_is_missing() -> None:
    state = UploadState(Plan(25, 10), Stage.UPLOADING)
    state.record(1)
    state.record(3)
    with pytest.raises(InvalidTransition, match="1 parts are missing"):
        state.advance(StageResult.ALL_UPLOADED)
    for part in state.pending():
        assert part == Part(2, 10, 10)
        with pytest.raises(InvalidTransition):  # in flight is not there
            state.advance(StageResult.ALL_UPLOADED)
        state.record(part.number)
    assert state.advance(StageResult.ALL_UPLOADED) is Stage.COMPLETING


def test_new_forgets_every_part() -> None:
    state = UploadState(Plan(25, 10), Stage.UPLOADING)
    state.record(2)
    taken = state.pending()
    assert next(taken).number == 1
    assert state.advance(StageResult.UPLOAD_UNKNOWN) is Stage.NEW
    assert [state.part(number) for number in (1, 2, 3)] == [PartState.PENDING] * 3
    assert state.missing == 3
    assert [part.number for part in state.pending()] == [1, 2, 3]


def test_an_empty_file_has_one_part() -> None:
    state = UploadState(Plan(0, 10), Stage.UPLOADING)
    assert list(state.pending()) == [Part(1, 0, 0)]
    state.record(1)
    assert state.advance(StageResult.ALL_UPLOADED) is Stage.COMPLETING


def test_a_released_part_is_next_also_for_an_iterator_that_runs() -> None:
    state = UploadState(Plan(50, 10))
    taken = state.pending()
    assert [next(taken).number for _ in range(3)] == [1, 2, 3]
    state.release(2)
    assert [part.number for part in taken] == [2, 4, 5]
    assert next(state.pending(), None) is None


@each_case("number", [-1, 0, 4])
@each_case("move", ["record", "release", "drop"])
def test_parts_outside_the_plan(move: str, number: int) -> None:
    with pytest.raises(InvalidTransition, match=f"can't {move} part {number}"):
        getattr(UploadState(Plan(25, 10)), move)(number)


COUNT = 6
NUMBERS = st.integers(1, COUNT)


class Parts(RuleBasedStateMachine):
    """Against a dictionary: part number to state, `pending` giving the lowest pending one."""

    @initialize()
    def begin(self) -> None:
        self.state = UploadState(Plan(COUNT * 10, 10), Stage.UPLOADING)
        self.model = dict.fromkeys(range(1, COUNT + 1), PartState.PENDING)
        self.taking = self.state.pending()

    @rule()
    def take(self) -> None:
        expected = next((n for n, s in self.model.items() if s is PartState.PENDING), None)
        found = next(self.taking, None)
        if found is None:
            self.taking = self.state.pending()  # a generator that ended stays ended
        assert (found and found.number) == expected
        if expected is not None:
            self.model[expected] = PartState.IN_FLIGHT

    def attempt(self, move: str, number: int, allowed: set[PartState], after: PartState) -> None:
        if self.model[number] in allowed:
            getattr(self.state, move)(number)
            self.model[number] = after
        else:
            with pytest.raises(InvalidTransition):
                getattr(self.state, move)(number)

    @rule(number=NUMBERS)
    def record(self, number: int) -> None:
        self.attempt("record", number, {PartState.PENDING, PartState.IN_FLIGHT}, PartState.UPLOADED)

    @rule(number=NUMBERS)
    def release(self, number: int) -> None:
        self.attempt("release", number, {PartState.IN_FLIGHT}, PartState.PENDING)

    @rule(number=NUMBERS)
    def drop(self, number: int) -> None:
        self.attempt("drop", number, {PartState.UPLOADED}, PartState.PENDING)

    @rule()
    def vanish(self) -> None:
        assert self.state.advance(StageResult.UPLOAD_UNKNOWN) is Stage.NEW
        assert self.state.advance(StageResult.CREATED) is Stage.UPLOADING
        self.model = dict.fromkeys(self.model, PartState.PENDING)
        self.taking = self.state.pending()

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "state"):
            return
        assert {n: self.state.part(n) for n in self.model} == self.model
        assert self.state.missing == sum(s is not PartState.UPLOADED for s in self.model.values())


TestParts = Parts.TestCase
TestParts.settings = settings(deadline=None, max_examples=examples(40), stateful_step_count=30)
