"""The library's functions: each is one method of an `Uploader` that lives as long as the call.

What a function takes is what its method takes, and options of the `Uploader`. So signature and documentation are made
from those of the method: `bigupload/__init__.pyi` has the result.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from inspect import iscoroutinefunction, signature
from typing import TYPE_CHECKING, Any, cast

from bigupload import errors
from bigupload.api import signatures
from bigupload.api.arguments import (
    RetryOptions,
    StateOptions,
    TextOptions,
    UploaderOptions,
    UploadOptions,
    UploadSource,
    WriterOptions,
)
from bigupload.api.calls import UploadHandle, running_loop
from bigupload.api.checks import check_types, refuse_unknown
from bigupload.api.places import Places
from bigupload.api.uploader import Uploader
from bigupload.engine.upload_run import UploadResult

if TYPE_CHECKING:  # few programs need it
    from bigupload.api.blocking_writer import TextUploadWriter, UploadWriter

_PLACES: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Places] = weakref.WeakKeyDictionary()
"""Calls in one event loop share these places, as the calls of one `Uploader` do. If each call had places of its own, a
program that makes a thousand at once would have a thousand uploads open."""


def _check_call(function: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Raise TypeError, as Python does it, for arguments that a function does not take, or lacks."""
    refuse_unknown(function.__name__, options, signature(function).parameters)
    try:
        signature(function).bind(*args, **options)
    except TypeError as e:
        raise TypeError(f"{function.__name__}(): {e}") from None


def _split(options: Mapping[str, Any]) -> tuple[Uploader, Any]:
    """Return a new uploader for one call, and the other options, which its method takes."""
    loop = running_loop()
    of_uploader = {name: value for name, value in options.items() if name in UploaderOptions.__annotations__}
    rest = {name: value for name, value in options.items() if name not in of_uploader}
    uploader = Uploader(**cast("UploaderOptions", of_uploader))
    if of_uploader.get("max_uploads") is None:
        uploader._resources.places.share(_PLACES.setdefault(loop, uploader._resources.places))
    return uploader, rest


def _function(method: Callable[..., Any], *of_uploader: type) -> Callable[..., Any]:
    """Make a function of a method: it opens an `Uploader`, calls the method, and closes the `Uploader`.

    Args:
        method: The method.
        of_uploader: The options of the `Uploader` that matter to it; none: `UploaderOptions`, all of them.
    """

    async def call(*args: Any, **options: Any) -> Any:
        _check_call(function, *args, **options)
        uploader, rest = _split(options)
        async with uploader:
            return await method(uploader, *args, **rest)

    async def iterate(*args: Any, **options: Any) -> AsyncGenerator[Any, None]:
        _check_call(function, *args, **options)
        uploader, rest = _split(options)
        async with uploader, contextlib.aclosing(method(uploader, *args, **rest)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    function: Callable[..., Any] = call if iscoroutinefunction(method) else iterate
    function.__name__ = function.__qualname__ = method.__name__
    signatures.document(method, method)
    signatures.document(function, method, *(of_uploader or (UploaderOptions,)))
    return function


def start(source: UploadSource, target: str | None = None, **options: Any) -> UploadHandle:
    _check_call(start, source, **options)
    uploader, rest = _split(options)
    return uploader._start(source, target, rest, closes=True)


def upload_sync(source: UploadSource, target: str | None = None, **options: Any) -> UploadResult:
    """Upload a source from code without an event loop, as `upload` does it.

    Args:
        source: What `upload` takes.
        target: The same as `to`.

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
        return cast("UploadResult", asyncio.run(upload(source, target, **options)))
    except KeyboardInterrupt as interrupt:
        for note in getattr(interrupt.__context__, "__notes__", ()):  # the cancelled upload's: its resume command
            interrupt.add_note(note)
        raise interrupt.with_traceback(None) from None  # the event loop's frames are not the program's


def open_writer(target: str | None = None, **options: Any) -> UploadWriter | TextUploadWriter:
    """Open an object for writing, like a file, which is uploaded while it is written. Use it by `with`.

    It is a binary file object (`io.BufferedIOBase`) that can't seek: `zipfile`, `tarfile` in mode "w|", `csv`, pandas,
    pyarrow and others write to it. Leaving the block, or `close`, completes the upload and proves the object. If an
    exception leaves the block, or the writer is never closed, there is no object. The same bytes, written again, resume
    the upload. It works in any thread, also where an event loop is running, which it blocks: it has a thread and an
    event loop of its own, in which `on_event` is called. One target is needed: `to` (or `target`), `service`, or
    `s3=S3Options(local=True)`.

    Args:
        target: The same as `to`.

    Returns:
        The writer. Once it is closed, `writer.result` has the object and its proof.

    Raises:
        UsageError: The options contradict one another.
    """
    refuse_unknown("open_writer", options, signature(open_writer).parameters)
    if target is not None and options.get("to") is not None:
        raise errors.UsageError("the target is given twice, as the first argument and as `to`: leave one out")
    of_text, of_writer, of_uploader = (
        {name: value for name, value in options.items() if name in declared.__annotations__}
        for declared in (TextOptions, WriterOptions, UploaderOptions)
    )
    check_types(of_uploader, UploaderOptions)
    if target is not None:
        of_writer["to"] = target
    from bigupload.api.blocking_writer import open_in_thread

    return open_in_thread(
        cast("UploaderOptions", of_uploader), cast("WriterOptions", of_writer), cast("TextOptions", of_text)
    )


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
abort = _function(Uploader.abort, RetryOptions, StateOptions)
verify = _function(Uploader.verify, RetryOptions)
verify_many = _function(Uploader.verify_many, RetryOptions)
share = _function(Uploader.share, RetryOptions)
read_back = _function(Uploader.read_back, RetryOptions)
list_uploads = _function(Uploader.list_uploads, StateOptions)
abort_orphans = _function(Uploader.abort_orphans, RetryOptions, StateOptions)
signatures.document(Uploader.start, Uploader.start)
signatures.document(start, Uploader.start, UploaderOptions)
signatures.document(upload_sync, upload_sync, UploadOptions, UploaderOptions)
signatures.document(Uploader.open_writer, Uploader.open_writer)
signatures.document(open_writer, open_writer, WriterOptions, TextOptions, UploaderOptions)
signatures.document(Uploader.__init__, Uploader.__init__)
signatures.document_options()
