# What type checkers and editors see of the package: each name of `__all__`, and each option of the functions with its
# type, default and documentation. `python -m tests.tools.generated` writes this file.

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import Literal, overload

from bigupload.api.arguments import AbortOptions as AbortOptions
from bigupload.api.arguments import AdoptOptions as AdoptOptions
from bigupload.api.arguments import ChecksumName, OnChange, OnError, OnEvent, ProofName
from bigupload.api.arguments import OrphanOptions as OrphanOptions
from bigupload.api.arguments import ReadBackOptions as ReadBackOptions
from bigupload.api.arguments import ResumeOptions as ResumeOptions
from bigupload.api.arguments import ShareOptions as ShareOptions
from bigupload.api.arguments import SyncOptions as SyncOptions
from bigupload.api.arguments import UploaderOptions as UploaderOptions
from bigupload.api.arguments import UploadManyOptions as UploadManyOptions
from bigupload.api.arguments import UploadOptions as UploadOptions
from bigupload.api.arguments import VerifyOptions as VerifyOptions
from bigupload.api.arguments import WatchOptions as WatchOptions
from bigupload.api.arguments import WriterOptions as WriterOptions
from bigupload.api.blocking_writer import TextUploadWriter as TextUploadWriter
from bigupload.api.blocking_writer import UploadWriter as UploadWriter
from bigupload.api.calls import UploadHandle as UploadHandle
from bigupload.api.many_items import select_files as select_files
from bigupload.api.steps.delete_source import DeleteSource as DeleteSource
from bigupload.api.steps.digest import Digest as Digest
from bigupload.api.steps.link import Link as Link
from bigupload.api.steps.receipt import Receipt as Receipt
from bigupload.api.types import ManySource, StrPath, SyncOutcome, Then, UploadSource
from bigupload.api.types import Row as Row
from bigupload.api.types import SyncResult as SyncResult
from bigupload.api.types import SyncStep as SyncStep
from bigupload.api.types import VerificationFailed as VerificationFailed
from bigupload.api.writer import AsyncUploadWriter as AsyncUploadWriter
from bigupload.batch.job import UploadFailed as UploadFailed
from bigupload.batch.tree import FileEntry as FileEntry
from bigupload.batch.tree import Omitted as Omitted
from bigupload.batch.tree import Selection as Selection
from bigupload.core.checksums import Algorithm as Algorithm
from bigupload.core.integrity import PartProof as PartProof
from bigupload.core.integrity import Verified as Verified
from bigupload.core.retry_policy import RetryPolicy as RetryPolicy
from bigupload.engine.upload_run import Share as Share
from bigupload.engine.upload_run import UploadResult as UploadResult
from bigupload.errors import AccessDenied as AccessDenied
from bigupload.errors import BigUploadError as BigUploadError
from bigupload.errors import BucketNotFound as BucketNotFound
from bigupload.errors import ClockSkewed as ClockSkewed
from bigupload.errors import ClusterError as ClusterError
from bigupload.errors import ClusterUnreachable as ClusterUnreachable
from bigupload.errors import CredentialsError as CredentialsError
from bigupload.errors import DirectoryGone as DirectoryGone
from bigupload.errors import EndpointRedirects as EndpointRedirects
from bigupload.errors import FileNotShared as FileNotShared
from bigupload.errors import LocalStoreError as LocalStoreError
from bigupload.errors import ManifestCorrupt as ManifestCorrupt
from bigupload.errors import ManifestError as ManifestError
from bigupload.errors import ManifestLocked as ManifestLocked
from bigupload.errors import ManifestMismatch as ManifestMismatch
from bigupload.errors import ManifestNotFound as ManifestNotFound
from bigupload.errors import ManifestUnwritable as ManifestUnwritable
from bigupload.errors import MediaRefused as MediaRefused
from bigupload.errors import ObjectMismatch as ObjectMismatch
from bigupload.errors import ObjectNotFound as ObjectNotFound
from bigupload.errors import ObjectNotShown as ObjectNotShown
from bigupload.errors import OutOfThreads as OutOfThreads
from bigupload.errors import OutputUnwritable as OutputUnwritable
from bigupload.errors import PartCorrupted as PartCorrupted
from bigupload.errors import PartUnproved as PartUnproved
from bigupload.errors import ProofError as ProofError
from bigupload.errors import ProofTooWeak as ProofTooWeak
from bigupload.errors import ServiceError as ServiceError
from bigupload.errors import SourceChanged as SourceChanged
from bigupload.errors import SourceError as SourceError
from bigupload.errors import SourceNotDeleted as SourceNotDeleted
from bigupload.errors import SourceNotFound as SourceNotFound
from bigupload.errors import SourceUnreachable as SourceUnreachable
from bigupload.errors import SourceUnreadable as SourceUnreadable
from bigupload.errors import SourceUnsupported as SourceUnsupported
from bigupload.errors import StoreError as StoreError
from bigupload.errors import StoreRefused as StoreRefused
from bigupload.errors import StoreUnavailable as StoreUnavailable
from bigupload.errors import StoreUnreachable as StoreUnreachable
from bigupload.errors import StreamInterrupted as StreamInterrupted
from bigupload.errors import TargetExists as TargetExists
from bigupload.errors import TargetReplaced as TargetReplaced
from bigupload.errors import UploadCancelled as UploadCancelled
from bigupload.errors import UploadExpired as UploadExpired
from bigupload.errors import UploadGone as UploadGone
from bigupload.errors import UsageError as UsageError
from bigupload.errors import WrongRegion as WrongRegion
from bigupload.events import Completing as Completing
from bigupload.events import Event as Event
from bigupload.events import Hashing as Hashing
from bigupload.events import JobProgress as JobProgress
from bigupload.events import OutageContinues as OutageContinues
from bigupload.events import OutageEnded as OutageEnded
from bigupload.events import OutageStarted as OutageStarted
from bigupload.events import PartUploaded as PartUploaded
from bigupload.events import Progress as Progress
from bigupload.events import ReadingBack as ReadingBack
from bigupload.events import Restarted as Restarted
from bigupload.events import Retrying as Retrying
from bigupload.events import UploadCompleted as UploadCompleted
from bigupload.events import UploadIdentity as UploadIdentity
from bigupload.events import UploadSkipped as UploadSkipped
from bigupload.events import UploadStarted as UploadStarted
from bigupload.events import UploadStopped as UploadStopped
from bigupload.events import Warned as Warned
from bigupload.manifests.listing import KnownUpload as KnownUpload
from bigupload.options import Credentials as Credentials
from bigupload.options import S3Options as S3Options
from bigupload.progress import rich_progress as rich_progress
from bigupload.progress import tqdm_progress as tqdm_progress
from bigupload.units import RateSchedule as RateSchedule
from bigupload.verification.by_checksum import Verification as Verification
from bigupload.verification.by_download import ReadBack as ReadBack
from bigupload.verification.orphans import Orphan as Orphan
from bigupload.verification.orphans import OrphanReport as OrphanReport

__version__: str

async def abort(
    manifest: StrPath,
    *,
    api_key: str | None = None,
    s3: S3Options | None = None,
    on_event: OnEvent | None = None,
    trust: bool = False,
    uploader: Uploader | None = None,
) -> None:
    """Abort an upload: delete its parts from the store, and record that in its manifest.

    The store is the manifest's.

    Args:
        manifest: The manifest's path; or its id, or the beginning of its id, as `list_uploads` shows it.
        api_key: The media service's key; None: the environment variable BIGUPLOAD_API_KEY.
        s3: Credentials to use; the manifest has everything else.
        on_event: A function, async or not, that is called with each event in the event loop.
        trust: Also take a manifest that this user did not begin on this machine.
        uploader: The `Uploader` whose connections, limits and state are used; None: one by default.

    Raises:
        ManifestNotFound: There is no such manifest.
        UsageError: The upload is complete, even if no record says so yet. Or this user did not begin the manifest
            on this machine, and `trust` is not set.
        StoreError: The store refused, or can't be reached.
    """

