"""The digests of a whole file come out right in whatever order, and by however many threads, its parts are hashed."""

from __future__ import annotations

import hashlib
import itertools
import random
import threading

import pytest

from bigupload.core.part_plan import Part, Plan
from bigupload.engine.part_hashing import WholeDigests
from bigupload.errors import SourceUnreadable
from bigupload.sources.objects import MemorySource

DATA = random.Random(3).randbytes(1003)
PARTS = list(Plan(len(DATA), 200))
CHUNK = 64


def hashed(whole: WholeDigests, part: Part, source: MemorySource) -> None:
    """As a thread hashes a part: chunk after chunk, and then what can be taken of others."""
    for offset in range(part.offset, part.offset + part.size, CHUNK):
        end = min(offset + CHUNK, part.offset + part.size)
        whole.feed(offset, memoryview(DATA)[offset:end])
    whole.part_done(source, part, memoryview(bytearray(CHUNK)), lambda: None)


def test_each_order() -> None:
    for order in itertools.permutations(PARTS):
        whole = WholeDigests({"sha256": hashlib.sha256()})
        for part in order:
            hashed(whole, part, MemorySource("x", DATA))
        assert whole.size == len(DATA), order
        assert whole.hashers["sha256"].digest() == hashlib.sha256(DATA).digest(), order


def test_several_threads() -> None:
    for seed in range(50):
        whole, parts, source = WholeDigests({"sha256": hashlib.sha256()}), PARTS[:], MemorySource("x", DATA)
        random.Random(seed).shuffle(parts)
        threads = [threading.Thread(target=hashed, args=(whole, part, source)) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert whole.size == len(DATA)
        assert whole.hashers["sha256"].digest() == hashlib.sha256(DATA).digest()


def test_a_part_twice_and_a_part_that_never_comes() -> None:
    whole, source = WholeDigests({"sha256": hashlib.sha256()}), MemorySource("x", DATA)
    for part in (PARTS[0], PARTS[1], PARTS[0], PARTS[3], PARTS[1]):
        hashed(whole, part, source)
    assert whole.size == 400
    assert whole.hashers["sha256"].digest() == hashlib.sha256(DATA[:400]).digest()


def test_a_file_that_can_not_be_read_again() -> None:
    """Others report that: here it only ends what is taken."""

    class Broken(MemorySource):
        def read_into(self, buffer: memoryview, offset: int) -> int:
            raise SourceUnreadable("gone")

    class Shorter(MemorySource):
        def read_into(self, buffer: memoryview, offset: int) -> int:
            return 0

    for source in (Broken("x", DATA), Shorter("x", DATA)):
        whole = WholeDigests({"sha256": hashlib.sha256()})
        hashed(whole, PARTS[1], source)
        hashed(whole, PARTS[0], source)
        assert whole.size == 200


def test_a_cancel_ends_the_reading_and_gives_the_turn_back() -> None:
    whole, source = WholeDigests({"sha256": hashlib.sha256()}), MemorySource("x", DATA)
    hashed(whole, PARTS[1], source)

    def cancelled() -> None:
        raise InterruptedError

    whole.feed(0, memoryview(DATA)[:200])
    with pytest.raises(InterruptedError):
        whole.part_done(source, PARTS[0], memoryview(bytearray(CHUNK)), cancelled)
    whole.part_done(source, PARTS[0], memoryview(bytearray(CHUNK)), lambda: None)
    assert whole.size == 400
