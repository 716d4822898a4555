"""Several processes, kill -9 and a full disk: nothing makes the keys' file half a file."""

from __future__ import annotations

import errno
import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from bigupload.errors import ServiceError
from bigupload.service.access import keys
from bigupload.service.access.keys import KeyFile
from tests.service.keys.support import run_code

CREATE = """
import sys
from pathlib import Path
from bigupload.service.access.keys import KeyFile
for _ in range(int(sys.argv[2])):
    print(KeyFile(Path(sys.argv[1])).create("me")[1])
"""


@pytest.mark.slow
def test_several_processes_lose_no_key(file: KeyFile, path: Path) -> None:
    processes = [run_code(CREATE, path, 10) for _ in range(4)]
    made = []
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        made += out.split()
    assert len(set(made)) == 40
    assert {found.id for plain in made if (found := file.find(plain))} == {key.id for key in file.list()}
    assert len(file.list()) == 40


def test_who_does_not_get_the_lock_says_so(file: KeyFile, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_LOCK_SECONDS", 0)
    with keys.locked(path), pytest.raises(ServiceError, match="another process is writing it"):
        file.create("me")
    file.create("me")


KILLED = """
import os, signal, sys
from pathlib import Path
from bigupload.service.access.keys import KeyFile
def die(*args):
    if sys.argv[2] == "half written":
        os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)
name = {"empty": "fchmod", "half written": "fsync", "whole": "replace"}[sys.argv[2]]
setattr(os, name, die)
KeyFile(Path(sys.argv[1])).create("killed")
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize("moment", ["empty", "half written", "whole"])
def test_killed_in_the_middle_of_a_write(file: KeyFile, path: Path, moment: str) -> None:
    _, plain = file.create("me")
    before = path.read_bytes()
    process = run_code(KILLED, path, moment)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, err
    assert path.read_bytes() == before
    assert (leftover := path.with_name("keys.json.new")).exists()  # so it was the middle
    assert (leftover.stat().st_size == 0) is (moment == "empty")
    file.create("me")
    assert file.find(plain)
    assert [key.owner for key in file.list()] == ["me", "me"]
    assert not leftover.exists()


def test_the_bytes_reach_the_disk_before_the_name_and_the_name_too(
    file: KeyFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.create("me")
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_sync(fd: int) -> None:
        fsync(fd)
        done.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")

    def note_replace(source: Path, target: Path) -> None:
        replace(source, target)
        done.append("replace")

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    file.create("me")
    assert done == ["file", "replace", "directory"]


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_a_write_that_fails_leaves_all_as_it_was(
    file: KeyFile, path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    key, _ = file.create("me")
    before = path.read_bytes()
    real_open = os.open

    def fail(name: Any, *arguments: Any, **more: Any) -> int:
        if call == "open" and not str(name).endswith(".new"):
            return real_open(name, *arguments, **more)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        for use in (lambda: file.create("me"), lambda: file.revoke(key.id)):
            with pytest.raises(ServiceError, match=r"can't write .*: No space left on device; the file is unchanged"):
                use()
    assert path.read_bytes() == before
    assert not path.with_name("keys.json.new").exists()
    assert file.list() == [key]
