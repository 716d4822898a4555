"""The library's functions: each is one method of an `Uploader` that lives as long as the call."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Unpack, cast

import anyio

from bigupload import errors
from bigupload.api.arguments import (
    AbortCall,
    AdoptCall,
    OrphanCall,
    ReadBackCall,
    ResumeCall,
    StrPath,
    SyncCall,
    UploadCall,
    UploaderOptions,
    UploadManyCall,
    UploadSource,
    VerifyCall,
    WatchCall,
)
from bigupload.api.calls import running_loop
from bigupload.api.checks import check_names
from bigupload.api.handle import UploadHandle
from bigupload.api.places import Places
from bigupload.api.uploader import Uploader
from bigupload.engine.upload_run import UploadResult

if TYPE_CHECKING:
    from bigupload.api.source_types import ManySource
    from bigupload.api.sync_types import SyncResult
    from bigupload.api.verify_many import VerificationFailed
    from bigupload.batch.job import UploadFailed
    from bigupload.manifests.listing import KnownUpload
    from bigupload.verification.by_checksum import Verification
    from bigupload.verification.by_download import ReadBack
    from bigupload.verification.orphans import OrphanReport

_PLACES: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Places] = weakref.WeakKeyDictionary()
"""The calls in one event loop share these, as the calls of one `Uploader` do. A program may make a thousand at once, of
which each for itself would have places enough."""


def _split(function: str, options: Mapping[str, Any], declared: type[Any]) -> tuple[Uploader, Any]:
    """A new uploader for one call, and what is left of the options for its method."""
    check_names(function, options, declared)
    loop = running_loop()
    of_uploader = {name: value for name, value in options.items() if name in UploaderOptions.__annotations__}
    rest = {name: value for name, value in options.items() if name not in of_uploader}
    uploader = Uploader(**cast("UploaderOptions", of_uploader))
    if of_uploader.get("max_uploads") is None:
        uploader._resources.places.share(_PLACES.setdefault(loop, uploader._resources.places))
    return uploader, rest


async def upload(source: UploadSource, target: str | None = None, **options: Unpack[UploadCall]) -> UploadResult:
    """Upload a source, or resume its upload where it stopped, until the object is proved to be the source.

    Args:
        source: A path; bytes; a binary file object, of which the rest from its position on is uploaded; an iterable
            or async iterable of bytes; or a stream reader. It is not closed, and must not be used meanwhile.
        target: The same as `to`.
        **options: See `UploadOptions` and `UploaderOptions`. One target is needed: `to`, `service`, or
            `s3=S3Options(local=True)`.

    Returns:
        Where the object is and how it was proved.

    Raises:
        UsageError: The options contradict one another.
        BigUploadError: The upload failed; `error.manifest` is what `resume` takes, if it can be resumed.
    """
    uploader, rest = _split("upload", options, UploadCall)
    async with uploader:
        return await uploader.upload(source, target, **rest)


def start(source: UploadSource, target: str | None = None, **options: Unpack[UploadCall]) -> UploadHandle:
    """Start an upload and return at once. It runs in a task of its own until it ends.

    Args:
        source: What `upload` takes.
        target: The same as `to`.
        **options: Those of `upload`.

    Returns:
        The upload: its progress, its manifest, its events; `await` it for the result, or cancel it.

    Raises:
        UsageError: The options contradict one another, or no event loop is running.
    """
    uploader, rest = _split("start", options, UploadCall)
    return uploader._start_alone(source, target, rest)


async def upload_many(
    sources: Iterable[ManySource] | AsyncIterable[ManySource],
    target: str | None = None,
    **options: Unpack[UploadManyCall],
) -> AsyncGenerator[UploadResult | UploadFailed, None]:
    """Upload many files, several at a time, and yield what becomes of each as soon as it is known.

    Args:
        sources: Paths, or pairs of what `upload` takes and a key below `to`. See `Uploader.upload_many`.
        target: The same as `to`.
        **options: See `UploadManyOptions` and `UploaderOptions`.

    Raises:
        UsageError: The options contradict one another.
        BigUploadError: What would befall every other file, too, such as a bucket that is not there.
    """
    uploader, rest = _split("upload_many", options, UploadManyCall)
    async with uploader, contextlib.aclosing(uploader.upload_many(sources, target, **rest)) as outcomes:
        async for outcome in outcomes:
            yield outcome


async def verify_many(
    sources: Iterable[ManySource] | AsyncIterable[ManySource], url: str, **options: Unpack[VerifyCall]
) -> AsyncGenerator[Verification | VerificationFailed, None]:
    """Prove many objects against their files, by the checksums that the store holds.

    Args:
        sources: Files, or pairs of a file and a key below `url`. See `Uploader.verify_many`.
        url: "s3://BUCKET/FOLDER/": what all keys begin with.
        **options: See `VerifyOptions`, and `retry`.

    Raises:
        UsageError: The options contradict one another, or the URL names one object.
        BigUploadError: What would befall every other object, too.
    """
    uploader, rest = _split("verify_many", options, VerifyCall)
    async with uploader, contextlib.aclosing(uploader.verify_many(sources, url, **rest)) as verdicts:
        async for verdict in verdicts:
            yield verdict


def upload_sync(source: UploadSource, target: str | None = None, **options: Unpack[UploadCall]) -> UploadResult:
    """Upload a source from code without an event loop. The options are those of `upload`.

    Raises:
        UsageError: An event loop is running in this thread: `await bigupload.upload(…)` there.
        BigUploadError: As `upload`.
        KeyboardInterrupt: Ctrl-C in the main thread. The upload was stopped; a note says what resumes it.
    """
    if _is_asyncio_running():
        raise errors.UsageError("upload_sync can't run inside an event loop: await bigupload.upload(…) there")
    if _is_trio_running():
        running_loop()  # says that asyncio is needed
    try:
        return asyncio.run(upload(source, target, **options))
    except KeyboardInterrupt as interrupt:
        for note in getattr(interrupt.__context__, "__notes__", ()):  # the cancelled upload's: what resumes it
            interrupt.add_note(note)
        raise interrupt.with_traceback(None) from None  # the event loop's frames say nothing of the program


def _is_asyncio_running() -> bool:
    """Whether asyncio's loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _is_trio_running() -> bool:
    """Whether trio's loop runs in this thread. There is no loop of asyncio's in it."""
    try:
        anyio.get_current_task()
    except RuntimeError:
        return False
    return True


