"""The keyword arguments of the library's functions: each declared once, here, and checked before anything is sent.

The functions take them as `**options: Unpack[...]`, so that type checkers and editors know names and types.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

from bigupload import errors, events
from bigupload.api.source_types import StrPath as StrPath
from bigupload.api.source_types import UploadSource as UploadSource
from bigupload.batch.selecting import Selection
from bigupload.core.integrity import Verified
from bigupload.core.retry_policy import RetryPolicy
from bigupload.options import S3Options
from bigupload.support.rate_schedule import RateSchedule

if TYPE_CHECKING:
    from bigupload.api.sync_types import SyncOutcome
    from bigupload.verification.orphans import Orphan
else:
    Orphan = SyncOutcome = Any  # what checks the options asks only whether `on_orphan` is a function

OnEvent: TypeAlias = Callable[[events.Event], Awaitable[object] | None]
ChecksumName: TypeAlias = Literal["auto", "crc64nvme", "crc32c", "sha256", "md5", "none"]
OnChange: TypeAlias = Literal["raise", "restart"]
ProofName: TypeAlias = Literal["full-object", "composite-checksum", "composite-etag", "size"]


class EventOptions(TypedDict, total=False):
    """What happens, as it happens."""

    on_event: OnEvent | None
    """Called with each event, in the event loop: a function, which must return quickly, or an `async def`, which is
    awaited before it gets the next event. If it raises, the upload ends with that exception, and can be resumed."""


class ProofOptions(EventOptions, total=False):
    """How an object must be proved."""

    require_proof: Verified | ProofName
    """Raise ProofTooWeak if the object is proved by less; "size" (the default) accepts any proof."""
    verify_source: bool
    """Hash the file once more before the upload is completed. Default: False."""


class PriorityOptions(TypedDict, total=False):
    """What goes first."""

    priority: int
    """A whole number; default: 0. Of the uploads of one `Uploader`, those with a higher priority get threads and
    connections first. Those with the same priority take turns, small files first."""


class RetryOptions(TypedDict, total=False):
    """What to do when a request fails."""

    retry: RetryPolicy | None
    """How often and for how long a failed request is repeated; None: `RetryPolicy()`."""


class StateOptions(TypedDict, total=False):
    """Where manifests are."""

    state_dir: StrPath | None
    """The directory for manifests; None: BIGUPLOAD_STATE_DIR, else the user's state directory."""


class UploaderOptions(RetryOptions, StateOptions, total=False):
    """What all uploads of one `Uploader` share.

    Options: `retry`, `state_dir`, `concurrency`, `max_uploads`, `limit_rate`, `congestion_control`, `hedge`,
    `temp_dir`, `dask`.
    """

    concurrency: int | None
    """Parts in flight over all uploads, from 1 to 256; None (the default) adapts it to the path."""
    max_uploads: int | None
    """Uploads that are open at once. More of them wait for their turn, and open nothing meanwhile. None (the default):
    64, or fewer if this process may not open so many files (`ulimit -n`): 8 descriptors for each, 2 for each part in
    flight, and a quarter for the rest of the program; files that one PUT sends do not count then. The calls of the
    functions in one event loop share them."""
    limit_rate: float | str | RateSchedule | None
    """Bytes per second over all uploads: a number, "20MB/s", or "08:00=2MB/s,20:00=off" by the local time of day. None:
    no limit."""
    congestion_control: str
    """TCP congestion control: "auto" (the default; BBR on long paths), "system", or a name that the kernel offers."""
    hedge: bool
    """Send a straggler (a part far behind the others) a second time, until a store refuses that. Default: True."""
    temp_dir: StrPath | None
    """Where parts of streams are held that are too large for the memory, in temporary files without a name. None: where
    the system has its temporary files."""
    dask: object
    """Let a Dask cluster hash and send the parts of files: the address of its scheduler ("tcp://scheduler:8786"), a
    `distributed.Client`, or "local:4" for four worker processes on this machine. The workers see the same files, and
    hold no credentials. None (the default): this process does it. Needs bigupload[dask]."""


class ChangeOptions(TypedDict, total=False):
    """What to do about a source that changes."""

    on_change: OnChange
    """"raise" (the default): SourceChanged, if the source changes during the upload, or has another size than when its
    unfinished upload began. "restart" (the default of `sync`): upload it as it is now. If its size is the same, parts
    that did not change are kept. Otherwise the unfinished upload is aborted, so that its parts cost nothing, and a new
    one begins. After three changes in one call, SourceChanged."""


