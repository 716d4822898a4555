"""The methods that take the place of a client's own, with the same signatures; and a call of one as an upload of
bigupload's.

bigupload's errors become the exceptions that boto3 raises for the same, with the error as their cause. A refusal of the
store is a `ClientError` with S3's code, which `upload_file` wraps into `S3UploadFailedError`. A file that can't be read
is an `OSError`. What boto3 has nothing for, as a proof that fails, is an `S3UploadFailedError`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import stat
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from bigupload import errors, events
from bigupload.adapters.background import BackgroundUploaders
from bigupload.adapters.boto3.arguments import (
    SMALL,
    CannotTakeOver,
    ClientSession,
    TransferSettings,
    object_options,
    proxies_of,
    retry_policy,
    s3_options,
)
from bigupload.api.arguments import UploaderOptions, UploadOptions
from bigupload.api.uploader import Uploader
from bigupload.core.integrity import Verified
from bigupload.core.manifest import Target, manifest_id
from bigupload.core.retry_policy import Fault
from bigupload.engine.upload_run import UploadResult
from bigupload.manifests.journal import read_manifest
from bigupload.manifests.state_directory import SUFFIX
from bigupload.manifests.state_directory import state_dir as default_state_dir
from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.sources.opening import path_behind
from bigupload.stores.s3.access import refuse_unsuited
from bigupload.stores.targets import parse_s3_url

BotoCallback: TypeAlias = Callable[[int], object]
_METHODS = ("upload_file", "upload_fileobj")


class NotTakenOver(UserWarning):
    """An upload that boto3 makes by itself, as before: it does not resume, and nothing proves its object."""


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class TakenOver:
    """A client's uploads."""

    def __init__(
        self,
        client: Any,
        *,
        require_proof: Verified | str,
        state_dir: str | os.PathLike[str] | None,
        on_result: Callable[[UploadResult], object] | None,
    ) -> None:
        """Connect to nothing yet. The arguments are those of `install`."""
        self._client = client
        self._own = {name: vars(client)[name] for name in _METHODS if name in vars(client)}
        """The methods that another program has put in place of the class's."""
        self._original_upload_file, self._original_upload_fileobj = client.upload_file, client.upload_fileobj
        self._session = ClientSession(client)
        self._reach = partial(s3_options, client, self._session)
        self._proof: Any = Verified(require_proof)
        self._state_dir = None if state_dir is None else Path(state_dir)
        self._on_result = on_result
        self._uploaders = BackgroundUploaders(
            retry=retry_policy(client), state_dir=self._state_dir, proxies=proxies_of(client)
        )
        client.upload_file, client.upload_fileobj = self.upload_file, self.upload_fileobj

    def leave(self) -> None:
        """Give the client its own methods back."""
        for name in _METHODS:
            delattr(self._client, name)
        vars(self._client).update(self._own)
        self._uploaders.close()

    # -- the methods, with the arguments' names of boto3

    def upload_file(
        self,
        Filename: str | os.PathLike[str],
        Bucket: str,
        Key: str,
        ExtraArgs: Mapping[str, Any] | None = None,
        Callback: BotoCallback | None = None,
        Config: Any = None,
    ) -> None:
        """Upload a file to an S3 object, as boto3's method does, by bigupload: it resumes, and proves the object.

        Args:
            Filename: The path of the file.
            Bucket: The name of the bucket.
            Key: The key of the object.
            ExtraArgs: Properties of the object, by the names in `S3Transfer.ALLOWED_UPLOAD_ARGS`.
            Callback: Called with a number of bytes now and then, in this thread. All numbers add up to the size.
            Config: A `boto3.s3.transfer.TransferConfig`.

        Raises:
            S3UploadFailedError: The store refused, or the object is not proved to be the file.
            OSError: The file can't be read.
            BotoCoreError: The store can't be reached, or there are no credentials.
            ValueError: `ExtraArgs` has an unknown name.
        """
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import ClientError

        others: dict[str, Any] = {"ExtraArgs": ExtraArgs, "Callback": Callback, "Config": Config}
        original = partial(self._original_upload_file, Filename, Bucket, Key, **others)
        path: object = os.fspath(Filename) if hasattr(Filename, "__fspath__") else Filename
        if not isinstance(path, str) or not _are_texts(Bucket, Key):
            original()  # says what is wrong
            return
        try:
            job = BotoRequest(Bucket, Key, ExtraArgs, Config, self._reach).of_file(path)
            self._upload(job, Callback or None)  # as boto3 takes it here, and not in `upload_fileobj`
            return
        except CannotTakeOver as e:
            reason = str(e)
        except ClientError as e:
            raise S3UploadFailedError(f"Failed to upload {path} to {Bucket}/{Key}: {e}") from e.__cause__
        _leave_to(original, reason, ExtraArgs)

    def upload_fileobj(
        self,
        Fileobj: _Readable,
        Bucket: str,
        Key: str,
        ExtraArgs: Mapping[str, Any] | None = None,
        Callback: BotoCallback | None = None,
        Config: Any = None,
    ) -> None:
        """Upload what a file object has from its position on, as boto3's method does, by bigupload.

        The object stays open. To resume, the same bytes have to come again, to the same key.

        Args:
            Fileobj: A file object in binary mode, which need not be able to seek.
            Bucket: The name of the bucket.
            Key: The key of the object.
            ExtraArgs: Properties of the object, by the names in `S3Transfer.ALLOWED_UPLOAD_ARGS`.
            Callback: Called with a number of bytes now and then, in this thread. All numbers add up to the size.
            Config: A `boto3.s3.transfer.TransferConfig`.

        Raises:
            ClientError: The store refused.
            S3UploadFailedError: The object is not proved to be what was read, or less was read than `Fileobj` has by
                its `seek` and `tell`.
            BotoCoreError: The store can't be reached, or there are no credentials.
            ValueError: `Fileobj` can't be read, or `ExtraArgs` has an unknown name.
            Exception: What `Fileobj` raised.
        """
        others: dict[str, Any] = {"ExtraArgs": ExtraArgs, "Callback": Callback, "Config": Config}
        original = partial(self._original_upload_fileobj, Fileobj, Bucket, Key, **others)
        if not _can_read(Fileobj) or not _are_texts(Bucket, Key):
            original()  # says what is wrong
            return
        try:
            job = BotoRequest(Bucket, Key, ExtraArgs, Config, self._reach).of_object(Fileobj)
            self._upload(job, Callback)
            return
        except CannotTakeOver as e:
            reason = str(e)
        _leave_to(original, reason, ExtraArgs)

    # -- the upload

    def _upload(self, job: UploadJob, callback: BotoCallback | None) -> None:
        """Upload in the background, and wait.

        Raises:
            CannotTakeOver: Nothing was sent, and boto3 can do it.
            Exception: As boto3 raises it.
        """
        with self._uploaders.lock_target((job.bucket, job.key)):
            heard = _Heard(job.operation, callback)
            while True:
                try:
                    result = self._uploaders.run(partial(self._work, job), heard, **job.of_uploader)
                    break
                except errors.BigUploadError as e:
                    if job.again is not None and heard.resumed and not e.resumable:
                        job.again()  # the upload of an earlier run was aborted now: it can't be the reason twice
                        heard = heard.for_next_attempt()
                        continue
                    if job.again is not None and _is_for_boto3(e):
                        job.again()
                        raise CannotTakeOver(str(e)) from e
                    where = f"{job.shown} to {job.bucket}/{job.key}"
                    raise translated(e, self._client, heard.operation, where) from e
            heard.end(result.size)
            job.finish()
        if self._on_result is not None:
            self._on_result(result)

    async def _work(self, job: UploadJob, uploader: Uploader, tell: Callable[[events.Event], None]) -> UploadResult:
        s3 = job.options.get("s3")
        await self._abort_if_other(job, uploader)
        try:
            return await uploader.upload(job.source, on_event=tell, require_proof=self._proof, **job.options)  # type: ignore[misc]  # neither is in `options`
        except errors.BigUploadError as e:
            if e.manifest is not None and not e.resumable:  # as boto3 does with uploads that have failed for good
                with contextlib.suppress(errors.BigUploadError):
                    await uploader.abort(e.manifest, s3=s3)
            raise

    async def _abort_if_other(self, job: UploadJob, uploader: Uploader) -> None:
        """Abort an unfinished upload of this source that began with other properties, which it would keep."""
        s3 = job.options.get("s3")
        assert s3 is not None
        target = Target(bucket=job.bucket, key=job.key, endpoint=s3.endpoint_url)
        directory = default_state_dir() if self._state_dir is None else self._state_dir
        path = directory / f"{manifest_id(job.name, target)}{SUFFIX}"
        try:
            known = read_manifest(path).manifest if path.exists() else None
        except (errors.ManifestError, OSError):
            return
        if known is None or known.status != "uploading":
            return
        try:
            differs = bool(s3.with_object_of(known.header.options)[1])
        except errors.BigUploadError:  # one of the two has a customer key
            differs = True
        if differs or job.options.get("checksum", "auto") not in ("auto", known.header.checksum.algorithm.value):
            with contextlib.suppress(errors.ManifestLocked):  # another process is at it
                await uploader.abort(path, s3=s3)


