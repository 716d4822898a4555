"""Nights of `docs/how-to/nightly.md`: what systemd would run of its units, with a store that is down, and the mail."""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bigupload.stores import local_store
from bigupload.stores.local_store import LocalStore
from tests.stores.local_store.support import needs_weed
from tests.tools.weed import weed_client

UNITS = Path(__file__).parents[2] / "docs" / "examples" / "nightly"
REPOSITORY = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, needs_weed]


class Unit:
    """A service's file, as far as these nights need it. Raises KeyError for what it does not say."""

    def __init__(self, name: str) -> None:
        parsed = configparser.ConfigParser(strict=True, interpolation=None, comment_prefixes="#")
        parsed.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
        parsed.read_string((UNITS / name).read_text())
        self.section, self.unit = dict(parsed["Service"]), dict(parsed["Unit"])
        assert self.section["Type"] == "oneshot"

    @property
    def successes(self) -> set[int]:
        return {0, *map(int, self.section.get("SuccessExitStatus", "").split())}


@dataclass(frozen=True)
class Night:
    """What became of a night: the statuses of the commands, whether the unit failed, its journal, and the mail."""

    statuses: list[int]
    failed: bool
    journal: str
    mail: str

    def __str__(self) -> str:
        unit = "failed" if self.failed else "succeeded"
        return f"statuses {self.statuses}, the unit {unit}\n{self.journal}mail: {self.mail or '-'}"


