"""`bigupload move DIR`, killed while files are set aside and others are on their way: the same command ends with all
objects and no file, and nothing is ever in neither place."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import signal
import threading
from pathlib import Path

import pytest

from bigupload.sources.removal import aside_name
from bigupload.support.files import ASIDE
from bigupload.testing.faults import Call
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.receipts import read

from .running import PART, Place, Process, driver, end_of, until

FILES = 45
HELD = (7, 23)


def found_in(root: Path) -> dict[str, bytes]:
    """A file may be renamed and a directory deleted meanwhile: while the command runs, some may be missing here."""
    read = {}
    for directory, _, names in os.walk(root):  # Path.rglob fails where a directory vanishes
        for path in (Path(directory, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                read[str(path.relative_to(root))] = path.read_bytes()
    return read


def stored(s3: StrictS3) -> dict[str, bytes]:
    return {key.removeprefix("p/"): bytes(each.body) for key, each in s3.objects["bucket"].items()}


@pytest.mark.slow
def test_a_killed_move_continues(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    contents = {f"{number % 7}/file {number}": f"{number}".encode() * 1000 for number in range(FILES)}
    for name, body in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(body)

    def look(s3: StrictS3) -> None:
        here, there = set(found_in(root).values()), stored(s3)
        assert {name: body for name, body in contents.items() if body not in here and there.get(name) != body} == {}

    held = threading.Event()
    aside = {f"{n % 7}/{aside_name(str(root / f'{n % 7}' / f'file {n}'))}" for n in HELD}
    with contextlib.ExitStack() as opened:
        s3 = opened.enter_context(StrictS3())
        opened.callback(held.set)
        s3.create_bucket("bucket")
        hold = Call(lambda _: held.wait() and None)  # also what is asked again, where the other files take a minute
        for number in HELD:  # asked for while the file is set aside
            s3.script("HeadObject", hold, key=f"p/{number % 7}/file {number}", repeat=True)
        s3.script("PutObject", hold, key="p/5/file 40", repeat=True)
        place = Place(tmp_path / "home")
        place.directory.mkdir()
        command = (
            "move", root, "s3://bucket/p/", "--endpoint-url", s3.url, "--progress", "none", "--json",
            "--delete-empty-dirs", "--receipt", tmp_path / "receipt", "--sha256",
        )  # fmt: skip

        def is_under_way() -> bool:
            """While few may be in flight, the one that is held keeps the files behind it waiting."""
            asked = {(request.op, request.key) for request in list(s3.requests)}
            return aside <= found_in(root).keys() and ("PutObject", "p/5/file 40") in asked

        with place.start(*command) as process:
            until(is_under_way, process)
            process.kill()
            assert end_of(process).code == -signal.SIGKILL
        look(s3)
        here = {name.replace(f"{ASIDE}as-", "") for name in found_in(root)}
        held.set()
        s3.clear()
        before = len(s3.requests)
        ended = place.run(*command)
        assert ended.code == 0, ended.err
        sent = [request.key for request in s3.requests[before:] if request.op == "PutObject"]
        assert "p/5/file 40" in sent
        assert {key.removeprefix("p/") for key in sent} <= here
        *told, total = map(json.loads, ended.out.splitlines())
        assert {each["key"] for each in told} == {f"p/{name}" for name in here}
        assert (total["sources_deleted"], total["failed"]) == (len(told), 0)
        receipt = read(tmp_path / "receipt")
        rows = receipt["files"]  # as the killed run would have written it
        assert {each["key"]: each["sha256"] for each in rows} == {
            f"p/{name}": hashlib.sha256(body).hexdigest() for name, body in contents.items()
        }
        assert (len(rows), receipt["sums"]["files"]) == (FILES, FILES), "each file is in it once"
        assert stored(s3) == contents
        emptied = {name.partition("/")[0] for name in contents} - {name.partition("/")[0] for name in here}
        assert {each.name for each in root.iterdir()} <= emptied, (
            "of which nobody knows that they were not empty before"
        )
        assert not found_in(root)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("nth", [1, 3, 7])
@pytest.mark.parametrize("op", ["PutObject", "UploadPart", "CompleteMultipartUpload", "HeadObject"])
@pytest.mark.parametrize("acted", [False, True])
def test_a_receipt_has_each_file_once(tmp_path: Path, op: str, nth: int, acted: bool) -> None:
    """Killed at a request, while other files are at any other step."""
    root, place, running, count = tmp_path / "tree", Place(tmp_path / "home"), list[Process](), itertools.count(1)
    for directory in (root, place.directory):
        directory.mkdir()
    for number in range(FILES):
        (root / f"file {number}").write_bytes(f"{number}".encode() * (1000 if number % 5 else 200_000))
    size = sum(path.stat().st_size for path in root.iterdir())

    def kill(_: StrictS3) -> None:
        if next(count) == nth:
            os.kill(running[0].pid, signal.SIGKILL)

    small = driver(["--least-part", str(PART)])
    with StrictS3(min_part_size=PART) as s3:
        s3.create_bucket("bucket")
        s3.script(op, Call(kill, acted=acted), repeat=True)
        command = (
            "move", root, "s3://bucket/p/", "--endpoint-url", s3.url, "--progress", "none", "--json", "--receipt",
            tmp_path / "receipt", "--part-size", f"{PART}",
        )  # fmt: skip
        with place.start(*command, command=small) as process:
            running.append(process)
            assert end_of(process).code == -signal.SIGKILL
        s3.settle()
        s3.clear()
        here = {path.name.replace(f"{ASIDE}as-", "") for path in root.iterdir()}
        ended = place.run(*command, command=small)
        assert ended.code == 0, ended.err
    *told, total = map(json.loads, ended.out.splitlines())
    assert sorted(each["key"] for each in told) == sorted(f"p/{name}" for name in here)
    assert (total["files"], total["sources_deleted"]) == (len(here), len(here))
    receipt = read(tmp_path / "receipt")
    assert (len({each["key"] for each in receipt["files"]}), len(receipt["files"])) == (FILES, FILES)
    assert receipt["sums"] == {"files": FILES, "size": size, "failed": 0}