def _are_texts(*names: object) -> bool:
    return all(isinstance(name, str) for name in names)


def _leave_to(original: Callable[[], None], reason: str, extra: Mapping[str, Any] | None) -> None:
    from boto3.s3.transfer import S3Transfer

    if all(name in S3Transfer.ALLOWED_UPLOAD_ARGS for name in extra or ()):  # else it is a mistake, as boto3 says
        message = f"boto3 makes this upload itself, so that it does not resume: {reason}"
        warnings.warn(message, NotTakenOver, stacklevel=3)
    original()


def _is_for_boto3(e: errors.BigUploadError) -> bool:
    """Whether nothing was sent, for a reason that does not concern boto3."""
    is_unrecordable = isinstance(e, errors.ManifestUnwritable) and e.lasting and e.manifest is None
    return is_unrecordable or isinstance(e, errors.UsageError | errors.ManifestLocked)


class _Heard:
    """The events of one upload, as a boto3 callback gets them: each call has the bytes since the one before."""

    def __init__(self, operation: str, callback: BotoCallback | None, reported: int = 0) -> None:
        self._callback = callback
        self._reported = reported
        self._first = operation
        self.operation = operation
        """The operation of S3 that is under way, by the events."""
        self.resumed = False
        """Whether an earlier run had begun the upload."""

    def for_next_attempt(self) -> _Heard:
        """Return the listener for the next attempt."""
        return _Heard(self._first, self._callback, self._reported)

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.UploadStarted):
            self.operation = "PutObject" if event.manifest is None else "UploadPart"
            self.resumed |= event.resumed_parts > 0
        elif isinstance(event, events.Completing):
            self.operation = "CompleteMultipartUpload"
        elif isinstance(event, events.Progress):
            self._report(event.bytes_uploaded + event.bytes_in_flight)

    def end(self, size: int) -> None:
        """Report the rest."""
        self._report(size)

    def _report(self, reached: int) -> None:
        if self._callback is not None and reached != self._reported:
            step, self._reported = reached - self._reported, reached
            self._callback(step)


