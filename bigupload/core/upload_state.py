"""An upload as a transition table. Pure: it decides what comes next and does nothing.

::

    NEW ── CREATED ──▶ UPLOADING ── ALL_UPLOADED ──▶ COMPLETING ── PROVED ──▶ COMPLETED
     ▲                     ▲                          │      │                    ▲
     │              LISTED │            INVALID_PARTS │      │ RESPONSE_LOST      │ PROVED
     │                     │                          │      ▼                    │
     │                RECONCILING ◀───────────────────┘   OUTCOME_UNKNOWN ────────┘
     │                     ▲                                 │
     │                     └────────── STILL_OPEN ───────────┘
     │
     ├── UPLOAD_UNKNOWN, from UPLOADING or RECONCILING
     └── CONFLICT, from COMPLETING

RECONCILING also leads to OUTCOME_UNKNOWN by RESPONSE_LOST. A missing cell is the error: the engine reported something
that cannot happen. "Failed" is not a stage, because an upload that is neither completed nor aborted can be resumed.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

from bigupload.core.part_plan import Part, Plan


class Stage(enum.Enum):
    """The stage of the whole upload. The value is the engine's work in it."""

    NEW = "create the upload"
    RECONCILING = "list the parts in the store, and keep those that are the file's"
    UPLOADING = "upload the missing parts"
    COMPLETING = "complete"
    OUTCOME_UNKNOWN = "find out whether complete made the object"
    COMPLETED = "nothing"


class StageResult(enum.Enum):
    """The engine's report at the end of a stage."""

    CREATED = enum.auto()
    LISTED = enum.auto()
    ALL_UPLOADED = enum.auto()
    UPLOAD_UNKNOWN = enum.auto()
    """The store does not know the upload id."""
    PROVED = enum.auto()
    RESPONSE_LOST = enum.auto()
    """Complete was sent, and its outcome is unknown."""
    STILL_OPEN = enum.auto()
    """The upload still exists, and no object of it: complete did not happen."""
    INVALID_PARTS = enum.auto()
    """Complete was refused because of a part."""
    CONFLICT = enum.auto()
    """Another write to the key won (409): S3 wants every part again."""


TRANSITIONS: dict[Stage, dict[StageResult, Stage]] = {
    Stage.NEW: {StageResult.CREATED: Stage.UPLOADING},
    Stage.RECONCILING: {
        StageResult.LISTED: Stage.UPLOADING,
        StageResult.UPLOAD_UNKNOWN: Stage.NEW,
        StageResult.RESPONSE_LOST: Stage.OUTCOME_UNKNOWN,  # an upload is unknown once it is complete
    },
    Stage.UPLOADING: {StageResult.ALL_UPLOADED: Stage.COMPLETING, StageResult.UPLOAD_UNKNOWN: Stage.NEW},
    Stage.COMPLETING: {
        StageResult.PROVED: Stage.COMPLETED,
        StageResult.RESPONSE_LOST: Stage.OUTCOME_UNKNOWN,
        StageResult.INVALID_PARTS: Stage.RECONCILING,
        StageResult.CONFLICT: Stage.NEW,
    },
    Stage.OUTCOME_UNKNOWN: {StageResult.PROVED: Stage.COMPLETED, StageResult.STILL_OPEN: Stage.RECONCILING},
    Stage.COMPLETED: {},
}


class PartState(enum.IntEnum):
    """The state of one part."""

    PENDING = 0
    IN_FLIGHT = 1
    UPLOADED = 2


_PART_TRANSITIONS: dict[str, tuple[tuple[PartState, ...], PartState]] = {
    "take": ((PartState.PENDING,), PartState.IN_FLIGHT),
    "release": ((PartState.IN_FLIGHT,), PartState.PENDING),
    "record": ((PartState.IN_FLIGHT, PartState.PENDING), PartState.UPLOADED),  # pending: the store has it already
    "drop": ((PartState.UPLOADED,), PartState.PENDING),
}


class InvalidTransition(AssertionError):
    """A transition that is not in the table: a bug in the engine."""


class UploadState:
    """The stage of one upload, and the state of each of its parts (one byte a part)."""

    def __init__(self, plan: Plan, stage: Stage = Stage.NEW) -> None:
        self.plan = plan
        self._first_plan = plan
        self.stage = stage
        self._parts = bytearray(plan.count + 1)  # [0] is unused: parts count from 1
        self._next = 1

    def advance(self, result: StageResult) -> Stage:
        """Go to the stage that follows.

        Raises:
            InvalidTransition: The result cannot happen in this stage.
        """
        if result is StageResult.ALL_UPLOADED and self.missing:
            raise InvalidTransition(f"{self.missing} parts are missing")
        try:
            self.stage = TRANSITIONS[self.stage][result]
        except KeyError:
            raise InvalidTransition(f"{result} can't happen in {self.stage}") from None
        if self.stage is Stage.NEW:
            self.plan = self._first_plan
            self._parts = bytearray(self.plan.count + 1)
            self._next = 1
        return self.stage

    def pending(self) -> Iterator[Part]:
        """Take the pending parts one after another, in order. Each is in flight from then on."""
        while self._next <= self.plan.count:
            number, self._next = self._next, self._next + 1
            if self._parts[number] == PartState.PENDING:
                self._change("take", number)
                yield self.plan.part(number)

    def take(self, number: int) -> None:
        """Take one part of a stream, which comes in the stream's order. It is in flight from then on."""
        self._change("take", number)

    def end(self, size: int) -> None:
        """The stream has ended after `size` bytes. Raises ValueError if the plan does not hold them."""
        if self.plan.steps:
            self.plan = self.plan.closed(size)

    def reopen(self) -> None:
        """The file that had ended grows again."""
        self.plan = self._first_plan

    def record(self, number: int) -> None:
        """The part is in the store and in the journal."""
        self._change("record", number)

    def release(self, number: int) -> None:
        """The part is no longer in flight, and was not acknowledged."""
        self._change("release", number)

    def drop(self, number: int) -> None:
        """A part that was uploaded no longer counts."""
        self._change("drop", number)

    def part(self, number: int) -> PartState:
        """The state of part `number`."""
        return PartState(self._parts[number])

    @property
    def waiting(self) -> int:
        """The number of parts that are neither uploaded nor in flight."""
        return self._parts.count(PartState.PENDING) - 1  # [0]

    @property
    def missing(self) -> int:
        """The number of parts that are not uploaded."""
        return self.plan.count - self._parts.count(PartState.UPLOADED)

    def _change(self, transition: str, number: int) -> None:
        allowed, after = _PART_TRANSITIONS[transition]
        if not 1 <= number <= self.plan.count or self._parts[number] not in allowed:
            raise InvalidTransition(f"can't {transition} part {number}")
        self._parts[number] = after
        if after is PartState.PENDING:
            self._next = min(self._next, number)
