"""The library's functions: each is one method of an `Uploader`, which the calls in one event loop share.

What a function takes is what its method takes, and `uploader`. So signature and documentation are made from those of
the method: `bigupload/__init__.pyi` has the result.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from inspect import iscoroutinefunction, signature
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, cast

from bigupload import errors
from bigupload.api import signatures
from bigupload.api.arguments import TextOptions, UploadOptions, UploadSource, WriterOptions
from bigupload.api.calls import UploadHandle, running_loop
from bigupload.api.checks import refuse_unknown
from bigupload.api.uploader import Uploader
from bigupload.engine.upload_run import UploadResult

if TYPE_CHECKING:  # few programs need it
    from bigupload.api.blocking_writer import TextUploadWriter, UploadWriter


class FunctionOptions(TypedDict, total=False):
    """What a function has beside its method of `Uploader`.

    Attributes:
        uploader: The `Uploader` whose connections, limits and state are used; None: one by default. One that is not
            entered serves this call alone.
    """

    uploader: Uploader | None


class _Shared:
    """The `Uploader` of all calls in one event loop that name none: with one each, a program that makes a thousand
    calls at once would have a thousand uploads open, and each would connect again."""

    open: ClassVar[dict[asyncio.AbstractEventLoop, _Shared]] = {}

    def __init__(self) -> None:
        self.uploader = Uploader()
        self.uploader._resources.calls.open()
        self._users = 0

    @classmethod
    def used(cls) -> _Shared:
        """Return that of the running loop, for one more call."""
        loop = running_loop()
        for closed in [each for each in cls.open if each.is_closed()]:
            del cls.open[closed]
        if loop not in cls.open:
            cls.open[loop] = cls()
        cls.open[loop]._users += 1
        return cls.open[loop]

    async def release(self) -> None:
        """A call has ended. The last one closes the uploader."""
        self._users -= 1
        if not self._users:
            del self.open[running_loop()]
            await self.uploader._resources.aclose()


def _check_call(function: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Raise TypeError, as Python does it, for arguments that a function does not take, or lacks."""
    refuse_unknown(function.__name__, options, signature(function).parameters)
    try:
        signature(function).bind(*args, **options)
    except TypeError as e:
        raise TypeError(f"{function.__name__}(): {e}") from None


def _taken(options: dict[str, Any]) -> tuple[Uploader, Callable[[], Awaitable[None]]]:
    """Take the uploader of a call out of its options. Returns it, and what is to be awaited when the call has ended.

    Raises:
        UsageError: It is no `Uploader`, or no event loop is running.
    """
    uploader = options.pop("uploader", None)
    if uploader is None:
        shared = _Shared.used()
        return shared.uploader, shared.release
    if not isinstance(uploader, Uploader):
        raise errors.UsageError(f"uploader must be an Uploader, not {type(uploader).__name__}")
    if uploader.is_open:
        return uploader, _nothing
    uploader._resources.calls.open()
    return uploader, uploader._resources.aclose


async def _nothing() -> None:
    """The caller closes its own uploader."""


