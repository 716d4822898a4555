"""Kill one upload that deletes its source at each of its steps in turn, repeat the call, and check that nothing
is lost, and that the receipt has the file once: `move_steps.py DIRECTORY SCENARIO`. Beside the steps of `steps.py`:
each statement of the record of deletions, and each change in the source's directory, before and after it.
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
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bigupload import S3Options
from bigupload.api import source_deletes
from bigupload.api.receipts import WrittenBefore
from bigupload.api.resources import UploaderResources
from bigupload.api.source_deletes import SourceDeletes
from bigupload.core.manifest import Fingerprint, Target
from bigupload.core.retry_policy import RetryPolicy
from bigupload.engine.context import SharedSlots, UploadContext, UploadSettings
from bigupload.engine.upload_run import UploadResult, UploadRun
from bigupload.manifests import move_record
from bigupload.manifests.journal import FileJournal
from bigupload.manifests.move_record import MoveState
from bigupload.sources.file import FileSource, fingerprint_of
from bigupload.sources.removal import aside_name
from bigupload.verification.receipts import GrowingReceipt
from tests.tools.directory_store import DirectoryStore

from .steps import NEVER, PART, SIZE, Situation, Steps, _stepping, double_os, left_in, manifest_in, report

BODY = random.Random(1).randbytes(SIZE)
BASE = "s3://bucket/"
OPTIONS: dict[str, Any] = {
    "to": BASE,
    "s3": S3Options(endpoint_url="http://127.0.0.1:1"),
    "delete_source": True,
    "delete_empty_dirs": True,
}
_MOVED, _FAILED = 0, 3
_WEEK = 7 * 86_400.0


class _Store(DirectoryStore):
    """A bucket with the one key."""

    target = Target(bucket="bucket", key="sub/file")

    def at(self, key: str) -> _Store:
        assert key == self.target.key
        return self

    async def aclose(self) -> None:
        pass


def file_in(directory: Path) -> Path:
    return directory / "source" / "sub" / "file"


def receipt_in(directory: Path) -> Path:
    return directory / "state" / "receipt"


async def move(directory: Path, reach: Callable[[str], object] = lambda _: None, **more: Any) -> UploadResult:
    """What each call does with a file. The engine, the journal, the source and the deletion are as they are."""
    store, path = _Store(directory / "store", reach), str(file_in(directory))

    async def connect(*_: Any, **__: Any) -> _Store:
        return store

    source_deletes.connect = connect  # type: ignore[assignment]  # in place of a connection to S3
    resources = UploaderResources({"state_dir": directory / "state"})
    resources.calls.open()
    receipt_in(directory).parent.mkdir(exist_ok=True)
    receipt = GrowingReceipt(receipt_in(directory), "--receipt", target=BASE, endpoint=None)
    try:
        deletes = SourceDeletes(resources, resources.calls.begin(), OPTIONS | more)
        deletes.receipt = WrittenBefore(receipt, ends=True)
        target = await deletes.target_of(store.target.key)
        await deletes.recover(BASE)
        result = await deletes.begin(path, target)
        if result is not None and result.source_deleted:
            return result
        if result is None:
            result, fingerprint = await _upload(directory, store)
        else:
            fingerprint = fingerprint_of(os.stat(path))
        result = await deletes.finish(result, path, fingerprint, target, BASE)
        deletes.receipt.add(result)
        return result
    finally:
        receipt.close()
        await resources.aclose()


async def _upload(directory: Path, store: _Store) -> tuple[UploadResult, Fingerprint]:
    with FileSource(file_in(directory)) as source, FileJournal(manifest_in(directory)) as journal:
        context = UploadContext(
            policy=RetryPolicy(base_delay=0, max_delay=0),
            emit=lambda _: None,
            source=source,
            store=store,
            transport=store,
            journal=journal,
            settings=UploadSettings(part_size=PART),
            shared=SharedSlots(2),
        )
        run = UploadRun(context)
        run.prepare(resume=True)
        return await run.run_until_proved(follow_changes=True), context.source.fingerprint


def double_more(steps: Steps) -> None:
    """Changes in the source's directory, and statements of the record, are steps."""

    def watch(name: str) -> None:
        real = getattr(os, name)

        @functools.wraps(real)
        def double(*arguments: Any, **named: Any) -> Any:
            is_ours = any(key.endswith("dir_fd") for key in named) or name == "rmdir"
            if is_ours:
                steps.reach(f"before {name} of the source")
            done = real(*arguments, **named)
            if is_ours:
                steps.reach(f"after {name} of the source")
            return done

        setattr(os, name, double)

    for name in ("rename", "unlink", "link", "rmdir"):
        watch(name)
    real_open = move_record.open_database

    def opening(path: Path) -> Any:
        opened = real_open(path)
        opened.set_trace_callback(lambda statement: steps.reach(f"before {statement.split()[0]}"))
        return opened

    move_record.open_database = opening


def attempt(directory: Path, last: int, **more: Any) -> tuple[int, list[str]]:
    """One run in a process of its own: how it ended (negative: by that signal), and its steps if it lived."""
    told = directory / "told"
    pid = os.fork()
    if pid == 0:
        code = _FAILED
        try:
            steps = Steps(last)
            if last != NEVER:
                double_os(steps, directory / "state")
                double_more(steps)
            result = asyncio.run(_result_of(directory, steps, more))
            told.write_text(json.dumps(steps.seen))
            code = _MOVED if result.source_deleted else _FAILED
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code, json.loads(told.read_text()) if code == _MOVED else []


