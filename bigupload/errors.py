"""Every error that bigupload raises on purpose, as one tree.

::

    BigUploadError
    ├── UsageError                 the arguments are wrong                                   exit 2
    ├── SourceError                the file
    │   ├── SourceNotFound         there is no such file, or it was moved                    resumable
    │   ├── SourceUnreadable       no permission, or an I/O error                            resumable
    │   ├── SourceUnreachable      the server of a remote file does not respond              resumable
    │   ├── SourceUnsupported      a directory, a device, or a URL that can't be read
    │   ├── SourceChanged          the file changed meanwhile                 resumable while its size is the same
    │   ├── DirectoryGone          the watched or synced directory is gone, or replaced      resumable
    │   ├── SourceNotDeleted       the object is proved, and the file could not be deleted
    │   └── StreamInterrupted      a stream ended early, or has to be sent once more         resumable
    ├── ManifestError              the manifest of the upload
    │   ├── ManifestNotFound       there is no such manifest
    │   ├── ManifestCorrupt        its first line cannot be read
    │   ├── ManifestMismatch       it belongs to another file or target
    │   ├── ManifestLocked         another process uploads it now                            resumable
    │   └── ManifestUnwritable     no space, no permission, or a failed fsync                resumable
    ├── StoreError                 the store, or the way to it
    │   ├── StoreUnreachable       no connection, or no response                             resumable
    │   ├── StoreUnavailable       the store keeps responding with errors                    resumable
    │   ├── CredentialsError       no credentials, or none that can be used                  resumable
    │   │   └── ObjectNotShown     or the object is encrypted with its owner's key           resumable
    │   ├── AccessDenied           the store refuses these credentials                       resumable
    │   ├── ClockSkewed            this machine's clock is wrong                             resumable
    │   ├── BucketNotFound         there is no such bucket
    │   ├── WrongRegion            the bucket is in another region
    │   ├── TargetExists           there is an object, and it must not be replaced
    │   ├── TargetReplaced         someone else replaced the object
    │   ├── UploadGone             the store no longer knows the upload
    │   ├── UploadExpired          a media service's handle has expired                      resumable
    │   ├── MediaRefused           a media service does not take this file
    │   └── StoreRefused           the store refused in any other way
    │       └── EndpointRedirects  the endpoint leads elsewhere: name the store by where it leads
    ├── ProofError                 a proof is missing or fails
    │   ├── PartUnproved           the store offers nothing that proves a part
    │   ├── PartCorrupted          a part's checksum mismatches repeatedly                   resumable
    │   ├── ObjectMismatch         the object is not the file
    │   │   └── ObjectNotFound     there is no object
    │   └── ProofTooWeak           the proof is weaker than was required
    ├── ClusterError               the Dask cluster that hashes and sends parts              resumable
    │   ├── ClusterUnreachable     no scheduler or no worker responds                        resumable
    │   └── FileNotShared          a worker sees another file than this machine, or none
    ├── OutputUnwritable           a receipt, or a list of checksums, can't be written      resumable
    ├── UploadCancelled            its handle's `cancel`, or the end of its Uploader's context   resumable
    ├── OutOfThreads               the system lets this process start no further thread      resumable
    ├── LocalStoreError            the local store did not start or stop
    └── ServiceError               the media service cannot start, or its files are broken

Exit statuses of the commands: 0: done and proved. 1: resuming cannot help. 2: wrong arguments. 3: done and proved, but
what was to follow (`--on-done`, say) failed. 75: stopped, resumable.

An error is *resumable* if the same command, given again, can resume; of a file that is gone, if the command names its
new place, so that the exit status is 1. It is also 1 where the place of the manifest must be changed first
(`ManifestUnwritable.lasting`). Before an upload exists there is nothing to resume: then a lasting problem (no
credentials, say) exits with 1, and a passing one (`transient`) with 75.

This module imports nothing of the package. A message is one line that says what to do. It never holds a URL's query, a
credential or a key: a presigned URL is a bearer secret. It names arguments in backticks, with a value where that
matters: `part_size`, `resume=False`. The command line shows its options instead (`cli/wording`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_AFTERWARDS = 3
EXIT_RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it

IT = "\0"
"""Stands in a message for the file or object that it is about. No path, key or text has this character."""

_FailsOthers: TypeAlias = Literal["no", "unless they go", "now", "always"]


class BigUploadError(Exception):
    """The root of all errors.

    `str(error)` is one line for a person. `manifest` is the path of the manifest to resume from, if there is one.
    `it` is the file or object that the line names, and `reason` the line without it.
    """

    resumable: bool = False
    transient: ClassVar[bool] = False
    fails_others: _FailsOthers = "no"
    """Whether the other files of a job would fail, too. "unless they go": a store that fails for one key alone gives
    the same errors as a store that is down. "always": waiting changes nothing, so the whole job ends."""

    def __init__(self, message: str, *, manifest: Path | None = None, it: object = None) -> None:
        super().__init__(message.replace(IT, str(it)))
        self.manifest = manifest
        self.it = None if it is None else str(it)
        self.reason = message.removeprefix(f"{IT}: ").removesuffix(f": {IT}").replace(IT, "it")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without calling `__init__`, whose arguments differ: a process pool would hang on one that fails."""
        return _unpickle, (type(self), str(self), dict(vars(self)))

    @property
    def exit_code(self) -> int:
        """The exit status of a command that ends with this error."""
        if self.resumable and (self.transient or self.manifest is not None):
            return EXIT_RESUMABLE
        return EXIT_FAILED


