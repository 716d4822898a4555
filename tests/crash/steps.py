"""Kill one small upload at each of its steps in turn, resume it, and check it: `steps.py DIRECTORY SCENARIO`.

A step is an await that gives the processor away, whichever task's; an operation on a file of the manifest, before it,
and half way where it writes; a request to the store, before it and after it has acted. They are counted from outside:
a wrapper round every task's coroutine, doubles of `os`'s functions, a store that calls back. Each attempt is a fork of
this process, and the kill is SIGKILL. It is gone on with once for each situation that the kills left: what two of them
left alike on disk can't end in two ways. Prints one JSON object: the steps that there were, how many situations, and
what was wrong after which step.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Generator, Iterable
from pathlib import Path
from typing import Any

import anyio

from bigupload.core.flight import Flight
from bigupload.core.part_plan import Limits
from bigupload.core.retry_policy import RetryPolicy
from bigupload.engine.context import SharedSlots, UploadContext, UploadSettings
from bigupload.engine.retrying import Effects
from bigupload.engine.upload_run import UploadRun
from bigupload.events import Event
from bigupload.manifests.journal import FileJournal, read_manifest
from bigupload.sources.file import FileSource
from tests.tools.directory_store import DirectoryStore

PART = 1000
PARTS = 3
SIZE = PARTS * PART - 10
NEVER = 0
_PROVED, _FAILED = 0, 3
_BY_CHANCE = re.compile(rb"[0-9a-f]{8,}|\d{4}-\d\d-\d\dT[\d:.]+")
"""In names and manifests: ids, tokens, times."""


class Steps:
    """Counts, and kills this process at step number `last`."""

    def __init__(self, last: int) -> None:
        self.seen: list[str] = []
        self._last = last
        self._lock = threading.Lock()

    def reach(self, what: str) -> None:
        if self.is_last(what):
            os.kill(os.getpid(), signal.SIGKILL)

    def is_last(self, what: str) -> bool:
        with self._lock:
            self.seen.append(what)
            return len(self.seen) == self._last


class Stepped(Coroutine[Any, Any, Any]):
    """A task's coroutine, with a step wherever it waits."""

    def __init__(self, inner: Any, steps: Steps) -> None:
        self._inner, self._steps = inner, steps

    def send(self, value: Any) -> Any:
        return self._stepped(self._inner.send, value)

    def throw(self, *what: Any) -> Any:
        return self._stepped(self._inner.throw, *what)

    def _stepped(self, go: Callable[..., Any], *arguments: Any) -> Any:
        waits_for = go(*arguments)
        self._steps.reach(f"await in {self._inner.__qualname__}")
        return waits_for

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self._inner.__await__())

    def __getattr__(self, name: str) -> Any:
        """What asyncio and anyio look at: cr_frame, cr_running, cr_await."""
        return getattr(self._inner, name)