async def _result_of(directory: Path, steps: Steps, more: dict[str, Any]) -> UploadResult:
    results = []

    async def work() -> None:
        results.append(await move(directory, steps.reach, **more))

    await _stepping(work(), steps)
    return results[0]


# --- what a call may meet at its beginning


def fresh(directory: Path) -> None:
    """Nothing is there but the file."""
    file_in(directory).parent.mkdir(parents=True)
    file_in(directory).write_bytes(BODY)


def aside(directory: Path) -> None:
    """A call that was killed while the file was set aside."""
    fresh(directory)
    unlink = os.unlink

    def dying(*arguments: Any, **named: Any) -> None:
        if "dir_fd" in named:
            os._exit(0)
        unlink(*arguments, **named)

    if (pid := os.fork()) == 0:
        os.unlink = dying
        asyncio.run(move(directory))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    path = file_in(directory)
    assert os.listdir(path.parent) == [aside_name(str(path))]


def kept(directory: Path) -> None:
    """An earlier call left it where it is for a week, which is over."""
    fresh(directory)
    assert not asyncio.run(move(directory, keep_for=_WEEK)).source_deleted
    now = time.time
    time.time = lambda: now() + 2 * _WEEK


SCENARIOS = {"fresh": (fresh, {}), "aside": (aside, {}), "kept": (kept, {"keep_for": _WEEK})}


# --- and what must hold after it


def look(directory: Path, *, moved: bool) -> None:
    """Raises AssertionError. The file is whole here, or its object is whole there and the record says so."""
    path, store = file_in(directory), _Store(directory / "store")
    assert store.object in (None, BODY), "the object has other bytes"
    found = [each for each in (path, path.with_name(aside_name(str(path)))) if each.exists()]
    assert [each.read_bytes() for each in found] in ([], [BODY]), "the file is there twice, or is not whole"
    assert found or store.object == BODY, "lost"
    rows = _rows(receipt_in(directory))
    assert found or rows, "gone, and not in the receipt"
    assert len(rows) <= 1, "in the receipt twice"
    if not found:
        states = asyncio.run(_states(directory))
        assert states in ([MoveState.DELETING], [MoveState.DELETED]), f"gone, and the record says {states}"
    if moved:
        assert not found, "moved, and the file is there"
        assert store.object == BODY, "moved, and there is no object"
        assert asyncio.run(_states(directory)) == [MoveState.DELETED]
        assert not (directory / "source" / "sub").exists(), "moved, and its empty directory is there"
        assert (directory / "source").is_dir(), "the directory that was named is gone"
        assert json.loads(receipt_in(directory).read_text())["sums"]["files"] == 1, "counted twice"


def _rows(receipt: Path) -> list[Any]:
    """Its rows, even if a kill tore its end."""
    lines = receipt.read_text().splitlines() if receipt.exists() else []
    return [json.loads(line.rstrip(",")) for line in lines if line.startswith("  {") and line.rstrip(",").endswith("}")]


async def _states(directory: Path) -> list[MoveState]:
    resources = UploaderResources({"state_dir": directory / "state"})
    resources.calls.open()
    try:
        moves = resources.state.moves()
        return [move.state for state in MoveState for move in await moves.of_base(BASE, state)]
    finally:
        await resources.aclose()


def _content(path: Path) -> bytes:
    """Of a file of the record: its size, and each state in it. The rest is checksums and times."""
    data = path.read_bytes()
    if "sqlite" not in path.name:
        return data
    return b"%d " % len(data) + b" ".join(re.findall("|".join(MoveState).encode(), data))


def kill_at(directory: Path, scenario: str, known: set[Situation], last: int) -> tuple[bool, str | None]:
    """Whether there was such a step, and what was wrong after it. `known`: the situations that were gone on with."""
    make, more = SCENARIOS[scenario]
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    real = time.time
    try:
        make(directory)
        code, _ = attempt(directory, last, **more)
        look(directory, moved=code == _MOVED)
        if code == _MOVED:
            return False, None
        assert code == -signal.SIGKILL, f"ended with {code}"
        situation = left_in((directory / name for name in ("state", "store", "source")), _content)
        if situation in known:
            return True, None
        known.add(situation)
        for _ in range(2):  # and once more, when all is done
            code, _ = attempt(directory, NEVER, **more)
            assert code == _MOVED, f"going on ended with {code}"
            look(directory, moved=True)
    except Exception as e:
        return True, f"{type(e).__name__}: {e}"
    finally:
        time.time = real
    return True, None


def main() -> None:
    directory, scenario = Path(sys.argv[1]) / "place", sys.argv[2]
    fresh(directory)
    asyncio.run(move(directory))  # what is imported late is imported here, and not in every fork
    known = set[Situation]()
    assert kill_at(directory, scenario, known, -1) == (False, None)
    steps: list[str] = json.loads((directory / "told").read_text())
    report(steps, known, functools.partial(kill_at, directory, scenario, known))


if __name__ == "__main__":
    main()
