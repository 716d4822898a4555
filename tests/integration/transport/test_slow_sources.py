"""A source that does not respond blocks its own part only: the event loop turns, and a cancel ends the PUT."""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bigupload.core.part_plan import MIB, Part
from bigupload.core.retry_policy import Fault
from bigupload.http import part_body, put_transport
from bigupload.sources.file import FileSource
from bigupload.testing.faults import Status
from tests.integration.support import content, no_leaks, write
from tests.integration.transport.support import Bench, bench, transport_to
from tests.tools.other_systems import OtherOs

SIZE = 3 * MIB


class HangingDisk:
    """Nothing is in the page cache, and every read waits until `release`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reading = threading.Event()
        self.gave_up = False
        """Whether a read waited in vain, because it blocked the event loop, from which it is released."""
        self._released = threading.Event()
        for name in ("sendfile", "preadv"):
            if hasattr(os, name):
                monkeypatch.setattr(os, name, self._hanging(getattr(os, name)))

    def _hanging(self, real: Any) -> Any:
        def call(*arguments: Any) -> int:
            if len(arguments) == 4 and real.__name__ == "preadv":  # with RWF_NOWAIT
                raise BlockingIOError
            if real.__name__ == "preadv" and arguments[2] >= SIZE:  # whether there is more than the file's size
                return 0
            self.reading.set()
            self.gave_up = self.gave_up or not self._released.wait(10)
            count: int = real(*arguments)
            return count

        return call

    async def is_read(self) -> None:
        """Return once a read hangs. It can't return while the read blocks the event loop."""
        assert await asyncio.to_thread(self.reading.wait, 10)

    def release(self) -> None:
        self._released.set()


@pytest.fixture(params=["http", "http-copied", "https"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    if request.param == "http-copied":
        monkeypatch.setattr(part_body, "os", OtherOs("sendfile"))
    with bench(tmp_path, tls=request.param == "https") as made:
        yield made


@pytest.fixture
def disk(store: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingDisk]:
    made = HangingDisk(monkeypatch)
    yield made
    made.release()


async def test_the_event_loop_turns_while_a_disk_is_waited_for(store: Bench, disk: HangingDisk) -> None:
    with FileSource(write(store.directory / "file", SIZE)) as source:
        async with no_leaks(), transport_to(store) as transport:
            sending = asyncio.create_task(store.put(transport, source, Part(1, 0, SIZE)))
            await disk.is_read()
            assert not sending.done()
            disk.release()
            await sending
    assert not disk.gave_up
    assert store.stored() == content(SIZE)


async def test_a_cancel_does_not_wait_for_a_disk_that_hangs(
    store: Bench, disk: HangingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the end of the transport. What the disk gives later goes nowhere."""
    monkeypatch.setattr(part_body, "ABANDON_AFTER", 0.01)
    with FileSource(write(store.directory / "file", SIZE)) as source:
        async with no_leaks():
            async with transport_to(store) as transport:
                sending = asyncio.create_task(store.put(transport, source, Part(1, 0, SIZE)))
                await disk.is_read()
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
            assert not disk.gave_up
            disk.release()
        assert store.gauges[0].sent() == 0
    assert 1 not in store.s3.uploads[store.upload_id].parts


@pytest.mark.exhaustive
async def test_a_source_that_hangs_does_not_stop_another(store: Bench, disk: HangingDisk) -> None:
    """However many of its parts are in flight, and although encryption has few threads."""

    class InMemory(FileSource):
        def fileno(self) -> None:
            return None

        def read_into(self, buffer: memoryview, offset: int) -> int:
            buffer[:] = content(SIZE)[offset : offset + len(buffer)]
            return len(buffer)

    file = write(store.directory / "file", SIZE)
    with FileSource(file) as hanging, InMemory(file) as other:
        async with no_leaks(), transport_to(store) as transport:
            sending = [asyncio.create_task(store.put(transport, hanging, Part(n, 0, SIZE))) for n in range(1, 9)]
            await disk.is_read()
            await store.put(transport, other, Part(9, 0, SIZE))
            disk.release()
            await asyncio.gather(*sending)
    assert store.stored(9) == content(SIZE)


async def test_a_response_that_overtakes_the_sending_thread_is_a_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store may respond before the thread that sent the last byte has counted it."""
    monkeypatch.setattr(part_body, "is_cached", lambda *_: False)
    real, responded = os.sendfile, threading.Event()

    def sendfile(*arguments: int) -> int:
        count = real(*arguments)
        responded.wait(10)
        return count

    class Body(part_body.PartBody):
        def stop(self) -> None:
            super().stop()
            responded.set()

    monkeypatch.setattr(os, "sendfile", sendfile)
    monkeypatch.setattr(put_transport, "PartBody", Body)
    with bench(tmp_path, tls=False) as made, FileSource(write(tmp_path / "file", 1000)) as source:
        async with no_leaks(), transport_to(made) as transport:
            await made.put(transport, source, Part(1, 0, 1000))
        assert made.stored() == content(1000)
    assert made.gauges[0].sent() == 1000


async def test_over_https_a_refusal_is_seen_although_the_socket_takes_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As over a link that is faster than the encryption. Nothing is read while a thread encrypts."""

    class Taking:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def write(self, fd: int, data: memoryview) -> int:
            arrived = select.poll()
            arrived.register(fd, select.POLLIN)
            assert arrived.poll(60_000)
            return len(data)

    monkeypatch.setattr(part_body, "os", Taking())
    monkeypatch.setattr(part_body, "_SLICE", part_body.TLS_BUFFER)
    size = 16 * MIB
    with bench(tmp_path, tls=True) as made, FileSource(write(tmp_path / "file", size)) as source:
        made.s3.script("UploadPart", Status(503, "SlowDown", read_body=False))
        async with no_leaks(), transport_to(made) as transport:
            with pytest.raises(Fault) as caught:
                await made.put(transport, source, Part(1, 0, size))
    assert caught.value.status == 503
    assert made.gauges[0]._written < size // 2  # type: ignore[attr-defined]  # of a PartBody
