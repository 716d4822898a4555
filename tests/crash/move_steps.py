"""Kill one call that deletes its source at each of its steps in turn, repeat the call, and check that nothing is lost,
and that the receipt has the file once: `move_steps.py DIRECTORY SCENARIO`. Beside the steps of `steps.py`: each change
in the source's directory, before and after it.
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
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bigupload
from bigupload import S3Options
from bigupload.api import many, operations, resources
from bigupload.api.steps import delete_source
from bigupload.core.manifest import Target
from bigupload.core.retry_policy import RetryPolicy
from bigupload.sources.removal import aside_name
from tests.tools.directory_store import DirectoryStore
from tests.tools.receipts import read, rows_of

from .steps import NEVER, PART, SIZE, Situation, Steps, _stepping, double_os, left_in, report

BODY = random.Random(1).randbytes(SIZE)
BASE = "s3://bucket/sub/"
OPTIONS: dict[str, Any] = {"s3": S3Options(endpoint_url="http://127.0.0.1:1"), "part_size": PART}
_MOVED, _FAILED = 0, 3
_SECONDS = re.compile(rb'"seconds": [^,}]+')


class _Store(DirectoryStore):
    """A bucket with the one key."""

    target = Target(bucket="bucket", key="sub/file")
    ca_bundle = None

    def at(self, key: str) -> _Store:
        assert key == self.target.key
        return self

    async def aclose(self) -> None:
        pass


def file_in(directory: Path) -> Path:
    return directory / "source" / "sub" / "file"


def receipt_in(directory: Path) -> Path:
    return directory / "state" / "receipt"


def _put_in_place_of_s3(store: _Store) -> None:
    """All else is as it is: the call, its steps, the engine, the journal and the source."""

    async def connect(*_: Any, **__: Any) -> _Store:
        return store

    async def nothing(*_: Any, **__: Any) -> None:
        """No file is sent by one PUT."""

    for module in (resources, operations, delete_source):
        module.connect = connect  # type: ignore[assignment]  # a fake
    resources.UploaderResources.transport = connect  # type: ignore[assignment]  # a fake
    resources.SmallFiles.send = nothing  # type: ignore[assignment,method-assign]  # a fake
    many.UploadMany._prepare = nothing  # type: ignore[assignment,method-assign]  # a fake


async def move(directory: Path, reach: Callable[[str], object] = lambda _: None, *, listed: bool = False) -> bool:
    """Return whether the file was moved, as far as the call says: it may have none to list."""
    _put_in_place_of_s3(_Store(directory / "store", reach))
    receipt_in(directory).parent.mkdir(exist_ok=True)
    then = (bigupload.Receipt(receipt_in(directory)), bigupload.DeleteSource(empty_dirs=True))
    shared = {"retry": RetryPolicy(base_delay=0, max_delay=0), "concurrency": 2, "state_dir": directory / "state"}
    async with bigupload.Uploader(**shared) as uploader:
        if not listed:
            return (await uploader.upload(file_in(directory), BASE, then=then, **OPTIONS)).source_deleted
        files = bigupload.select_files(directory / "source")
        outcomes = uploader.upload_many(files, "s3://bucket/", then=then, job="job", **OPTIONS)
        return all([isinstance(each, bigupload.UploadResult) and each.source_deleted async for each in outcomes])


def double_more(steps: Steps) -> None:
    """Changes in the source's directory are steps."""

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
            is_moved = asyncio.run(_result_of(directory, steps, more))
            told.write_text(json.dumps(steps.seen))
            code = _MOVED if is_moved else _FAILED
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code, json.loads(told.read_text()) if code == _MOVED else []


async def _result_of(directory: Path, steps: Steps, more: dict[str, Any]) -> bool:
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


def aside(directory: Path, **more: Any) -> None:
    """A call that was killed while the file was set aside."""
    fresh(directory)
    unlink = os.unlink

    def dying(*arguments: Any, **named: Any) -> None:
        if "dir_fd" in named:
            os._exit(0)
        unlink(*arguments, **named)

    if (pid := os.fork()) == 0:
        os.unlink = dying
        asyncio.run(move(directory, **more))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    path = file_in(directory)
    assert os.listdir(path.parent) == [aside_name(str(path))]


_LISTED = {"listed": True}
SCENARIOS: dict[str, tuple[Callable[[Path], None], dict[str, Any]]] = {
    "fresh": (fresh, {}),
    "aside": (aside, {}),
    "listed": (fresh, _LISTED),
    "listed-aside": (functools.partial(aside, **_LISTED), _LISTED),
}


# --- and what must hold after it


def look(directory: Path, *, moved: bool) -> None:
    """Raises AssertionError. The file is whole here, or its object is whole there and the receipt says so."""
    path, store = file_in(directory), _Store(directory / "store")
    assert store.object in (None, BODY), "the object has other bytes"
    found = [each for each in (path, path.with_name(aside_name(str(path)))) if each.exists()]
    assert {each.read_bytes() for each in found} <= {BODY}, "the file is not whole"
    assert len({each.stat().st_ino for each in found}) <= 1, "the file is there twice"
    assert found or store.object == BODY, "lost"
    rows = rows_of(receipt_in(directory))
    assert found or rows, "gone, and not in the receipt"
    assert len(rows) <= 1, "in the receipt twice"
    if moved:
        assert not found, "moved, and the file is there"
        assert store.object == BODY, "moved, and there is no object"
        assert (directory / "source").is_dir(), "the directory that was named is gone"
        assert read(receipt_in(directory))["sums"]["files"] == 1, "counted twice"


def _content(path: Path) -> bytes:
    """Without what the clock decides. Of a job's record, which SQLite writes, its size."""
    if path.suffix not in (".jsonl", "") or path.parent.name == "jobs":
        return b"%d" % path.stat().st_size
    return _SECONDS.sub(b"", path.read_bytes())


def kill_at(directory: Path, scenario: str, known: set[Situation], last: int) -> tuple[bool, str | None]:
    """Whether there was such a step, and what was wrong after it. `known`: the situations that were gone on with."""
    make, more = SCENARIOS[scenario]
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    try:
        make(directory)
        code, _ = attempt(directory, last, **more)
        look(directory, moved=code == _MOVED)
        if code == _MOVED:
            if more.get("listed"):
                assert os.listdir(directory / "source") == [], "its empty directory is there"
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
    return True, None


def main() -> None:
    directory, scenario = Path(sys.argv[1]) / "place", sys.argv[2]
    fresh(directory)
    asyncio.run(move(directory, **SCENARIOS[scenario][1]))  # late imports are imported here, and not in every fork
    known = set[Situation]()
    assert (first := kill_at(directory, scenario, known, -1)) == (False, None), first
    steps: list[str] = json.loads((directory / "told").read_text())
    report(steps, known, functools.partial(kill_at, directory, scenario, known))


if __name__ == "__main__":
    main()