class FollowOptions(TypedDict, total=False):
    """What to do about a file that is still being written."""

    follow: bool
    """Upload a file while something still writes it: each part as soon as it is complete. When nothing was written for
    `idle`, all parts are hashed again, those that were rewritten are sent again, and the upload completes. Default:
    False."""
    idle: float | str
    """How long nothing is written to a file that has ended: seconds, or a text like "10s" (the default); 1 at least."""


class UploadOptions(ProofOptions, PriorityOptions, ChangeOptions, FollowOptions, total=False):
    """One upload.

    Options: `on_event`, `require_proof`, `verify_source`, `priority`, `on_change`, `follow`, `idle`, `to`, `service`,
    `api_key`, `s3`, `name`, `part_size`, `expected_size`, `end_marker`, `allow_empty`, `checksum`, `manifest`,
    `resume`, `skip_existing`, `delta`, `sha256`.
    """

    to: str | None
    """"s3://BUCKET/KEY", or "s3://BUCKET/FOLDER/" to keep the source's name. Not needed with
    `S3Options(local=True)`."""
    service: str | None
    """The URL of a media service, instead of `to`."""
    api_key: str | None
    """The media service's key; None: the environment variable BIGUPLOAD_API_KEY."""
    s3: S3Options | None
    """How to reach the store, and the object's properties. A media service takes `content_type` and `ca_bundle`."""
    name: str | None
    """The source's name, where `to` ends in a slash, and for a media service. None: the file's, or the key's end. What
    has no path is known by its name and target: the same ones resume its upload."""
    part_size: int | str | None
    """Bytes, or a text like "16MiB"; None: chosen by the source's size."""
    expected_size: int | str | None
    """The size that the source must have, in bytes or like "5GB". It chooses a stream's part size, and guards against a
    stream that ends early: nothing becomes an object that is longer or shorter. None: where it ends, it ends."""
    end_marker: str | bytes | None
    """The bytes that a stream must end with, which are not uploaded: only a program that succeeded writes them. None:
    the end of the stream is enough."""
    allow_empty: bool
    """Let a stream or a URL without bytes become an empty object. False (the default): an error, because what writes
    the stream has probably failed."""
    checksum: ChecksumName
    """The algorithm of the parts' checksums; "auto" (the default) is CRC64NVME."""
    manifest: StrPath | None
    """The manifest's path; None: a file in the state directory, named by source and target. A file that one PUT sends
    has a manifest only if this names one."""
    resume: bool
    """Resume an unfinished upload of this file to this target (the default). False sets its manifest aside."""
    skip_existing: bool
    """Upload nothing if the object is the file already, proved by a checksum or ETag, for which the file is hashed."""
    delta: bool
    """Send only the parts that differ from the object that an earlier upload made, if a manifest here describes that.
    The store copies the others, and each copy is proved by its checksum. Where that is not possible, all parts are
    sent, and a warning says why. Default: False."""
    sha256: bool
    """Read the file once more when its object is complete, and hash it by SHA-256: `UploadResult.sha256`. Raises
    SourceChanged if it is no longer what was uploaded. Default: False."""


class UploadManyOptions(ProofOptions, PriorityOptions, ChangeOptions, total=False):
    """Many files.

    Options: `on_event`, `require_proof`, `verify_source`, `priority`, `on_change`, `to`, `service`, `api_key`, `s3`,
    `part_size`, `allow_empty`, `checksum`, `job`, `resume`, `skip_existing`, `sha256`.
    """

    to: str | None
    """"s3://BUCKET/FOLDER/": what all keys begin with. Not needed with `S3Options(local=True)`."""
    service: str | None
    """The URL of a media service, instead of `to`. Each file is an upload of its own there."""
    api_key: str | None
    """The media service's key; None: the environment variable BIGUPLOAD_API_KEY."""
    s3: S3Options | None
    """How to reach the store, and the objects' properties. A media service takes `content_type` and `ca_bundle`."""
    part_size: int | str | None
    """Bytes, or a text like "16MiB"; None: chosen by each file's size. A file that is larger is sent in parts."""
    allow_empty: bool
    """Let streams and URLs without bytes become empty objects. False (the default): they fail, because what writes
    such a stream has probably failed. A file may be empty in any case."""
    checksum: ChecksumName
    """The algorithm of the checksums; "auto" (the default) is CRC64NVME."""
    job: str | None
    """A name for the job, by which it is recorded which files are in the store. The same call with the same name and
    target sends only what is missing or has changed since; other files may be among them. Once all files are in the
    store, the job is finished, and the same call begins anew. None: nothing is recorded; only files that are sent in
    parts resume."""
    resume: bool
    """Continue an unfinished job, and resume unfinished uploads of these files to this target (the default). False
    forgets what the job recorded, and sets manifests aside."""
    skip_existing: bool
    """Upload no file whose object is the file already, proved by a checksum or ETag, for which the file is hashed."""
    sha256: bool
    """Read each file that is in the store once more, and hash it by SHA-256: `UploadResult.sha256`. A file that is no
    longer what was uploaded fails. Default: False."""


