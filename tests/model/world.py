"""The real things: a file, the manifests' directory, a store, and processes that upload, one at a time or two.

`act` has a process do something, perhaps with a disturbance, and compares what came of it with what must. `check` holds
whatever happened before.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import signal
import time
import uuid
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from bigupload import errors
from bigupload.core.manifest import Target, manifest_id
from bigupload.errors import EXIT_FAILED, EXIT_RESUMABLE
from bigupload.testing.faults import Call, Ok, StoreFault
from bigupload.testing.strict_s3 import IssuedCredentials, StrictS3
from bigupload.testing.strict_s3.exchange import Dropped
from bigupload.verification.orphans import Owners
from tests.integration.support import BUCKET

from . import seen as sight
from .disturbance import CHANGES_FILE, Disturbance, disturbed
from .file import PART, ChangingFile
from .oracle import Done, Refused, undisturbed
from .process import Keys, Order
from .running import run
from .seen import Known, Print, Seen, Unreadable
from .verdict import Played, judge, judge_surroundings

KEY = "key"
TARGET = f"s3://{BUCKET}/{KEY}"
_TELLTALES = (b"never awaited", b"never retrieved", b"was destroyed but it is pending", b"Exception ignored")
"""In a log, of what went wrong unseen."""


class World:
    """Everything of one example."""

    def __init__(self, s3: StrictS3, directory: Path, *, size: int, mutant: str | None = None) -> None:
        self.s3, self.directory, self._mutant = s3, directory, mutant
        self.state = directory / "state"
        self.log = directory / "log"
        self.state.mkdir(mode=0o700)
        self.file = ChangingFile(directory, size)
        self.keys, self.kind = Keys(access_key=None), "none"
        self.secrets: set[bytes] = set()
        self.taken: set[str] = set()
        """Upload ids that were aborted by someone's word, or expired."""
        self._garbled: set[Path] = set()
        self._made_as: dict[str, Print] = {}
        self._pid: Future[int] = Future()
        self._happened = False
        self.was_harmed = False
        """Whether the last process was killed, or its disk was full."""
        self._second: list[str] = []
        self._story: list[str] = []
        self._reset_store()
        self.change_keys("valid", as_arguments=True)

    def _reset_store(self) -> None:
        s3 = self.s3
        s3.clear()
        s3.clock = time.time
        for kept in (s3.uploads, s3.completed, s3.objects, s3.requests, s3.credentials):
            kept.clear()
        s3.create_bucket(BUCKET)

    def close(self) -> None:
        shutil.rmtree(self.directory)

    # --- what there is

    def manifest_of(self, place: int) -> Path:
        """Where the library keeps the manifest of a file at this place."""
        target = Target(bucket=BUCKET, key=KEY, endpoint=self.s3.url, region=self.s3.region)
        return self.state / f"{manifest_id(str(self.file.places[place]), target)}{sight.SUFFIX}"

    def look(self) -> Seen:
        manifests, aside = sight.look(self.state)
        return Seen(
            file=self.file.now(),
            manifests=manifests,
            aside=aside,
            open=sight.open_uploads(self.s3),
            made=sight.made(self.s3, BUCKET, KEY),
            keys=self.kind,
            versions=self.file.versions,
        )

    def _files(self) -> dict[str, bytes]:
        """All that is below the state directory, but for locks, which have the number of whoever tried last, and for
        the mark of the day's clean-up, which comes before all else."""
        found = (path for path in self.state.rglob("*") if path.is_file() and path.name != "cleaned")
        return {str(path): path.read_bytes() for path in found if path.suffix != ".lock"}

    # --- what happens around the uploads

    def change_keys(self, kind: str, *, as_arguments: bool) -> None:
        """The caller gets other credentials, and those from before are worth nothing any more."""
        self._story.append(f"keys {kind}")
        s3 = self.s3
        s3.credentials.clear()
        if kind in ("session", "expired"):
            given = s3.issue_session(seconds=-1.0 if kind == "expired" else None)
        else:
            name = uuid.uuid4().hex
            given = IssuedCredentials(f"AKIA{name[:16].upper()}", f"secret/{name}")
        stored = dataclasses.replace(given, secret_key="another") if kind == "wrong" else given
        if kind != "unknown":
            s3.credentials[given.access_key] = stored
        self.secrets |= {given.secret_key.encode(), (given.session_token or given.secret_key).encode()}
        self.keys = Keys(
            access_key=None if kind == "none" else given.access_key,
            secret_key=given.secret_key,
            session_token=given.session_token,
            as_arguments=as_arguments,
        )
        self.kind = "valid" if kind == "session" else kind

    def expire_uploads(self) -> None:
        """As a lifecycle rule does, or somebody who tidies up."""
        self._story.append("expired")
        self.taken |= set(self.s3.uploads)
        self.s3.uploads.clear()

    def change_file(self, what: str) -> None:
        self._story.append(what)
        self.file.change(what)

    def lose_manifest(self, place: int, how: str) -> None:
        path = self.manifest_of(place)
        if not path.exists():
            return
        self._story.append(f"manifest {how}")
        data = path.read_bytes()
        match how:
            case "unlinked":
                path.unlink()
            case "emptied":
                path.write_bytes(b"")
            case "garbled":
                self._garbled.add(path)
                path.write_bytes(b"\0" + data[1:])
            case "torn" if data.count(b"\n") > 1:
                path.write_bytes(data[:-9])

    # --- what is done

    def order(self, action: str, **more: Any) -> Order:
        return Order(
            action=action,
            state=self.state,
            log=self.log,
            endpoint=self.s3.url,
            keys=self.keys,
            target=TARGET,
            mutant=self._mutant,
            **more,
        )

    def act(self, order: Order, manifest: Path, by: Disturbance | None = None) -> None:
        """Raises AssertionError where what comes of it is not what must."""
        self._story.append(f"{_brief(order)}, {by}")
        try:
            self._act(order, manifest, by)
        except AssertionError as e:
            # An example that a kill is in may not fail again: what had happened is in no other report.
            e.add_note("after " + "\n  ".join(self._story))
            raise

    def _act(self, order: Order, manifest: Path, by: Disturbance | None) -> None:
        before, files_before, first = self.look(), self._files(), len(self.s3.requests)
        base = undisturbed(before, order, manifest)
        self._happened, self._second, self._pid = False, [], Future()
        if by is not None:
            self._arrange(by, manifest)
        if order.action == "gc":
            self._age_uploads()
        exit_code, told = run(order, self._pid.set_result)
        self.was_harmed = told is None or told.disk_was_full
        self.s3.settle()
        self.s3.clear()
        self.s3.clock = time.time
        assert self._second == [], f"of the second process: {self._second}"
        if isinstance(base, Done):
            self.taken |= base.given_up
        played = Played(
            action=order.action,
            manifest=manifest,
            before=before,
            after=self.look(),
            files_before=files_before,
            files_after=self._files(),
            requests=self.s3.requests[first:],
            taken=frozenset(self.taken),
            completed=frozenset(self.s3.completed),
        )
        if told is None:
            assert order.dies_at or (by is not None and by.what == "kill" and self._happened), "died by itself"
            assert exit_code == -signal.SIGKILL, f"ended with {exit_code}"
            judge_surroundings(played)
            return
        assert exit_code == 0, f"ended with {exit_code}"
        ending = base
        if told.disk_was_full:
            ending = Refused(error=errors.ManifestUnwritable, exit_code=EXIT_RESUMABLE)
        elif by is not None and self._happened:
            assert by.what != "kill"
            assert by.what != "late_once" or told.events["Retrying"] >= 1
            ending = disturbed(base, before, order, manifest, by)
        judge(played, ending, told)

    def _age_uploads(self) -> None:
        """Whatever is open has been so for ten minutes."""
        for upload in self.s3.uploads.values():
            if time.time() - upload.initiated < 600:
                upload.initiated -= 600
                for part in upload.parts.values():
                    part.last_modified -= 600

    # --- in the middle of it

    def _arrange(self, by: Disturbance, manifest: Path) -> None:
        def happen(_: StrictS3) -> None:
            self._happen(by, manifest)

        then: list[StoreFault] = [Call(happen, acted=by.acted)]
        if by.what == "late_once":
            then.append(Call(lambda s3: setattr(s3, "clock", time.time)))
        self.s3.script(by.request, *itertools.repeat(Ok(), by.number - 1), *then)

    def _happen(self, by: Disturbance, manifest: Path) -> None:
        """In a thread of the store's, while the process waits for its response."""
        self._happened = True
        match by.what:
            case "kill":
                os.kill(self._pid.result(timeout=30), signal.SIGKILL)
                if not by.acted:
                    raise Dropped  # else what has arrived would still be carried out
            case "expire":
                self.expire_uploads()
            case "revoke":
                self.s3.credentials.clear()
                self.kind = "unknown"
            case "late" | "late_once":
                self.s3.clock = lambda: time.time() + 2 * 3600
            case what if what in CHANGES_FILE:
                self.file.change(what)
            case what:
                try:
                    self._second_process(what.removeprefix("second_"), manifest)
                except AssertionError as e:
                    self._second.append(f"{by.what}: {e}")

    def _second_process(self, action: str, manifest: Path) -> None:
        """Is told who holds the manifest, and changes nothing. What is no manifest yet can only be uploaded to."""
        before = self._files()
        place = [self.manifest_of(0), self.manifest_of(1)].index(manifest)
        source = self.file.places[place]
        order = self.order(action, source=source, manifest=manifest, part_size=PART)
        exit_code, told = run(order, lambda _: None)
        assert exit_code == 0, f"ended with {exit_code}"
        assert told is not None
        expected: tuple[Any, int] = (errors.ManifestLocked, EXIT_RESUMABLE)
        if action == "upload" and not source.exists():
            expected = (errors.SourceNotFound, EXIT_FAILED)
        elif action != "upload" and not manifest.exists():
            expected = (errors.ManifestNotFound, EXIT_FAILED)
        assert (told.error, told.exit_code) == expected, f"{expected}, and it was {told}"
        after = self._files()
        assert all(after[name].startswith(data) for name, data in before.items()), "touched"  # the first may append

    # --- what always holds

    def check(self) -> None:
        seen = self.look()
        self._check_object(seen)
        self._check_recorded(seen)
        self._check_readable(seen)
        self._check_open(seen)
        self._check_secrets()

    def _check_object(self, seen: Seen) -> None:
        """An object that is there equals the file as fingerprinted."""
        if seen.made is None:
            return
        upload_id = seen.made.upload_id
        if upload_id not in self._made_as:
            known = [each for each in seen.manifests.values() if isinstance(each, Known)] + seen.aside[::-1]
            found = [each.prints[upload_id] for each in known if upload_id in each.prints]
            assert found, "an object of an upload that no manifest tells of"
            self._made_as[upload_id] = found[0]
        assert seen.made.body == self.file.versions[self._made_as[upload_id]], "the object is not the file"

    def _check_recorded(self, seen: Seen) -> None:
        """What a manifest calls uploaded is in the store."""
        for known in seen.manifests.values():
            if not isinstance(known, Known) or known.status == "aborted":
                continue
            if known.upload_id in seen.open:
                # An adopted one is told by its content to be complete, and another's object may have the same.
                assert known.status != "completed" or known.token is None, "completed, and the upload is open"
                there = {n: row for n, (row, _) in seen.open[known.upload_id].items()}
                assert known.parts.items() <= there.items(), "recorded, and not there"
            elif known.live or known.status == "completed":
                ended = self.taken if known.live else set()
                assert known.upload_id in self.s3.completed | ended, "neither open nor completed"

    def _check_readable(self, seen: Seen) -> None:
        """Nothing but a disk garbles a manifest. A first line that is not there yet is no manifest."""
        garbled = {path for path, known in seen.manifests.items() if known == Unreadable(empty=False)}
        assert garbled <= self._garbled, "a manifest can't be read"

    def _check_open(self, seen: Seen) -> None:
        """The store's open uploads are all known to a manifest or listed by gc."""
        owners = Owners(self.state)
        owners.refresh()
        owned = {upload_id for upload_id in seen.open if owners.own(BUCKET, KEY, upload_id)}
        assert owned == seen.owned()

    def check_gc(self) -> None:
        """It lists all open uploads except those that a manifest can resume."""
        self.change_keys("valid", as_arguments=True)
        self.act(self.order("gc", dry_run=True, older_than=60.0), self.state)

    def _check_secrets(self) -> None:
        """Neither on disk nor in a log."""
        texts = self._files() | {"log": self.log.read_bytes() if self.log.exists() else b""}
        for name, text in texts.items():
            for secret in (b"X-Amz-Signature", b"X-Amz-Credential", *self.secrets):
                assert secret not in text, f"{secret!r} is in {name}"
            assert name != "log" or not any(telltale in text for telltale in _TELLTALES), text.decode()[-3000:]


def _brief(order: Order) -> str:
    """What differs from one order to the next."""
    told = ("source", "part_size", "anew", "upload_id", "dry_run", "room", "dies_at")
    return " ".join([order.action, *(f"{name}={getattr(order, name)}" for name in told if getattr(order, name))])