async def abort_orphans(
    url: str,
    *,
    s3: S3Options | None = None,
    older_than: float | str = "7d",
    owners: Sequence[StrPath] = (),
    dry_run: bool = False,
    on_orphan: Callable[[Orphan], None] | None = None,
    on_failure: Callable[[str, BigUploadError], None] | None = None,
    uploader: Uploader | None = None,
) -> OrphanReport:
    """Abort open multipart uploads that no manifest here owns and of which no part arrived for a while.

    Manifests of other machines and users can't be seen: `older_than` is what protects their uploads.

    Args:
        url: "s3://BUCKET/PREFIX"; the prefix may be empty.
        s3: How to reach the store.
        older_than: Only uploads of which no part arrived for so long: seconds, or like "12h".
        owners: More manifests, and directories of manifests, that own uploads, beside those of the state directory.
        dry_run: Abort nothing, and report what would be aborted.
        on_orphan: Called with each upload that was aborted, or with `dry_run` would be.
        on_failure: Called with the key of each upload that could not be examined or aborted, and the reason.
        uploader: The `Uploader` whose connections, limits and state are used; None: one by default.

    Raises:
        ManifestError: A manifest can't be read. It may own any upload, so that nothing was aborted.
        StoreError: The store refused to list, or can't be reached.
    """

async def adopt(
    to: str,
    *,
    source: StrPath,
    s3: S3Options | None = None,
    on_event: OnEvent | None = None,
    require_proof: Verified | ProofName = "size",
    verify_source: bool = False,
    priority: int = 0,
    upload_id: str | None = None,
    manifest: StrPath | None = None,
    uploader: Uploader | None = None,
) -> UploadResult:
    """Take over an open upload that no manifest here describes, by ListParts and the file.

    A part is kept only if the file, hashed again, has the same bytes. Nothing is adopted unasked, because another
    program may still be uploading.

    Args:
        to: "s3://BUCKET/KEY" of the open upload.
        source: The file.
        s3: How to reach the store.
        on_event: A function, async or not, that is called with each event in the event loop.
        require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
        verify_source: Hash the file once more before the upload is completed.
        priority: A whole number: uploads with a higher one go first.
        upload_id: Which upload to adopt, if several to this key are open.
        manifest: The manifest's path; None: a file in the state directory, named by source and target.
        uploader: The `Uploader` whose connections, limits and state are used; None: one by default.

    Raises:
        UploadGone: No upload to this key is open.
        UsageError: Several are open, and `upload_id` names none of them.
        ManifestMismatch: A manifest here describes the upload: resume that.
    """

async def list_uploads(*, uploader: Uploader | None = None) -> list[KnownUpload]:
    """Return the uploads whose manifests are in the state directory, the least recently changed first.

    Args:
        uploader: The `Uploader` whose connections, limits and state are used; None: one by default.

    Raises:
        ManifestError: The directory can't be listed.
    """

@overload
def open_writer(
    to: str | None = None,
    *,
    service: str | None = None,
    api_key: str | None = None,
    s3: S3Options | None = None,
    name: str | None = None,
    part_size: int | str | None = None,
    on_event: OnEvent | None = None,
    require_proof: Verified | ProofName = "size",
    priority: int = 0,
    expected_size: int | str | None = None,
    checksum: ChecksumName = "auto",
    manifest: StrPath | None = None,
    resume: bool = True,
    on_error: OnError = "keep",
    text: Literal[False] = False,
    encoding: str | None = None,
    newline: str | None = None,
    uploader: Uploader | None = None,
) -> UploadWriter:
    """Open an object for writing, like a file, which is uploaded while it is written. Use it by `with`.

    It is a binary file object (`io.BufferedIOBase`) that can't seek: `zipfile`, `tarfile` in mode "w|", `csv`, pandas,
    pyarrow and others write to it. Leaving the block, or `close`, completes the upload and proves the object. If an
    exception leaves the block, or the writer is never closed, there is no object. The same bytes, written again, resume
    the upload. It works in any thread, also where an event loop is running, which it blocks: it has a thread and an
    event loop of its own, in which `on_event` is called. One target is needed: `to`, `service`, or
    `s3=S3Options(local=True)`.

    Returns:
        The writer. Once it is closed, `writer.result` has the object and its proof.

    Args:
        to: "s3://BUCKET/KEY", or "s3://BUCKET/FOLDER/" with a `name`.
        service: The URL of a media service, instead of `to`.
        api_key: The media service's key; None: the environment variable BIGUPLOAD_API_KEY.
        s3: How to reach the store, and the object's properties.
        name: The name, where `to` ends in a slash and for a media service; None: the file's, or the key's end.
        part_size: The size of each part, in bytes or like "16MiB"; None: by the file's size.
        on_event: A function, async or not, that is called with each event in the event loop.
        require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
        priority: A whole number: uploads with a higher one go first.
        expected_size: The size that the source must have to be completed, in bytes or like "5GB"; None: any.
        checksum: The parts' checksums: "auto" (CRC64NVME), "crc64nvme", "crc32c", "sha256", "md5" or "none".
        manifest: The manifest's path; None: a file in the state directory, named by source and target.
        resume: Resume an unfinished upload of this file to this target; False sets its manifest aside.
        on_error: If nothing is committed: "keep" the parts in the store, or "abort" the upload.
        text: Write text, which is encoded: the writer is an `io.TextIOWrapper`.
        encoding: The encoding of text; None: "utf-8".
        newline: What "\n" is written as, as in `open`; None: the line end of the system.
        uploader: The `Uploader` whose connections, limits and state are used; None: one by default.

    Raises:
        UsageError: The options contradict one another.
    """

@overload
def open_writer(
    to: str | None = None,
    *,
    service: str | None = None,
    api_key: str | None = None,
    s3: S3Options | None = None,
    name: str | None = None,
    part_size: int | str | None = None,
    on_event: OnEvent | None = None,
    require_proof: Verified | ProofName = "size",
    priority: int = 0,
    expected_size: int | str | None = None,
    checksum: ChecksumName = "auto",
    manifest: StrPath | None = None,
    resume: bool = True,
    on_error: OnError = "keep",
    text: Literal[True],
    encoding: str | None = None,
    newline: str | None = None,
    uploader: Uploader | None = None,
) -> TextUploadWriter:
    """Open an object for writing, like a file, which is uploaded while it is written. Use it by `with`.

    It is a binary file object (`io.BufferedIOBase`) that can't seek: `zipfile`, `tarfile` in mode "w|", `csv`, pandas,
    pyarrow and others write to it. Leaving the block, or `close`, completes the upload and proves the object. If an
    exception leaves the block, or the writer is never closed, there is no object. The same bytes, written again, resume
    the upload. It works in any thread, also where an event loop is running, which it blocks: it has a thread and an
    event loop of its own, in which `on_event` is called. One target is needed: `to`, `service`, or
    `s3=S3Options(local=True)`.

    Returns:
        The writer. Once it is closed, `writer.result` has the object and its proof.

    Args:
        to: "s3://BUCKET/KEY", or "s3://BUCKET/FOLDER/" with a `name`.
        service: The URL of a media service, instead of `to`.
        api_key: The media service's key; None: the environment variable BIGUPLOAD_API_KEY.
        s3: How to reach the store, and the object's properties.
        name: The name, where `to` ends in a slash and for a media service; None: the file's, or the key's end.
        part_size: The size of each part, in bytes or like "16MiB"; None: by the file's size.
        on_event: A function, async or not, that is called with each event in the event loop.
        require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
        priority: A whole number: uploads with a higher one go first.
        expected_size: The size that the source must have to be completed, in bytes or like "5GB"; None: any.
        checksum: The parts' checksums: "auto" (CRC64NVME), "crc64nvme", "crc32c", "sha256", "md5" or "none".
        manifest: The manifest's path; None: a file in the state directory, named by source and target.
        resume: Resume an unfinished upload of this file to this target; False sets its manifest aside.
        on_error: If nothing is committed: "keep" the parts in the store, or "abort" the upload.
        text: Write text, which is encoded: the writer is an `io.TextIOWrapper`.
        encoding: The encoding of text; None: "utf-8".
        newline: What "\n" is written as, as in `open`; None: the line end of the system.
        uploader: The `Uploader` whose connections, limits and state are used; None: one by default.

    Raises:
        UsageError: The options contradict one another.
    """

