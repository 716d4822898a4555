"""Whether a store checks Content-MD5: asked once, and believed only for the one refusal that proves it."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from bigupload import errors
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.engine.part_uploader import Md5Probe
from bigupload.ports import PutResponse, SignedRequest, Source, UnsignedPart
from tests.tools.cases import each_case

PART = Part(7, 700, 100)


class Store:
    """Responds to every PUT with `faults`, one after another, the last for ever; None is an acceptance."""

    def __init__(self, *faults: Fault | None) -> None:
        self.faults = list(faults)
        self.signed: list[UnsignedPart] = []
        self.sent: list[tuple[bytes, Part, SignedRequest]] = []

    async def sign(self, part: UnsignedPart) -> SignedRequest:
        await anyio.lowlevel.checkpoint()
        self.signed.append(part)
        return SignedRequest(f"http://store/{len(self.signed)}", part.headers, 60.0)

    async def put(self, source: Source, part: Part, request: SignedRequest) -> PutResponse:
        await anyio.lowlevel.checkpoint()
        body = bytearray(part.size)
        assert source.read_into(memoryview(body), part.offset) == part.size
        self.sent.append((bytes(body), part, request))
        fault = self.faults.pop(0) if len(self.faults) > 1 else self.faults[0]
        if fault is not None:
            raise fault
        return PutResponse('"etag"', {})


def refusal(kind: FaultKind) -> Fault:
    return Fault(kind, "refused", status=400)


@each_case("kind", sorted(set(FaultKind) - {FaultKind.CORRUPTED}, key=lambda kind: kind.name))
async def test_every_other_fault_proves_nothing(kind: FaultKind) -> None:
    """It is raised unchanged, and the next part probes again."""
    fault = refusal(kind)
    store = Store(fault, refusal(FaultKind.CORRUPTED))
    probe = Md5Probe(store.sign, store.put)
    with pytest.raises(Fault) as caught:
        await probe.md5_is_enforced(PART)
    assert caught.value is fault
    assert not probe.enforced
    assert await probe.md5_is_enforced(PART) is True
    assert len(store.sent) == 2


async def test_a_fault_of_signing_proves_nothing_either() -> None:
    """Not even one that looks like the refusal: nothing was sent."""
    store = Store(None)

    async def sign(part: UnsignedPart) -> SignedRequest:
        raise refusal(FaultKind.CORRUPTED)

    probe = Md5Probe(sign, store.put)
    with pytest.raises(Fault):
        await probe.md5_is_enforced(PART)
    assert not probe.enforced
    assert store.sent == []


@pytest.mark.parametrize(("fault", "enforced"), [(None, False), (refusal(FaultKind.CORRUPTED), True)])
async def test_parts_that_ask_at_once_share_one_question(fault: Fault | None, enforced: bool) -> None:
    store = Store(fault)
    probe = Md5Probe(store.sign, store.put)
    found: list[bool] = []

    async def ask(number: int) -> None:
        found.append(await probe.md5_is_enforced(Part(number, number, 1)))

    async with anyio.create_task_group() as tasks:
        for number in range(1, 11):
            tasks.start_soon(ask, number)
    assert found == [enforced] * 10
    assert len(store.signed) == len(store.sent) == 1


async def test_after_a_fault_the_next_in_the_queue_asks() -> None:
    store = Store(refusal(FaultKind.BUSY), refusal(FaultKind.CORRUPTED))
    probe = Md5Probe(store.sign, store.put)
    found: list[bool | FaultKind] = []

    async def ask() -> None:
        try:
            found.append(await probe.md5_is_enforced(PART))
        except Fault as fault:
            found.append(fault.kind)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(ask)
    assert found == [FaultKind.BUSY, True, True, True]
    assert len(store.sent) == 2


async def test_a_cancelled_question_is_asked_again() -> None:
    store = Store(refusal(FaultKind.CORRUPTED))
    probe = Md5Probe(store.sign, store.put)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await probe.md5_is_enforced(PART)
    assert scope.cancelled_caught
    assert await probe.md5_is_enforced(PART) is True


async def test_a_service_that_signs_parts_of_the_plan_alone() -> None:
    """Then it stays unknown, and nothing counts as proved."""
    store = Store(refusal(FaultKind.CORRUPTED))

    async def refuse(part: UnsignedPart) -> SignedRequest:
        raise errors.MediaRefused("part 7 of 1 bytes is none of the plan's")

    probe = Md5Probe(refuse, store.put)
    assert not await probe.md5_is_enforced(PART)
    assert not probe.enforced
    assert store.sent == []
