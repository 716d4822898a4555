"""awscrt's functions, taken out of its library: they are the same, and awscrt itself is not imported."""

from __future__ import annotations

import functools
import importlib.machinery
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace

import awscrt
import awscrt.checksums
import pytest

from bigupload.core import checksums
from bigupload.core.checksums import NEWEST_TRIED, crc_function

KINDS = ("crc64nvme", "crc32c", "crc32")


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is loaded yet: these tests have imported awscrt to compare with it."""
    monkeypatch.delitem(sys.modules, "_awscrt")
    crc_function.cache_clear()
    checksums._library.cache_clear()
    yield
    crc_function.cache_clear()
    checksums._library.cache_clear()


def is_awscrts_own(name: str) -> bool:
    return crc_function(name) is getattr(awscrt.checksums, name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept_as", [bytes, bytearray, memoryview])
def test_they_are_the_same(kind: str, kept_as: Callable[[bytes], bytes]) -> None:
    crc, combine = crc_function(kind), crc_function(f"combine_{kind}")
    assert not is_awscrts_own(kind)
    assert not is_awscrts_own(f"combine_{kind}")
    for size in (0, 1, 15, 4096, 300_000):
        data, previous = os.urandom(size), crc(os.urandom(5), 0)
        found = crc(kept_as(data), previous)
        assert found == getattr(awscrt.checksums, kind)(data, previous)
        assert combine(previous, found, size) == getattr(awscrt.checksums, f"combine_{kind}")(previous, found, size)


@pytest.mark.parametrize("wrong", [(), (None, 0), (b"", "0"), (b"", 0, 0)])
def test_wrong_arguments_are_errors(wrong: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        crc_function("crc64nvme")(*wrong)


def test_this_awscrt_was_tried() -> None:
    """If this fails: `_awscrt`'s method table says METH_VARARGS for these functions still? Then raise NEWEST_TRIED."""
    assert tuple(map(int, awscrt.__version__.split(".")[:2])) <= NEWEST_TRIED


@pytest.mark.parametrize("version", ["0.39.0", "1.0.0", "1.0.0.dev0", "dev"])
def test_another_awscrt_is_imported(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awscrt, "__version__", version)
    assert is_awscrts_own("crc64nvme")


def test_so_is_one_that_shows_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "_library", functools.cache(SimpleNamespace))
    assert is_awscrts_own("crc64nvme")


def test_so_is_one_whose_library_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums.importlib.util, "find_spec", lambda _: SimpleNamespace(origin="/dev/null"))
    assert is_awscrts_own("crc32c")


def test_so_is_one_that_computes_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(checksums._CHECKS, "crc32c", 0)
    assert is_awscrts_own("crc32c")


def test_one_that_is_imported_already_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_awscrt", awscrt.checksums._awscrt)
    assert is_awscrts_own("crc64nvme")


def test_hashing_does_not_import_awscrt() -> None:
    code = """
import sys
from bigupload.core.checksums import Algorithm, combine_crc, digest_of
digest = digest_of(Algorithm.CRC64NVME, bytes(1 << 20))
whole = combine_crc(Algorithm.CRC64NVME, [(digest, 1 << 20)] * 2)
print(digest_of(Algorithm.CRC64NVME, bytes(2 << 20)) == whole, "_awscrt" in sys.modules)
import awscrt.checksums
print(awscrt.checksums.crc64nvme(bytes(1 << 20)) == int.from_bytes(digest, "big"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "True"]


class OutOfMemoryOnce:
    """Finds awscrt.checksums. Its first import waits until it is let go, and gets no memory then."""

    def __init__(self) -> None:
        self.began, self.end = threading.Event(), threading.Event()

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name == "awscrt.checksums" else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        if not self.began.is_set():
            self.began.set()
            self.end.wait()
            raise MemoryError
        vars(module)["crc32c"] = len


def test_an_import_that_fails_in_one_thread_fails_in_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "_library", functools.cache(lambda: None))
    monkeypatch.delitem(sys.modules, "awscrt.checksums")
    monkeypatch.delattr(awscrt, "checksums")
    finder = OutOfMemoryOnce()
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(crc_function, "crc32c")
        finder.began.wait()
        known = set(threading.enumerate())
        other = threads.submit(crc_function, "crc32c")
        (thread,) = set(threading.enumerate()) - known
        while not {"crc_function", "_lock_unlock_module"} & names_of(thread):
            pass
        finder.end.set()
        assert isinstance(one.exception(), MemoryError)
        assert other.result() is len


def names_of(thread: threading.Thread) -> set[str]:
    """The functions that a thread is in."""
    frame = sys._current_frames().get(thread.ident or 0)
    return {each.f_code.co_name for each, _ in traceback.walk_stack(frame)} if frame is not None else set()