async def read_back(
    path: StrPath,
    url: str,
    *,
    s3: S3Options | None = None,
    on_event: OnEvent | None = None,
    uploader: Uploader | None = None,
) -> ReadBack:
    """Download an object and compare every byte with a file. A second call resumes where the first stopped.

    Args:
        path: The file.
        url: "s3://BUCKET/KEY" of the object.
        s3: How to reach the store.
        on_event: A function, async or not, that is called with each event in the event loop.
        uploader: The `Uploader` whose connections, limits and state are used; None: one by default.

    Raises:
        ObjectNotFound: There is no object. It is a subclass of ObjectMismatch.
        ObjectMismatch: The object is not the file.
        TargetReplaced: It was replaced by another object during the call.
    """

async def resume(
    manifest: StrPath,
    *,
    api_key: str | None = None,
    s3: S3Options | None = None,
    source: StrPath | None = None,
    on_event: OnEvent | None = None,
    trust: bool = False,
    require_proof: Verified | ProofName = "size",
    verify_source: bool = False,
    priority: int = 0,
    on_change: OnChange | None = None,
    uploader: Uploader | None = None,
) -> UploadResult:
    """Resume the upload that a manifest describes. If it is complete, return its result again.

    The store is the manifest's.

    Args:
        manifest: The manifest's path; or its id, or the beginning of its id, as `list_uploads` shows it.
        api_key: The media service's key; None: the environment variable BIGUPLOAD_API_KEY.
        s3: Credentials to use; the manifest has everything else.
        source: Where the file is now, if it was moved.
        on_event: A function, async or not, that is called with each event in the event loop.
        trust: Also take a manifest that this user did not begin on this machine.
        require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
        verify_source: Hash the file once more before the upload is completed.
        priority: A whole number: uploads with a higher one go first.
        on_change: If the source changes: "raise" SourceChanged, or "restart" with the source as it is now.
        uploader: The `Uploader` whose connections, limits and state are used; None: one by default.

    Raises:
        ManifestNotFound: There is no such manifest.
        UsageError: This user did not begin the manifest on this machine, and `trust` is not set. A manifest decides
            which file is sent where, with whose credentials.
        BigUploadError: The upload failed; `error.manifest` is what `resume` takes, if it can be resumed.
    """

async def share(
    url: str,
    *,
    s3: S3Options | None = None,
    lasts: float | str = "7d",
    uploader: Uploader | None = None,
) -> Share:
    """Make a link to an object, by which anyone can read it until the link ends.

    The store is asked first whether the object is there, and whether these credentials may read it.

    Args:
        url: "s3://BUCKET/KEY" of the object.
        s3: How to reach the store.
        lasts: For how long, in seconds or like "7d", which is the most.
        uploader: The `Uploader` whose connections, limits and state are used; None: one by default.

    Raises:
        ObjectNotFound: There is no object. It is a subclass of ObjectMismatch.
        AccessDenied: These credentials may not read it.
        UsageError: `lasts` is more than 7 days, or the object can't be shared.
    """

def start(
    source: UploadSource,
    to: str | None = None,
    *,
    service: str | None = None,
    api_key: str | None = None,
    s3: S3Options | None = None,
    name: str | None = None,
    part_size: int | str | None = None,
    on_event: OnEvent | None = None,
    require_proof: Verified | ProofName = "size",
    verify_source: bool = False,
    priority: int = 0,
    on_change: OnChange | None = None,
    follow: bool = False,
    idle: float | str = "10s",
    then: Then = (),
    expected_size: int | str | None = None,
    checksum: ChecksumName = "auto",
    manifest: StrPath | None = None,
    resume: bool = True,
    end_marker: str | bytes | None = None,
    allow_empty: bool = False,
    skip_existing: bool = False,
    delta: bool = False,
    uploader: Uploader | None = None,
) -> UploadHandle:
    """Start an upload and return at once. It runs in a task of its own until it ends, or its `Uploader` is closed.

    Args:
        source: What `upload` takes.
        to: "s3://BUCKET/KEY", or "s3://BUCKET/FOLDER/" to keep the source's name.
        service: The URL of a media service, instead of `to`.
        api_key: The media service's key; None: the environment variable BIGUPLOAD_API_KEY.
        s3: How to reach the store, and the object's properties.
        name: The name, where `to` ends in a slash and for a media service; None: the file's, or the key's end.
        part_size: The size of each part, in bytes or like "16MiB"; None: by the file's size.
        on_event: A function, async or not, that is called with each event in the event loop.
        require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
        verify_source: Hash the file once more before the upload is completed.
        priority: A whole number: uploads with a higher one go first.
        on_change: If the source changes: "raise" SourceChanged, or "restart" with the source as it is now.
        follow: Upload a file while something still writes to it: each part as soon as it is complete.
        idle: How long a followed file does not change before it has ended: seconds, or like "10s"; 1 at least.
        then: Steps that follow the proof of each file, such as Link("7d"), in their order.
        expected_size: The size that the source must have to be completed, in bytes or like "5GB"; None: any.
        checksum: The parts' checksums: "auto" (CRC64NVME), "crc64nvme", "crc32c", "sha256", "md5" or "none".
        manifest: The manifest's path; None: a file in the state directory, named by source and target.
        resume: Resume an unfinished upload of this file to this target; False sets its manifest aside.
        end_marker: The bytes that a stream must end with, which are not uploaded; None: any end.
        allow_empty: Let a stream or a URL without bytes become an empty object.
        skip_existing: Upload nothing if a checksum or ETag proves that the object is the file.
        delta: Send only the parts that differ from the last upload to this key: the store copies the others.
        uploader: The `Uploader` whose connections, limits and state are used; None: one by default.

    Returns:
        The upload: its progress, its manifest, its events; `await` it for the result, or cancel it.

    Raises:
        UsageError: The options contradict one another, or no event loop is running.
    """

async def sync(
    directory: StrPath,
    to: str | None = None,
    *,
    s3: S3Options | None = None,
    selection: Selection | None = None,
    part_size: int | str | None = None,
    on_event: OnEvent | None = None,
    require_proof: Verified | ProofName = "size",
    verify_source: bool = False,
    priority: int = 0,
    on_change: OnChange | None = "restart",
    then: Then = (),
    checksum: ChecksumName = "auto",
    resume: bool = True,
    delete: bool = False,
    size_only: bool = False,
    dry_run: bool = False,
    allow_empty: bool = False,
    on_outcome: Callable[[SyncOutcome], object] | None = None,
    on_same: Callable[[int, int], object] | None = None,
    uploader: Uploader | None = None,
) -> SyncResult:
    """Send the files of a directory that are not in the store yet, and on request delete what has no file.

    A file is in the store if its object is proved to be the file: by what an earlier sync recorded, if the file and
    the object's ETag are as they were then; else by its size, and the checksums that the store has of it. A file
    that fails does not stop the others. After a failure, a cancel or a kill, the same call continues. A target is
    needed: `to`, or `s3=S3Options(local=True)`.

    Args:
        directory: The directory. Symbolic links in it are left out, unless the selection follows them.
        to: "s3://BUCKET/FOLDER/": an object's key is this and the file's path in the directory.
        s3: How to reach the store, and the objects' properties.
        selection: Which files, by their paths in the directory, sizes and times; None: all.
        part_size: The size of each part, in bytes or like "16MiB"; None: by the file's size.
        on_event: A function, async or not, that is called with each event in the event loop.
        require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
        verify_source: Hash the file once more before the upload is completed.
        priority: A whole number: uploads with a higher one go first.
        on_change: If the source changes: "raise" SourceChanged, or "restart" with the source as it is now.
        then: Steps that follow the proof of each file, such as Link("7d"), in their order.
        checksum: The checksums: "auto" (CRC64NVME), "crc64nvme", "crc32c", "sha256", "md5" or "none".
        resume: Use the record of earlier syncs, and resume unfinished uploads.
        delete: At the end, delete the objects below the target that have no file; nothing if a file failed.
        size_only: Take an object of the same size for the same file, without any proof.
        dry_run: Send and delete nothing, and report what would be sent and deleted.
        allow_empty: Let there be no file in the directory; with `delete`, all objects are deleted then.
        on_outcome: Called with each `UploadResult`, `UploadFailed`, `SyncStep` and `Omitted`, in the event loop.
        on_same: Called with the number and the bytes of files that were there, in place of `on_outcome` for each.
        uploader: The `Uploader` whose connections, limits and state are used; None: one by default.

    Returns:
        How many files were sent, and so on. `on_outcome` is called with each.

    Raises:
        UsageError: The options contradict one another, or there is no file (see `allow_empty`).
        SourceError: There is no such directory. DirectoryGone if it was there.
        ManifestLocked: The same sync is running.
        BigUploadError: An error that affects every file, such as a bucket that is not there.
    """