def double_os(steps: Steps, state: Path) -> None:
    """Every change to files below `state` is a step before it happens, and a write also half way."""
    inside: set[int] = set()
    ours = str(state)

    def watch(name: str) -> None:
        real = getattr(os, name)

        @functools.wraps(real)
        def double(first: Any, *more: Any, **named: Any) -> Any:
            if first in inside if isinstance(first, int) else str(first).startswith(ours):
                steps.reach(f"before {name}")
            return real(first, *more, **named)

        setattr(os, name, double)

    for name in ("fsync", "ftruncate", "truncate", "replace", "rename", "unlink", "mkdir"):
        watch(name)
    real_open, real_close, real_write = os.open, os.close, os.write

    def opening(path: Any, *more: Any, **named: Any) -> int:
        if not str(path).startswith(ours):
            return real_open(path, *more, **named)
        steps.reach("before open")
        fd = real_open(path, *more, **named)
        inside.add(fd)
        return fd

    def closing(fd: int) -> None:
        inside.discard(fd)
        real_close(fd)

    def writing(fd: int, data: Any) -> int:
        if fd in inside:
            steps.reach("before write")
            if steps.is_last("half of a write"):
                real_write(fd, bytes(data)[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
        return real_write(fd, data)

    os.open, os.close, os.write = opening, closing, writing


class SlowConnections(Flight):
    """Finds that parts of the first size need too long."""

    def is_slow_for(self, part_size: int) -> bool:
        return part_size == PART

    @property
    def part_in_time(self) -> int:
        return PART // 2


class SlowStore(DirectoryStore):
    """Responds to no part until the upload is begun anew."""

    limits = Limits(min_part_size=1, enough_parts=1, default_part_size=PART, granule=1)
    is_slow: Callable[[], bool]

    async def put(self, *arguments: Any, **more: Any) -> Any:
        if self.is_slow():
            await anyio.sleep_forever()
        return await super().put(*arguments, **more)


async def upload(
    directory: Path,
    reach: Callable[[str], object] = lambda _: None,
    on_event: Callable[[FileJournal, Event], None] = lambda *_: None,
) -> None:
    """The engine, the journal and the source as they are; the store is a directory."""
    is_slow = (directory / "slow").exists()
    store = (SlowStore if is_slow else DirectoryStore)(directory / "store", reach)
    with FileSource(directory / "file") as source, FileJournal(manifest_in(directory)) as journal:
        context = UploadContext(
            policy=RetryPolicy(base_delay=0, max_delay=0),
            emit=functools.partial(on_event, journal),
            source=source,
            store=store,
            transport=store,
            journal=journal,
            settings=UploadSettings(part_size=None if is_slow else PART),
            shared=SharedSlots(2),
            effects=Effects(sleep=lambda seconds: anyio.sleep(seconds / 10 if is_slow else seconds)),
        )
        if isinstance(store, SlowStore):
            store.is_slow = lambda: context.may_start_over and context.small_part_size is None
            context.shared.flight = SlowConnections(2)
        run = UploadRun(context)
        run.prepare(resume=True)
        await run.run_until_proved(follow_changes=True)


def manifest_in(directory: Path) -> Path:
    return directory / "state" / "the.manifest.jsonl"


def attempt(directory: Path, last: int) -> tuple[int, list[str]]:
    """One run in a process of its own: how it ended (negative: by that signal), and its steps if it lived."""
    told = directory / "told"
    pid = os.fork()
    if pid == 0:
        code = _FAILED
        try:
            steps = Steps(last)
            if last != NEVER:
                double_os(steps, directory / "state")
            asyncio.run(_stepping(upload(directory, steps.reach), steps))
            told.write_text(json.dumps(steps.seen))
            code = _PROVED
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code, json.loads(told.read_text()) if code == _PROVED else []


async def _stepping(work: Coroutine[Any, Any, None], steps: Steps) -> None:
    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> asyncio.Task[Any]:
        return asyncio.Task(Stepped(coroutine, steps), loop=loop, **more)

    asyncio.get_running_loop().set_task_factory(factory)
    await asyncio.create_task(work)


# --- what an upload may meet at its beginning


def fresh(directory: Path) -> None:
    """Nothing is there."""
    (directory / "file").write_bytes(random.Random(1).randbytes(SIZE))


def halfway(directory: Path) -> None:
    """An upload that was killed: one part recorded and lost by the store, one that only the store has, one to come; a
    torn line; and the file was touched."""
    fresh(directory)
    asyncio.run(upload(directory))
    (directory / "store" / "object").unlink()
    (done,) = (directory / "store").glob("done-*")
    open_again = done.rename(done.with_name(done.name.removeprefix("done-")))
    lines = manifest_in(directory).read_bytes().splitlines(keepends=True)
    recorded = [line for line in lines if line.startswith(b'{"type":"part"')]
    manifest_in(directory).write_bytes(lines[0] + recorded[0] + recorded[1] + b'{"type":"par')
    numbers = [json.loads(line)["number"] for line in recorded]
    (open_again / f"{numbers[0]}.part").unlink()
    (directory / "lost").write_text(json.dumps(numbers[:1]))
    os.utime(directory / "file", ns=(1, 1))


def gone(directory: Path) -> None:
    """The same, and the store has forgotten the upload."""
    halfway(directory)
    (upload_id,) = DirectoryStore(directory / "store").uploads()
    shutil.rmtree(directory / "store" / upload_id)


def completing(directory: Path) -> None:
    """Killed between the store's complete and its response."""
    fresh(directory)
    asyncio.run(upload(directory))
    lines = manifest_in(directory).read_bytes().splitlines(keepends=True)
    manifest_in(directory).write_bytes(b"".join(lines[:-1]))


def anew(directory: Path) -> None:
    """The upload is begun anew, because its connections are slow."""
    fresh(directory)
    (directory / "slow").touch()


SCENARIOS = {scenario.__name__: scenario for scenario in (fresh, halfway, gone, completing, anew)}


# --- and what must hold after it


def look(directory: Path, *, proved: bool) -> None:
    """Raises AssertionError. No record tells of a part that the store has not, whatever was killed when."""
    store = DirectoryStore(directory / "store")
    body = (directory / "file").read_bytes()
    assert store.object in (None, body), "the object has other bytes"
    path = manifest_in(directory)
    if path.exists() and path.stat().st_size:
        manifest = read_manifest(path).manifest
        completed = manifest.status == "completed"
        if completed or (manifest.status == "completing" and store.object is not None):
            assert store.object == body, "completed, and there is no object"
        elif manifest.upload_id in store.uploads():
            assert set(manifest.parts) - _lost(directory) <= store.uploads()[manifest.upload_id], "recorded, not there"
        assert completed or not proved, f"proved, and the manifest says {manifest.status}"
    if proved:
        assert store.object == body, "proved, and there is no object"
        assert path.exists(), "proved, and no manifest says so"
        assert not any(store.uploads().values()), "parts are left in an open upload"
        assert len(store.uploads()) <= 1, "more than the one upload whose id died with the process is open"


def _lost(directory: Path) -> set[int]:
    """Parts that the scenario took from the store."""
    lost = directory / "lost"
    return set(json.loads(lost.read_text())) if lost.exists() else set()


Situation = frozenset[tuple[bytes, bytes]]


def left_in(directories: Iterable[Path], content: Callable[[Path], bytes] = Path.read_bytes) -> Situation:
    """What is on disk, but for what chance and the clock decide: each path with its content."""
    found = (path for directory in directories for path in (directory, *directory.rglob("*")) if path.exists())
    return frozenset(
        (
            _BY_CHANCE.sub(b"", os.fsencode(path)),
            _BY_CHANCE.sub(b"", content(path)) if path.is_file() and path.suffix != ".lock" else b"",
        )
        for path in found
    )


def kill_at(directory: Path, saved: Path, known: set[Situation], last: int) -> tuple[bool, str | None]:
    """Whether there was such a step, and what was wrong after it. `known`: the situations that were gone on with."""
    put_back(directory, saved)
    try:
        code, _ = attempt(directory, last)
        look(directory, proved=code == _PROVED)
        if code == _PROVED:
            return False, None
        assert code == -signal.SIGKILL, f"ended with {code}"
        situation = left_in([directory / "state", directory / "store"])
        if situation not in known and not _is_completed(directory):
            known.add(situation)
            code, _ = attempt(directory, NEVER)
            assert code == _PROVED, f"going on ended with {code}"
            look(directory, proved=True)
    except Exception as e:
        return True, f"{type(e).__name__}: {e}"
    return True, None


def put_back(directory: Path, saved: Path) -> None:
    """Manifest and store as they were; the file stays, for a copy would be another."""
    for name in ("state", "store"):
        shutil.rmtree(directory / name, ignore_errors=True)
        if (saved / name).exists():
            shutil.copytree(saved / name, directory / name)


def _is_completed(directory: Path) -> bool:
    path = manifest_in(directory)
    return path.exists() and path.stat().st_size > 0 and read_manifest(path).manifest.status == "completed"


def main() -> None:
    home, scenario = Path(sys.argv[1]), SCENARIOS[sys.argv[2]]
    directory, saved = home / "place", home / "saved"
    directory.mkdir()
    scenario(directory)
    shutil.copytree(directory, saved)
    asyncio.run(upload(directory))  # what is imported late is imported here, and not in every fork
    put_back(directory, saved)
    code, steps = attempt(directory, -1)
    assert code == _PROVED, "it does not even end when nobody kills it"
    known = set[Situation]()
    report(steps, known, functools.partial(kill_at, directory, saved, known))


def report(steps: list[str], known: set[Situation], kill: Callable[[int], tuple[bool, str | None]]) -> None:
    """Kill at each step, and print which steps there are, how many kills there were, and what was wrong after them.

    Args:
        steps: Those of a run that nobody killed.
        known: Where `kill` keeps the situations that it has gone on with.
        kill: Kills at the step of a number. Returns whether there was such a step, and what was wrong after it.
    """
    wrong: dict[int, str] = {}
    last = 0
    while True:  # threads make one run a few steps longer than another
        last += 1
        was_there, complaint = kill(last)
        if complaint is not None:
            wrong[last] = complaint
        if not was_there and last > len(steps):
            break
    print(json.dumps({"steps": steps, "killed": last - 1, "situations": len(known), "wrong": wrong}))


if __name__ == "__main__":
    main()