class Machine:
    """The user's home and photos, `journalctl` and `mail`, and a store that can be down."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.photos = directory / "srv" / "photos"
        self.photos.mkdir(parents=True)
        self.store_directory = directory / "store"
        self.store: LocalStore = local_store.start(self.store_directory)
        client = weed_client(self.store)
        client.create_bucket(Bucket="my-bucket")
        client.close()
        self._tools = directory / "bin"
        self._tools.mkdir()
        self._tool("bigupload", f'exec "{sys.executable}" -m bigupload "$@"')
        self._tool("journalctl", f'[ "$*" = "--unit photos.service --lines 40" ] && tail -n 40 "{directory}/journal"')
        self._tool("mail", f'{{ echo "$@"; cat; }} > "{directory}/mail"')

    def _tool(self, name: str, script: str) -> None:
        (self._tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (self._tools / name).chmod(0o755)

    def down(self) -> None:
        local_store.stop(self.store_directory)

    def up(self) -> None:
        self.store = local_store.start(self.store_directory)

    def _run(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line of a unit, as its user."""
        words = shlex.split(
            line.replace("/usr/local/bin/bigupload", "bigupload").replace("/srv/", f"{self.photos.parent}/")
        )
        return subprocess.run(
            words, cwd=self._directory, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
            env={
                "PATH": f"{self._tools}:{os.environ['PATH']}",
                "PYTHONPATH": str(REPOSITORY),
                "HOME": str(self._directory / "home"),
                "AWS_ENDPOINT_URL": self.store.endpoint_url,
                "AWS_ACCESS_KEY_ID": self.store.access_key,
                "AWS_SECRET_ACCESS_KEY": self.store.secret_key,
                "AWS_REGION": self.store.region,
                "BIGUPLOAD_GIVE_UP_AFTER": "2s",  # instead of 15 minutes
            },
        )  # fmt: skip

    def night(self) -> Night:
        """Start photos.service as systemd does, and after a failure the unit that it names for that."""
        service = Unit("photos.service")
        ran = [self._run(service.section["ExecStart"])]
        failed = ran[0].returncode not in service.successes
        if not failed:
            ran.append(self._run(service.section["ExecStartPost"]))
            failed = ran[1].returncode != 0  # SuccessExitStatus= is of the main process alone
        journal = "".join(each.stdout + each.stderr for each in ran)
        assert "Traceback" not in journal
        (self._directory / "journal").write_text(journal)
        mail = self._directory / "mail"
        mail.unlink(missing_ok=True)
        if failed:
            alert = self._run(Unit(service.unit["OnFailure"]).section["ExecStart"])
            assert (alert.returncode, alert.stderr) == (0, "")
        told = Night([each.returncode for each in ran], failed, journal, mail.read_text() if mail.exists() else "")
        self._a_day_passes()
        print(f"-- {told}")
        return told

    def _a_day_passes(self) -> None:
        """Make what is recorded a day older, because the store's clock and this machine's go on as they are."""
        for record in (self._directory / "home").rglob("*.sqlite"):
            with contextlib.closing(sqlite3.connect(record)) as opened, opened:
                tables = {name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                for table, column in (("job", "began"), ("job", "finished"), ("job", "past")):
                    if table in tables:
                        opened.execute(
                            f"UPDATE {table} SET {column} = strftime('%Y-%m-%dT%H:%M:%f+00:00', {column}, '-1 day') "
                            f"WHERE {column} IS NOT NULL"
                        )

    def objects(self) -> dict[str, bytes]:
        client = weed_client(self.store)
        try:
            rows = client.list_objects_v2(Bucket="my-bucket").get("Contents", ())
            return {row["Key"]: client.get_object(Bucket="my-bucket", Key=row["Key"])["Body"].read() for row in rows}
        finally:
            client.close()

    def files(self) -> dict[str, bytes]:
        """What the bucket is to hold."""
        return {
            f"photos/{path.relative_to(self.photos)}": path.read_bytes()
            for path in self.photos.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    local_store.stop(made.store_directory)


def test_three_nights_of_which_the_second_has_no_store(machine: Machine) -> None:
    for name, size in {"one.jpg": 100_000, "two.jpg": 200_000, "film.mov": 12_000_000}.items():
        (machine.photos / name).write_bytes(os.urandom(size))

    first = machine.night()
    assert (first.statuses, first.failed, first.mail) == ([0, 0], False, "")
    assert "bigupload: uploaded 3 files, 12.3 MB" in first.journal
    assert machine.objects() == machine.files()

    before = machine.files()
    (machine.photos / "one.jpg").write_bytes(b"another")
    (machine.photos / "three.jpg").write_bytes(b"new")
    (machine.photos / "two.jpg").unlink()
    machine.down()
    second = machine.night()
    assert (second.statuses, second.failed, second.mail) == ([75, 0], False, "")
    assert "try again later" in second.journal

    machine.up()
    assert machine.objects() == before, "nothing was deleted or replaced in a night without a store"
    third = machine.night()
    assert (third.statuses, third.failed, third.mail) == ([0, 0], False, "")
    assert re.search(r"uploaded 2 files, 10 B, 1 already there, 1 deleted", third.journal)
    assert machine.objects() == machine.files()


def test_the_third_night_in_a_row_without_a_store_is_mailed(machine: Machine) -> None:
    (machine.photos / "one.jpg").write_bytes(b"one")
    assert machine.night().statuses == [0, 0]
    machine.down()
    (machine.photos / "two.jpg").write_bytes(b"two")
    nights = [machine.night() for _ in range(4)]
    assert [night.statuses for night in nights] == [[75, 0], [75, 0], [75, 1], [75, 1]]
    assert [bool(night.mail) for night in nights] == [False, False, True, True]
    subject, *mail = nights[2].mail.splitlines()
    assert subject == "-s photos: not uploaded root"
    assert "try again later" in "\n".join(mail)
    assert re.fullmatch(
        r"bigupload: .*: the last complete one ended 3 d ago\. bigupload abort \w+ forgets it", mail[-1]
    )
    machine.up()
    assert (machine.night().statuses, machine.objects()) == ([0, 0], machine.files())


def test_a_store_that_was_never_there_is_mailed_at_once(machine: Machine) -> None:
    (machine.photos / "one.jpg").write_bytes(b"one")
    machine.down()
    night = machine.night()
    assert (night.statuses, night.failed) == ([75, 1], True)
    assert night.mail.rstrip().endswith("no sync is recorded on this machine, or none has sent a file")