def _function(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of a method: it opens an `Uploader`, calls the method, and closes the `Uploader`."""

    async def call(*args: Any, **options: Any) -> Any:
        _check_call(function, *args, **options)
        uploader, release = _taken(options)
        try:
            return await method(uploader, *args, **options)
        finally:
            await release()

    async def iterate(*args: Any, **options: Any) -> AsyncGenerator[Any, None]:
        _check_call(function, *args, **options)
        uploader, release = _taken(options)
        try:
            async with contextlib.aclosing(method(uploader, *args, **options)) as outcomes:
                async for outcome in outcomes:
                    yield outcome
        finally:
            await release()

    function: Callable[..., Any] = call if iscoroutinefunction(method) else iterate
    function.__name__ = function.__qualname__ = method.__name__
    signatures.document(method, method)
    signatures.document(function, method, FunctionOptions)
    return function


def start(source: UploadSource, _to: str | None = None, **options: Any) -> UploadHandle:
    _check_call(start, source, **options)
    uploader, release = _taken(options)
    return uploader._start(source, _to, cast("UploadOptions", options), release)


def upload_sync(source: UploadSource, _to: str | None = None, **options: Any) -> UploadResult:
    """Upload a source from code without an event loop, as `upload` does it.

    Args:
        source: What `upload` takes.

    Returns:
        Where the object is and how it was proved.

    Raises:
        UsageError: An event loop is running in this thread: `await bigupload.upload(…)` there.
        BigUploadError: As `upload`.
        KeyboardInterrupt: Ctrl-C in the main thread. The upload was stopped; a note has the command that resumes it.
    """
    _check_call(upload_sync, source, **options)
    if _is_asyncio_running():
        raise errors.UsageError("upload_sync can't run inside an event loop: await bigupload.upload(…) there")
    if _is_trio_running():
        running_loop()  # says that asyncio is needed
    try:
        return cast("UploadResult", asyncio.run(upload(source, **options, **({} if _to is None else {"to": _to}))))
    except KeyboardInterrupt as interrupt:
        for note in getattr(interrupt.__context__, "__notes__", ()):  # the cancelled upload's: its resume command
            interrupt.add_note(note)
        raise interrupt.with_traceback(None) from None  # the event loop's frames are not the program's


def open_writer(_to: str | None = None, **options: Any) -> UploadWriter | TextUploadWriter:
    """Open an object for writing, like a file, which is uploaded while it is written. Use it by `with`.

    It is a binary file object (`io.BufferedIOBase`) that can't seek: `zipfile`, `tarfile` in mode "w|", `csv`, pandas,
    pyarrow and others write to it. Leaving the block, or `close`, completes the upload and proves the object. If an
    exception leaves the block, or the writer is never closed, there is no object. The same bytes, written again, resume
    the upload. It works in any thread, also where an event loop is running, which it blocks: it has a thread and an
    event loop of its own, in which `on_event` is called. One target is needed: `to`, `service`, or
    `s3=S3Options(local=True)`.

    Returns:
        The writer. Once it is closed, `writer.result` has the object and its proof.

    Raises:
        UsageError: The options contradict one another.
    """
    refuse_unknown("open_writer", options, signature(open_writer).parameters)
    uploader = options.pop("uploader", None) or Uploader()
    if uploader.is_open:
        raise errors.UsageError(
            "this Uploader belongs to an event loop, and a writer has one of its own: name one that is not entered, or "
            "use `uploader.open_writer` in the event loop"
        )
    of_text, of_writer = (
        {name: value for name, value in options.items() if name in declared.__annotations__}
        for declared in (TextOptions, WriterOptions)
    )
    of_writer = uploader._given(of_writer, _to)
    from bigupload.api.blocking_writer import open_in_thread

    return open_in_thread(uploader._options, cast("WriterOptions", of_writer), cast("TextOptions", of_text))


def _is_asyncio_running() -> bool:
    """Whether asyncio's loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _is_trio_running() -> bool:
    """Whether trio's loop runs in this thread. There is no loop of asyncio's in it."""
    if "trio" not in sys.modules:
        return False
    import anyio

    try:
        anyio.get_current_task()
    except RuntimeError:
        return False
    return True


upload = _function(Uploader.upload)
upload_many = _function(Uploader.upload_many)
watch = _function(Uploader.watch)
sync = _function(Uploader.sync)
resume = _function(Uploader.resume)
adopt = _function(Uploader.adopt)
abort = _function(Uploader.abort)
verify = _function(Uploader.verify)
verify_many = _function(Uploader.verify_many)
share = _function(Uploader.share)
read_back = _function(Uploader.read_back)
list_uploads = _function(Uploader.list_uploads)
abort_orphans = _function(Uploader.abort_orphans)
signatures.document(Uploader.start, Uploader.start)
signatures.document(start, Uploader.start, FunctionOptions)
signatures.document(upload_sync, upload_sync, UploadOptions, FunctionOptions)
signatures.document(Uploader.open_writer, Uploader.open_writer)
signatures.document(open_writer, open_writer, WriterOptions, TextOptions, FunctionOptions)
signatures.document(Uploader.__init__, Uploader.__init__)
signatures.document_options()
