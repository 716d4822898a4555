"""Every error that bigupload raises on purpose, as one tree.

::

    BigUploadError
    ├── UsageError                 the call itself makes no sense                            exit 2
    ├── SourceError                the file
    │   ├── SourceNotFound         also: moved                                               resumable
    │   ├── SourceUnreadable       no permission, an I/O error                               resumable
    │   ├── SourceUnsupported      a directory, a device, a pipe
    │   └── SourceChanged          it did not hold still                      resumable while its size is the same
    ├── ManifestError              the record of the upload
    │   ├── ManifestNotFound
    │   ├── ManifestCorrupt        its first line can't be read; left as it is
    │   ├── ManifestMismatch       it belongs to another file or target
    │   ├── ManifestLocked         another process uploads it right now                      resumable
    │   └── ManifestUnwritable     no space, no permission, a failed fsync                   resumable
    ├── StoreError                 what the store (or the way to it) said
    │   ├── StoreUnreachable       nothing connects, nothing answers                         resumable
    │   ├── StoreUnavailable       it answers, but goes on failing                           resumable
    │   ├── CredentialsError       none found, or none that can be used                      resumable
    │   ├── AccessDenied           the store refuses the caller                              resumable
    │   ├── ClockSkewed            this machine's clock is off                               resumable
    │   ├── BucketNotFound
    │   ├── WrongRegion            says which region the bucket is in
    │   ├── TargetExists           the key is taken and if_none_match was asked for
    │   ├── TargetReplaced         another's object lies under the key
    │   ├── UploadGone             the store no longer knows the upload
    │   ├── UploadExpired          a media service's handle ran out                         resumable
    │   ├── MediaRefused           a media service does not take this file
    │   └── StoreRefused           any other final refusal
    ├── ProofError                 what can't be proved, or is disproved
    │   ├── PartUnproved           nothing the store offers can prove a part
    │   ├── PartCorrupted          a part arrives with other bytes, again and again          resumable
    │   ├── ObjectMismatch         the object is there and is not the file
    │   └── ProofTooWeak           proved, but less than was required
    ├── LocalStoreError            the local store did not start or stop
    └── ServiceError               the media service can't start, or its files are broken

Exit codes are for the commands (0 done and proved, 1 resuming can't help, 2 usage, 75 stopped but resumable).
An error is *resumable* where the same command, given again, goes on. Where no upload exists yet there is nothing to
resume, so a lasting obstacle (no credentials, say) exits 1 then; a passing one (`transient`) exits 75 all the same.

This module knows nothing else of the package. Messages are one line, say what to do, and never hold a URL's query,
a credential or a key: a presigned URL is a bearer secret.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it


class BigUploadError(Exception):
    """The root. `str(error)` is one line for a person; `manifest` names the record to resume from, if there is one."""

    resumable: bool = False
    transient: ClassVar[bool] = False

    def __init__(self, message: str, *, manifest: Path | None = None) -> None:
        super().__init__(message)
        self.manifest = manifest

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without calling `__init__`, whose arguments differ: a process pool would hang on one that fails."""
        return _unpickle, (type(self), str(self), dict(vars(self)))

    @property
    def exit_code(self) -> int:
        """The command's exit status for this error."""
        if self.resumable and (self.transient or self.manifest is not None):
            return EXIT_RESUMABLE
        return EXIT_FAILED


def _unpickle(error: type[BigUploadError], message: str, attributes: dict[str, Any]) -> BigUploadError:
    made = error.__new__(error, message)
    vars(made).update(attributes)
    return made


class UsageError(BigUploadError):
    """The arguments contradict one another, or ask for what can't be."""

    @property
    def exit_code(self) -> int:
        return EXIT_USAGE


class SourceError(BigUploadError):
    """The file to upload."""


class SourceNotFound(SourceError):
    """There is no such file; one that was moved while its upload was under way can be named by --source."""

    resumable = True


class SourceUnreadable(SourceError):
    """The file can't be read: permission, or an I/O error below it."""

    resumable = True


class SourceUnsupported(SourceError):
    """Not a regular file: a directory, a device, a pipe."""


class SourceChanged(SourceError):
    """The file changed while it was uploaded, or since. Resumable (by hashing again) while its size is the same."""

    def __init__(self, message: str, *, same_size: bool, manifest: Path | None = None) -> None:
        super().__init__(message, manifest=manifest)
        self.resumable = same_size


class ManifestError(BigUploadError):
    """The record of an upload on this machine."""


class ManifestNotFound(ManifestError):
    """There is no such manifest."""


class ManifestCorrupt(ManifestError):
    """The manifest's first line can't be read. The file was left as it is."""


class ManifestMismatch(ManifestError):
    """The manifest belongs to another file, target or plan."""


class ManifestLocked(ManifestError):
    """Another process holds the manifest."""

    resumable = True
    transient = True


class ManifestUnwritable(ManifestError):
    """The manifest can't be written: disk full, no permission, a failed fsync. What it holds is intact."""

    resumable = True
    transient = True


class StoreError(BigUploadError):
    """What the store said, or the way to it."""


class StoreUnreachable(StoreError):
    """Nothing connects or nothing answers."""

    resumable = True
    transient = True


class StoreUnavailable(StoreError):
    """The store answers, but goes on failing (5xx, SlowDown) beyond the retry policy."""

    resumable = True
    transient = True


class CredentialsError(StoreError):
    """No credentials were found, or they are incomplete or can't be refreshed."""

    resumable = True


class AccessDenied(StoreError):
    """The store refuses these credentials, also with a fresh signature."""

    resumable = True


class ClockSkewed(StoreError):
    """The store refuses the request's time: this machine's clock is off."""

    resumable = True


class BucketNotFound(StoreError):
    """There is no such bucket."""


class WrongRegion(StoreError):
    """The bucket is in another region than the one that was signed for: `region`, where the store says which."""

    region: str | None = None


class TargetExists(StoreError):
    """The key is taken, and the upload was asked not to replace anything."""


class TargetReplaced(StoreError):
    """While an upload was completing, or an object read back, another came to lie under the key."""


class UploadGone(StoreError):
    """The store no longer knows the upload id, and the object is not there either."""


class UploadExpired(StoreError):
    """A media service's handle ran out while the upload was under way: the same command starts anew."""

    resumable = True


class MediaRefused(StoreError):
    """A media service does not take this file: not media, or too large; the message is the service's."""


class StoreRefused(StoreError):
    """Any other final refusal."""


class ProofError(BigUploadError):
    """A proof is missing, too weak, or contradicted."""


class PartUnproved(ProofError):
    """The store offers nothing that proves a part."""


class PartCorrupted(ProofError):
    """A part was refused or echoed with other bytes than were sent, repeatedly."""

    resumable = True
    transient = True


class ObjectMismatch(ProofError):
    """The object under the key is not the file."""


class ProofTooWeak(ProofError):
    """The object is there and consistent, but the proof is weaker than was required."""


class LocalStoreError(BigUploadError):
    """The local store did not start, stop or answer."""


class ServiceError(BigUploadError):
    """The media service can't start or can't work: its key file, its secret, its address."""
