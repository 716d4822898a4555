"""The state machine: whatever may happen to an upload, in any order."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bigupload.testing.strict_s3 import StrictS3
from tests.crash.steps import NEVER

from .disturbance import CHANGES_FILE, Disturbance
from .file import PART
from .world import World

_SECONDS = ["second_upload", "second_resume", "second_abort"]
_ANYWHERE = ["kill", "kill", "expire", "revoke", *sorted(CHANGES_FILE), *_SECONDS]
_REQUESTS = ["CreateMultipartUpload", "ListParts", "UploadPart", "CompleteMultipartUpload"]


def _at(request: str, number: int, what: str, acted: bool) -> Disturbance:
    return Disturbance(request, number if request == "UploadPart" else 1, acted, what)


@dataclass(frozen=True)
class How:
    """What befalls a process: at a request, at its so-many-th change to the manifests' files, or when its disk is full
    after so many bytes."""

    by: Disturbance | None = None
    dies_at: int = NEVER
    room: int | None = None


SINCE = st.sampled_from([None] * 5 + ["expire", *sorted(CHANGES_FILE)])
"""What happens before an action, beside what rules of their own make happen: most of it matters in the middle of an
upload alone, and Hypothesis seldom comes to that by itself."""
RARELY = st.sampled_from([False, False, False, True])
VERY_RARELY = st.sampled_from([False] * 11 + [True])
PLACES = st.sampled_from([0, 0, 0, 1])
PART_SIZES = st.sampled_from([PART, PART, 2 * PART])
SIZES = st.sampled_from([2 * PART + 100, 3 * PART, PART, 1, 0])
_ONCE_OR_TWICE = st.integers(1, 2)

_KILLS = st.builds(_at, st.sampled_from(_REQUESTS), _ONCE_OR_TWICE, st.just("kill"), st.booleans())
_LATE = st.builds(_at, st.just("UploadPart"), _ONCE_OR_TWICE, st.sampled_from(["late", "late_once"]), st.just(False))
_ANY = st.builds(_at, st.sampled_from(_REQUESTS), _ONCE_OR_TWICE, st.sampled_from(_ANYWHERE), st.booleans())
_DEATHS = st.builds(How, dies_at=st.integers(1, 30))
_FULL_DISKS = st.builds(How, room=st.integers(0, 2500))
KILLED_RUNS = st.builds(How, _KILLS) | _DEATHS
RUNS = st.just(How()) | st.builds(How, _ANY) | st.builds(How, _ANY | _LATE) | _FULL_DISKS
_KILLED_ABORTS = st.builds(Disturbance, st.just("AbortMultipartUpload"), st.just(1), st.booleans(), st.just("kill"))
ABORTS = st.just(How()) | st.builds(How, _KILLED_ABORTS) | _DEATHS | _FULL_DISKS


class Model(RuleBasedStateMachine):
    """One file, uploaded to one key from two places: two manifests, and those that were set aside."""

    s3: StrictS3
    home: Path
    mutant: str | None = None

    @initialize(size=SIZES)
    def begin(self, size: int) -> None:
        directory = Path(tempfile.mkdtemp(dir=self.home))
        self.world = World(self.s3, directory, size=size, mutant=self.mutant)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                if self.s3.uploads:
                    self.world.check_gc()
            finally:
                self.world.close()

    # --- what processes do

    @rule(since=SINCE, how=RUNS, anew=RARELY, part_size=PART_SIZES, elsewhere=VERY_RARELY)
    def upload(self, since: str | None, how: How, anew: bool, part_size: int, elsewhere: bool) -> None:
        """Of the file where it is, or `elsewhere`, of a place where it is not."""
        self._happened(since)
        place = self._place() ^ elsewhere
        self._act("upload", place, how, source=self.world.file.places[place], anew=anew, part_size=part_size)

    @rule(since=SINCE, how=KILLED_RUNS, anew=RARELY, part_size=PART_SIZES)
    def killed_upload(self, since: str | None, how: How, anew: bool, part_size: int) -> None:
        self.upload(since, how, anew, part_size, elsewhere=False)

    @rule(since=SINCE, how=RUNS, place=PLACES, named=st.booleans())
    def resume(self, since: str | None, how: How, place: int, named: bool) -> None:
        """`named`: with --source, wherever the file is now."""
        self._happened(since)
        self._act("resume", self._with_manifest(place), how, source=self.world.file.path if named else None)

    @rule(since=SINCE, how=KILLED_RUNS, place=PLACES, named=st.booleans())
    def killed_resume(self, since: str | None, how: How, place: int, named: bool) -> None:
        self.resume(since, how, place, named)

    @rule(how=ABORTS, place=PLACES)
    def abort(self, how: How, place: int) -> None:
        self._act("abort", self._with_manifest(place), how)

    @rule(choose=st.booleans(), how=st.just(How()) | KILLED_RUNS)
    def adopt(self, choose: bool, how: How) -> None:
        """What no manifest has. What one has may be adopted as well, and is then two processes' at once: the caller
        is told not to."""
        seen = self.world.look()
        orphans = [upload_id for upload_id in seen.open if upload_id in seen.orphans()]
        if len(orphans) == len(seen.open) or (choose and orphans):
            chosen = orphans[-1] if choose and orphans else None
            self._act("adopt", self._place(), how, source=self.world.file.path, upload_id=chosen)

    @rule(dry_run=st.booleans(), older_than=st.sampled_from([60.0, 60.0, 7200.0]))
    def gc(self, dry_run: bool, older_than: float) -> None:
        if self.s3.uploads or not dry_run:
            self._act("gc", 0, How(), dry_run=dry_run, older_than=older_than)

    # --- and what happens in between

    @rule(what=st.sampled_from(sorted(CHANGES_FILE)))
    def change_file(self, what: str) -> None:
        self.world.change_file(what)

    @rule(place=PLACES, how=st.sampled_from(["unlinked", "emptied", "garbled", "torn"]))
    def lose_manifest(self, place: int, how: str) -> None:
        self.world.lose_manifest(place, how)

    @rule()
    def expire_uploads(self) -> None:
        self.world.expire_uploads()

    @rule(kind=st.sampled_from(["valid", "session", "none", "unknown", "wrong", "expired"]), as_arguments=st.booleans())
    def change_keys(self, kind: str, as_arguments: bool) -> None:
        self.world.change_keys(kind, as_arguments=as_arguments)

    @rule(as_arguments=st.booleans())
    def mend_keys(self, as_arguments: bool) -> None:
        """Or else most examples would end without any."""
        self.world.change_keys("valid", as_arguments=as_arguments)

    @invariant()
    def all_holds(self) -> None:
        if hasattr(self, "world"):  # Hypothesis checks before it begins, too
            self.world.check()

    # --- how

    def _happened(self, since: str | None) -> None:
        if since == "expire":
            self.world.expire_uploads()
        elif since is not None:
            self.world.change_file(since)

    def _act(self, action: str, place: int, how: How, **more: Any) -> None:
        manifest = self.world.manifest_of(place)
        order = self.world.order(action, manifest=manifest, room=how.room, dies_at=how.dies_at, **more)
        self.world.act(order, manifest, how.by)

    def _place(self) -> int:
        return self.world.file.places.index(self.world.file.path)

    def _with_manifest(self, place: int) -> int:
        """The other one where only that has a manifest; where none has, one is begun more often than not."""
        if self.world.manifest_of(place).exists():
            return place
        if not self.world.manifest_of(1 - place).exists() and place == 0:
            self.killed_upload(None, How(Disturbance("UploadPart", 2, False, "kill")), anew=False, part_size=PART)
            return self._place()
        return 1 - place
