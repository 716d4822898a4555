"""The keyword arguments of the library's functions: each declared once, here, and checked before anything is sent.

`api/signatures` makes the signatures and the documentation of the methods and functions from these classes: the first
sentence of an attribute is the line that `help()` shows. `bigupload/__init__.pyi` has the same for type checkers and
editors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

from bigupload import errors, events
from bigupload.api.types import StrPath as StrPath
from bigupload.api.types import UploadSource as UploadSource
from bigupload.batch.tree import Selection
from bigupload.core.checksums import UploadChecksum
from bigupload.core.integrity import Verified
from bigupload.core.retry_policy import RetryPolicy
from bigupload.options import S3Options
from bigupload.units import RateSchedule

if TYPE_CHECKING:
    from bigupload.api.types import SyncOutcome, Then
    from bigupload.verification.orphans import Orphan
else:
    Orphan = SyncOutcome = Then = Any  # the check of the options asks only whether `on_orphan` is a function

OnEvent: TypeAlias = Callable[[events.Event], Awaitable[object] | None]
ChecksumName: TypeAlias = Literal["auto", UploadChecksum]
OnChange: TypeAlias = Literal["raise", "restart"]
OnError: TypeAlias = Literal["keep", "abort"]
ProofName: TypeAlias = Literal["full-object", "composite-checksum", "composite-etag", "size"]

DEFAULTS: Mapping[str, Any] = {
    "checksum": "auto",
    "congestion_control": "auto",
    "hedge": True,
    "idle": "10s",
    "lasts": "7d",
    "older_than": "7d",
    "on_error": "keep",
    "owners": (),
    "priority": 0,
    "require_proof": "size",
    "resume": True,
    "then": (),
    "SyncOptions.on_change": "restart",
}
"""The values of options that a caller leaves out. An option that is not here is False if it is a `bool`, else None."""


def default_of(declared: Any, name: str) -> Any:
    """Return the value of an option of a class that a caller leaves out."""
    is_flag = declared.__annotations__[name].__forward_arg__ == "bool"
    return DEFAULTS.get(f"{declared.__name__}.{name}", DEFAULTS.get(name, False if is_flag else None))


class EventOptions(TypedDict, total=False):
    """The function that gets the events.

    Attributes:
        on_event: A function, async or not, that is called with each event in the event loop. A plain one must return
            quickly. An `async def` is awaited before it gets the next event. If it raises, the upload ends with that
            exception, and can be resumed.
    """

    on_event: OnEvent | None


class RequiredProofOptions(EventOptions, total=False):
    """The proof that an object needs.

    Attributes:
        require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any). Raises
            ProofTooWeak if the object is proved by less.
    """

    require_proof: Verified | ProofName


class ProofOptions(RequiredProofOptions, total=False):
    """The proof that the object of a file needs.

    Attributes:
        verify_source: Hash the file once more before the upload is completed.
    """

    verify_source: bool


class PriorityOptions(TypedDict, total=False):
    """The order of uploads.

    Attributes:
        priority: A whole number: uploads with a higher one go first. Of the uploads of one `Uploader`, those with a
            higher priority get threads and connections first. Those with the same priority take turns, small files
            first.
    """

    priority: int


class RetryOptions(TypedDict, total=False):
    """The repetition of failed requests.

    Attributes:
        retry: How often and for how long a failed request is repeated; None: `RetryPolicy()`.
    """

    retry: RetryPolicy | None


class StateOptions(TypedDict, total=False):
    """The directory of manifests.

    Attributes:
        state_dir: The directory for manifests; None: BIGUPLOAD_STATE_DIR, else the user's state directory.
    """

    state_dir: StrPath | None


class UploaderOptions(RetryOptions, StateOptions, total=False):
    """Options that all uploads of one `Uploader` share.

    Attributes:
        concurrency: Parts in flight over all uploads, from 1 to 256; None adapts it to the path.
        max_uploads: Uploads that are open at once. More of them wait in a queue, and open nothing. None
            means 64, or fewer if this process may not open so many files (`ulimit -n`): 8 descriptors for each, 2 for
            each part in flight, and a quarter for the rest of the program; files that one PUT sends do not count
            then. The calls of the functions in one event loop share them.
        limit_rate: Bytes per second of all uploads: a number, "20MB/s" or "08:00=2MB/s,20:00=off"; None: any. The times
            are the local ones of the day.
        congestion_control: "auto" (BBR on long paths), "system", or a congestion control of the kernel's TCP.
        hedge: Send a straggler (a part far behind the others) a second time, until a store refuses that.
        temp_dir: The directory for parts of streams that do not fit into memory; None: the system's. They are held in
            temporary files without a name.
        dask: A Dask cluster that hashes and sends the parts of files; None: this process does it. It is the address of
            its scheduler ("tcp://scheduler:8786"), a `distributed.Client`, or "local:4" for four worker processes on
            this machine. The workers see the same files, and hold no credentials. Needs bigupload[dask].
        proxies: Proxies for stores by their scheme; None: those that the environment names. As in
            {"https": "http://proxy.example:3128"}. An empty mapping means none.
    """

    concurrency: int | None
    max_uploads: int | None
    limit_rate: float | str | RateSchedule | None
    congestion_control: str
    hedge: bool
    temp_dir: StrPath | None
    dask: object
    proxies: Mapping[str, str] | None


class ChangeOptions(TypedDict, total=False):
    """The reaction to a source that changes.

    Attributes:
        on_change: If the source changes: "raise" SourceChanged, or "restart" with the source as it is now. None is
            "raise", and with `DeleteSource` "restart". A source has also changed if it has another size than when its
            unfinished upload began. With "restart": if its size is the same, parts that did not change are kept.
            Otherwise the unfinished upload is aborted, so that its parts cost nothing, and a new one begins. After
            three changes in one call, SourceChanged. A stream replaces another one that an unfinished upload began
            with: only parts that differ are sent.
    """

    on_change: OnChange | None


class FollowOptions(TypedDict, total=False):
    """The upload of a file that is still being written.

    Attributes:
        follow: Upload a file while something still writes to it: each part as soon as it is complete. When nothing was
            written for `idle`, all parts are hashed again, those that were rewritten are sent again, and the upload
            completes.
        idle: How long a followed file does not change before it has ended: seconds, or like "10s"; 1 at least.
    """

    follow: bool
    idle: float | str


class StepOptions(TypedDict, total=False):
    """What follows the proof of each file.

    Attributes:
        then: Steps that follow the proof of each file, such as Link("7d"), in their order. They are `Digest`, `Link`,
            `Receipt`, `DeleteSource`, and your own `async def step(row)`, which returns the `Row`. Each gets what the
            one before it returned. A step that fails with a BigUploadError ends the file with that error; the object
            stays.
    """

    then: Then


class StreamOptions(TypedDict, total=False):
    """The target and the settings of an upload, be its source a file or a stream.

    Attributes:
        service: The URL of a media service, instead of `to`.
        api_key: The media service's key; None: the environment variable BIGUPLOAD_API_KEY.
        s3: How to reach the store, and the object's properties. A media service takes `content_type` and `ca_bundle`.
        name: The name, where `to` ends in a slash and for a media service; None: the file's, or the key's end. What has
            no path is known by its name and target: the same ones resume its upload.
        part_size: The size of each part, in bytes or like "16MiB"; None: by the file's size.
        expected_size: The size that the source must have to be completed, in bytes or like "5GB"; None: any. It chooses
            a stream's part size, and guards against a stream that ends early.
        checksum: The parts' checksums: "auto" (CRC64NVME), "crc64nvme", "crc32c", "sha256", "md5" or "none".
        manifest: The manifest's path; None: a file in the state directory, named by source and target. A file that one
            PUT sends has a manifest only if this names one.
        resume: Resume an unfinished upload of this file to this target; False sets its manifest aside.
    """

    service: str | None
    api_key: str | None
    s3: S3Options | None
    name: str | None
    part_size: int | str | None
    expected_size: int | str | None
    checksum: ChecksumName
    manifest: StrPath | None
    resume: bool


class UploadOptions(
    ProofOptions, PriorityOptions, ChangeOptions, FollowOptions, StepOptions, StreamOptions, total=False
):
    """One upload.

    Attributes:
        to: "s3://BUCKET/KEY", or "s3://BUCKET/FOLDER/" to keep the source's name. Not needed with
            `S3Options(local=True)`.
        end_marker: The bytes that a stream must end with, which are not uploaded; None: any end. Only a program that
            succeeded writes them.
        allow_empty: Let a stream or a URL without bytes become an empty object. Otherwise it is an error, because what
            writes the stream has probably failed.
        skip_existing: Upload nothing if a checksum or ETag proves that the object is the file. The file is hashed for
            that.
        delta: Send only the parts that differ from the last upload to this key: the store copies the others. That needs
            the manifest of that upload. Each copy is proved by its checksum. Where the store can't copy, all parts are
            sent, and a warning says why.
    """

    to: str | None
    end_marker: str | bytes | None
    allow_empty: bool
    skip_existing: bool
    delta: bool


class WriterOptions(RequiredProofOptions, PriorityOptions, StreamOptions, total=False):
    """One object that a program writes like a file.

    Attributes:
        to: "s3://BUCKET/KEY", or "s3://BUCKET/FOLDER/" with a `name`. Not needed with `S3Options(local=True)`.
        on_error: If nothing is committed: "keep" the parts in the store, or "abort" the upload. Writing the same bytes
            again sends only what was not kept.
    """

    to: str | None
    on_error: OnError


class TextOptions(TypedDict, total=False):
    """Text in place of bytes.

    Attributes:
        text: Write text, which is encoded: the writer is an `io.TextIOWrapper`.
        encoding: The encoding of text; None: "utf-8".
        newline: What "\\n" is written as, as in `open`; None: the line end of the system.
    """

    text: bool
    encoding: str | None
    newline: str | None


class JobOptions(ProofOptions, PriorityOptions, ChangeOptions, StepOptions, total=False):
    """The files of one call for many of them.

    Attributes:
        s3: How to reach the store, and the objects' properties.
        part_size: The size of each part, in bytes or like "16MiB"; None: by the file's size.
        checksum: The checksums: "auto" (CRC64NVME), "crc64nvme", "crc32c", "sha256", "md5" or "none".
    """

    s3: S3Options | None
    part_size: int | str | None
    checksum: ChecksumName


class UploadManyOptions(JobOptions, total=False):
    """Many files.

    Attributes:
        to: "s3://BUCKET/FOLDER/": what all keys begin with. Not needed with `S3Options(local=True)`.
        service: The URL of a media service, instead of `to`. Each file is an upload of its own there.
        api_key: The media service's key; None: the environment variable BIGUPLOAD_API_KEY.
        s3: How to reach the store, and the objects' properties. A media service takes `content_type` and `ca_bundle`.
        part_size: The size of each part, in bytes or like "16MiB"; None: by the file's size. A file that is larger is
            sent in parts.
        allow_empty: Let streams and URLs without bytes become empty objects. Otherwise they fail, because what writes
            such a stream has probably failed. A file may be empty in any case.
        job: The name of the job, whose record says which files are in the store; None: no record. The same call with
            the same name and target sends only what is missing or has changed since; other files may be among them.
            Once all files are in the store, the job is finished, and the same call starts over. Without a record, only
            files that are sent in parts resume.
        resume: Continue an unfinished job, and resume unfinished uploads of these files to this target. False forgets
            what the job recorded, and sets manifests aside.
        skip_existing: Leave out each file whose object is the file already, by a checksum or ETag. The files are hashed
            for that.
    """

    to: str | None
    service: str | None
    api_key: str | None
    allow_empty: bool
    job: str | None
    resume: bool
    skip_existing: bool


class SyncOptions(JobOptions, total=False):
    """A directory whose files are to be in the store.

    Attributes:
        to: "s3://BUCKET/FOLDER/": an object's key is this and the file's path in the directory. Not needed with
            `S3Options(local=True)`.
        resume: Use the record of earlier syncs, and resume unfinished uploads. False forgets that: all files are
            hashed, and compared with their objects.
        selection: Which files, by their paths in the directory, sizes and times; None: all.
        delete: At the end, delete the objects below the target that have no file; nothing if a file failed. They must
            match the patterns of the selection, too.
        size_only: Take an object of the same size for the same file, without any proof.
        dry_run: Send and delete nothing, and report what would be sent and deleted.
        allow_empty: Let there be no file in the directory; with `delete`, all objects are deleted then. Otherwise it is
            an error, because the directory is probably not mounted, or the selection is wrong. With `delete`, the
            objects of a file system that is not mounted any more, or is empty, are deleted, too. Otherwise they are
            kept, and each such directory is an error.
        on_outcome: Called with each `UploadResult`, `UploadFailed`, `SyncStep` and `Omitted`, in the event loop. A
            result is `skipped` if the file was there. The function must return quickly. What it raises ends the sync.
        on_same: Called with the number and the bytes of files that were there, in place of `on_outcome` for each. A
            million results take ten seconds. A file that had to be looked at alone has its result all the same.
    """

    to: str | None
    resume: bool
    selection: Selection | None
    delete: bool
    size_only: bool
    dry_run: bool
    allow_empty: bool
    on_outcome: Callable[[SyncOutcome], object] | None
    on_same: Callable[[int, int], object] | None


class WatchOptions(ProofOptions, PriorityOptions, StepOptions, total=False):
    """The uploads of a directory's files, as they come and as they grow.

    Attributes:
        to: "s3://BUCKET/" or "s3://BUCKET/FOLDER/": an object's key is this and the file's path in the directory. Not
            needed with `S3Options(local=True)`.
        s3: How to reach the store, and the objects' properties.
        part_size: The size of each part, in bytes or like "16MiB"; None: by the file's size.
        checksum: The parts' checksums: "auto" (CRC64NVME), "crc64nvme", "crc32c", "sha256" or "md5".
        idle: How long a file does not change before it has settled: seconds, or like "10s"; 1 at least.
        selection: Which files, by their paths in the directory, sizes and times; None: all. Symbolic links are not
            followed.
        all_names: Also upload files with hidden and temporary names, as in .x, x~, x.part and x.tmp.
        poll: For network file systems: list the directory this often, in seconds or like "5s"; None: not at all. The
            system reports no changes of theirs.
        until_idle: End when all is sent and nothing changed for so long, in seconds or like "1min"; None: never.
    """

    to: str | None
    s3: S3Options | None
    part_size: int | str | None
    checksum: ChecksumName
    idle: float | str
    selection: Selection | None
    all_names: bool
    poll: float | str | None
    until_idle: float | str | None


class AdoptOptions(ProofOptions, PriorityOptions, total=False):
    """One upload that another program, or a lost manifest, left open.

    Attributes:
        s3: How to reach the store.
        upload_id: Which upload to adopt, if several to this key are open.
        manifest: The manifest's path; None: a file in the state directory, named by source and target.
    """

    s3: S3Options | None
    upload_id: str | None
    manifest: StrPath | None


class AbortOptions(EventOptions, total=False):
    """One upload that is aborted by its manifest.

    Attributes:
        s3: Credentials to use; the manifest has everything else. Nothing else of it is used.
        api_key: The media service's key; None: the environment variable BIGUPLOAD_API_KEY.
        trust: Also take a manifest that this user did not begin on this machine.
    """

    s3: S3Options | None
    api_key: str | None
    trust: bool


class ResumeOptions(AbortOptions, ProofOptions, PriorityOptions, ChangeOptions, total=False):
    """One upload that is resumed by its manifest.

    Attributes:
        source: Where the file is now, if it was moved.
    """

    source: StrPath | None


class VerifyOptions(TypedDict, total=False):
    """One object that is verified by the store's checksums.

    Attributes:
        s3: How to reach the store.
        part_size: The size of the object's parts, in bytes or like "16MiB", if the store does not report it.
        require_proof: The least proof: "full-object", "composite-checksum", "composite-etag" or "size" (any). Raises
            ProofTooWeak if the object is proved by less.
        sha256: Also hash the file by SHA-256: `Verification.sha256`.
    """

    s3: S3Options | None
    part_size: int | str | None
    require_proof: Verified | ProofName
    sha256: bool


class ShareOptions(TypedDict, total=False):
    """A link to one object.

    Attributes:
        s3: How to reach the store.
        lasts: For how long, in seconds or like "7d", which is the most. It ends with temporary credentials, if these
            end sooner.
    """

    s3: S3Options | None
    lasts: float | str


class ReadBackOptions(EventOptions, total=False):
    """One object that is read back and compared.

    Attributes:
        s3: How to reach the store.
    """

    s3: S3Options | None


class OrphanOptions(TypedDict, total=False):
    """A search for orphaned uploads.

    Attributes:
        s3: How to reach the store.
        older_than: Only uploads of which no part arrived for so long: seconds, or like "12h".
        owners: More manifests, and directories of manifests, that own uploads, beside those of the state directory.
        dry_run: Abort nothing, and report what would be aborted.
        on_orphan: Called with each upload that was aborted, or with `dry_run` would be.
        on_failure: Called with the key of each upload that could not be examined or aborted, and the reason.
    """

    s3: S3Options | None
    older_than: float | str
    owners: Sequence[StrPath]
    dry_run: bool
    on_orphan: Callable[[Orphan], None] | None
    on_failure: Callable[[str, errors.BigUploadError], None] | None
