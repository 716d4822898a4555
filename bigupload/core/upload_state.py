"""An upload as a transition table. Pure: decides what comes next, does nothing.

::

    NEW ── created ──▶ UPLOADING ── parts_done ──▶ COMPLETING ── proved ──▶ COMPLETED
     ▲                  ▲   │                        │  │  ▲
     │◀──── vanished ───┼───┘            answer_lost │  │  │ still_open
     │                  │                            ▼  │  │ (through RECONCILING)
     │                listed                      DOUBTFUL ── proved ──▶ COMPLETED
     │                  │                               │
     │◀── vanished ── RECONCILING ◀── parts_invalid ────┘     (RECONCILING ── answer_lost ──▶ DOUBTFUL)
     └◀── conflict ── COMPLETING

A missing cell is the error: the engine asked for something that can't follow. "Failed" is no state, because what is
neither completed nor aborted is resumable.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

from bigupload.core.part_plan import Part, Plan


class Stage(enum.Enum):
    """Where the upload as a whole is; the value is what the engine does next there."""

    NEW = "create the upload"
    RECONCILING = "list the parts that the store has, keep those that are the file's"
    UPLOADING = "send the parts that are missing"
    COMPLETING = "complete"
    DOUBTFUL = "look at the object: complete may have worked"
    COMPLETED = "nothing"


class Happened(enum.Enum):
    """What the engine reports."""

    CREATED = enum.auto()
    LISTED = enum.auto()
    PARTS_DONE = enum.auto()
    VANISHED = enum.auto()
    """The store does not know the upload id."""
    PROVED = enum.auto()
    ANSWER_LOST = enum.auto()
    """Complete was sent, and its outcome is unknown."""
    STILL_OPEN = enum.auto()
    """The object is not there (or not ours), and the upload is: complete did not happen."""
    PARTS_INVALID = enum.auto()
    """Complete was refused because of a part."""
    CONFLICT = enum.auto()
    """Complete lost against another write (409): S3 wants every part again."""


TRANSITIONS: dict[Stage, dict[Happened, Stage]] = {
    Stage.NEW: {Happened.CREATED: Stage.UPLOADING},
    Stage.RECONCILING: {
        Happened.LISTED: Stage.UPLOADING,
        Happened.VANISHED: Stage.NEW,
        Happened.ANSWER_LOST: Stage.DOUBTFUL,  # vanished after a complete: that may be why
    },
    Stage.UPLOADING: {Happened.PARTS_DONE: Stage.COMPLETING, Happened.VANISHED: Stage.NEW},
    Stage.COMPLETING: {
        Happened.PROVED: Stage.COMPLETED,
        Happened.ANSWER_LOST: Stage.DOUBTFUL,
        Happened.PARTS_INVALID: Stage.RECONCILING,
        Happened.CONFLICT: Stage.NEW,
    },
    Stage.DOUBTFUL: {Happened.PROVED: Stage.COMPLETED, Happened.STILL_OPEN: Stage.RECONCILING},
    Stage.COMPLETED: {},
}


class PartState(enum.IntEnum):
    """Where one part is."""

    PENDING = 0
    IN_FLIGHT = 1
    UPLOADED = 2


_PART_MOVES: dict[str, tuple[tuple[PartState, ...], PartState]] = {
    "take": ((PartState.PENDING,), PartState.IN_FLIGHT),
    "release": ((PartState.IN_FLIGHT,), PartState.PENDING),
    "record": ((PartState.IN_FLIGHT, PartState.PENDING), PartState.UPLOADED),  # pending: found in the store
    "drop": ((PartState.UPLOADED,), PartState.PENDING),
}


class ImpossibleMove(AssertionError):
    """A bug in the engine: a transition that the table has not."""


class UploadState:
    """One upload: its stage, and each part's state (a byte a part)."""

    def __init__(self, plan: Plan, stage: Stage = Stage.NEW) -> None:
        self.plan = plan
        self.stage = stage
        self._parts = bytearray(plan.count + 1)  # [0] is unused: parts count from 1
        self._next = 1

    def receive(self, happened: Happened) -> Stage:
        """Move on. Raises ImpossibleMove."""
        if happened is Happened.PARTS_DONE and self.missing:
            raise ImpossibleMove(f"{self.missing} parts are missing")
        try:
            self.stage = TRANSITIONS[self.stage][happened]
        except KeyError:
            raise ImpossibleMove(f"{happened} can't happen in {self.stage}") from None
        if self.stage is Stage.NEW:
            self._parts = bytearray(self.plan.count + 1)
            self._next = 1
        return self.stage

    def pending(self) -> Iterator[Part]:
        """Take one pending part after another, in order; each is in flight from then on."""
        while self._next <= self.plan.count:
            number, self._next = self._next, self._next + 1
            if self._parts[number] == PartState.PENDING:
                self._move("take", number)
                yield self.plan.part(number)

    def record(self, number: int) -> None:
        """The part is in the store and in the journal."""
        self._move("record", number)

    def release(self, number: int) -> None:
        """The part is no longer being sent, and did not arrive."""
        self._move("release", number)

    def drop(self, number: int) -> None:
        """A part that counted does not count any more."""
        self._move("drop", number)

    def part(self, number: int) -> PartState:
        """The state of one part."""
        return PartState(self._parts[number])

    @property
    def missing(self) -> int:
        """How many parts are not uploaded."""
        return self.plan.count - self._parts.count(PartState.UPLOADED)

    def _move(self, move: str, number: int) -> None:
        allowed, after = _PART_MOVES[move]
        if not 1 <= number <= self.plan.count or self._parts[number] not in allowed:
            raise ImpossibleMove(f"can't {move} part {number}")
        self._parts[number] = after
        if after is PartState.PENDING:
            self._next = min(self._next, number)
