"""Seeded schedules of faults for one upload: what goes wrong, where, how often, and what may come of it.

A schedule says by part and attempt what happens, so that the order in which parts happen to be sent changes nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from bigupload import errors

from .wire_faults import (
    ErrorIn200,
    Fault,
    FlipBit,
    HalfAnswer,
    HangUp,
    Junk,
    LostAnswer,
    Outage,
    Reset,
    Stall,
    Standing,
    Status,
    Trickle,
    TruncatedList,
    Whitespace,
    WrongEtag,
)

ATTEMPTS = 8
"""Of `RetryPolicy`: as many failures of one request end a run."""
_MOST_ENDS = 4


@dataclass
class Schedule:
    """One upload's bad luck."""

    seed: int
    part_size: int
    parts: int
    faults: dict[tuple[str, int | None], list[Fault]] = field(default_factory=dict)
    standing: set[Standing] = field(default_factory=set)
    stops: list[int] = field(default_factory=list)
    """In each run, the number of recorded parts at which it is cancelled; 0: never."""
    refused_with: type[errors.BigUploadError] | None = None
    """The end of a store that contradicts itself."""

    def __str__(self) -> str:
        bad = ", ".join(f"{op}{f' {part}' if part else ''}: {faults}" for (op, part), faults in self.faults.items())
        return f"seed {self.seed}: {[each.name for each in self.standing]} stops {self.stops} {bad}"


def make_schedule(seed: int, *, size: int, part_size: int, silent_md5: bool) -> Schedule:
    """`silent_md5`: the store takes a Content-MD5 where a checksum was declared, so that it may also be silent."""
    return _Maker(seed, size, part_size, silent_md5=silent_md5).make()


class _Maker:
    def __init__(self, seed: int, size: int, part_size: int, *, silent_md5: bool) -> None:
        self._chance = random.Random(seed)
        self._silent_md5 = silent_md5
        self._part_size = part_size
        self._schedule = Schedule(seed, part_size, -(-size // part_size))
        self._ends = 0
        self._rare = {"stall": 2, "outage": 1, "etag": 1}
        """How many more there may be: each of them costs time, or a round of completes."""

    def make(self) -> Schedule:
        chance, schedule = self._chance, self._schedule
        self._stand()
        share = chance.choice([0.02, 0.1, 0.3])
        for number in range(1, schedule.parts + 1):
            if chance.random() < share:
                self._part(number)
        for op, likely in (("CreateMultipartUpload", 0.3), ("CompleteMultipartUpload", 0.6), ("ListParts", 0.5)):
            if chance.random() < likely:
                schedule.faults[op, None] = [self._call(op) for _ in range(chance.choice([1, 1, 2]))]
        if chance.random() < 0.1:
            schedule.faults["HeadObject", None] = [chance.choice([Reset(), Status(500), Status(503)])]
        while self._may_end(0.25):
            schedule.stops.append(chance.randint(0, schedule.parts))
        return schedule

    def _stand(self) -> None:
        conditions = [set[Standing]()] * 12
        conditions += [{Standing.SILENT}, {Standing.REFUSES_CHECKSUMS}, {Standing.OPAQUE_ETAGS}]
        conditions += [{Standing.LIES_ABOUT_PARTS}, {Standing.LIES_ABOUT_WHOLE}]
        if self._silent_md5:
            conditions += [{Standing.SILENT, Standing.OPAQUE_ETAGS}]
        standing = self._schedule.standing = set(self._chance.choice(conditions))
        if Standing.SILENT in standing and not self._silent_md5:
            self._rare["etag"] = 0  # without its ETag nothing is left that would prove that part
        if Standing.LIES_ABOUT_PARTS in standing:
            self._schedule.refused_with = errors.PartCorrupted
        if Standing.LIES_ABOUT_WHOLE in standing:
            self._schedule.refused_with = errors.ObjectMismatch

    def _part(self, number: int) -> None:
        faults = [self._one() for _ in range(self._chance.choice([1, 1, 1, 2, 3]))]
        for once in (FlipBit, Status(403, "AccessDenied")):  # the second of them ends the run
            seen = [each for each in faults if each == once or (isinstance(each, FlipBit) and once is FlipBit)]
            for more in seen[1:]:
                faults.remove(more)
        if self._may_end(0.08):
            faults += self._chance.choice(
                [
                    [Status(403, "AccessDenied")] * 2,
                    [Status(400, "ExpiredToken")] * 2,
                    [Status(403, "RequestTimeTooSkewed")],
                    [Status(500, "InternalError")] * ATTEMPTS,
                    [FlipBit(0), FlipBit(self._part_size // 2)],
                ]
            )
        self._schedule.faults["UploadPart", number] = faults

    def _may_end(self, likely: float) -> bool:
        ends = self._ends < _MOST_ENDS - 1 and self._chance.random() < likely
        self._ends += ends
        return ends

    def _somewhere(self) -> int:
        return self._chance.randrange(self._part_size)

    def _one(self) -> Fault:
        chance = self._chance
        kinds: list[tuple[int, Callable[[], Fault]]] = [
            (4, lambda: Reset(self._somewhere())),
            (2, lambda: self._refusal()),
            (2, lambda: Status(400, "RequestTimeout", read_body=chance.random() < 0.5)),
            (2, Trickle),
            (2, lambda: FlipBit(self._somewhere())),
            (2, LostAnswer),
            (2, lambda: HalfAnswer(chance.randrange(200))),
            (2, lambda: HangUp(reset=chance.random() < 0.5)),
            (1, lambda: Junk(act=chance.random() < 0.5)),
            (1, lambda: Status(403, "AccessDenied")),
            (1, lambda: self._seldom("stall", Stall(self._somewhere()))),
            (1, lambda: self._seldom("outage", Outage())),
            (1, lambda: self._seldom("etag", WrongEtag())),
        ]
        (kind,) = chance.choices([make for _, make in kinds], [weight for weight, _ in kinds])
        return kind()

    def _refusal(self) -> Status:
        status, code = self._chance.choice(
            [(500, "InternalError"), (500, ""), (502, ""), (503, "SlowDown"), (504, ""), (429, "TooManyRequests")]
        )
        wait = self._chance.choice([{}, {"Retry-After": "1"}, {"Retry-After": "Mon, 01 Jan 2001 00:00:00 GMT"}])
        return Status(status, code, headers=wait, read_body=self._chance.random() < 0.5)

    def _seldom(self, what: str, fault: Fault) -> Fault:
        if self._rare[what] == 0 or (what == "outage" and self._ends >= _MOST_ENDS):
            return Reset(self._somewhere())
        self._rare[what] -= 1
        self._ends += what == "outage"
        return fault

    def _call(self, op: str) -> Fault:
        chance = self._chance
        kinds: list[Callable[[], Fault]] = [
            Reset,
            LostAnswer,
            HangUp,
            self._refusal,
            lambda: HalfAnswer(chance.randrange(200)),
            lambda: Junk(act=chance.random() < 0.5),
            lambda: Junk(act=chance.random() < 0.5, body=b"Welcome & <enjoy>"),
        ]
        if op == "CompleteMultipartUpload":
            kinds += [
                lambda: ErrorIn200(act=chance.random() < 0.5),
                lambda: Whitespace(chance.randrange(300)),
                lambda: Status(400, "InvalidPart"),
            ]
        if op == "ListParts":
            rows = chance.randint(1, self._schedule.parts)
            kinds += [lambda: TruncatedList(rows, honest=True), lambda: TruncatedList(rows)]
        return chance.choice(kinds)()
