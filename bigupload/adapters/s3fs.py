"""s3fs's `S3FileSystem`, whose uploads are bigupload's: they resume after a kill, and end with a proof.

    >>> from bigupload.adapters.s3fs import S3FileSystem  # doctest: +SKIP
    >>> fs = S3FileSystem()  # doctest: +SKIP
    >>> fs.put_file("movie.mov", "my-bucket/raw/movie.mov")  # doctest: +SKIP

`put_file`, `put` and `upload` send files, and a file opened by `open(path, "wb")` is a writer: leaving its block by an
exception makes no object. Everything else is s3fs's own.
"""

# mypy: disable-error-code="misc"
# s3fs has no types, so its classes are Any.

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import io
import mimetypes
import os
import warnings
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import Any, Literal

import bigupload
from bigupload import errors, events
from bigupload.adapters.boto3 import NotTakenOver
from bigupload.adapters.boto3.arguments import CannotTakeOver, ClientSession, object_options, s3_options
from bigupload.adapters.boto3.methods import translated
from bigupload.api.arguments import ProofName, UploaderOptions, UploadOptions
from bigupload.api.blocking_writer import UploadWriter
from bigupload.api.uploader import Uploader
from bigupload.core.integrity import Verified
from bigupload.engine.upload_run import UploadResult
from bigupload.options import Credentials, S3Options
from bigupload.stores.targets import parse_s3_url
from bigupload.units import install_command

try:
    import s3fs
    from botocore.exceptions import BotoCoreError, ClientError
    from fsspec.asyn import sync
    from fsspec.callbacks import DEFAULT_CALLBACK
    from fsspec.compression import compr
    from fsspec.core import get_compression
    from s3fs.errors import translate_boto_error
    from s3fs.utils import ParamKwargsHelper
except ModuleNotFoundError as e:
    missing = (e.name or "").partition(".")[0]
    raise ModuleNotFoundError(f"{missing} is not installed: {install_command('s3fs')}", name=e.name) from None

__all__ = ["NotTakenOver", "S3FileSystem", "S3WriteFile"]

_WRITES = ("put_object", "create_multipart_upload")
"""The methods of S3 whose arguments an upload may have."""