_ANY_NAME = "object"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadJob:
    """One upload."""

    source: Any
    """The source for `Uploader.upload`: a path, bytes, or a file object."""
    name: str
    """The source's name in its manifest."""
    shown: str
    """The same for a message."""
    bucket: str
    key: str
    options: UploadOptions
    of_uploader: UploaderOptions
    """Options of an uploader for this upload alone; none, if any will do."""
    operation: str
    """The first operation of S3, by its name."""
    again: Callable[[], object] | None = None
    """Makes the source what it was, so that it can be uploaded once more. None: its bytes have gone by."""
    finish: Callable[[], object] = bool
    """Moves a file object to its end, where its reader would have left it."""


class BotoRequest:
    """The arguments that the two methods have in common."""

    def __init__(
        self, bucket: str, key: str, extra: Mapping[str, Any] | None, config: Any, reach: Callable[[], S3Options]
    ) -> None:
        """Translate them.

        Args:
            bucket: The bucket's name.
            key: The object's key.
            extra: `ExtraArgs`.
            config: A `TransferConfig`; None: its defaults.
            reach: Returns how to reach the client's store. Raises CannotTakeOver and UsageError.

        Raises:
            CannotTakeOver: Only boto3 can do what they say.
        """
        self._bucket, self._key = bucket, key
        self._settings = TransferSettings.of(config)
        fields, self._options = object_options(extra or {})
        try:
            s3 = dataclasses.replace(reach(), **fields)
            if not key or key.endswith("/") or parse_s3_url(f"s3://{bucket}/{key}") != (bucket, key):
                raise CannotTakeOver(f"bigupload has no such target: {bucket}/{key}")
            refuse_unsuited(bucket, s3)
        except errors.UsageError as e:
            raise CannotTakeOver(str(e)) from e
        self._options["s3"], self._options["to"] = s3, f"s3://{bucket}/{key}"

    def of_file(self, path: str) -> UploadJob:
        """Return the upload of a file.

        Raises:
            CannotTakeOver: It is not a regular file.
            OSError: It can't be read.
        """
        found = os.stat(path)  # noqa: PTH116 - its errors name the path as it was given
        if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
            with open(path, "rb"):  # noqa: PTH123 - as above
                pass
        if not stat.S_ISREG(found.st_mode):
            raise CannotTakeOver(f"{path} is not a regular file")
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 - as the manifest has it
        return self._job(absolute, str(absolute), path, found.st_size, again=bool)

    def of_object(self, file: Any) -> UploadJob:
        """Return the upload of what a file object has from its position on. A small rest is read at once.

        Raises:
            S3UploadFailedError: It ends before the end that it let seek.
        """
        name = self._key.rpartition("/")[2]
        name = _ANY_NAME if name in ("", ".", "..") else name
        most = SMALL if self._settings.threshold is None else min(self._settings.threshold, SMALL)
        job = partial(self._job, name=name, shown=f"{type(file).__name__} object")
        if not _can_seek(file):
            first = _read(file, most)
            is_whole = len(first) < most
            return job(first if is_whole else _Joined(first, file), size=len(first) if is_whole else None)
        start, again = file.tell(), partial(file.seek, file.tell())
        to_end = partial(file.seek, 0, io.SEEK_END)
        to_end()
        size = max(0, file.tell() - start)
        again()
        if size < most:
            data = _read(file, size)
            if len(data) < size:
                from boto3.exceptions import S3UploadFailedError

                where = f"{type(file).__name__} object to {self._bucket}/{self._key}"
                raise S3UploadFailedError(f"Failed to upload {where}: it ended after {len(data):,} of {size:,} bytes")
            return job(data, size=len(data), again=again)
        path = path_behind(file)
        return job(file, name=name if path is None else str(path), size=size, again=again, finish=to_end)

    def _job(
        self,
        source: Any,
        name: str,
        shown: str,
        size: int | None,
        again: Callable[[], object] | None = None,
        finish: Callable[[], object] = bool,
    ) -> UploadJob:
        settings = self._settings
        if size is not None and settings.threshold is not None and SMALL < size < settings.threshold:
            if again is not None:
                again()
            raise CannotTakeOver(f"multipart_threshold={settings.threshold} asks for one PUT of it")
        options: UploadOptions = {**self._options, "allow_empty": True, "on_change": "restart"}
        options["part_size"] = settings.part_size(size)
        if not isinstance(source, Path):
            options["name"] = name.rpartition("/")[2]
        is_small = size is not None and size <= SMALL
        return UploadJob(
            source=source,
            name=name,
            shown=shown,
            bucket=self._bucket,
            key=self._key,
            options=options,
            of_uploader=settings.of_uploader,
            operation="PutObject" if is_small else "CreateMultipartUpload",
            again=again,
            finish=finish,
        )


