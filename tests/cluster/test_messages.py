"""What coordinator and workers tell each other survives the way, and holds no secret that a log could show."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bigupload import errors
from bigupload.cluster.messages import (
    FileDiffers,
    FileId,
    PutTask,
    Sealed,
    pack_failure,
    pack_put,
    sample,
    unpack_failure,
    unpack_put,
)
from bigupload.cluster.transport import following
from bigupload.core.manifest import Fingerprint
from bigupload.core.part_plan import MIB, Part, plan_parts
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.ports import SignedRequest
from bigupload.sources.file import FileSource
from tests.tools.cases import each_case

WORKER = "tcp://10.0.0.7:4444"


def test_a_fault_comes_back_as_it_was() -> None:
    fault = Fault(FaultKind.BUSY, "slow down", status=503, code="SlowDown", retry_after=2.5)
    fault.date = 1e9
    back = unpack_failure(json.loads(json.dumps(pack_failure(fault))), WORKER)
    assert isinstance(back, Fault)
    assert (back.kind, str(back), back.status, back.code, back.retry_after, back.date) == (
        FaultKind.BUSY, "slow down", 503, "SlowDown", 2.5, 1e9,
    )  # fmt: skip
    assert type(back.public()) is errors.StoreUnavailable


def test_a_refusal_comes_back_with_the_headers_that_it_names() -> None:
    fault = Fault(FaultKind.FINAL, "no such header", status=400, code="InvalidRequest")
    fault.named = frozenset({"x-amz-checksum-crc64nvme", "invalidrequest"})
    back = unpack_failure(json.loads(json.dumps(pack_failure(fault))), WORKER)
    assert isinstance(back, Fault)
    assert (back.named, back.is_decided, back.may_be_unsupported) == (fault.named, False, True)
    assert type(back.public()) is errors.StoreRefused


def test_the_public_error_of_a_fault_comes_back_too() -> None:
    fault = Fault(FaultKind.FINAL, "the proxy refuses", error=errors.StoreUnreachable)
    back = unpack_failure(pack_failure(fault), WORKER)
    assert isinstance(back, Fault)
    assert type(back.public()) is errors.StoreUnreachable


def test_a_public_error_names_the_worker() -> None:
    back = unpack_failure(pack_failure(errors.StoreRefused("no such URL")), WORKER)
    assert type(back) is errors.StoreRefused
    assert str(back) == f"no such URL (on the worker {WORKER})"


def test_a_file_that_cannot_be_read_there_is_another_file() -> None:
    assert isinstance(unpack_failure(pack_failure(errors.SourceUnreadable("EIO")), WORKER), FileDiffers)


def test_the_text_of_a_foreign_error_stays_on_the_worker() -> None:
    back = unpack_failure(pack_failure(ValueError("https://store/?X-Amz-Signature=1")), WORKER)
    assert isinstance(back, Fault)
    assert (back.kind, str(back)) == (FaultKind.BROKEN, "the worker failed (ValueError)")


def test_puts() -> None:
    requests = [
        SignedRequest(f"https://store/?partNumber={each}", {"x-amz-checksum-crc32c": "A"}, 60) for each in (1, 2)
    ]
    parts = [Part(1, 0, 5 * MIB), Part(2, 5 * MIB, 7)]
    task = PutTask(FileId("/f", 5 * MIB + 7, 7), parts, requests, True, 12.0, "/ca.pem")
    assert unpack_put(json.loads(json.dumps(pack_put(9, task)))) == task


def test_what_is_sealed_is_in_no_text() -> None:
    assert f"{Sealed(b'secret')} {[Sealed(b'secret')]}" == "Sealed(6 bytes) [Sealed(6 bytes)]"


def test_any_path_survives() -> None:
    odd = FileId(os.fsdecode(b"/\xff\xfe \xf0\x9f\x8e\xac\n"), 5, 7)
    assert FileId.unpack(json.loads(json.dumps(odd.pack()))) == odd


@each_case(
    ("size", "mtime_ns", "different"),
    [
        (10, 1_000_000_000, False),
        (11, 1_000_000_000, True),
        (10, 1_000_000_999, False),  # one of the file systems keeps microseconds
        (10, 1_000_001_000, True),
        (10, 2_000_000_000, True),
    ],
)
def test_which_files_are_the_same(size: int, mtime_ns: int, different: bool) -> None:
    here = FileId("/f", 10, 1_000_000_500 if mtime_ns % 1_000_000_000 else 1_900_000_000)
    assert bool(here.difference(Fingerprint(size, mtime_ns, 99, 99))) is different


@pytest.mark.parametrize("at", [0, 65535, 150_000, 299_999])
def test_a_sample_shows_other_bytes_at_the_beginning_the_middle_and_the_end(tmp_path: Path, at: int) -> None:
    path, content = tmp_path / "f", bytearray(300_000)
    path.write_bytes(content)
    with FileSource(path) as source:
        before = sample(source)
    content[at] = 1
    path.write_bytes(content)
    with FileSource(path) as source:
        assert sample(source) != before


@pytest.mark.parametrize("size", [0, 1, 10])
def test_a_sample_of_a_small_file(tmp_path: Path, size: int) -> None:
    (tmp_path / "f").write_bytes(bytes(size))
    with FileSource(tmp_path / "f") as source:
        assert sample(source) == sample(source)


@each_case("number", range(1, 11))
@each_case("count", [1, 3, 8])
def test_the_parts_after_a_part_are_the_plans(number: int, count: int) -> None:
    plan = plan_parts(50 * MIB - 7, 5 * MIB)
    assert following(plan.part(number), count, 50 * MIB - 7) == [
        plan.part(each) for each in range(number, min(number + count, plan.count + 1))
    ]


def test_large_parts_are_hashed_alone() -> None:
    assert len(following(Part(1, 0, 100 * MIB), 8, 1000 * MIB)) == 1
    assert len(following(Part(1, 0, 64 * MIB), 8, 1000 * MIB)) == 2


def test_nothing_is_guessed_of_a_plan_whose_parts_grow() -> None:
    assert following(Part(3, 15 * MIB, 10 * MIB), 8, 100 * MIB) == [Part(3, 15 * MIB, 10 * MIB)]
    assert following(Part(1, 0, 0), 8, 0) == [Part(1, 0, 0)]
