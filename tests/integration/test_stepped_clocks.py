"""Clocks that disagree: requests are signed with the store's time, and the user is told of this machine's clock."""

from __future__ import annotations

import asyncio
import email.utils
import time

import pytest

import bigupload
from bigupload import Verified, errors, events
from bigupload.testing.faults import Call, Status
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.waiting import until

from .support import BUCKET, FAST, PART, World

HOUR = 3600.0
DAY = 24 * HOUR
STEPS = pytest.mark.parametrize(
    "step", [HOUR, -HOUR, DAY, -DAY], ids=["1 h fast", "1 h slow", "1 day fast", "1 day slow"]
)


def stepped(step: float) -> Call:
    """This machine's clock steps, as the store sees it: its own is another from now on."""

    def do(s3: StrictS3) -> None:
        s3.clock = lambda: time.time() - step

    return Call(do)


def told_of_clock(world: World) -> list[str]:
    told = [event.message for event in world.told(events.Warned)]
    told += [event.reason for event in world.told(events.Retrying)]
    return [each for each in told if "clock" in each]


@STEPS
async def test_a_clock_that_steps_in_the_middle_of_an_upload(world: World, step: float) -> None:
    """The first part went out before. A store answers 403 to the next ones: to some AccessDenied, without a reason."""
    world.s3.script("UploadPart", stepped(step), part_number=2)
    path = world.file(6 * PART)
    result = await world.upload(path, concurrency=2)
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    (warning,) = told_of_clock(world)
    shown = f"{abs(step) / HOUR:.0f} h {'fast' if step > 0 else 'slow'}"
    assert warning == f"this machine's clock is {shown}: requests are signed with the store's time. Set the clock"


@STEPS
@pytest.mark.parametrize("size", [PART // 2, 3 * PART], ids=["one PUT", "parts"])
async def test_a_clock_that_is_off_from_the_start(world: World, step: float, size: int) -> None:
    world.s3.clock = lambda: time.time() - step
    path = world.file(size)
    await world.upload(path, manifest=None)
    assert world.holds(path)
    assert len(told_of_clock(world)) == 1


async def test_a_clock_that_is_off_is_told_once_for_many_files(world: World) -> None:
    """Several were signed before the first refusal."""
    world.s3.clock = lambda: time.time() - DAY
    world.s3.hold("PutObject")
    told: list[events.Event] = []
    paths = [world.file(10, f"{number}.bin", number) for number in range(4)]
    sent = bigupload.upload_many(
        paths,
        to=f"s3://{BUCKET}/p/",
        s3=world.options(),
        on_event=told.append,
        uploader=bigupload.Uploader(retry=FAST, concurrency=4),
    )

    async def upload() -> list[object]:
        return [each async for each in sent]

    uploading = asyncio.create_task(upload())
    await until(lambda: len(world.s3.requests) >= 4)
    world.s3.release()
    assert all(isinstance(each, bigupload.UploadResult) for each in await uploading)
    world.events += told
    assert len(told_of_clock(world)) == 1


async def test_a_clock_that_steps_back_again(world: World) -> None:
    world.s3.script("UploadPart", stepped(DAY), part_number=2)
    world.s3.script("UploadPart", stepped(0), part_number=14)
    path = world.file(16 * PART)
    await world.upload(path, concurrency=1)
    assert world.holds(path)


async def test_one_server_of_a_store_whose_clock_is_off(world: World) -> None:
    """It refuses a part, and the next server refuses the signature by the first one's time."""
    world.s3.script("UploadPart", stepped(DAY), stepped(0), part_number=2)
    path = world.file(3 * PART)
    await world.upload(path, concurrency=1)
    assert world.holds(path)


async def test_a_refusal_that_is_not_of_the_clock_is_explained_by_the_credentials(world: World) -> None:
    """The clock is off, and known to be: the store refuses the part at its own time, too."""
    world.s3.clock = lambda: time.time() - HOUR
    world.s3.script("UploadPart", Status(403, "AccessDenied"), repeat=True, part_number=2)
    with pytest.raises(errors.AccessDenied) as caught:
        await world.upload(world.file(3 * PART), concurrency=1)
    assert "the credentials from AWS_ACCESS_KEY_ID" in str(caught.value)
    assert "clock" not in str(caught.value)
    assert caught.value.exit_code == errors.EXIT_RESUMABLE


async def test_a_date_that_is_wrong_for_each_signature(world: World) -> None:
    """Something in front of the store refuses requests, with a Date of its own that no signature satisfies."""
    dates = [email.utils.formatdate(time.time() - n * DAY, usegmt=True) for n in range(1, 5)]
    refusals = [Status(403, "RequestTimeTooSkewed", headers={"Date": date}) for date in dates]
    world.s3.script("CreateMultipartUpload", *refusals)
    with pytest.raises(errors.ClockSkewed, match=r"this machine's clock is 3 d fast: set it, then run again"):
        await world.upload(world.file(3 * PART))