class S3FileSystem(s3fs.S3FileSystem):
    """A file system of s3fs, whose `put_file`, `put`, `upload` and `open(path, "wb")` resume and prove.

    Arguments, results and exceptions are those of s3fs. Address, region, credentials and certificates are its, too.
    What bigupload can't do as it was asked for, s3fs does as before, with a warning (`NotTakenOver`).
    """

    def __init__(
        self,
        *args: Any,
        max_concurrency: int | None = None,
        require_proof: Verified | ProofName = "size",
        state_dir: str | os.PathLike[str] | None = None,
        limit_rate: float | str | None = None,
        **kwargs: Any,
    ) -> None:
        """Make it; nothing is connected yet.

        Args:
            *args: The arguments of s3fs's class.
            max_concurrency: Parts in flight over all uploads; None adapts it to the path. Also that of s3fs, for
                downloads, where None means 10.
            require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any). An
                object that is proved by less is an OSError.
            state_dir: The directory for manifests; None: BIGUPLOAD_STATE_DIR, else the user's state directory.
            limit_rate: Bytes per second of all uploads: a number, "20MB/s" or "08:00=2MB/s,20:00=off"; None: any.
            **kwargs: The arguments of s3fs's class.

        Raises:
            ValueError: A value is out of range.
        """
        super().__init__(*args, max_concurrency=10 if max_concurrency is None else max_concurrency, **kwargs)
        options: UploaderOptions = {"state_dir": state_dir, "limit_rate": limit_rate, "concurrency": max_concurrency}
        if (proxies := self.config_kwargs.get("proxies")) is not None:
            options["proxies"] = {scheme: proxies[scheme] for scheme in ("http", "https") if proxies.get(scheme)}
        try:
            Uploader(**options)  # checks them
        except errors.UsageError as e:
            raise ValueError(str(e)) from e
        self._proof = Verified(require_proof)
        self._uploader = _SharedUploader(options)

    async def _put_file(
        self,
        lpath: str | os.PathLike[str],
        rpath: str,
        callback: Any = DEFAULT_CALLBACK,
        chunksize: int | None = None,
        max_concurrency: int | None = None,
        mode: Literal["overwrite", "create"] = "overwrite",
        **kwargs: Any,
    ) -> None:
        """Upload a file, or resume its upload where it stopped, until the object is proved to be the file.

        Args:
            lpath: The file.
            rpath: Bucket and key.
            callback: A callback of fsspec, which gets the bytes.
            chunksize: Bytes of a part; None: chosen by the file's size.
            max_concurrency: Parts in flight of this file; None: as of the file system.
            mode: "create" refuses to replace an object.
            **kwargs: Arguments of S3's methods, such as `ContentType`.

        Raises:
            FileExistsError: By "create": there is an object.
            OSError: The file can't be read, the store refused, or the object is not proved to be the file.
        """
        path = os.path.abspath(lpath)  # noqa: PTH100 - as the manifest has it; and no name is taken for a URL
        original = super()._put_file
        if os.path.isdir(path):  # noqa: PTH112 - it is a text already
            await original(lpath, rpath, callback=callback)
            return
        size = os.path.getsize(lpath)  # noqa: PTH202 - its error names the path as it was given
        if "ContentType" not in kwargs and (guessed := mimetypes.guess_type(path)[0]) is not None:
            kwargs["ContentType"] = guessed
        given = {**kwargs, "IfNoneMatch": "*"} if mode == "create" else kwargs
        try:
            to, options = await self._options(rpath, given)
        except CannotTakeOver as reason:
            _warn(reason)
            more = {"chunksize": chunksize, "max_concurrency": max_concurrency, "mode": mode}
            await original(lpath, rpath, callback=callback, **more, **kwargs)
            return
        if chunksize is not None and chunksize < size:
            options["part_size"] = chunksize
        callback.set_size(size)
        report = _steps(callback.relative_update)
        if not self.asynchronous:  # else its caller's loop may end before it
            await self._uploader.hold_for(self)
        own: UploaderOptions = {**self._uploader.options, "concurrency": max_concurrency}
        of_call: _SharedUploader | Uploader = self._uploader if max_concurrency is None else Uploader(**own)
        async with self._translated_errors(f"{path} to {to[5:]}", rpath), of_call as uploader:
            result = await uploader.upload(path, to=to, on_event=report, **options)
        report(result.size)
        self._forget(rpath)

    def open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: Mapping[str, Any] | None = None,
        compression: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Open an object. One that is opened to be written is completed and proved by `close`.

        If an exception leaves its block, or it is never closed, there is no object. So it is of text and of compressed
        bytes.

        Args:
            path: Bucket and key.
            mode: As of the builtin `open`, without "+"; "xb" refuses to replace an object; "ab" is s3fs's own.
            block_size: Bytes of a part; None: chosen while the file grows. Of a file to read, as s3fs has it.
            cache_options: As s3fs has it.
            compression: As fsspec has it.
            **kwargs: `encoding`, `errors` and `newline` of text; arguments of S3's methods, such as `ContentType`.

        Raises:
            FileExistsError: By "x": there is an object.
            OSError: The store refused; by `close`, that there is no object, or that it is not proved.
        """
        options = {"block_size": block_size, "cache_options": cache_options, **kwargs}
        is_text = "b" not in mode
        if not set(mode) & set("wx") or not (is_text or compression):
            return super().open(path, mode, compression=compression, **options)
        of_text = {name: options.pop(name) for name in ("encoding", "errors", "newline") if name in options}
        raw = super().open(path, mode.replace("t", "").replace("b", "") + "b", **options)
        outer, name = raw, get_compression(self._strip_protocol(path), compression)
        if name is not None:
            outer = _Compressed(compr[name](raw, mode=mode[0]), raw)
        return _Text(outer, raw, **of_text) if is_text else outer

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if mode not in ("wb", "xb"):
            return super()._open(path, mode=mode, **kwargs)
        try:
            return S3WriteFile(self, path, mode, **kwargs)
        except CannotTakeOver as reason:
            _warn(reason)
            return super()._open(path, mode=mode, **kwargs)

    # -- how uploads are made

    async def _options(self, rpath: str, given: Mapping[str, Any]) -> tuple[str, UploadOptions]:
        """Return the target of an upload, and its options.

        Raises:
            CannotTakeOver: Only s3fs can do what is asked for.
        """
        bucket, key, _ = self.split_path(rpath)
        await self.set_session()
        client = await self.get_s3(bucket)
        helper = ParamKwargsHelper(client)
        asked = {**self.s3_additional_kwargs, **given, **self.req_kw}
        fields, options = object_options(
            {name: value for method in _WRITES for name, value in helper.filter_dict(method, asked).items()}
        )
        to = f"s3://{bucket}/{key}"
        try:
            s3 = dataclasses.replace(self._reached(client), **fields)
            if not key or parse_s3_url(to, "") != (bucket, key):
                raise CannotTakeOver(f"bigupload has no such target: {to}")
        except errors.UsageError as e:
            raise CannotTakeOver(str(e)) from e
        options["s3"], options["allow_empty"] = s3, True
        options["on_change"], options["require_proof"] = "restart", self._proof
        return to, options

    def _reached(self, client: Any) -> S3Options:
        found = s3_options(client, ClientSession(client))
        if found.session is None:
            return found
        return dataclasses.replace(found, session=None, credentials=self._credentials, region=client.meta.region_name)

    async def _credentials(self) -> Credentials:
        """Return those of s3fs's session, which renew themselves in its own event loop."""
        if self.loop is not None and self.loop is not asyncio.get_running_loop():
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._credentials(), self.loop))
        key, secret, token = self.key, self.secret, self.token
        if key is None or secret is None:
            found = self.client_kwargs
            key, secret = found.get("aws_access_key_id"), found.get("aws_secret_access_key")
            token = found.get("aws_session_token")
        if key is None or secret is None:
            credentials = await self.session.get_credentials()
            if credentials is None:
                raise errors.CredentialsError("s3fs found no credentials")
            key, secret, token, *_ = await credentials.get_frozen_credentials()
        return Credentials(access_key=key, secret_key=secret, session_token=token)

    @contextlib.asynccontextmanager
    async def _translated_errors(self, where: str, rpath: str) -> AsyncGenerator[None]:
        """Raise bigupload's errors as the exceptions that s3fs raises for the same."""
        try:
            yield
        except errors.BigUploadError as e:
            raise _translate_error(e, self._s3, where, rpath) from e

    def _forget(self, rpath: str) -> None:
        """Drop what s3fs has listed of an object and of the directories that it is in."""
        while rpath:
            self.invalidate_cache(rpath)
            rpath = self._parent(rpath)