class SyncOptions(ProofOptions, PriorityOptions, ChangeOptions, total=False):
    """A directory whose files are to be in the store.

    Options: `on_event`, `require_proof`, `verify_source`, `priority`, `on_change`, `to`, `s3`, `part_size`, `checksum`,
    `resume`, `selection`, `delete`, `size_only`, `dry_run`, `allow_empty`, `on_outcome`,
    `sha256`.
    """

    to: str | None
    """"s3://BUCKET/FOLDER/": an object's key is this and the file's path in the directory. Not needed with
    `S3Options(local=True)`."""
    s3: S3Options | None
    """How to reach the store, and the objects' properties."""
    part_size: int | str | None
    """Bytes, or a text like "16MiB"; None: chosen by each file's size."""
    checksum: ChecksumName
    """The algorithm of the checksums; "auto" (the default) is CRC64NVME."""
    resume: bool
    """Use what earlier syncs recorded, and resume unfinished uploads (the default). False forgets that: all files are
    hashed, and compared with their objects."""
    selection: Selection | None
    """Which files, by their paths in the directory, sizes and times; None: all."""
    delete: bool
    """When all files are in the store, delete the objects below `to` that have no file, and that the patterns of the
    selection select. Nothing is deleted if anything failed. Default: False."""
    size_only: bool
    """Take an object of the same size for the same file, without any proof. Default: False."""
    dry_run: bool
    """Send and delete nothing, and tell what would be. Default: False."""
    allow_empty: bool
    """Let there be no file in the directory; with `delete`, all objects are deleted then. False (the default): an
    error, because the directory is probably not mounted, or the selection is wrong."""
    on_outcome: Callable[[SyncOutcome], object] | None
    """Called with each `UploadResult` (`skipped` if the file was there), `UploadFailed`, `SyncStep` and `Omitted`, in
    the event loop. It must return quickly. What it raises ends the sync."""
    sha256: bool
    """Read each file that is in the store once more, and hash it by SHA-256: `UploadResult.sha256`. A file that is no
    longer what was uploaded fails. Default: False."""


class WatchOptions(ProofOptions, PriorityOptions, total=False):
    """The uploads of a directory's files, as they come and as they grow.

    Options: `on_event`, `require_proof`, `verify_source`, `priority`, `to`, `s3`, `part_size`, `checksum`, `idle`,
    `selection`, `all_names`, `poll`, `until_idle`.
    """

    to: str | None
    """"s3://BUCKET/" or "s3://BUCKET/FOLDER/": an object's key is this and the file's path in the directory. Not needed
    with `S3Options(local=True)`."""
    s3: S3Options | None
    """How to reach the store, and the objects' properties."""
    part_size: int | str | None
    """Bytes, or a text like "16MiB"; None: chosen by each file's size."""
    checksum: ChecksumName
    """The algorithm of the parts' checksums; "auto" (the default) is CRC64NVME. Not "none"."""
    idle: float | str
    """How long a file does not change when it has settled: seconds, or a text like "10s" (the default); 1 at least."""
    selection: Selection | None
    """Which files, by their paths in the directory, sizes and times; None: all. Symbolic links are not followed."""
    all_names: bool
    """Also upload files whose names say that they are temporary or hidden. Default: False."""
    poll: float | str | None
    """List the directory so often, in seconds or like "5s", because the system does not tell of changes, as that of a
    network file system. None: the system tells."""
    until_idle: float | str | None
    """End when everything is uploaded, and nothing has changed for so long: seconds, or a text like "1min". None: never
    end."""


