"""Killed with SIGKILL at a record of the journal: before it is written, torn, written and not fsynced, fsynced.

`test_every_step` has the other records, and every step between them.

`driver.py` kills the real command from outside the product; the real command then goes on. What every case shows: the
upload ends proved with the right bytes; no part that the store had acknowledged (let alone one that was recorded) is
sent again; the object is made once; and no upload stays open but one whose id died with the process: killed between
create's response and the record of it. That one is empty, and a lifecycle rule (AbortIncompleteMultipartUpload) is what
removes it.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bigupload.testing.strict_s3 import StrictS3

from .driver import MOMENTS
from .running import PART, Ended, Place, driver, random_file

RECORDED = [moment for moment in MOMENTS if moment != "unsynced"]
"""What SIGKILL can tell apart: only a machine that goes down loses what was written and not fsynced."""
PARTS = 8
SIZE = PARTS * PART - 1000


@dataclass
class Case:
    """One file, one store, and what must not be sent again."""

    s3: StrictS3
    place: Place
    file: Path
    stored: set[tuple[str, int]] = field(default_factory=set)
    """(upload id, part number) that the store had acknowledged when a process was dead."""
    recorded: set[tuple[str, int]] = field(default_factory=set)
    seen: int = 0

    @classmethod
    def make(cls, s3: StrictS3, directory: Path) -> Case:
        file = directory / "file.bin"
        random_file(file, SIZE, seed=1)
        return cls(s3, Place(directory), file)

    def upload(self, *dying: str) -> Ended:
        target = ["upload", self.file, "--to", "s3://bucket/key", "--endpoint-url", self.s3.url]
        return self.run([*target, "--part-size", str(PART), "--concurrency", "2", "--json"], dying)

    def run(self, arguments: list[str | Path], dying: tuple[str, ...] = ()) -> Ended:
        ended = self.place.run(*arguments, command=driver(["--least-part", str(PART), *dying]))
        if dying:
            assert ended.code == -signal.SIGKILL, ended.err
        self.look()
        return ended

    def look(self) -> None:
        """After a process: nothing was sent that the store had; and what is there now."""
        self.s3.settle()
        new = self.s3.requests[self.seen :]
        self.seen += len(new)
        puts = [(each.upload_id or "", each.part_number or 0, each.status) for each in new if each.op == "UploadPart"]
        assert not {(upload, number) for upload, number, _ in puts} & (self.stored | self.recorded)
        self.stored |= {(upload, number) for upload, number, status in puts if status == 200}
        if list(self.place.state.glob("*.manifest.jsonl")):
            manifest = self.place.manifest()
            now = {(manifest.upload_id, number) for number in manifest.parts}
            assert now <= self.stored  # nothing is recorded that the store did not acknowledge
            self.recorded |= now

    def assert_proved(self, ended: Ended, *, orphans: int = 0) -> None:
        assert ended.code == 0, ended.err
        assert ended.result["verified"] == "full-object"
        assert self.s3.objects["bucket"]["key"].body == self.file.read_bytes()
        assert self.s3.count("CompleteMultipartUpload", status=200) == 1
        assert [upload.parts for upload in self.s3.uploads.values()] == [{}] * orphans
        assert self.place.manifest().status == "completed"


@pytest.fixture
def case(s3: StrictS3, tmp_path: Path) -> Case:
    return Case.make(s3, tmp_path)


def at(kind: str, moment: str, nth: int = 1) -> tuple[str, ...]:
    return ("--kind", kind, "--moment", moment, "--nth", str(nth))


def assert_torn(ended: Ended, moment: str) -> None:
    """A torn tail is told of, and nothing else is."""
    assert ("can't be read" in ended.err) == (moment == "torn")


@pytest.mark.slow
@pytest.mark.parametrize("moment", [*RECORDED, "renamed"])
def test_manifest(case: Case, moment: str) -> None:
    """Before the manifest has its name nothing here knows the upload, so that a new one begins: one orphan."""
    case.upload(*(["--die-at-rename"] if moment == "renamed" else at("manifest", moment)))
    assert case.s3.count("UploadPart") == 0
    ended = case.upload()
    case.assert_proved(ended, orphans=0 if moment == "renamed" else 1)
    assert ended.result["bytes_sent"] == SIZE
    assert_torn(ended, moment="")
    left = {path.name for path in case.place.state.iterdir()}
    assert left == {case.place.manifest_path().name, "cleaned"}


@pytest.mark.exhaustive
@pytest.mark.parametrize("moment", MOMENTS)
def test_part(case: Case, moment: str) -> None:
    """An acknowledged part without a record is found in the store's list and adopted, not sent again."""
    case.upload(*at("part", moment, nth=3))
    assert len(case.recorded) >= (3 if moment in ("unsynced", "after") else 2)
    ended = case.upload()
    case.assert_proved(ended)
    assert_torn(ended, moment)
    assert ended.result["resumed_parts"] >= 3
    assert ended.result["bytes_sent"] <= SIZE - 3 * PART


@pytest.mark.exhaustive
@pytest.mark.parametrize("moment", MOMENTS)
def test_completed(case: Case, moment: str) -> None:
    """`before` is the moment between complete's response and its record: the object is found and recognised.

    Once it is on record the same command would be another upload, as DESIGN 5 has it: `resume` gives the result.
    """
    case.upload(*at("completed", moment))
    assert case.s3.count("CompleteMultipartUpload", status=200) == 1
    if moment in ("unsynced", "after"):
        ended = case.run(["resume", case.place.manifest_path(), "--json"])
    else:
        ended = case.upload()
        assert_torn(ended, moment)
    case.assert_proved(ended)
    assert ended.result["bytes_sent"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("moment", RECORDED)
def test_aborted(case: Case, moment: str) -> None:
    """The store is asked first: whatever the record says, abort again ends aborted, and nothing is left there."""
    case.upload(*at("part", "after", nth=4))
    manifest = case.place.manifest_path()
    case.run(["abort", manifest], at("aborted", moment))
    assert not case.s3.uploads
    again = case.run(["abort", manifest])
    assert (again.code, again.out) == (0, "")
    assert case.place.manifest().status == "aborted"
    assert not case.s3.objects["bucket"]
    # The same upload again is a new one.
    case.assert_proved(case.upload())
