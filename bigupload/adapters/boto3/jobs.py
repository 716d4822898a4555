"""What a call of boto3's methods asks for, as one upload of bigupload's."""

from __future__ import annotations

import dataclasses
import io
import os
import stat
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bigupload import errors
from bigupload.adapters.boto3.arguments import SMALL, TransferSettings, object_options
from bigupload.adapters.boto3.clients import CannotTakeOver
from bigupload.api.arguments import UploaderOptions, UploadOptions
from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.sources.opening import path_behind
from bigupload.stores.s3.access import refuse_unsuited
from bigupload.stores.targets import parse_s3_url

_ANY_NAME = "object"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadJob:
    """One upload."""

    source: Any
    """What `Uploader.upload` gets: a path, bytes, or a file object."""
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
        """Return the upload of what a file object has from its position on. A small rest is read at once."""
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
    while left > 0 and (piece := file.read(left)):
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
