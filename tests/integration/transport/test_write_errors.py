"""Writes that fail: a dead connection ends, a file system without sendfile is copied from, a bad disk is named."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from bigupload import errors
from bigupload.core.part_plan import MIB, Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http import part_body
from bigupload.sources.file import FileSource
from bigupload.testing.faults import Reset, Stall
from tests.integration.support import content, no_leaks, write
from tests.integration.transport.support import Bench, bench, stalls, transport_to


@pytest.mark.exhaustive
async def test_a_connection_that_takes_no_more_and_stays_silent_ends(
    any_path: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing fails, reading waits for a response that never comes."""
    monkeypatch.setattr(part_body, "RESPONSE_AFTER_WRITE_ERROR", 0.01, raising=False)
    monkeypatch.setattr(part_body, "LAST_WORDS", 0.01, raising=False)
    size = 24 * MIB
    any_path.s3.script("UploadPart", Stall(after_bytes=MIB))
    with FileSource(write(any_path.directory / "file", size)) as source:
        async with no_leaks(), transport_to(any_path) as transport:
            sending = asyncio.create_task(any_path.put(transport, source, Part(1, 0, size)))
            await stalls(any_path)
            body: Any = any_path.gauges[0]
            body._socket.shutdown(socket.SHUT_WR)
            with pytest.raises(Fault) as caught:
                await asyncio.wait_for(sending, 30)
            assert caught.value.kind is FaultKind.BROKEN
            any_path.s3.release()


@pytest.mark.exhaustive
@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize("after", [0, 1])
async def test_a_file_system_without_sendfile_is_copied_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, after: int
) -> None:
    real, calls = os.sendfile, 0

    def sendfile(out: int, source: int, offset: int, count: int) -> int:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(code, os.strerror(code))
        return real(out, source, offset, min(count, 100_000))

    monkeypatch.setattr(os, "sendfile", sendfile)
    with bench(tmp_path, tls=False) as made, FileSource(write(tmp_path / "file", 3 * MIB)) as source:
        async with no_leaks(), transport_to(made) as transport:
            await made.put(transport, source, Part(1, 7, 2 * MIB))
        assert made.stored() == content(3 * MIB)[7 : 7 + 2 * MIB]
    assert calls == after + 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("code", [0, errno.EAGAIN], ids=["nothing sent", "EAGAIN"])
async def test_a_file_that_sendfile_sends_nothing_of_is_copied_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, cached: bool
) -> None:
    """As of some FUSE file systems, from some byte on. The socket is writable, and the file has all its bytes."""
    real = os.sendfile

    def sendfile(out: int, source: int, offset: int, count: int) -> int:
        if offset < MIB:
            return real(out, source, offset, min(count, MIB - offset))
        if code:
            raise BlockingIOError(code, os.strerror(code))
        return 0

    monkeypatch.setattr(part_body, "is_cached", lambda *_: cached, raising=False)
    monkeypatch.setattr(os, "sendfile", sendfile)
    with bench(tmp_path, tls=False) as made, FileSource(write(tmp_path / "file", 3 * MIB)) as source:
        async with no_leaks(), transport_to(made) as transport:
            await asyncio.wait_for(made.put(transport, source, Part(1, 0, 3 * MIB)), 60)
        assert made.stored() == content(3 * MIB)


@pytest.mark.exhaustive
@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ENOTCONN])
@pytest.mark.parametrize("cached", [True, False])
async def test_a_file_that_can_not_be_read_is_not_the_network_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, cached: bool
) -> None:
    def fail(*_: Any) -> int:
        raise OSError(code, os.strerror(code))

    with bench(tmp_path, tls=False) as made, FileSource(write(tmp_path / "file", 3 * MIB)) as source:
        request = made.sign(Part(1, 0, 3 * MIB), content(3 * MIB))
        monkeypatch.setattr(part_body, "is_cached", lambda *_: cached, raising=False)
        monkeypatch.setattr(os, "sendfile", fail)
        monkeypatch.setattr(os, "preadv", fail)
        async with no_leaks(), transport_to(made) as transport:
            says = "FUSE" if code == errno.ENOTCONN else os.strerror(code)
            with pytest.raises(errors.SourceUnreadable, match=f"can't read .*file.*{says}"):
                await transport.put(request, source, Part(1, 0, 3 * MIB), on_start=made.gauges.append)


@pytest.mark.parametrize("broken", [False, True], ids=["cancelled", "cancelled while the write fails"])
@pytest.mark.exhaustive
async def test_resets_and_cancels_leave_nothing_for_asyncio_to_log(any_path: Bench, broken: bool) -> None:
    """Such as "Future exception was never retrieved"."""
    logged: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    size = 16 * MIB
    any_path.s3.script("UploadPart", Reset(after_bytes=MIB))
    any_path.s3.script("UploadPart", Stall(after_bytes=MIB))
    with FileSource(write(any_path.directory / "file", size)) as source:
        async with no_leaks(), transport_to(any_path) as transport:
            with pytest.raises(Fault):
                await any_path.put(transport, source, Part(1, 0, size))
            any_path.gauges.clear()
            sending = asyncio.create_task(any_path.put(transport, source, Part(1, 0, size)))
            await stalls(any_path)
            body: Any = any_path.gauges[0]
            if broken:
                body._socket.shutdown(socket.SHUT_RDWR)
            sending.cancel()
            await asyncio.wait([sending])
            any_path.s3.release()
    gc.collect()
    assert logged == []
