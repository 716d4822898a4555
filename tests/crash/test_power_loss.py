"""The machine goes down after each operation on the manifest's files, and forgets whatever was not fsynced.

Whatever is left: the manifest opens, it calls no part uploaded that the store does not have, nothing that was told to
the caller is missing from it, and the upload resumes from there to its proof.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bigupload import events
from bigupload.core.manifest import Manifest
from bigupload.manifests.journal import FileJournal
from tests.tools.directory_store import DirectoryStore
from tests.tools.forgetful_disk import Disk, Operation, recording

from .steps import SCENARIOS, manifest_in, upload


@dataclass(frozen=True)
class Told:
    """What the caller knew."""

    upload_id: str
    parts: frozenset[int]
    status: str


@dataclass
class Recorded:
    """One upload: the operations, and with how many of them done the store and the caller were how far."""

    directory: Path
    before: Disk
    operations: list[Operation] = field(default_factory=list)
    stores: list[tuple[int, Path]] = field(default_factory=list)
    told: list[tuple[int, Told]] = field(default_factory=list)

    @classmethod
    def make(cls, directory: Path, scenario: Callable[[Path], None]) -> Recorded:
        place = directory / "place"
        place.mkdir()
        scenario(place)
        recorded = cls(place, Disk.of(place))
        snapshots = directory / "stores"

        def save(what: str) -> None:
            if not what.startswith("before"):
                name = snapshots / str(len(recorded.stores))
                shutil.copytree(place / "store", name)
                recorded.stores.append((len(operations), name))

        def hear(journal: FileJournal, event: events.Event) -> None:
            if isinstance(event, events.PartUploaded | events.UploadCompleted):
                recorded.told.append((len(operations), _told(journal.manifest)))

        with recording(place / "state") as operations:
            if (place / "store").exists():
                save("at the beginning")
            asyncio.run(upload(place, save, hear))
        recorded.operations = operations
        return recorded

    def store_after(self, count: int) -> Path | None:
        """The store's directory when so many operations were done."""
        return next((path for at, path in reversed(self.stores) if at <= count), None)

    def told_after(self, count: int) -> Told | None:
        return next((told for at, told in reversed(self.told) if at <= count), None)


def _told(manifest: Manifest) -> Told:
    return Told(manifest.upload_id, frozenset(manifest.parts), manifest.status)


@pytest.mark.exhaustive
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_power_loss_after_every_operation(scenario: Callable[[Path], None], tmp_path: Path) -> None:
    recorded = Recorded.make(tmp_path, scenario)
    assert recorded.told
    assert len(recorded.operations) >= 2
    disk, seen = recorded.before, set()
    for count in range(len(recorded.operations) + 1):
        if count:
            disk.do(recorded.operations[count - 1])
        store = recorded.store_after(count)
        for what, files in disk.survivors().items():
            case = f"{what}, after {count} operations: {recorded.operations[max(0, count - 2) : count]}"
            left = {path: data for path, data in files.items() if path.is_relative_to(recorded.directory / "state")}
            look(recorded, left, store, recorded.told_after(count), case)
            key = (store, *sorted((path, data) for path, data in left.items() if path.suffix != ".lock"))
            if key not in seen:
                seen.add(key)
                go_on(recorded, left, store, case)


def put(recorded: Recorded, left: dict[Path, bytes], store: Path | None) -> None:
    place = recorded.directory
    for name in ("state", "store"):
        shutil.rmtree(place / name, ignore_errors=True)
    if store is not None:
        shutil.copytree(store, place / "store")
    for path, data in left.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def look(recorded: Recorded, left: dict[Path, bytes], store: Path | None, told: Told | None, case: str) -> None:
    put(recorded, left, store)
    with FileJournal(manifest_in(recorded.directory)) as journal:  # it can be opened
        if not journal.exists:
            assert told is None, f"nothing is left of what was told: {case}"
            return
        manifest = journal.manifest
    found = DirectoryStore(recorded.directory / "store")
    if manifest.completed is not None:
        assert found.object is not None, f"completed, and there is no object: {case}"
    elif manifest.upload_id in found.uploads():
        known = set(manifest.parts) - (recorded_lost(recorded) if told is None else set())
        assert known <= found.uploads()[manifest.upload_id], f"called uploaded, and not in the store: {case}"
    if told is not None and manifest.upload_id == told.upload_id:
        assert told.parts <= set(manifest.parts), f"told, and not recorded: {case}"
        assert manifest.completed is not None or told.status != "completed", f"told, and not recorded: {case}"


def recorded_lost(recorded: Recorded) -> set[int]:
    """What the scenario took from the store, of which the manifest can't know before it has asked."""
    lost = recorded.directory / "lost"
    return {int(number) for number in lost.read_text().strip("[]").split(",")} if lost.exists() else set()


def go_on(recorded: Recorded, left: dict[Path, bytes], store: Path | None, case: str) -> None:
    put(recorded, left, store)
    place = recorded.directory
    asyncio.run(upload(place))
    found = DirectoryStore(place / "store")
    assert found.object == (place / "file").read_bytes(), case
    with FileJournal(manifest_in(place)) as journal:
        assert journal.manifest.status == "completed", case