class S3WriteFile(s3fs.core.S3File):
    """An object that is opened to be written: what `S3FileSystem.open(path, "wb")` returns.

    `result` has the proof of the object, when it is closed.
    """

    closed: bool
    forced: bool
    """Whether nothing can be written any more, though it is open."""

    def __init__(
        self,
        fs: S3FileSystem,
        path: str,
        mode: str,
        *,
        block_size: int | None = None,
        acl: str | Literal[False] = False,
        autocommit: bool = True,
        requester_pays: bool | None = None,
        version_id: str | None = None,
        fill_cache: bool | None = None,
        cache_type: str | None = None,
        cache_options: Mapping[str, Any] | None = None,
        size: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin the upload. Applications get files from `S3FileSystem.open`. What only matters to reads is ignored.

        Raises:
            CannotTakeOver: Only s3fs can do what is asked for.
            FileExistsError: By mode "xb": there is an object.
            ValueError: The path has no key, or there is no such `acl`.
        """
        self._writer: UploadWriter | None = None
        acl = acl or fs.s3_additional_kwargs.get("ACL", False) or fs.s3_additional_kwargs.get("acl", False)
        block = fs.default_block_size if block_size is None else block_size
        super().__init__(fs, path, mode, block_size=block, acl=acl, autocommit=autocommit)
        given = {**kwargs, **({"ACL": acl} if acl else {}), **({"RequestPayer": "requester"} if requester_pays else {})}
        if mode == "xb":
            fs.invalidate_cache(path)
            if fs.exists(path):
                raise FileExistsError(errno.EEXIST, "there is an object", path)
            given["IfNoneMatch"] = "*"
        to, options = sync(fs.loop, fs._options, path, given)
        with self._translated_errors():
            self._writer = bigupload.open_writer(
                to,
                s3=options["s3"],
                require_proof=options["require_proof"],
                checksum=options.get("checksum", "auto"),
                part_size=block_size,
                uploader=bigupload.Uploader(**fs._uploader.options),
            )

    @property
    def result(self) -> UploadResult:
        """The result of the upload: the object and its proof. Raises ValueError before `close`."""
        with self._translated_errors():
            return self._pushed.result

    @property
    def _pushed(self) -> UploadWriter:
        if self._writer is None:
            raise ValueError("I/O operation on closed file.")
        return self._writer

    @contextlib.contextmanager
    def _translated_errors(self) -> Generator[None]:
        try:
            yield
        except errors.BigUploadError as e:
            raise _translate_error(e, self.fs._s3, self.path, self.path) from e

    def write(self, data: Any) -> int:
        """Write bytes. Waits while the memory for parts is full. Returns how many: all of them."""
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        if self.forced:
            raise ValueError("This file has been force-flushed, can only close")
        with self._translated_errors():
            written = self._pushed.write(data)
        self.loc += written
        return written

    def flush(self, force: bool = False) -> None:
        """Do nothing: parts are sent as they are full. With `force`, nothing can be written any more."""
        if self.closed:
            raise ValueError("Flush on closed file")
        if force and self.forced:
            raise ValueError("Force flush cannot be called more than once")
        self.forced = self.forced or force

    def close(self) -> None:
        """Complete the upload and prove the object, or raise. In a transaction, that is done at its end. Idempotent."""
        if self.closed:
            return
        self.closed = True
        if self.autocommit:
            self.commit()

    def commit(self) -> None:
        """Complete the upload and prove the object. Raises ValueError if it was not closed: then there is none."""
        if not self.closed:  # of a text that is around it, some may be missing
            self.discard()
            raise ValueError(f"{self.path} was never closed, so that nothing was committed")
        with self._translated_errors():
            self._pushed.close()
        if self.fs.version_aware:
            self.version_id = self.result.version_id
        self.fs._forget(self.path)

    def discard(self) -> None:
        """End without an object. What the store has of it is kept for a while: writing it again sends only the rest."""
        self.closed = True
        if self._writer is not None:
            self._writer.abandon()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _dealloc_warn(self, source: object) -> None:
        """End without an object, as the writer does: what wraps the file is garbage, and closes it next."""
        if self._writer is not None and not self.closed:
            self._writer._dealloc_warn(source)
            self.autocommit = False

    def __del__(self) -> None:  # that of the class above would close it
        self.closed = True  # and so would that of `io.IOBase`


class _ExceptionsDiscard(io.IOBase):
    """A wrapper of a written file: a block that an exception leaves, or the garbage collector, commits nothing."""

    _raw: S3WriteFile

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self._raw.discard()

    def __del__(self) -> None:
        """Not close it."""


class _Compressed(_ExceptionsDiscard, io.BufferedIOBase):
    """A compressor and the file that it writes to, which fsspec would leave to the garbage collector to close."""

    def __init__(self, outer: Any, raw: S3WriteFile) -> None:
        self._outer, self._raw = outer, raw

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        return int(self._outer.write(data))

    def tell(self) -> int:
        return int(self._outer.tell())

    def flush(self) -> None:
        if self.closed:
            raise ValueError("Flush on closed file")

    @property
    def closed(self) -> bool:
        return bool(self._raw.closed)

    def close(self) -> None:
        if not self.closed:
            try:
                self._outer.close()
            except BaseException:
                self._raw.discard()
                raise
            self._raw.close()


class _Text(_ExceptionsDiscard, io.TextIOWrapper):
    """A text file, whose exceptions commit nothing either."""

    def __init__(self, buffer: Any, raw: S3WriteFile, **of_text: Any) -> None:
        super().__init__(buffer, **of_text)
        self._raw = raw

    def close(self) -> None:
        if not self.closed:
            try:
                self.flush()
            except BaseException:  # the class above would close the wrapped file all the same
                self._raw.discard()
                raise
        super().close()


class _SharedUploader:
    """The uploader of one file system, which is open while anybody uses it, in one event loop."""

    def __init__(self, options: UploaderOptions) -> None:
        self.options = options
        self._open: Uploader | None = None
        self._users = 0
        self._is_held = False

    async def __aenter__(self) -> Uploader:
        self._users += 1
        if self._open is None:
            self._open = Uploader(**self.options)
            await self._open.__aenter__()  # which waits for nothing
        return self._open

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if not self._users and self._open is not None:
            closing, self._open = self._open, None
            await closing.__aexit__()

    async def hold_for(self, owner: object) -> None:
        """Keep it open until `owner` is garbage. Idempotent."""
        if not self._is_held:
            self._is_held = True
            await self.__aenter__()
            weakref.finalize(owner, self._release, asyncio.get_running_loop()).atexit = False

    def _release(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop.is_running():
            asyncio.run_coroutine_threadsafe(self.__aexit__(), loop)


def _warn(reason: CannotTakeOver) -> None:
    warnings.warn(f"s3fs makes this upload itself, which does not resume: {reason}", NotTakenOver, stacklevel=3)


def _steps(update: Callable[[int], object]) -> Callable[[events.Event | int], None]:
    """Return a function that reports progress as steps forward, whose sum is the size."""
    reported = 0

    def report(event: events.Event | int) -> None:
        nonlocal reported
        if isinstance(event, events.Progress):
            event = event.bytes_uploaded + event.bytes_in_flight
        if isinstance(event, int) and event > reported:
            step, reported = event - reported, event
            update(step)

    return report


def _translate_error(e: errors.BigUploadError, client: Any, where: str, path: str) -> Exception:
    if isinstance(e, errors.TargetExists):
        return FileExistsError(errno.EEXIST, str(e), path)
    if isinstance(e, errors.UsageError):
        return ValueError(str(e))
    made = translated(e, client, "PutObject", where)
    if isinstance(made, ClientError):
        raised: Exception = translate_boto_error(made, set_cause=False)
        return raised
    if isinstance(made, OSError | BotoCoreError):
        return made
    return OSError(errno.EBUSY if isinstance(e, errors.ManifestLocked) else errno.EIO, str(e), path)