async def upload(
    source: UploadSource,
    to: str | None = None,
    *,
    service: str | None = None,
    api_key: str | None = None,
    s3: S3Options | None = None,
    name: str | None = None,
    part_size: int | str | None = None,
    on_event: OnEvent | None = None,
    require_proof: Verified | ProofName = "size",
    verify_source: bool = False,
    priority: int = 0,
    on_change: OnChange | None = None,
    follow: bool = False,
    idle: float | str = "10s",
    then: Then = (),
    expected_size: int | str | None = None,
    checksum: ChecksumName = "auto",
    manifest: StrPath | None = None,
    resume: bool = True,
    end_marker: str | bytes | None = None,
    allow_empty: bool = False,
    skip_existing: bool = False,
    delta: bool = False,
    uploader: Uploader | None = None,
) -> UploadResult:
    """Upload a source, or resume its upload where it stopped, until the object is proved to be the source.

    A file or bytes of at most 8 MiB are one PUT with its checksum. Anything else is uploaded in parts, and resumes.
    One target is needed: `to`, `service`, or `s3=S3Options(local=True)`.

    Args:
        source: A path; a URL; bytes; a binary file object, of which the rest from its position on is uploaded; an
            iterable or async iterable of bytes; or a stream reader. It is not closed, and must not be used
            during the upload.
        to: "s3://BUCKET/KEY", or "s3://BUCKET/FOLDER/" to keep the source's name.
        service: The URL of a media service, instead of `to`.
        api_key: The media service's key; None: the environment variable BIGUPLOAD_API_KEY.
        s3: How to reach the store, and the object's properties.
        name: The name, where `to` ends in a slash and for a media service; None: the file's, or the key's end.
        part_size: The size of each part, in bytes or like "16MiB"; None: by the file's size.
        on_event: A function, async or not, that is called with each event in the event loop.
        require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
        verify_source: Hash the file once more before the upload is completed.
        priority: A whole number: uploads with a higher one go first.
        on_change: If the source changes: "raise" SourceChanged, or "restart" with the source as it is now.
        follow: Upload a file while something still writes to it: each part as soon as it is complete.
        idle: How long a followed file does not change before it has ended: seconds, or like "10s"; 1 at least.
        then: Steps that follow the proof of each file, such as Link("7d"), in their order.
        expected_size: The size that the source must have to be completed, in bytes or like "5GB"; None: any.
        checksum: The parts' checksums: "auto" (CRC64NVME), "crc64nvme", "crc32c", "sha256", "md5" or "none".
        manifest: The manifest's path; None: a file in the state directory, named by source and target.
        resume: Resume an unfinished upload of this file to this target; False sets its manifest aside.
        end_marker: The bytes that a stream must end with, which are not uploaded; None: any end.
        allow_empty: Let a stream or a URL without bytes become an empty object.
        skip_existing: Upload nothing if a checksum or ETag proves that the object is the file.
        delta: Send only the parts that differ from the last upload to this key: the store copies the others.
        uploader: The `Uploader` whose connections, limits and state are used; None: one by default.

    Returns:
        Where the object is and how it was proved.

    Raises:
        UsageError: The options contradict one another.
        BigUploadError: The upload failed; `error.manifest` is what `resume` takes, if it can be resumed.
    """

def upload_many(
    sources: Iterable[ManySource] | AsyncIterable[ManySource],
    to: str | None = None,
    *,
    service: str | None = None,
    api_key: str | None = None,
    s3: S3Options | None = None,
    part_size: int | str | None = None,
    on_event: OnEvent | None = None,
    require_proof: Verified | ProofName = "size",
    verify_source: bool = False,
    priority: int = 0,
    on_change: OnChange | None = None,
    then: Then = (),
    checksum: ChecksumName = "auto",
    allow_empty: bool = False,
    job: str | None = None,
    resume: bool = True,
    skip_existing: bool = False,
    uploader: Uploader | None = None,
) -> AsyncGenerator[UploadResult | UploadFailed, None]:
    """Upload many files, several at a time, and yield what becomes of each as soon as it is known.

    A small file is sent by one PUT with its checksum; any other file as `upload` does it. A file that fails does
    not stop the others. While nobody takes results, no more files are begun than a thousand.

    ::

        async for done in uploader.upload_many(Path("photos").iterdir(), to="s3://bucket/photos/"):
            match done:
                case bigupload.UploadFailed(source=source, error=error):
                    print(source, error)

    Args:
        sources: An iterable or async iterable, which is read as files are begun. Each is a path, whose file's name
            becomes the key; or a pair of what `upload` takes and the key. Keys are below `to`.
        to: "s3://BUCKET/FOLDER/": what all keys begin with.
        service: The URL of a media service, instead of `to`.
        api_key: The media service's key; None: the environment variable BIGUPLOAD_API_KEY.
        s3: How to reach the store, and the objects' properties.
        part_size: The size of each part, in bytes or like "16MiB"; None: by the file's size.
        on_event: A function, async or not, that is called with each event in the event loop.
        require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
        verify_source: Hash the file once more before the upload is completed.
        priority: A whole number: uploads with a higher one go first.
        on_change: If the source changes: "raise" SourceChanged, or "restart" with the source as it is now.
        then: Steps that follow the proof of each file, such as Link("7d"), in their order.
        checksum: The checksums: "auto" (CRC64NVME), "crc64nvme", "crc32c", "sha256", "md5" or "none".
        allow_empty: Let streams and URLs without bytes become empty objects.
        job: The name of the job, whose record says which files are in the store; None: no record.
        resume: Continue an unfinished job, and resume unfinished uploads of these files to this target.
        skip_existing: Leave out each file whose object is the file already, by a checksum or ETag.
        uploader: The `Uploader` whose connections, limits and state are used; None: one by default.

    Returns:
        A generator. If you leave it early, close it (`contextlib.aclosing`): that cancels what is in flight.

    Raises:
        UsageError: The options contradict one another.
        BigUploadError: While results are taken: an error that affects all other files, such as a bucket that is
            not there.
    """

def upload_sync(
    source: UploadSource,
    to: str | None = None,
    *,
    service: str | None = None,
    api_key: str | None = None,
    s3: S3Options | None = None,
    name: str | None = None,
    part_size: int | str | None = None,
    on_event: OnEvent | None = None,
    require_proof: Verified | ProofName = "size",
    verify_source: bool = False,
    priority: int = 0,
    on_change: OnChange | None = None,
    follow: bool = False,
    idle: float | str = "10s",
    then: Then = (),
    expected_size: int | str | None = None,
    checksum: ChecksumName = "auto",
    manifest: StrPath | None = None,
    resume: bool = True,
    end_marker: str | bytes | None = None,
    allow_empty: bool = False,
    skip_existing: bool = False,
    delta: bool = False,
    uploader: Uploader | None = None,
) -> UploadResult:
    """Upload a source from code without an event loop, as `upload` does it.

    Args:
        source: What `upload` takes.
        to: "s3://BUCKET/KEY", or "s3://BUCKET/FOLDER/" to keep the source's name.
        service: The URL of a media service, instead of `to`.
        api_key: The media service's key; None: the environment variable BIGUPLOAD_API_KEY.
        s3: How to reach the store, and the object's properties.
        name: The name, where `to` ends in a slash and for a media service; None: the file's, or the key's end.
        part_size: The size of each part, in bytes or like "16MiB"; None: by the file's size.
        on_event: A function, async or not, that is called with each event in the event loop.
        require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
        verify_source: Hash the file once more before the upload is completed.
        priority: A whole number: uploads with a higher one go first.
        on_change: If the source changes: "raise" SourceChanged, or "restart" with the source as it is now.
        follow: Upload a file while something still writes to it: each part as soon as it is complete.
        idle: How long a followed file does not change before it has ended: seconds, or like "10s"; 1 at least.
        then: Steps that follow the proof of each file, such as Link("7d"), in their order.
        expected_size: The size that the source must have to be completed, in bytes or like "5GB"; None: any.
        checksum: The parts' checksums: "auto" (CRC64NVME), "crc64nvme", "crc32c", "sha256", "md5" or "none".
        manifest: The manifest's path; None: a file in the state directory, named by source and target.
        resume: Resume an unfinished upload of this file to this target; False sets its manifest aside.
        end_marker: The bytes that a stream must end with, which are not uploaded; None: any end.
        allow_empty: Let a stream or a URL without bytes become an empty object.
        skip_existing: Upload nothing if a checksum or ETag proves that the object is the file.
        delta: Send only the parts that differ from the last upload to this key: the store copies the others.
        uploader: The `Uploader` whose connections, limits and state are used; None: one by default.

    Returns:
        Where the object is and how it was proved.

    Raises:
        UsageError: An event loop is running in this thread: `await bigupload.upload(…)` there.
        BigUploadError: As `upload`.
        KeyboardInterrupt: Ctrl-C in the main thread. The upload was stopped; a note has the command that resumes it.
    """

