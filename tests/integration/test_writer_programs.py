"""500 drawn programs of writes, flushes, exceptions and closes, each against a model: there is an object only if the
program closed its writer cleanly, and then it has the bytes that were written."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

import bigupload
from bigupload import S3Options
from bigupload.api import blocking_writer as writer_module
from bigupload.stores.s3.multipart import S3Store
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.surroundings import only_strict_s3

from .support import BUCKET, FAST, KIB, LIMITS, content, of_function

pytestmark = pytest.mark.slow

DATA = content(2_000_000)
SIZES = st.sampled_from([0, 1, 100, 4_095, 4_096, 4_097, 9_999, 10_000, 10_001, 65_536, 200_000])
CLEAN = ("leave", "close", "close twice", "close in a handler of before")
DIRTY = (
    "raise", "exit", "interrupt", "close in finally", "forget", "abandon", "raise in a callback", "wrapper in finally",
)  # fmt: skip
STEP = st.one_of(
    st.tuples(st.just("write"), SIZES),
    st.tuples(st.just("lines"), SIZES),
    st.tuples(st.sampled_from(["flush", "tell", "seek", "text", "after an error"]), st.just(0)),
)
PROGRAM = st.tuples(
    st.sampled_from(["plain", "text", "wrapped", "async"]),
    st.lists(STEP, max_size=8),
    st.sampled_from(CLEAN + DIRTY),
    st.sampled_from(["keep", "abort"]),
)


class Stop(Exception):
    """What a program raises."""


STOPS = (Stop, SystemExit, KeyboardInterrupt, asyncio.CancelledError, bigupload.UsageError)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StrictS3]:
    with StrictS3(min_part_size=KIB) as server, pytest.MonkeyPatch.context() as patch:
        server.create_bucket(BUCKET)
        only_strict_s3(patch, tmp_path_factory.mktemp("programs"))
        patch.setattr(S3Store, "limits", LIMITS)
        patch.setattr(writer_module, "_SMALL", 10_000)
        yield server


class Model:
    """The bytes that a program has written, and what it calls to write them."""

    def __init__(self) -> None:
        self.size = 0

    def taken(self, size: int) -> bytes:
        self.size += size
        return DATA[self.size - size : self.size]


def take_steps(writer: Any, steps: list[tuple[str, int]], model: Model, encode: Callable[[bytes], Any]) -> None:
    for step, size in steps:
        match step:
            case "write":
                writer.write(encode(model.taken(size)))
            case "lines":
                writer.writelines([encode(model.taken(size)), encode(model.taken(1))])
            case "flush":
                writer.flush()
            case "tell" if isinstance(writer, bigupload.UploadWriter):
                assert writer.tell() == model.size
            case "seek":
                with contextlib.suppress(io.UnsupportedOperation):
                    writer.seek(0)
                    raise AssertionError("it has sought")
            case "text":
                with contextlib.suppress(TypeError):
                    writer.write(7)
                    raise AssertionError("it has written a number")
            case "after an error":
                try:
                    raise KeyError
                except KeyError:
                    writer.write(encode(model.taken(10)))


def end(writer: Any, how: str) -> None:
    match how:
        case "close":
            writer.close()
        case "close twice":
            writer.close()
            writer.close()
        case "close in finally":
            try:
                raise Stop
            finally:
                writer.close()
        case "wrapper in finally":
            with contextlib.closing(writer):
                raise Stop
        case "raise in a callback":
            with contextlib.ExitStack() as stack:
                stack.callback(writer.close)
                raise Stop
        case "abandon":
            writer.abandon()
        case "raise":
            raise Stop
        case "exit":
            raise SystemExit(0)
        case "interrupt":
            raise KeyboardInterrupt
        case _:
            pass


def run(kind: str, steps: list[tuple[str, int]], how: str, options: Any) -> int:
    """Run a program. Returns how many bytes it has written."""
    model = Model()
    if how == "close in a handler of before":
        try:
            raise KeyError
        except KeyError:
            return run(kind, steps, "close", options)
    of_text: Any = {"text": True, "encoding": "latin-1", "newline": ""} if kind == "text" else {}
    opened: Any = bigupload.open_writer(**of_function(options), **of_function(of_text))
    writer = io.TextIOWrapper(opened, "latin-1", newline="") if kind == "wrapped" else opened

    def encode(data: bytes) -> Any:
        return data if kind == "plain" else data.decode("latin-1")

    if how in ("leave", "raise", "exit", "interrupt"):
        with opened:
            take_steps(writer, steps, model, encode)
            if how == "leave" and writer is not opened:
                writer.flush()
            end(writer, how)
    else:
        take_steps(writer, steps, model, encode)
        end(opened if how == "abandon" else writer, how)
    return model.size


async def run_async(steps: list[tuple[str, int]], how: str, options: Any) -> int:
    model = Model()
    async with bigupload.Uploader(retry=options["retry"]) as uploader:
        given = {name: value for name, value in options.items() if name != "retry"}
        writer = uploader.open_writer(**given)
        for step, size in steps:
            if step == "write":
                await writer.write(model.taken(size))
            elif step == "lines":
                await writer.writelines([model.taken(size), model.taken(1)])
            elif step == "flush":
                await writer.flush()
            assert writer.tell() == model.size
        match how:
            case "leave":
                async with writer:
                    pass
            case "close" | "close twice" | "close in a handler of before":
                await writer.close()
                await writer.close()
            case "close in finally" | "wrapper in finally" | "raise in a callback":
                try:
                    raise Stop
                finally:
                    await writer.close()
            case "abandon":
                await writer.abandon()
            case "raise":
                async with writer:
                    raise Stop
            case "exit" | "interrupt":
                async with writer:
                    raise asyncio.CancelledError
            case "forget":
                del writer
                gc.collect()
    return model.size


@hypothesis.settings(
    max_examples=500, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], database=None
)
@hypothesis.given(PROGRAM)
def test_a_program(store: StrictS3, program: Any) -> None:
    kind, steps, how, on_error = program
    store.objects[BUCKET].clear()
    store.uploads.clear()
    options: Any = {
        "to": f"s3://{BUCKET}/key",
        "s3": S3Options(endpoint_url=store.url, region=store.region),
        "retry": FAST,
        "resume": False,
        "on_error": on_error,
    }
    with warnings.catch_warnings(), contextlib.suppress(*STOPS):
        warnings.simplefilter("ignore", ResourceWarning)
        size = asyncio.run(run_async(steps, how, options)) if kind == "async" else run(kind, steps, how, options)
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "bigupload writer":
            thread.join(30)
            assert not thread.is_alive()
    found = store.objects[BUCKET].get("key")
    if how in CLEAN:
        assert found is not None
        assert found.body == DATA[:size]
    else:
        assert found is None
        assert on_error == "keep" or not store.uploads
    assert not store.uploads or how in DIRTY


def test_the_same_program_resumes(store: StrictS3) -> None:
    """What it draws is shown above; here, that a program which was left is continued by one that is not."""
    options: Any = {"to": f"s3://{BUCKET}/again", "s3": S3Options(endpoint_url=store.url, region=store.region)}
    for how in DIRTY[:4]:
        with contextlib.suppress(*STOPS):
            run("plain", [("write", 200_000)] * 3, how, {**options, "retry": FAST})
        assert "again" not in store.objects[BUCKET]
    assert run("plain", [("write", 100_000)] * 6, "leave", {**options, "retry": FAST}) == 600_000
    assert store.objects[BUCKET]["again"].body == DATA[:600_000]