class AdoptOptions(ProofOptions, PriorityOptions, total=False):
    """One upload that another program, or a lost manifest, left open.

    Options: `on_event`, `require_proof`, `verify_source`, `priority`, `s3`, `upload_id`, `manifest`.
    """

    s3: S3Options | None
    """How to reach the store."""
    upload_id: str | None
    """Which upload to adopt, if several to this key are open."""
    manifest: StrPath | None
    """The manifest's path; None: a file in the state directory, named by source and target."""


class AbortOptions(EventOptions, total=False):
    """One upload that is aborted by its manifest.

    Options: `on_event`, `s3`, `api_key`, `trust`.
    """

    s3: S3Options | None
    """Credentials to use. The manifest knows everything else, so that nothing else of it is used."""
    api_key: str | None
    """The media service's key; None: the environment variable BIGUPLOAD_API_KEY."""
    trust: bool
    """Also take a manifest that this user did not begin on this machine. Default: False."""


class ResumeOptions(AbortOptions, ProofOptions, PriorityOptions, ChangeOptions, total=False):
    """One upload that is resumed by its manifest.

    Options: `on_event`, `s3`, `api_key`, `trust`, `require_proof`, `verify_source`, `priority`, `on_change`,
    `source`.
    """

    source: StrPath | None
    """Where the file is now, if it was moved."""


class VerifyOptions(TypedDict, total=False):
    """One object that is verified by the store's checksums.

    Options: `s3`, `part_size`, `require_proof`, `sha256`.
    """

    s3: S3Options | None
    """How to reach the store."""
    part_size: int | str | None
    """The size of the object's parts, in bytes or like "16MiB", if the store does not say it."""
    require_proof: Verified | ProofName
    """Raise ProofTooWeak if the object is proved by less; "size" (the default) accepts any proof."""
    sha256: bool
    """Also hash the file by SHA-256: `Verification.sha256`. Default: False."""


class ReadBackOptions(EventOptions, total=False):
    """One object that is read back and compared.

    Options: `on_event`, `s3`.
    """

    s3: S3Options | None
    """How to reach the store."""


class OrphanOptions(TypedDict, total=False):
    """A search for orphaned uploads.

    Options: `s3`, `older_than`, `owners`, `dry_run`, `on_orphan`, `on_failure`.
    """

    s3: S3Options | None
    """How to reach the store."""
    older_than: float | str
    """Only uploads of which no part arrived for so long: seconds, or a text like "12h". Default: 7 days."""
    owners: Sequence[StrPath]
    """More manifests, and directories of manifests, that own uploads, beside those of the state directory."""
    dry_run: bool
    """Abort nothing, and report what would be aborted. Default: False."""
    on_orphan: Callable[[Orphan], None] | None
    """Called with each upload that was aborted (with `dry_run`: that would be)."""
    on_failure: Callable[[str, errors.BigUploadError], None] | None
    """Called with the key of each upload that could not be examined or aborted, and the reason."""


class UploadCall(UploaderOptions, UploadOptions, total=False):
    """The options of `bigupload.upload`: of the uploader and of the upload."""


class UploadManyCall(UploaderOptions, UploadManyOptions, total=False):
    """The options of `bigupload.upload_many`: of the uploader and of the files."""


class ResumeCall(UploaderOptions, ResumeOptions, total=False):
    """The options of `bigupload.resume`: of the uploader and of the upload."""


class SyncCall(UploaderOptions, SyncOptions, total=False):
    """The options of `bigupload.sync`: of the uploader and of the sync."""


class WatchCall(UploaderOptions, WatchOptions, total=False):
    """The options of `bigupload.watch`: of the uploader and of the uploads."""


class AdoptCall(UploaderOptions, AdoptOptions, total=False):
    """The options of `bigupload.adopt`: of the uploader and of the upload."""


class AbortCall(RetryOptions, StateOptions, AbortOptions, total=False):
    """The options of `bigupload.abort`."""


class VerifyCall(RetryOptions, VerifyOptions, total=False):
    """The options of `bigupload.verify`."""


class ReadBackCall(RetryOptions, ReadBackOptions, total=False):
    """The options of `bigupload.read_back`."""


class OrphanCall(RetryOptions, StateOptions, OrphanOptions, total=False):
    """The options of `bigupload.abort_orphans`."""