async def watch(
    directory: StrPath, target: str | None = None, **options: Unpack[WatchCall]
) -> AsyncGenerator[UploadResult | UploadFailed, None]:
    """Upload the files of a directory, those that come into it, and those that change, until it is cancelled.

    Args:
        directory: The directory, with all below it. Symbolic links in it are not followed.
        target: The same as `to`.
        **options: See `WatchOptions` and `UploaderOptions`. A target is needed: `to`, or `s3=S3Options(local=True)`.

    Yields:
        What became of each file: its result, also of a file that was uploaded before (`result.skipped`), or an
        `UploadFailed`.

    Raises:
        BigUploadError: As `Uploader.watch`.
    """
    uploader, rest = _split("watch", options, WatchCall)
    async with uploader, contextlib.aclosing(uploader.watch(directory, target, **rest)) as outcomes:
        async for outcome in outcomes:
            yield outcome


async def sync(directory: StrPath, target: str | None = None, **options: Unpack[SyncCall]) -> SyncResult:
    """Send the files of a directory that are not in the store yet, and on request delete what has no file.

    Args:
        directory: The directory.
        target: The same as `to`.
        **options: See `SyncOptions` and `UploaderOptions`. A target is needed: `to`, or `s3=S3Options(local=True)`.

    Raises:
        BigUploadError: As `Uploader.sync`.
    """
    uploader, rest = _split("sync", options, SyncCall)
    async with uploader:
        return await uploader.sync(directory, target, **rest)


