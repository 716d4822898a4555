"""Copies in the store, killed with SIGKILL: the next run keeps what was copied and sent, and copies the rest."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from bigupload.testing.strict_s3 import StrictS3

from .driver import MOMENTS
from .running import PART, Ended, Place, driver, random_file

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")]

PARTS = 12
SIZE = PARTS * PART - 1000
CHANGED = 6


def upload(
    place: Place, source: Path | str, s3: StrictS3, *more: str, to: str = "key", dying: tuple[str, ...] = ()
) -> Ended:
    target = ["--to", f"s3://bucket/{to}", "--endpoint-url", s3.url, "--region", s3.region]
    arguments = ["upload", source, *target, "--concurrency", "1", "--json"]
    ended = place.run(*arguments, *more, command=driver(["--least-part", str(PART), *dying]))
    assert ended.code == (-signal.SIGKILL if dying else 0), ended.err
    s3.settle()
    return ended


@pytest.mark.parametrize("kind", ["manifest", "part", "completing", "completed"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_delta(s3: StrictS3, tmp_path: Path, kind: str, moment: str) -> None:
    place, file = Place(tmp_path), tmp_path / "file.bin"
    random_file(file, SIZE, seed=1)
    upload(place, file, s3, "--part-size", str(PART))
    with file.open("r+b") as opened:
        opened.seek((CHANGED - 1) * PART)
        opened.write(b"changed")
    before = len(s3.requests)
    dying = ("--kind", kind, "--moment", moment, "--nth", "4" if kind == "part" else "1")
    upload(place, file, s3, "--delta", dying=dying)
    recorded = place.manifest().parts.keys() if place.manifest().status != "completed" else set[int]()
    killed = len(s3.requests)
    ended = upload(place, file, s3, "--delta")
    assert ended.result["verified"] == "full-object"
    assert s3.objects["bucket"]["key"].body == file.read_bytes()
    sent = [each.part_number for each in s3.requests[before:] if each.op == "UploadPart" and each.status == 200]
    assert set(sent) <= {CHANGED}
    again = {each.part_number for each in s3.requests[killed:] if each.op in ("UploadPart", "UploadPartCopy")}
    assert not again & recorded
    if kind == "part":
        assert len(recorded) >= 3
        assert ended.result["bytes_copied"] > 0
    assert not [each for each in s3.uploads.values() if each.parts]


@pytest.mark.parametrize("kind", ["manifest", "part", "completing", "completed"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_object(s3: StrictS3, tmp_path: Path, kind: str, moment: str) -> None:
    place, file = Place(tmp_path), tmp_path / "file.bin"
    random_file(file, SIZE, seed=1)
    upload(Place(tmp_path / "elsewhere"), file, s3, "--part-size", str(PART), to="from")
    before = len(s3.requests)
    dying = ("--kind", kind, "--moment", moment, "--nth", "4" if kind == "part" else "1")
    more = ("--part-size", str(PART))
    upload(place, "s3://bucket/from", s3, *more, dying=dying)
    made = list(place.state.glob("*.manifest.jsonl"))
    recorded = place.manifest().parts.keys() if made and place.manifest().status != "completed" else set[int]()
    killed = len(s3.requests)
    ended = upload(place, "s3://bucket/from", s3, *more)
    assert ended.result["verified"] == "full-object"
    assert s3.objects["bucket"]["key"].body == file.read_bytes()
    assert not [each for each in s3.requests[before:] if each.op in ("UploadPart", "GetObject")]
    again = {each.part_number for each in s3.requests[killed:] if each.op == "UploadPartCopy"}
    assert not again & recorded
    if kind == "part":
        assert len(recorded) >= 3
        assert ended.result["bytes_copied"] > 0
    assert not [each for each in s3.uploads.values() if each.parts]
