"""Seeded schedules of faults for one upload: what goes wrong, where, how often, and what may come of it.

A schedule says by part and attempt what happens, so that the order in which parts happen to be sent changes nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from bigupload import errors
from bigupload.testing import faults as wire

ATTEMPTS = 8
"""Of `RetryPolicy`: as many failures of one request end a run."""
_MOST_ENDS = 4


@dataclass
class Schedule:
    """One upload's bad luck."""

    seed: int
    part_size: int
    parts: int
    faults: dict[tuple[str, int | None], list[wire.StoreFault]] = field(default_factory=dict)
    standing: set[wire.Standing] = field(default_factory=set)
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
            schedule.faults["HeadObject", None] = [chance.choice([wire.Reset(), wire.Status(500), wire.Status(503)])]
        while self._may_end(0.25):
            schedule.stops.append(chance.randint(0, schedule.parts))
        return schedule

    def _stand(self) -> None:
        conditions = [set[wire.Standing]()] * 12
        conditions += [{wire.Standing.SILENT}, {wire.Standing.REFUSES_CHECKSUMS}, {wire.Standing.OPAQUE_ETAGS}]
        conditions += [{wire.Standing.LIES_ABOUT_PARTS}, {wire.Standing.LIES_ABOUT_WHOLE}]
        if self._silent_md5:
            conditions += [{wire.Standing.SILENT, wire.Standing.OPAQUE_ETAGS}]
        standing = self._schedule.standing = set(self._chance.choice(conditions))
        if wire.Standing.SILENT in standing and not self._silent_md5:
            self._rare["etag"] = 0  # without its ETag nothing is left that would prove that part
        if wire.Standing.LIES_ABOUT_PARTS in standing:
            self._schedule.refused_with = errors.PartCorrupted
        if wire.Standing.LIES_ABOUT_WHOLE in standing:
            self._schedule.refused_with = errors.ObjectMismatch

    def _part(self, number: int) -> None:
        faults = [self._one() for _ in range(self._chance.choice([1, 1, 1, 2, 3]))]
        for once in (wire.FlipBit, wire.Status(403, "AccessDenied")):  # the second of them ends the run
            seen = [
                each for each in faults if each == once or (isinstance(each, wire.FlipBit) and once is wire.FlipBit)
            ]
            for more in seen[1:]:
                faults.remove(more)
        if self._may_end(0.08):
            faults += self._chance.choice(
                [
                    [wire.Status(403, "AccessDenied")] * 2,
                    [wire.Status(400, "ExpiredToken")] * 2,
                    [wire.Status(403, "RequestTimeTooSkewed")] * 2,
                    [wire.Status(500, "InternalError")] * ATTEMPTS,
                    [wire.FlipBit(0), wire.FlipBit(self._part_size // 2)],
                ]
            )
        self._schedule.faults["UploadPart", number] = faults

    def _may_end(self, likely: float) -> bool:
        ends = self._ends < _MOST_ENDS - 1 and self._chance.random() < likely
        self._ends += ends
        return ends

    def _somewhere(self) -> int:
        return self._chance.randrange(self._part_size)

    def _one(self) -> wire.StoreFault:
        chance = self._chance
        kinds: list[tuple[int, Callable[[], wire.StoreFault]]] = [
            (4, lambda: wire.Reset(self._somewhere())),
            (2, lambda: self._refusal()),
            (2, lambda: wire.Status(400, "RequestTimeout", read_body=chance.random() < 0.5)),
            (2, wire.Trickle),
            (2, lambda: wire.FlipBit(self._somewhere())),
            (2, wire.LostResponse),
            (2, lambda: wire.HalfResponse(chance.randrange(200))),
            (2, lambda: wire.HangUp(reset=chance.random() < 0.5)),
            (1, lambda: wire.Junk(act=chance.random() < 0.5)),
            (1, lambda: wire.Status(403, "AccessDenied")),
            (1, lambda: self._seldom("stall", wire.Stall(self._somewhere()))),
            (1, lambda: self._seldom("outage", wire.NetworkOutage())),
            (1, lambda: self._seldom("etag", wire.WrongEtag())),
        ]
        (kind,) = chance.choices([make for _, make in kinds], [weight for weight, _ in kinds])
        return kind()

    def _refusal(self) -> wire.Status:
        status, code = self._chance.choice(
            [(500, "InternalError"), (500, ""), (502, ""), (503, "SlowDown"), (504, ""), (429, "TooManyRequests")]
        )
        wait = self._chance.choice([{}, {"Retry-After": "1"}, {"Retry-After": "Mon, 01 Jan 2001 00:00:00 GMT"}])
        return wire.Status(status, code, headers=wait, read_body=self._chance.random() < 0.5)

    def _seldom(self, what: str, fault: wire.StoreFault) -> wire.StoreFault:
        if self._rare[what] == 0 or (what == "outage" and self._ends >= _MOST_ENDS):
            return wire.Reset(self._somewhere())
        self._rare[what] -= 1
        self._ends += what == "outage"
        return fault

    def _call(self, op: str) -> wire.StoreFault:
        chance = self._chance
        kinds: list[Callable[[], wire.StoreFault]] = [
            wire.Reset,
            wire.LostResponse,
            wire.HangUp,
            self._refusal,
            lambda: wire.HalfResponse(chance.randrange(200)),
            lambda: wire.Junk(act=chance.random() < 0.5),
            lambda: wire.Junk(act=chance.random() < 0.5, body=b"Welcome & <enjoy>"),
        ]
        if op == "CompleteMultipartUpload":
            kinds += [
                lambda: wire.ErrorIn200(act=chance.random() < 0.5),
                lambda: wire.Whitespace(chance.randrange(300)),
                lambda: wire.Status(400, "InvalidPart"),
            ]
        if op == "ListParts":
            rows = chance.randint(1, self._schedule.parts)
            kinds += [lambda: wire.TruncatedList(rows, honest=True), lambda: wire.TruncatedList(rows)]
        return chance.choice(kinds)()