def _can_read(file: Any) -> bool:
    """Whether boto3 takes a file object for one that can be read: one that is only written would seem to be empty."""
    return hasattr(file, "read") and (not hasattr(file, "readable") or bool(file.readable()))


def _can_seek(file: Any) -> bool:
    """Whether boto3 takes a file object for one that can seek."""
    try:
        if hasattr(file, "seekable"):
            return bool(file.seekable())
        file.seek(file.tell())
    except (AttributeError, OSError, ValueError):
        return False
    return True


def _read(file: Any, most: int) -> bytes:
    """Read until the end, or `most` bytes: a read may return fewer than are there."""
    pieces, left = [], most
    while left > 0:
        piece = file.read(left)
        kind = type(file).__name__
        if piece is None:  # which is not an end
            raise ValueError(f"{kind} gives None, as a file object does that does not block: let it block")
        if isinstance(piece, str):
            raise TypeError(
                f"{type(file).__name__} gives text, and an object is bytes: open it in binary mode, as 'rb'"
            )
        if not piece:
            break
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


class _Joined:
    """The bytes of a stream that were read already, and the others."""

    def __init__(self, first: bytes, file: Any) -> None:
        self._first = io.BytesIO(first)
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; none at the end."""
        data: bytes = self._first.read(size) or self._file.read(size)
        return data


class _S3Code(NamedTuple):
    code: str
    status: int


_CODES: Mapping[type[errors.BigUploadError], _S3Code] = {
    errors.AccessDenied: _S3Code("AccessDenied", 403),
    errors.BucketNotFound: _S3Code("NoSuchBucket", 404),
    errors.ClockSkewed: _S3Code("RequestTimeTooSkewed", 403),
    errors.EndpointRedirects: _S3Code("PermanentRedirect", 301),
    errors.PartCorrupted: _S3Code("BadDigest", 400),
    errors.StoreUnavailable: _S3Code("ServiceUnavailable", 503),
    errors.TargetExists: _S3Code("PreconditionFailed", 412),
    errors.UploadGone: _S3Code("NoSuchUpload", 404),
    errors.WrongRegion: _S3Code("PermanentRedirect", 301),
}
"""S3's code and status for an error, where the store's own response has none."""


def translated(e: errors.BigUploadError, client: Any, operation: str, where: str) -> Exception:
    """Return the exception that boto3 raises for an error.

    Args:
        e: The error.
        client: The boto3 client, which has classes for some of S3's codes.
        operation: The operation of S3 that failed, by its name.
        where: What was uploaded where to, for the message.
    """
    import botocore.exceptions as b
    from boto3.exceptions import S3UploadFailedError

    fault = _fault_of(e)
    if isinstance(e, errors.SourceError) and (reason := _reason_to_read(e)) is not None:
        return reason
    if isinstance(e, errors.CredentialsError) and (fault is None or fault.code is None):
        return _of_credentials(e)
    if isinstance(e, errors.StoreUnreachable):
        return b.EndpointConnectionError(endpoint_url=client.meta.endpoint_url, error=e)
    code = _code_of(e, fault)
    if code is None:
        text = f"{e.it} changed while it was uploaded" if isinstance(e, errors.SourceChanged) else str(e)
        return S3UploadFailedError(f"Failed to upload {where}: {text}")
    made: Any = client.exceptions.from_code(code.code)
    response = {
        "Error": {"Code": code.code, "Message": str(e)},
        "ResponseMetadata": {"HTTPStatusCode": code.status, "HTTPHeaders": {}, "RetryAttempts": 0},
    }
    error: Exception = made(response, operation)
    return error


def _code_of(e: errors.BigUploadError, fault: Fault | None) -> _S3Code | None:
    if not isinstance(e, errors.StoreError | errors.PartCorrupted):
        return None
    usual = next((row for kind, row in _CODES.items() if isinstance(e, kind)), _S3Code("InvalidRequest", 400))
    if fault is None or fault.status is None:
        return usual
    return _S3Code(fault.code or usual.code, fault.status)


def _fault_of(e: BaseException | None) -> Fault | None:
    """The store's refusal that led to an error."""
    while e is not None and not isinstance(e, Fault):
        e = e.__cause__
    return e


def _reason_to_read(e: errors.SourceError) -> Exception | None:
    """Return the exception that reading the source raised, in the system or in the caller's file object."""
    if isinstance(e, errors.SourceUnreadable | errors.SourceNotFound) and isinstance(e.__cause__, Exception):
        return e.__cause__
    return None


def _of_credentials(e: errors.CredentialsError) -> Exception:
    import botocore.exceptions as b

    cause = e.__cause__ or e.__context__
    if isinstance(cause, b.BotoCoreError | b.ClientError):
        return cause
    return b.NoCredentialsError()