async def verify(
    path: StrPath,
    url: str,
    *,
    s3: S3Options | None = None,
    part_size: int | str | None = None,
    require_proof: Verified | ProofName = "size",
    sha256: bool = False,
    uploader: Uploader | None = None,
) -> Verification:
    """Prove that an object is a file, by the checksums that the store holds, whichever program uploaded it.

    Args:
        path: The file.
        url: "s3://BUCKET/KEY" of the object.
        s3: How to reach the store.
        part_size: The size of the object's parts, in bytes or like "16MiB", if the store does not report it.
        require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
        sha256: Also hash the file by SHA-256: `Verification.sha256`.
        uploader: The `Uploader` whose connections, limits and state are used; None: one by default.

    Returns:
        How it was proved. If the store holds no usable checksum, `verified` is only `size`.

    Raises:
        ObjectNotFound: There is no object. It is a subclass of ObjectMismatch.
        ObjectMismatch: The object is not the file.
        ProofTooWeak: It is proved by less than `require_proof`.
    """

def verify_many(
    sources: Iterable[ManySource] | AsyncIterable[ManySource],
    url: str,
    *,
    s3: S3Options | None = None,
    part_size: int | str | None = None,
    require_proof: Verified | ProofName = "size",
    sha256: bool = False,
    uploader: Uploader | None = None,
) -> AsyncGenerator[Verification | VerificationFailed, None]:
    """Prove many objects against their files, by the checksums that the store holds.

    Args:
        sources: What `upload_many` takes, but only files.
        url: "s3://BUCKET/FOLDER/": what all keys begin with.
        s3: How to reach the store.
        part_size: The size of the object's parts, in bytes or like "16MiB", if the store does not report it.
        require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
        sha256: Also hash the file by SHA-256: `Verification.sha256`.
        uploader: The `Uploader` whose connections, limits and state are used; None: one by default.

    Returns:
        A generator. If you leave it early, close it (`contextlib.aclosing`).

    Raises:
        UsageError: The options contradict one another, or the URL names one object.
        BigUploadError: While results are taken: an error that affects all other objects.
    """

def watch(
    directory: StrPath,
    to: str | None = None,
    *,
    s3: S3Options | None = None,
    selection: Selection | None = None,
    part_size: int | str | None = None,
    on_event: OnEvent | None = None,
    require_proof: Verified | ProofName = "size",
    verify_source: bool = False,
    priority: int = 0,
    then: Then = (),
    checksum: ChecksumName = "auto",
    idle: float | str = "10s",
    all_names: bool = False,
    poll: float | str | None = None,
    until_idle: float | str | None = None,
    uploader: Uploader | None = None,
) -> AsyncGenerator[UploadResult | UploadFailed, None]:
    """Upload the files of a directory, those that come into it, and those that change, until it is cancelled.

    A file that has not changed for `idle` has settled and is uploaded. One of more than 16 MiB that is still
    written is followed meanwhile, as by `upload(follow=True)`. A file that a manifest here says is uploaded is not
    sent again. One that changes after its upload is uploaded again. A file that fails does not stop the others.
    A target is needed: `to`, or `s3=S3Options(local=True)`.

    ::

        async with contextlib.aclosing(uploader.watch("/recordings", to="s3://bucket/raw/")) as outcomes:
            async for outcome in outcomes:
                ...

    Args:
        directory: The directory, with all below it. Symbolic links in it are not followed.
        to: "s3://BUCKET/" or "s3://BUCKET/FOLDER/": an object's key is this and the file's path in the directory.
        s3: How to reach the store, and the objects' properties.
        selection: Which files, by their paths in the directory, sizes and times; None: all.
        part_size: The size of each part, in bytes or like "16MiB"; None: by the file's size.
        on_event: A function, async or not, that is called with each event in the event loop.
        require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
        verify_source: Hash the file once more before the upload is completed.
        priority: A whole number: uploads with a higher one go first.
        then: Steps that follow the proof of each file, such as Link("7d"), in their order.
        checksum: The parts' checksums: "auto" (CRC64NVME), "crc64nvme", "crc32c", "sha256" or "md5".
        idle: How long a file does not change before it has settled: seconds, or like "10s"; 1 at least.
        all_names: Also upload files with hidden and temporary names, as in .x, x~, x.part and x.tmp.
        poll: For network file systems: list the directory this often, in seconds or like "5s"; None: not at all.
        until_idle: End when all is sent and nothing changed for so long, in seconds or like "1min"; None: never.
        uploader: The `Uploader` whose connections, limits and state are used; None: one by default.

    Returns:
        An iterator of what became of each file: its result, also of a file that was uploaded before
        (`result.skipped`), or an `UploadFailed`. The uploads begin with the first step. They end when the iterator
        or the `Uploader` is closed.

    Raises:
        UsageError: The options contradict one another, or `watchfiles` is not installed.
        SourceError: By the iterator: there is no such directory. DirectoryGone if it was there.
        StoreError: By the iterator: there is no such bucket.
    """

