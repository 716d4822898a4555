"""The S3 storage of django-storages, whose files bigupload sends: what is saved is proved, or there is an exception.

Options, settings and results are those of django-storages. Saving goes by its boto3 client, whose uploads the adapter
for boto3 makes. A file that is opened to be written is a writer: it is an object only if it is closed, and no exception
leaves its block.
"""

# mypy: disable-error-code="misc"
# Neither Django nor django-storages has types, so their classes are Any.

from __future__ import annotations

import contextlib
import dataclasses
import io
import sys
import warnings
from collections.abc import Generator, Iterable
from typing import Any

from django.contrib.staticfiles.storage import ManifestFilesMixin
from storages.backends import s3
from storages.utils import clean_name, setting, to_bytes

import bigupload
from bigupload import errors
from bigupload.adapters.boto3 import NotTakenOver, install
from bigupload.adapters.boto3.arguments import CannotTakeOver, ClientSession, object_options, proxies_of, s3_options
from bigupload.adapters.boto3.methods import translated
from bigupload.api.blocking_writer import UploadWriter
from bigupload.api.writer import NO_SEEK, refused_close, unwinding


class WrittenFile(s3.S3File):
    """A file that is opened to be written: what `S3Storage.open(name, "w")` returns.

    Django's file hands all other methods on to a file on the disk, of which nothing would come into the object. So each
    by which a library may write is here.
    """

    _closed: bool

    def __init__(self, name: str, mode: str, storage: S3Storage) -> None:
        """Send nothing yet. Applications get files from `S3Storage.open`."""
        self._writer: UploadWriter | None = None
        self._is_dropped = False
        self._opened_in = sys.exception()
        super().__init__(name, mode, storage)

    def open(self, mode: str | None = None) -> WrittenFile:
        """Open it once more, after `close`. What is written then replaces the object."""
        if self._closed:
            if mode and mode != self._mode:
                raise ValueError("Cannot reopen file with a new mode.")
            self._closed, self._is_dropped, self._opened_in = False, False, sys.exception()
        return self

    def write(self, content: Any) -> int:
        """Write bytes or text. Waits while the memory for parts is full."""
        if self._closed:
            raise ValueError("write to a closed file")
        data = to_bytes(content)
        if self._is_dropped:
            return len(data)
        if self._writer is None:
            self._writer = self._storage.open_writer(self.obj.key)
        with self._translated_errors():
            written = self._writer.write(data)
        self._raw_bytes_written += written
        return written

    def writelines(self, lines: Iterable[Any]) -> None:
        """Write each of an iterable's bytes or texts."""
        for line in lines:
            self.write(line)

    def readable(self) -> bool:
        """False."""
        return False

    def seekable(self) -> bool:
        """False."""
        return False

    def writable(self) -> bool:
        """Whether it is open."""
        return not self._closed

    def isatty(self) -> bool:
        """False."""
        return False

    def fileno(self) -> int:
        """Raise io.UnsupportedOperation: libraries write to the file itself then, and not around it."""
        raise io.UnsupportedOperation("fileno: it is not a file on the disk")

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Raise io.UnsupportedOperation: parts are sent as they are written."""
        raise io.UnsupportedOperation(NO_SEEK)

    def truncate(self, size: int | None = None, /) -> int:
        """Raise io.UnsupportedOperation: parts are sent as they are written."""
        raise io.UnsupportedOperation(NO_SEEK)

    def tell(self) -> int:
        """Return the number of bytes that were written."""
        return int(self._raw_bytes_written)

    def flush(self) -> None:
        """Do nothing: parts are sent as they are full."""

    def close(self) -> None:
        """Complete the upload and prove the object. One that nothing was written to is empty, if there is none.

        Idempotent. While an exception is handled that was not when the file was opened, there is no object.

        Raises:
            UsageError: An exception is being handled.
            ClientError: The store refused.
        """
        if self._closed:
            return
        try:
            if self._is_dropped:
                return
            if self._writer is not None:
                with self._translated_errors():
                    self._writer.close()
            elif (now := unwinding(self._opened_in)) is not None:
                raise errors.UsageError(refused_close(now))
            else:
                super().close()
        finally:
            self._end()

    def discard(self) -> None:
        """End without an object."""
        if self._writer is not None:
            self._writer.abandon()
        self._end()

    def _dealloc_warn(self, source: object) -> None:
        """End without an object, as the writer does: what wraps the file is garbage, and closes it next."""
        if not self._closed:
            self._is_dropped = True
            if self._writer is not None:
                self._writer._dealloc_warn(source)

    def _end(self) -> None:
        self._writer, self._closed, self._opened_in = None, True, None
        self._reset_file_properties()

    @contextlib.contextmanager
    def _translated_errors(self) -> Generator[None]:
        """Raise bigupload's errors as the exceptions of boto3."""
        try:
            yield
        except (errors.StoreError, errors.ManifestError, errors.ProofError) as e:
            raise translated(e, self._storage.connection.meta.client, "UploadPart", self.name) from e

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class S3Storage(s3.S3Storage):
    """`storages.backends.s3.S3Storage` with the same options, and two more: `require_proof` and `state_dir`.

    `require_proof` is the least proof of a file that is saved, as for `bigupload.upload`. `state_dir` is the directory
    for manifests, by which the same file resumes; None: BIGUPLOAD_STATE_DIR, else the user's state directory.
    """

    def get_default_settings(self) -> dict[str, Any]:
        """Return the options and their defaults, which settings may name."""
        return {
            **super().get_default_settings(),
            "require_proof": setting("BIGUPLOAD_REQUIRE_PROOF", "size"),
            "state_dir": setting("BIGUPLOAD_STATE_DIR"),
        }

    @property
    def connection(self) -> Any:
        """The boto3 resource of this thread."""
        is_there = getattr(self._connections, "connection", None) is not None
        connection = super().connection
        if not is_there:
            install(connection.meta.client, require_proof=self.require_proof, state_dir=self.state_dir)
        return connection

    def open_writer(self, key: str) -> UploadWriter:
        """Return a writer for an object, whose parameters are those of a file that is saved."""
        client = self.connection.meta.client
        fields, options = object_options(self._get_write_parameters(key))
        return bigupload.open_writer(
            f"s3://{self.bucket_name}/{key}",
            s3=dataclasses.replace(s3_options(client, ClientSession(client)), **fields),
            require_proof=self.require_proof,
            checksum=options.get("checksum", "auto"),
            uploader=bigupload.Uploader(state_dir=self.state_dir, proxies=proxies_of(client)),
        )

    def _open(self, name: str, mode: str = "rb") -> Any:
        if "w" not in mode:
            return super()._open(name, mode)
        key = self._normalize_name(clean_name(name))
        try:
            object_options(self._get_write_parameters(key))
            s3_options(self.connection.meta.client, ClientSession(self.connection.meta.client))
        except (CannotTakeOver, errors.UsageError) as e:
            warnings.warn(f"django-storages writes this file itself: {e}", NotTakenOver, stacklevel=3)
            return super()._open(name, mode)
        return WrittenFile(key, mode, self)


class S3StaticStorage(S3Storage):
    """The same for static files: URLs have no signature."""

    querystring_auth = False


class S3ManifestStaticStorage(ManifestFilesMixin, S3StaticStorage):
    """The same for static files with a hash in their names."""
