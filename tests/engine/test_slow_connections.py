"""Which upload is begun anew in smaller parts, because its connections are slow: by a clock that the test turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bigupload.core.manifest import Target
from bigupload.core.part_plan import MIB, START_OVER_WITHIN, Limits, Plan, plan_parts
from bigupload.engine.context import SharedSlots, UploadSettings
from bigupload.engine.part_uploader import PartsTooLarge

from .test_admission import RATE, Put, Upload

SIZE = 8 * 10**9
PLAN = plan_parts(SIZE)
PART_SECONDS = PLAN.part_size / RATE
"""No part is stored before that."""


class FarPut(Put):
    def round_trip_times(self) -> tuple[float, float]:
        return 0.03, 0.03


class SlowUpload(Upload):
    """Each of its connections has the same rate, however many there are."""

    limits = Limits(min_part_size=MIB)

    def __init__(self, plan: Plan = PLAN, concurrency: int | None = None) -> None:
        super().__init__(plan=plan, shared=SharedSlots(concurrency))
        self.context.may_start_over = True

    def new_put(self) -> Put:
        return FarPut(lambda: self.now)

    async def better_part_size(self) -> int | None:
        try:
            await self.run_until(PART_SECONDS / 2)
        except ExceptionGroup as group:
            (error,) = group.exceptions
            assert isinstance(error, PartsTooLarge)
            return error.part_size
        return None


async def test_the_parts_of_slow_connections_are_too_large() -> None:
    upload = SlowUpload()
    assert await upload.better_part_size() == 4 * MIB, "a connection sends it in five seconds"
    assert upload.now < PART_SECONDS / 2 - 1
    assert not upload.shared.first_puts
    assert not upload.shared.prepared


def _is_old(context: Any) -> None:
    context.may_start_over = False


def _is_recorded(context: Any) -> None:
    context.manifest.parts[1] = object()


def _goes_to_a_service(context: Any) -> None:
    context.manifest.target = Target(service="https://media", key="key")


def _is_copied(context: Any) -> None:
    context.origin = object()


def _has_sent_much(context: Any) -> None:
    context.counts.bytes_sent = int(START_OVER_WITHIN * SIZE)


def _may_have_no_smaller_ones(context: Any) -> None:
    context.store.limits = Limits(min_part_size=13 * MIB)


def _has_parts_that_the_user_gave(context: Any) -> None:
    context.settings = UploadSettings(part_size=PLAN.part_size)


CHANGES = [
    _has_parts_that_the_user_gave,
    _is_old,
    _is_recorded,
    _goes_to_a_service,
    _is_copied,
    _has_sent_much,
    _may_have_no_smaller_ones,
]


@pytest.mark.parametrize("change", CHANGES)
async def test_which_upload_keeps_its_parts(change: Callable[[Any], None]) -> None:
    upload = SlowUpload()
    change(upload.context)
    assert await upload.better_part_size() is None


@pytest.mark.parametrize(
    ("plan", "concurrency"),
    [(Plan(SIZE, 17 * MIB), None), (PLAN, 24)],
    ids=["the parts of the object before", "the user's concurrency"],
)
async def test_which_parts_stay(plan: Plan, concurrency: int | None) -> None:
    assert await SlowUpload(plan, concurrency).better_part_size() is None