async def resume(manifest: StrPath, **options: Unpack[ResumeCall]) -> UploadResult:
    """Resume the upload that a manifest describes. If it is complete, return its result again.

    Args:
        manifest: The manifest's path; or its id, or the beginning of its id, as `list_uploads` shows it.
        **options: See `ResumeOptions` and `UploaderOptions`. The store is the manifest's.

    Raises:
        BigUploadError: As `Uploader.resume`.
    """
    uploader, rest = _split("resume", options, ResumeCall)
    async with uploader:
        return await uploader.resume(manifest, **rest)


async def adopt(to: str, *, source: StrPath, **options: Unpack[AdoptCall]) -> UploadResult:
    """Take over an open upload that no manifest here describes, by what ListParts and the file say.

    Args:
        to: "s3://BUCKET/KEY" of the open upload.
        source: The file.
        **options: See `AdoptOptions` and `UploaderOptions`.

    Raises:
        BigUploadError: As `Uploader.adopt`.
    """
    uploader, rest = _split("adopt", options, AdoptCall)
    async with uploader:
        return await uploader.adopt(to, source=source, **rest)


async def abort(manifest: StrPath, **options: Unpack[AbortCall]) -> None:
    """Abort an upload: delete its parts from the store, and record that in its manifest.

    Args:
        manifest: The manifest's path; or its id, or the beginning of its id, as `list_uploads` shows it.
        **options: See `AbortOptions`; also `retry` and `state_dir`. The store is the manifest's.

    Raises:
        BigUploadError: As `Uploader.abort`.
    """
    uploader, rest = _split("abort", options, AbortCall)
    async with uploader:
        await uploader.abort(manifest, **rest)


async def verify(path: StrPath, url: str, **options: Unpack[VerifyCall]) -> Verification:
    """Prove that an object is a file, by the checksums that the store holds, whichever program uploaded it.

    Args:
        path: The file.
        url: "s3://BUCKET/KEY" of the object.
        **options: See `VerifyOptions`; also `retry`.

    Raises:
        BigUploadError: As `Uploader.verify`.
    """
    uploader, rest = _split("verify", options, VerifyCall)
    async with uploader:
        return await uploader.verify(path, url, **rest)


async def read_back(path: StrPath, url: str, **options: Unpack[ReadBackCall]) -> ReadBack:
    """Download an object and compare every byte with a file. A second call resumes where the first stopped.

    Args:
        path: The file.
        url: "s3://BUCKET/KEY" of the object.
        **options: See `ReadBackOptions`; also `retry`.

    Raises:
        BigUploadError: As `Uploader.read_back`.
    """
    uploader, rest = _split("read_back", options, ReadBackCall)
    async with uploader:
        return await uploader.read_back(path, url, **rest)


async def list_uploads(*, state_dir: StrPath | None = None) -> list[KnownUpload]:
    """Return the uploads that this machine knows, the least recently changed first.

    Args:
        state_dir: The directory with the manifests; None: BIGUPLOAD_STATE_DIR, else the user's state directory.

    Raises:
        ManifestError: The directory can't be listed.
    """
    async with Uploader(state_dir=state_dir) as uploader:
        return await uploader.list_uploads()


async def abort_orphans(url: str, **options: Unpack[OrphanCall]) -> OrphanReport:
    """Abort open multipart uploads that no manifest here owns and of which no part arrived for a while.

    Args:
        url: "s3://BUCKET/PREFIX"; the prefix may be empty.
        **options: See `OrphanOptions`; also `retry` and `state_dir`.

    Raises:
        BigUploadError: As `Uploader.abort_orphans`.
    """
    uploader, rest = _split("abort_orphans", options, OrphanCall)
    async with uploader:
        return await uploader.abort_orphans(url, **rest)
