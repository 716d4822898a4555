"""An upload that is begun anew in smaller parts, because its connections are slow. When that is, `core.flight` decides:
here it is told so."""

from __future__ import annotations

import pytest

from bigupload import Verified, events
from bigupload.core.flight import Flight
from bigupload.testing.faults import Stall, Status
from bigupload.testing.strict_s3 import StrictS3

from .support import KIB, PART, World

SMALL = 16 * KIB
SIZE = 3 * PART + 5


class Events(list[events.Event]):
    """Lets the store read again once the upload is begun anew, or is not."""

    def __init__(self, s3: StrictS3) -> None:
        super().__init__()
        self._s3 = s3

    def append(self, event: events.Event) -> None:
        super().append(event)
        if isinstance(event, events.Restarted | events.Warned):
            self._s3.clear("UploadPart")
            self._s3.release()


@pytest.fixture
def slow(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The store reads no part of the first upload."""
    monkeypatch.setattr(Flight, "is_slow_for", lambda _, part_size: part_size == PART)
    monkeypatch.setattr(Flight, "part_in_time", SMALL + 1)
    world.s3.script("UploadPart", Stall(), repeat=True)
    world.events = Events(world.s3)
    monkeypatch.setattr("bigupload.engine.part_uploader.START_OVER_WITHIN", 1.0)  # socket buffers take these parts
    return world


async def test_it_is_begun_anew_once(slow: World) -> None:
    path = slow.file(SIZE)
    result = await slow.upload(path)
    assert slow.holds(path)
    assert all(upload.aborted for upload in slow.s3.uploads.values()), "it stays while a cancelled part arrives"
    assert slow.s3.count("CreateMultipartUpload") == 2
    assert (result.verified, result.parts, result.resumed_parts) == (Verified.FULL_OBJECT, 13, 0)
    assert slow.manifest.plan.part_size == SMALL
    aside = slow.manifest_path.with_name(f"{slow.manifest_path.name}.1")
    assert '"type":"aborted"' in aside.read_text()


async def test_its_events_say_so(slow: World) -> None:
    path = slow.file(SIZE)
    await slow.upload(path)
    kinds = (events.UploadStarted, events.Restarted, events.PartUploaded)
    first, restarted, second, *parts = [event for event in slow.events if isinstance(event, kinds)]
    assert isinstance(first, events.UploadStarted)
    assert isinstance(second, events.UploadStarted)
    assert (first.part_size, second.part_size, second.parts) == (PART, SMALL, 13)
    assert isinstance(restarted, events.Restarted)
    assert "16 KiB instead of 64 KiB" in restarted.reason
    assert len(parts) == 13


async def test_an_upload_that_can_not_be_aborted_keeps_its_parts(slow: World) -> None:
    path = slow.file(SIZE)
    slow.s3.script("AbortMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    result = await slow.upload(path)
    assert slow.holds(path)
    assert (result.parts, slow.manifest.plan.part_size) == (4, PART)
    assert "the parts stay at 64 KiB" in slow.warnings()
    assert not slow.told(events.Restarted)


async def test_a_part_size_of_the_user_stays(slow: World) -> None:
    path = slow.file(SIZE)
    slow.s3.clear("UploadPart")
    result = await slow.upload(path, part_size=PART)
    assert slow.holds(path)
    assert (result.parts, slow.told(events.Restarted)) == (4, [])