def classes() -> dict[str, type[BigUploadError]]:
    """The errors of this tree by their names, in the order of their declaration."""
    return {
        name: each for name, each in globals().items() if isinstance(each, type) and issubclass(each, BigUploadError)
    }


def name_of(error: BaseException) -> str:
    """The name of an error in this tree. A module may raise a class of its own, which adds what its callers read."""
    return next((each.__name__ for each in type(error).__mro__ if each.__module__ == __name__), type(error).__name__)


def _unpickle(error: type[BigUploadError], message: str, attributes: dict[str, Any]) -> BigUploadError:
    made = error.__new__(error, message)
    vars(made).update(attributes)
    return made


class UsageError(BigUploadError):
    """The arguments contradict each other, or ask for something impossible."""

    retry_with: str | None = None
    """The option that allows the call."""

    @property
    def exit_code(self) -> int:
        return EXIT_USAGE


class SourceError(BigUploadError):
    """The file to upload."""


class SourceNotFound(SourceError):
    """There is no such file. If it was moved during its upload, `source` names it."""

    resumable = True

    @property
    def exit_code(self) -> int:
        """The exit code of a call that would fail again: only a call that names the file's new place resumes."""
        return EXIT_FAILED


class SourceUnreadable(SourceError):
    """The file cannot be read: no permission, or an I/O error."""

    resumable = True


class SourceUnreachable(SourceError):
    """The server of a remote file can't be reached, keeps responding with errors, or cut the file off."""

    resumable = True
    transient = True


class SourceUnsupported(SourceError):
    """The source is not a regular file but a directory, a device or a pipe; or a remote file that can't be read."""


UPLOAD_AS_IT_IS = "`on_change='restart'` uploads it again as it is"
"""Advice for a source that has another size now: without it, the next run refuses the source, too."""


class SourceChanged(SourceError):
    """The file changed during its upload or since. Resumable, by hashing it again, while its size is the same."""

    def __init__(self, message: str, *, same_size: bool, manifest: Path | None = None, it: object = None) -> None:
        super().__init__(message, manifest=manifest, it=it)
        self.resumable = same_size


class DirectoryGone(SourceError):
    """The watched or synced directory was deleted, unmounted or replaced. The same command goes on when it is back."""

    resumable = True
    transient = True


class SourceNotDeleted(SourceError):
    """`delete_source` could not delete the file, which is unharmed. Before the upload nothing was sent; after it, the
    object is complete and proved. Resumable while only another program that uses the file is in the way, or a receipt
    that can't be written."""

    def __init__(self, message: str, *, in_use: bool = False, manifest: Path | None = None, it: object = None) -> None:
        super().__init__(message, manifest=manifest, it=it)
        self.resumable = in_use


class StreamInterrupted(SourceError):
    """A stream ended too early, or bytes that went by are needed again.

    The same command with the same bytes resumes, or begins anew if no part was sent. A stream without a byte is
    `lasting`: the command ends with 1.
    """

    resumable = True
    transient = True

    def __init__(self, message: str, *, manifest: Path | None = None, it: object = None, lasting: bool = False) -> None:
        super().__init__(message, manifest=manifest, it=it)
        self.lasting = lasting

    @property
    def exit_code(self) -> int:
        return EXIT_FAILED if self.lasting and self.manifest is None else super().exit_code


class ManifestError(BigUploadError):
    """The manifest of an upload on this machine."""


class ManifestNotFound(ManifestError):
    """There is no such manifest."""


class ManifestCorrupt(ManifestError):
    """The manifest's first line cannot be read. The file was not changed."""


class ManifestMismatch(ManifestError):
    """The manifest belongs to another file, target or plan."""


class ManifestLocked(ManifestError):
    """Another process holds the manifest."""

    resumable = True
    transient = True


