"""A PUT that is cancelled, or whose file ends early, leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from pathlib import Path
from typing import Any

import anyio
import pytest

from bigupload import errors
from bigupload.core.part_plan import MIB, Part
from bigupload.http import socket_tuning
from bigupload.http.put_transport import HttpTransport
from bigupload.ports import SignedRequest
from bigupload.sources.file import FileSource
from bigupload.testing.faults import Stall
from tests.integration.support import content, no_leaks, write
from tests.integration.transport.support import Bench, stalls, transport_to
from tests.tools.waiting import until


@pytest.mark.exhaustive
async def test_cancelled_in_the_middle_leaves_nothing(any_path: Bench) -> None:
    size = 24 * MIB
    any_path.s3.script("UploadPart", Stall(after_bytes=MIB))
    with FileSource(write(any_path.directory / "file", size)) as source:
        async with no_leaks(), transport_to(any_path) as transport:
            sending = asyncio.create_task(any_path.put(transport, source, Part(1, 0, size)))
            await stalls(any_path)
            reports = hasattr(socket_tuning.socket, "TCP_INFO")
            assert (min(any_path.gauges[0].round_trip_times()) > 0) == reports
            await until(lambda: any_path.gauges[0].window_is_full() == reports)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert not any(transport._client.pool._kept.values()), "half a body was sent: the connection is of no use"
            gauge = any_path.gauges[0]
            assert 0 < gauge.sent() == gauge.sent() < size
            await until(lambda: gauge.round_trip_times() == (0, 0))  # asyncio closes the socket in its next step
            any_path.s3.release()
            await any_path.put(transport, source, Part(2, 7, MIB))
        assert any_path.stored(2) == content(size)[7 : 7 + MIB]
    assert 1 not in any_path.s3.uploads[any_path.upload_id].parts


async def test_what_the_kernel_has_of_a_cancelled_body_is_not_sent(tmp_path: Path) -> None:
    """On a slow link it would take seconds from the parts that go on."""
    size = 24 * MIB
    with socket.socket() as listener, FileSource(write(tmp_path / "file", size)) as source:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        gauges: list[Any] = []
        async with no_leaks(), HttpTransport() as transport:
            request = SignedRequest(f"http://127.0.0.1:{port}/bucket/key", {}, 60)
            putting = transport.put(request, source, Part(1, 0, size), on_start=gauges.append)
            sending = asyncio.create_task(putting)
            # More than the other side's buffer takes. Not every system reports unsent bytes.
            await until(lambda: bool(gauges) and gauges[0]._written > 200_000)
            store, _ = listener.accept()
            with store:
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                await asyncio.sleep(0)  # asyncio closes the socket in the next turn of its loop
                with pytest.raises(ConnectionResetError):
                    receive_all(store)


def receive_all(sock: socket.socket) -> None:
    while sock.recv(MIB):
        pass


@pytest.mark.exhaustive
async def test_a_body_that_was_sent_is_not_discarded(any_path: Bench) -> None:
    """Neither is what is sent over the same connection later."""
    any_path.s3.script("UploadPart", Stall(after_bytes=MIB))
    with FileSource(write(any_path.directory / "file", 24 * MIB)) as source:
        async with transport_to(any_path) as transport:
            sending = asyncio.create_task(any_path.put(transport, source, Part(1, 0, 24 * MIB)))
            await stalls(any_path)
            gauge: Any = any_path.gauges[0]
            assert discards(gauge._socket)
            any_path.s3.release()
            await sending
            assert not discards(gauge._socket)


def discards(sock: Any) -> bool:
    on, seconds = struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))
    return bool(on) and seconds == 0


@pytest.mark.exhaustive
async def test_cancelled_while_the_response_is_waited_for(any_path: Bench) -> None:
    any_path.s3.hold("UploadPart", acted=True)
    with FileSource(write(any_path.directory / "file", MIB)) as source:
        async with no_leaks():
            async with transport_to(any_path) as transport:
                sending = asyncio.create_task(any_path.put(transport, source, Part(1, 0, MIB)))
                await any_path.s3.wait_for_async("UploadPart")
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
            any_path.s3.release()


@pytest.mark.exhaustive
async def test_closed_in_a_cancelled_scope(any_path: Bench) -> None:
    """anyio cancels each await of the closing, too."""
    with FileSource(write(any_path.directory / "file", MIB)) as source:
        async with no_leaks():
            with anyio.CancelScope() as scope:
                async with transport_to(any_path) as transport:
                    for number, fresh in ((1, False), (2, True)):
                        data = Path(source.path).read_bytes()
                        request = any_path.sign(Part(number, 0, MIB), data)
                        await transport.put(request, source, Part(number, 0, MIB), on_start=bool, fresh=fresh)
                    scope.cancel()
    assert scope.cancel_called


@pytest.mark.exhaustive
async def test_a_file_that_ends_early_is_a_changed_source(any_path: Bench) -> None:
    size = 2 * MIB
    path = write(any_path.directory / "file", size)
    with FileSource(path) as source:
        request = any_path.sign(Part(1, 0, size), content(size))
        os.truncate(path, MIB + 5)
        async with no_leaks(), transport_to(any_path) as transport:
            with pytest.raises(errors.SourceChanged, match="shorter") as caught:
                await transport.put(request, source, Part(1, 0, size), on_start=any_path.gauges.append)
            assert not caught.value.resumable
    assert 1 not in any_path.s3.uploads[any_path.upload_id].parts


@pytest.mark.exhaustive
async def test_a_file_that_is_truncated_while_it_is_sent(any_path: Bench) -> None:
    size = 32 * MIB
    any_path.s3.script("UploadPart", Stall(after_bytes=MIB))
    path = write(any_path.directory / "file", size)
    with FileSource(path) as source:
        async with no_leaks(), transport_to(any_path) as transport:
            sending = asyncio.create_task(any_path.put(transport, source, Part(1, 0, size)))
            await stalls(any_path)
            os.truncate(path, MIB)
            any_path.s3.release()
            with pytest.raises(errors.SourceChanged):
                await sending
    assert 1 not in any_path.s3.uploads[any_path.upload_id].parts


class Unreadable(FileSource):
    def read_into(self, buffer: memoryview, offset: int) -> int:
        raise errors.SourceUnreadable("can't read it: Input/output error")