class Uploader:
    """Uploads that share a connection pool, a concurrency budget and a rate limit. An async context manager.

    ::

        async with Uploader(limit_rate="20MB/s") as uploader:
            result = await uploader.upload("movie.mov", to="s3://bucket/raw/")

    All methods may run concurrently in one event loop. After the context has ended, they raise UsageError.
    """
    def __init__(
        self,
        *,
        s3: S3Options | None = None,
        retry: RetryPolicy | None = None,
        state_dir: StrPath | None = None,
        concurrency: int | None = None,
        max_uploads: int | None = None,
        limit_rate: float | str | RateSchedule | None = None,
        congestion_control: str = "auto",
        hedge: bool = True,
        temp_dir: StrPath | None = None,
        dask: object = None,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        """Check the options; nothing is connected yet.

        Args:
            s3: How to reach the store, for each call that has no `s3` of its own. `resume` and `abort` go to the store
                of the manifest, and use no credentials that were meant for another one.
            retry: How often and for how long a failed request is repeated; None: `RetryPolicy()`.
            state_dir: The directory for manifests; None: BIGUPLOAD_STATE_DIR, else the user's state directory.
            concurrency: Parts in flight over all uploads, from 1 to 256; None adapts it to the path.
            max_uploads: Uploads that are open at once.
            limit_rate: Bytes per second of all uploads: a number, "20MB/s" or "08:00=2MB/s,20:00=off"; None: any.
            congestion_control: "auto" (BBR on long paths), "system", or a congestion control of the kernel's TCP.
            hedge: Send a straggler (a part far behind the others) a second time, until a store refuses that.
            temp_dir: The directory for parts of streams that do not fit into memory; None: the system's.
            dask: A Dask cluster that hashes and sends the parts of files; None: this process does it.
            proxies: Proxies for stores by their scheme; None: those that the environment names.

        Raises:
            UsageError: A value is out of range, or the kernel does not offer the congestion control.
        """
    async def upload(
        self,
        source: UploadSource,
        to: str | None = None,
        *,
        service: str | None = None,
        api_key: str | None = None,
        s3: S3Options | None = None,
        name: str | None = None,
        part_size: int | str | None = None,
        on_event: OnEvent | None = None,
        require_proof: Verified | ProofName = "size",
        verify_source: bool = False,
        priority: int = 0,
        on_change: OnChange | None = None,
        follow: bool = False,
        idle: float | str = "10s",
        then: Then = (),
        expected_size: int | str | None = None,
        checksum: ChecksumName = "auto",
        manifest: StrPath | None = None,
        resume: bool = True,
        end_marker: str | bytes | None = None,
        allow_empty: bool = False,
        skip_existing: bool = False,
        delta: bool = False,
    ) -> UploadResult:
        """Upload a source, or resume its upload where it stopped, until the object is proved to be the source.

        A file or bytes of at most 8 MiB are one PUT with its checksum. Anything else is uploaded in parts, and resumes.
        One target is needed: `to`, `service`, or `s3=S3Options(local=True)`.

        Args:
            source: A path; a URL; bytes; a binary file object, of which the rest from its position on is uploaded; an
                iterable or async iterable of bytes; or a stream reader. It is not closed, and must not be used
                during the upload.
            to: "s3://BUCKET/KEY", or "s3://BUCKET/FOLDER/" to keep the source's name.
            service: The URL of a media service, instead of `to`.
            api_key: The media service's key; None: the environment variable BIGUPLOAD_API_KEY.
            s3: How to reach the store, and the object's properties.
            name: The name, where `to` ends in a slash and for a media service; None: the file's, or the key's end.
            part_size: The size of each part, in bytes or like "16MiB"; None: by the file's size.
            on_event: A function, async or not, that is called with each event in the event loop.
            require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
            verify_source: Hash the file once more before the upload is completed.
            priority: A whole number: uploads with a higher one go first.
            on_change: If the source changes: "raise" SourceChanged, or "restart" with the source as it is now.
            follow: Upload a file while something still writes to it: each part as soon as it is complete.
            idle: How long a followed file does not change before it has ended: seconds, or like "10s"; 1 at least.
            then: Steps that follow the proof of each file, such as Link("7d"), in their order.
            expected_size: The size that the source must have to be completed, in bytes or like "5GB"; None: any.
            checksum: The parts' checksums: "auto" (CRC64NVME), "crc64nvme", "crc32c", "sha256", "md5" or "none".
            manifest: The manifest's path; None: a file in the state directory, named by source and target.
            resume: Resume an unfinished upload of this file to this target; False sets its manifest aside.
            end_marker: The bytes that a stream must end with, which are not uploaded; None: any end.
            allow_empty: Let a stream or a URL without bytes become an empty object.
            skip_existing: Upload nothing if a checksum or ETag proves that the object is the file.
            delta: Send only the parts that differ from the last upload to this key: the store copies the others.

        Returns:
            Where the object is and how it was proved.

        Raises:
            UsageError: The options contradict one another.
            BigUploadError: The upload failed; `error.manifest` is what `resume` takes, if it can be resumed.
        """
    def start(
        self,
        source: UploadSource,
        to: str | None = None,
        *,
        service: str | None = None,
        api_key: str | None = None,
        s3: S3Options | None = None,
        name: str | None = None,
        part_size: int | str | None = None,
        on_event: OnEvent | None = None,
        require_proof: Verified | ProofName = "size",
        verify_source: bool = False,
        priority: int = 0,
        on_change: OnChange | None = None,
        follow: bool = False,
        idle: float | str = "10s",
        then: Then = (),
        expected_size: int | str | None = None,
        checksum: ChecksumName = "auto",
        manifest: StrPath | None = None,
        resume: bool = True,
        end_marker: str | bytes | None = None,
        allow_empty: bool = False,
        skip_existing: bool = False,
        delta: bool = False,
    ) -> UploadHandle:
        """Start an upload and return at once. It runs in a task of its own until it ends, or its `Uploader` is closed.

        Args:
            source: What `upload` takes.
            to: "s3://BUCKET/KEY", or "s3://BUCKET/FOLDER/" to keep the source's name.
            service: The URL of a media service, instead of `to`.
            api_key: The media service's key; None: the environment variable BIGUPLOAD_API_KEY.
            s3: How to reach the store, and the object's properties.
            name: The name, where `to` ends in a slash and for a media service; None: the file's, or the key's end.
            part_size: The size of each part, in bytes or like "16MiB"; None: by the file's size.
            on_event: A function, async or not, that is called with each event in the event loop.
            require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
            verify_source: Hash the file once more before the upload is completed.
            priority: A whole number: uploads with a higher one go first.
            on_change: If the source changes: "raise" SourceChanged, or "restart" with the source as it is now.
            follow: Upload a file while something still writes to it: each part as soon as it is complete.
            idle: How long a followed file does not change before it has ended: seconds, or like "10s"; 1 at least.
            then: Steps that follow the proof of each file, such as Link("7d"), in their order.
            expected_size: The size that the source must have to be completed, in bytes or like "5GB"; None: any.
            checksum: The parts' checksums: "auto" (CRC64NVME), "crc64nvme", "crc32c", "sha256", "md5" or "none".
            manifest: The manifest's path; None: a file in the state directory, named by source and target.
            resume: Resume an unfinished upload of this file to this target; False sets its manifest aside.
            end_marker: The bytes that a stream must end with, which are not uploaded; None: any end.
            allow_empty: Let a stream or a URL without bytes become an empty object.
            skip_existing: Upload nothing if a checksum or ETag proves that the object is the file.
            delta: Send only the parts that differ from the last upload to this key: the store copies the others.

        Returns:
            The upload: its progress, its manifest, its events; `await` it for the result, or cancel it.

        Raises:
            UsageError: The options contradict one another, or no event loop is running.
        """
    def open_writer(
        self,
        to: str | None = None,
        *,
        service: str | None = None,
        api_key: str | None = None,
        s3: S3Options | None = None,
        name: str | None = None,
        part_size: int | str | None = None,
        on_event: OnEvent | None = None,
        require_proof: Verified | ProofName = "size",
        priority: int = 0,
        expected_size: int | str | None = None,
        checksum: ChecksumName = "auto",
        manifest: StrPath | None = None,
        resume: bool = True,
        on_error: OnError = "keep",
    ) -> AsyncUploadWriter:
        """Open an object for writing, which is uploaded while it is written. Use it as `async with`.

        Leaving the block, or `close`, completes the upload and proves the object. If an exception leaves the block, or
        the writer is never closed, there is no object. The same bytes, written again, resume the upload. One target is
        needed: `to`, `service`, or `s3=S3Options(local=True)`.

        Returns:
            The writer: `await writer.write(…)`, then `writer.result`. It takes bytes: encode text.

        Args:
            to: "s3://BUCKET/KEY", or "s3://BUCKET/FOLDER/" with a `name`.
            service: The URL of a media service, instead of `to`.
            api_key: The media service's key; None: the environment variable BIGUPLOAD_API_KEY.
            s3: How to reach the store, and the object's properties.
            name: The name, where `to` ends in a slash and for a media service; None: the file's, or the key's end.
            part_size: The size of each part, in bytes or like "16MiB"; None: by the file's size.
            on_event: A function, async or not, that is called with each event in the event loop.
            require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
            priority: A whole number: uploads with a higher one go first.
            expected_size: The size that the source must have to be completed, in bytes or like "5GB"; None: any.
            checksum: The parts' checksums: "auto" (CRC64NVME), "crc64nvme", "crc32c", "sha256", "md5" or "none".
            manifest: The manifest's path; None: a file in the state directory, named by source and target.
            resume: Resume an unfinished upload of this file to this target; False sets its manifest aside.
            on_error: If nothing is committed: "keep" the parts in the store, or "abort" the upload.

        Raises:
            UsageError: The options contradict one another, or no event loop is running.
        """
    def upload_many(
        self,
        sources: Iterable[ManySource] | AsyncIterable[ManySource],
        to: str | None = None,
        *,
        service: str | None = None,
        api_key: str | None = None,
        s3: S3Options | None = None,
        part_size: int | str | None = None,
        on_event: OnEvent | None = None,
        require_proof: Verified | ProofName = "size",
        verify_source: bool = False,
        priority: int = 0,
        on_change: OnChange | None = None,
        then: Then = (),
        checksum: ChecksumName = "auto",
        allow_empty: bool = False,
        job: str | None = None,
        resume: bool = True,
        skip_existing: bool = False,
    ) -> AsyncGenerator[UploadResult | UploadFailed, None]:
        """Upload many files, several at a time, and yield what becomes of each as soon as it is known.

        A small file is sent by one PUT with its checksum; any other file as `upload` does it. A file that fails does
        not stop the others. While nobody takes results, no more files are begun than a thousand.

        ::

            async for done in uploader.upload_many(Path("photos").iterdir(), to="s3://bucket/photos/"):
                match done:
                    case bigupload.UploadFailed(source=source, error=error):
                        print(source, error)

        Args:
            sources: An iterable or async iterable, which is read as files are begun. Each is a path, whose file's name
                becomes the key; or a pair of what `upload` takes and the key. Keys are below `to`.
            to: "s3://BUCKET/FOLDER/": what all keys begin with.
            service: The URL of a media service, instead of `to`.
            api_key: The media service's key; None: the environment variable BIGUPLOAD_API_KEY.
            s3: How to reach the store, and the objects' properties.
            part_size: The size of each part, in bytes or like "16MiB"; None: by the file's size.
            on_event: A function, async or not, that is called with each event in the event loop.
            require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
            verify_source: Hash the file once more before the upload is completed.
            priority: A whole number: uploads with a higher one go first.
            on_change: If the source changes: "raise" SourceChanged, or "restart" with the source as it is now.
            then: Steps that follow the proof of each file, such as Link("7d"), in their order.
            checksum: The checksums: "auto" (CRC64NVME), "crc64nvme", "crc32c", "sha256", "md5" or "none".
            allow_empty: Let streams and URLs without bytes become empty objects.
            job: The name of the job, whose record says which files are in the store; None: no record.
            resume: Continue an unfinished job, and resume unfinished uploads of these files to this target.
            skip_existing: Leave out each file whose object is the file already, by a checksum or ETag.

        Returns:
            A generator. If you leave it early, close it (`contextlib.aclosing`): that cancels what is in flight.

        Raises:
            UsageError: The options contradict one another.
            BigUploadError: While results are taken: an error that affects all other files, such as a bucket that is
                not there.
        """
    def watch(
        self,
        directory: StrPath,
        to: str | None = None,
        *,
        s3: S3Options | None = None,
        selection: Selection | None = None,
        part_size: int | str | None = None,
        on_event: OnEvent | None = None,
        require_proof: Verified | ProofName = "size",
        verify_source: bool = False,
        priority: int = 0,
        then: Then = (),
        checksum: ChecksumName = "auto",
        idle: float | str = "10s",
        all_names: bool = False,
        poll: float | str | None = None,
        until_idle: float | str | None = None,
    ) -> AsyncGenerator[UploadResult | UploadFailed, None]:
        """Upload the files of a directory, those that come into it, and those that change, until it is cancelled.

        A file that has not changed for `idle` has settled and is uploaded. One of more than 16 MiB that is still
        written is followed meanwhile, as by `upload(follow=True)`. A file that a manifest here says is uploaded is not
        sent again. One that changes after its upload is uploaded again. A file that fails does not stop the others.
        A target is needed: `to`, or `s3=S3Options(local=True)`.

        ::

            async with contextlib.aclosing(uploader.watch("/recordings", to="s3://bucket/raw/")) as outcomes:
                async for outcome in outcomes:
                    ...

        Args:
            directory: The directory, with all below it. Symbolic links in it are not followed.
            to: "s3://BUCKET/" or "s3://BUCKET/FOLDER/": an object's key is this and the file's path in the directory.
            s3: How to reach the store, and the objects' properties.
            selection: Which files, by their paths in the directory, sizes and times; None: all.
            part_size: The size of each part, in bytes or like "16MiB"; None: by the file's size.
            on_event: A function, async or not, that is called with each event in the event loop.
            require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
            verify_source: Hash the file once more before the upload is completed.
            priority: A whole number: uploads with a higher one go first.
            then: Steps that follow the proof of each file, such as Link("7d"), in their order.
            checksum: The parts' checksums: "auto" (CRC64NVME), "crc64nvme", "crc32c", "sha256" or "md5".
            idle: How long a file does not change before it has settled: seconds, or like "10s"; 1 at least.
            all_names: Also upload files with hidden and temporary names, as in .x, x~, x.part and x.tmp.
            poll: For network file systems: list the directory this often, in seconds or like "5s"; None: not at all.
            until_idle: End when all is sent and nothing changed for so long, in seconds or like "1min"; None: never.

        Returns:
            An iterator of what became of each file: its result, also of a file that was uploaded before
            (`result.skipped`), or an `UploadFailed`. The uploads begin with the first step. They end when the iterator
            or the `Uploader` is closed.

        Raises:
            UsageError: The options contradict one another, or `watchfiles` is not installed.
            SourceError: By the iterator: there is no such directory. DirectoryGone if it was there.
            StoreError: By the iterator: there is no such bucket.
        """
    async def sync(
        self,
        directory: StrPath,
        to: str | None = None,
        *,
        s3: S3Options | None = None,
        selection: Selection | None = None,
        part_size: int | str | None = None,
        on_event: OnEvent | None = None,
        require_proof: Verified | ProofName = "size",
        verify_source: bool = False,
        priority: int = 0,
        on_change: OnChange | None = "restart",
        then: Then = (),
        checksum: ChecksumName = "auto",
        resume: bool = True,
        delete: bool = False,
        size_only: bool = False,
        dry_run: bool = False,
        allow_empty: bool = False,
        on_outcome: Callable[[SyncOutcome], object] | None = None,
        on_same: Callable[[int, int], object] | None = None,
    ) -> SyncResult:
        """Send the files of a directory that are not in the store yet, and on request delete what has no file.

        A file is in the store if its object is proved to be the file: by what an earlier sync recorded, if the file and
        the object's ETag are as they were then; else by its size, and the checksums that the store has of it. A file
        that fails does not stop the others. After a failure, a cancel or a kill, the same call continues. A target is
        needed: `to`, or `s3=S3Options(local=True)`.

        Args:
            directory: The directory. Symbolic links in it are left out, unless the selection follows them.
            to: "s3://BUCKET/FOLDER/": an object's key is this and the file's path in the directory.
            s3: How to reach the store, and the objects' properties.
            selection: Which files, by their paths in the directory, sizes and times; None: all.
            part_size: The size of each part, in bytes or like "16MiB"; None: by the file's size.
            on_event: A function, async or not, that is called with each event in the event loop.
            require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
            verify_source: Hash the file once more before the upload is completed.
            priority: A whole number: uploads with a higher one go first.
            on_change: If the source changes: "raise" SourceChanged, or "restart" with the source as it is now.
            then: Steps that follow the proof of each file, such as Link("7d"), in their order.
            checksum: The checksums: "auto" (CRC64NVME), "crc64nvme", "crc32c", "sha256", "md5" or "none".
            resume: Use the record of earlier syncs, and resume unfinished uploads.
            delete: At the end, delete the objects below the target that have no file; nothing if a file failed.
            size_only: Take an object of the same size for the same file, without any proof.
            dry_run: Send and delete nothing, and report what would be sent and deleted.
            allow_empty: Let there be no file in the directory; with `delete`, all objects are deleted then.
            on_outcome: Called with each `UploadResult`, `UploadFailed`, `SyncStep` and `Omitted`, in the event loop.
            on_same: Called with the number and the bytes of files that were there, in place of `on_outcome` for each.

        Returns:
            How many files were sent, and so on. `on_outcome` is called with each.

        Raises:
            UsageError: The options contradict one another, or there is no file (see `allow_empty`).
            SourceError: There is no such directory. DirectoryGone if it was there.
            ManifestLocked: The same sync is running.
            BigUploadError: An error that affects every file, such as a bucket that is not there.
        """
    async def resume(
        self,
        manifest: StrPath,
        *,
        api_key: str | None = None,
        s3: S3Options | None = None,
        source: StrPath | None = None,
        on_event: OnEvent | None = None,
        trust: bool = False,
        require_proof: Verified | ProofName = "size",
        verify_source: bool = False,
        priority: int = 0,
        on_change: OnChange | None = None,
    ) -> UploadResult:
        """Resume the upload that a manifest describes. If it is complete, return its result again.

        The store is the manifest's.

        Args:
            manifest: The manifest's path; or its id, or the beginning of its id, as `list_uploads` shows it.
            api_key: The media service's key; None: the environment variable BIGUPLOAD_API_KEY.
            s3: Credentials to use; the manifest has everything else.
            source: Where the file is now, if it was moved.
            on_event: A function, async or not, that is called with each event in the event loop.
            trust: Also take a manifest that this user did not begin on this machine.
            require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
            verify_source: Hash the file once more before the upload is completed.
            priority: A whole number: uploads with a higher one go first.
            on_change: If the source changes: "raise" SourceChanged, or "restart" with the source as it is now.

        Raises:
            ManifestNotFound: There is no such manifest.
            UsageError: This user did not begin the manifest on this machine, and `trust` is not set. A manifest decides
                which file is sent where, with whose credentials.
            BigUploadError: The upload failed; `error.manifest` is what `resume` takes, if it can be resumed.
        """
    async def adopt(
        self,
        to: str,
        *,
        source: StrPath,
        s3: S3Options | None = None,
        on_event: OnEvent | None = None,
        require_proof: Verified | ProofName = "size",
        verify_source: bool = False,
        priority: int = 0,
        upload_id: str | None = None,
        manifest: StrPath | None = None,
    ) -> UploadResult:
        """Take over an open upload that no manifest here describes, by ListParts and the file.

        A part is kept only if the file, hashed again, has the same bytes. Nothing is adopted unasked, because another
        program may still be uploading.

        Args:
            to: "s3://BUCKET/KEY" of the open upload.
            source: The file.
            s3: How to reach the store.
            on_event: A function, async or not, that is called with each event in the event loop.
            require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
            verify_source: Hash the file once more before the upload is completed.
            priority: A whole number: uploads with a higher one go first.
            upload_id: Which upload to adopt, if several to this key are open.
            manifest: The manifest's path; None: a file in the state directory, named by source and target.

        Raises:
            UploadGone: No upload to this key is open.
            UsageError: Several are open, and `upload_id` names none of them.
            ManifestMismatch: A manifest here describes the upload: resume that.
        """
    async def abort(
        self,
        manifest: StrPath,
        *,
        api_key: str | None = None,
        s3: S3Options | None = None,
        on_event: OnEvent | None = None,
        trust: bool = False,
    ) -> None:
        """Abort an upload: delete its parts from the store, and record that in its manifest.

        The store is the manifest's.

        Args:
            manifest: The manifest's path; or its id, or the beginning of its id, as `list_uploads` shows it.
            api_key: The media service's key; None: the environment variable BIGUPLOAD_API_KEY.
            s3: Credentials to use; the manifest has everything else.
            on_event: A function, async or not, that is called with each event in the event loop.
            trust: Also take a manifest that this user did not begin on this machine.

        Raises:
            ManifestNotFound: There is no such manifest.
            UsageError: The upload is complete, even if no record says so yet. Or this user did not begin the manifest
                on this machine, and `trust` is not set.
            StoreError: The store refused, or can't be reached.
        """
    async def verify(
        self,
        path: StrPath,
        url: str,
        *,
        s3: S3Options | None = None,
        part_size: int | str | None = None,
        require_proof: Verified | ProofName = "size",
        sha256: bool = False,
    ) -> Verification:
        """Prove that an object is a file, by the checksums that the store holds, whichever program uploaded it.

        Args:
            path: The file.
            url: "s3://BUCKET/KEY" of the object.
            s3: How to reach the store.
            part_size: The size of the object's parts, in bytes or like "16MiB", if the store does not report it.
            require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
            sha256: Also hash the file by SHA-256: `Verification.sha256`.

        Returns:
            How it was proved. If the store holds no usable checksum, `verified` is only `size`.

        Raises:
            ObjectNotFound: There is no object. It is a subclass of ObjectMismatch.
            ObjectMismatch: The object is not the file.
            ProofTooWeak: It is proved by less than `require_proof`.
        """
    def verify_many(
        self,
        sources: Iterable[ManySource] | AsyncIterable[ManySource],
        url: str,
        *,
        s3: S3Options | None = None,
        part_size: int | str | None = None,
        require_proof: Verified | ProofName = "size",
        sha256: bool = False,
    ) -> AsyncGenerator[Verification | VerificationFailed, None]:
        """Prove many objects against their files, by the checksums that the store holds.

        Args:
            sources: What `upload_many` takes, but only files.
            url: "s3://BUCKET/FOLDER/": what all keys begin with.
            s3: How to reach the store.
            part_size: The size of the object's parts, in bytes or like "16MiB", if the store does not report it.
            require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any).
            sha256: Also hash the file by SHA-256: `Verification.sha256`.

        Returns:
            A generator. If you leave it early, close it (`contextlib.aclosing`).

        Raises:
            UsageError: The options contradict one another, or the URL names one object.
            BigUploadError: While results are taken: an error that affects all other objects.
        """
    async def read_back(
        self,
        path: StrPath,
        url: str,
        *,
        s3: S3Options | None = None,
        on_event: OnEvent | None = None,
    ) -> ReadBack:
        """Download an object and compare every byte with a file. A second call resumes where the first stopped.

        Args:
            path: The file.
            url: "s3://BUCKET/KEY" of the object.
            s3: How to reach the store.
            on_event: A function, async or not, that is called with each event in the event loop.

        Raises:
            ObjectNotFound: There is no object. It is a subclass of ObjectMismatch.
            ObjectMismatch: The object is not the file.
            TargetReplaced: It was replaced by another object during the call.
        """
    async def share(self, url: str, *, s3: S3Options | None = None, lasts: float | str = "7d") -> Share:
        """Make a link to an object, by which anyone can read it until the link ends.

        The store is asked first whether the object is there, and whether these credentials may read it.

        Args:
            url: "s3://BUCKET/KEY" of the object.
            s3: How to reach the store.
            lasts: For how long, in seconds or like "7d", which is the most.

        Raises:
            ObjectNotFound: There is no object. It is a subclass of ObjectMismatch.
            AccessDenied: These credentials may not read it.
            UsageError: `lasts` is more than 7 days, or the object can't be shared.
        """
    async def list_uploads(self) -> list[KnownUpload]:
        """Return the uploads whose manifests are in the state directory, the least recently changed first.

        Raises:
            ManifestError: The directory can't be listed.
        """
    async def abort_orphans(
        self,
        url: str,
        *,
        s3: S3Options | None = None,
        older_than: float | str = "7d",
        owners: Sequence[StrPath] = (),
        dry_run: bool = False,
        on_orphan: Callable[[Orphan], None] | None = None,
        on_failure: Callable[[str, BigUploadError], None] | None = None,
    ) -> OrphanReport:
        """Abort open multipart uploads that no manifest here owns and of which no part arrived for a while.

        Manifests of other machines and users can't be seen: `older_than` is what protects their uploads.

        Args:
            url: "s3://BUCKET/PREFIX"; the prefix may be empty.
            s3: How to reach the store.
            older_than: Only uploads of which no part arrived for so long: seconds, or like "12h".
            owners: More manifests, and directories of manifests, that own uploads, beside those of the state directory.
            dry_run: Abort nothing, and report what would be aborted.
            on_orphan: Called with each upload that was aborted, or with `dry_run` would be.
            on_failure: Called with the key of each upload that could not be examined or aborted, and the reason.

        Raises:
            ManifestError: A manifest can't be read. It may own any upload, so that nothing was aborted.
            StoreError: The store refused to list, or can't be reached.
        """
    async def __aenter__(self) -> Uploader: ...
    async def __aexit__(self, *exc: object) -> None: ...