class ManifestUnwritable(ManifestError):
    """The manifest cannot be written: disk full, no permission, or a failed fsync. Its earlier records are intact.

    `lasting`: whether the same call would fail again. Then a command ends with 1, otherwise with 75.
    """

    resumable = True
    transient = True

    def __init__(self, message: str, *, manifest: Path | None = None, lasting: bool = False) -> None:
        """Describe the failed write.

        Args:
            message: What happened, and what to do.
            manifest: The manifest, if it exists.
            lasting: Whether the same call would fail again: no permission, say, but not a full disk.
        """
        super().__init__(message, manifest=manifest)
        self.lasting = lasting
        self.fails_others = "always" if lasting else "now"

    @property
    def exit_code(self) -> int:
        return EXIT_FAILED if self.lasting else super().exit_code


class StoreError(BigUploadError):
    """The store, or the way to it."""


class StoreUnreachable(StoreError):
    """No connection to the store, or no response from it."""

    resumable = True
    transient = True
    fails_others = "unless they go"


class StoreUnavailable(StoreError):
    """The store kept responding with errors (5xx, SlowDown) for longer than the retry policy allows."""

    resumable = True
    transient = True
    fails_others = "unless they go"


class CredentialsError(StoreError):
    """No credentials were found, or they are incomplete, expired or cannot be refreshed."""

    resumable = True
    fails_others: _FailsOthers = "now"


class ObjectNotShown(CredentialsError):
    """The store does not show an object, and gives no reason: the credentials have expired, or it is encrypted with its
    owner's key (SSE-C). Of many files, only that one fails.
    """

    fails_others = "no"


class AccessDenied(StoreError):
    """The store refuses these credentials, also with a fresh signature."""

    resumable = True


class ClockSkewed(StoreError):
    """The store refuses the request's time, and the time of its own refusal, too: this machine's clock is wrong."""

    resumable = True
    fails_others = "now"


class BucketNotFound(StoreError):
    """There is no such bucket."""

    fails_others = "always"


class WrongRegion(StoreError):
    """The bucket is in another region than the request was signed for: in `region`, if the store names it."""

    region: str | None = None
    fails_others = "always"


class TargetExists(StoreError):
    """There is an object under the key, and the upload must not replace it."""


class TargetReplaced(StoreError):
    """Someone else replaced the object while the upload was completing, or while the object was read back."""


class UploadGone(StoreError):
    """The store no longer knows the upload id, and there is no object."""


class UploadExpired(StoreError):
    """A media service's handle expired during the upload. The same command starts a new upload."""

    resumable = True


class MediaRefused(StoreError):
    """A media service does not take this file: it is not media, or too large. The message is the service's."""


class StoreRefused(StoreError):
    """The store refused in any other way, and would again."""


class EndpointRedirects(StoreRefused):
    """The endpoint redirects requests elsewhere, which are not followed. It concerns every file of a job."""

    fails_others = "always"


class ProofError(BigUploadError):
    """A proof is missing, too weak, or fails."""


class PartUnproved(ProofError):
    """The store offers nothing that proves a part, or a proxy drops its ETag and the store can't be asked for it."""


class PartCorrupted(ProofError):
    """Checksum mismatch of a part, repeatedly: the store received other bytes than were sent."""

    resumable = True
    transient = True


class ObjectMismatch(ProofError):
    """The object under the key is not the file."""


class ObjectNotFound(ObjectMismatch):
    """There is no object under the key, so none that could be the file."""


class ProofTooWeak(ProofError):
    """The object is complete, but the proof is weaker than was required."""


class ClusterError(BigUploadError):
    """The Dask cluster that hashes and sends parts: its workers can't be used, or keep failing."""

    resumable = True


class ClusterUnreachable(ClusterError):
    """No scheduler or no worker responds."""

    transient = True
    fails_others = "now"


class FileNotShared(ClusterError):
    """A worker sees another file than this machine, or none: workers need the same file system."""

    resumable = False


class OutputUnwritable(BigUploadError):
    """A file that is written beside uploads, such as a receipt, can't be written. If the message says that the upload
    is done, the object is complete and proved."""

    resumable = True


class UploadCancelled(BigUploadError):
    """The upload was cancelled by its handle, or its Uploader was closed meanwhile.

    A task that is itself cancelled gets `asyncio.CancelledError`, as everywhere.
    """

    resumable = True
    transient = True
    fails_others = "always"


class OutOfThreads(BigUploadError):
    """The system lets this process start no further thread: a limit of the user's or of the container's processes."""

    resumable = True
    transient = True


class LocalStoreError(BigUploadError):
    """The local store did not start, stop or respond."""

    fails_others = "always"


class ServiceError(BigUploadError):
    """The media service cannot start or work: its key file, its secret, or its address."""
