"""What a stopped command says it has kept."""

from __future__ import annotations

from pathlib import Path

from bigupload import errors, events
from bigupload.batch.job import UploadFailed
from bigupload.cli.running import KeptParts
from bigupload.core.integrity import Verified
from bigupload.core.manifest import PartProof
from bigupload.engine.upload_run import UploadResult
from tests.tools.cases import each_case


def started(upload: str, parts: int | None, resumed: int) -> events.UploadStarted:
    return events.UploadStarted(
        upload=events.UploadIdentity(source="f", target="t", id=upload, manifest=None), path=Path("f"), target="t",
        size=1, part_size=1, parts=parts, manifest=Path("m"), resumed_parts=resumed, resumed_bytes=0,
    )  # fmt: skip


def completed(upload: str) -> events.UploadCompleted:
    identity = events.UploadIdentity(source="f", target="t", id=upload, manifest=None)
    return events.UploadCompleted(upload=identity, url="u", etag="e", verified=Verified.FULL_OBJECT)


def part(upload: str) -> events.PartUploaded:
    identity = events.UploadIdentity(source="f", target="t", id=upload, manifest=None)
    return events.PartUploaded(upload=identity, number=1, size=1, attempt=1, proof=PartProof.CHECKSUM)


def done(size: int = 5) -> UploadResult:
    return UploadResult(
        path=Path("f"), bucket="b", key="k", url="u", size=size, etag="e", checksum=None, verified=Verified.FULL_OBJECT,
        parts=1, resumed_parts=0, bytes_sent=size, retries=0, seconds=1, manifest=Path("m"),
    )  # fmt: skip


@each_case(
    ("seen", "says"),
    [
        ([], ""),
        ([started("a", 39, 0)], "0 of 39 parts are known to be in the store; "),
        ([started("a", 39, 3), part("a")], "at least 4 of 39 parts are in the store; "),
        ([started("a", 2, 1), part("a")], "2 of 2 parts are in the store; "),
        ([started("a", 1, 0)], "0 of 1 part is known to be in the store; "),
        ([started("a", None, 0), part("a")], "at least 1 part is in the store; "),
        ([started("a", None, 0)], "0 parts are known to be in the store; "),
        ([started("a", 39, 0), part("a"), started("a", 40, 0)], "0 of 40 parts are known to be in the store; "),
        ([started("a", 39, 0), part("a"), completed("a")], ""),
        ([started("a", 39, 0), started("b", 39, 0)], ""),
        (
            [started("a", 39, 0), started("b", 39, 0), part("b")],
            "at least 1 of 39 parts of one file are in the store; ",
        ),
        ([started("a", 39, 2), started("b", 39, 0), part("b")], "at least 3 parts of 2 files are in the store; "),
        ([done()], "1 file (5 B) is in the store; "),
        ([done(), done(2_000_000)], "2 files (2.0 MB) are in the store; "),
        ([done(), started("a", 39, 0)], "1 file (5 B) is in the store; "),
        (
            [started("a", 39, 0), part("a"), completed("b"), done()],
            "1 file (5 B) and at least 1 of 39 parts of another are in the store; ",
        ),
        (
            [completed("c"), done(), started("a", 39, 4), started("b", 39, 5)],
            "1 file (5 B) and at least 9 parts of 2 others are in the store; ",
        ),
        ([UploadFailed(source="f", key="k", error=errors.SourceNotFound("f"))], ""),
    ],
)
def test_what_is_kept(seen: list[events.Event | UploadResult | UploadFailed], says: str) -> None:
    kept = KeptParts()
    for each in seen:
        if isinstance(each, UploadResult | UploadFailed):
            kept.on_outcome(each)
        else:
            kept.on_event(each)
    assert str(kept) == says
