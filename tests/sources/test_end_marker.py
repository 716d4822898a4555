"""A stream that must end with a marker gives exactly what is before it, or nothing is made of it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload import errors
from bigupload.sources.producers import MarkedProducer, of_async_iterable
from tests.sources.streams import async_chunks, chunked
from tests.tools.cases import each_case, examples


async def read(data: bytes, cuts: list[int], marker: bytes, sizes: list[int]) -> bytes:
    """All that comes, into buffers of these sizes again and again."""
    producer = MarkedProducer(of_async_iterable(async_chunks(chunked(data, cuts))), marker, "name")
    found = b""
    while True:
        for size in sizes:
            buffer = bytearray(size)
            count = await producer.fill(memoryview(buffer))
            found += buffer[:count]
            if count < size:
                assert await producer.fill(memoryview(buffer)) == 0
                return found


BYTES = st.binary(max_size=30) | st.text("ab", max_size=30).map(str.encode)
MARKERS = st.binary(min_size=1, max_size=5) | st.text("ab", min_size=1, max_size=5).map(str.encode)


@settings(deadline=None, max_examples=examples(300))
@given(data=BYTES, marker=MARKERS, ends=st.booleans(), cuts=st.lists(st.integers(0, 30), max_size=8),
       sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4))  # fmt: skip
def test_every_stream(data: bytes, marker: bytes, ends: bool, cuts: list[int], sizes: list[int]) -> None:
    whole = data + marker if ends else data
    cuts = [min(cut, len(whole)) for cut in cuts]
    if whole.endswith(marker):
        assert asyncio.run(read(whole, cuts, marker, sizes)) == whole[: -len(marker)]
    else:
        with pytest.raises(errors.StreamInterrupted, match=r"name (does not end|ends) with the bytes of `end_marker`"):
            asyncio.run(read(whole, cuts, marker, sizes))


@each_case("cuts", [[], [1], [5], [5, 6, 11, 12]])
@each_case("sizes", [[1], [6], [30]])
def test_a_newline_behind_the_marker_is_told_as_that(cuts: list[int], sizes: list[int]) -> None:
    with pytest.raises(errors.StreamInterrupted, match="ends with the bytes of `end_marker` and a newline"):
        asyncio.run(read(b"bytes marker\n", cuts, b"marker", sizes))
    with pytest.raises(errors.StreamInterrupted, match="does not end"):
        asyncio.run(read(b"bytes barker\n", cuts, b"marker", sizes))
