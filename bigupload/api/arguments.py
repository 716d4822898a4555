"""The keyword arguments of the library's functions: each declared once, here, and checked before anything is sent.

The functions take them as `**options: Unpack[...]`, so that type checkers and editors know names and types.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

from bigupload import errors, events
from bigupload.api.change_options import ChangeOptions, FollowOptions, OnChange
from bigupload.api.option_types import check_types
from bigupload.api.source_types import StrPath as StrPath
from bigupload.api.source_types import UploadSource as UploadSource
from bigupload.core.checksums import Algorithm, parse_algorithm
from bigupload.core.integrity import Verified
from bigupload.core.retry_policy import RetryPolicy
from bigupload.engine.context import UploadSettings
from bigupload.options import S3Options
from bigupload.support.rate_schedule import RateSchedule, parse_rate_limit
from bigupload.units import parse_duration, parse_size
from bigupload.verification.orphans import Orphan

OnEvent: TypeAlias = Callable[[events.Event], Awaitable[object] | None]
ChecksumName: TypeAlias = Literal["auto", "crc64nvme", "crc32c", "sha256", "md5", "none"]
ProofName: TypeAlias = Literal["full-object", "composite-checksum", "composite-etag", "size"]

_LONGEST_MARKER = 4096
MAX_CONCURRENCY = 256
"""Parts in flight. More connections to one store bring nothing on any path that was measured."""


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
    `temp_dir`.
    """

    concurrency: int | None
    """Parts in flight over all uploads, from 1 to 256; None (the default) adapts it to the path."""
    max_uploads: int | None
    """Uploads that are open at once. More of them wait for their turn, and open nothing meanwhile. None (the default):
    64, or fewer if this process may not open so many files (`ulimit -n`): 8 descriptors for each, 2 for each part in
    flight, and a quarter for the rest of the program. The calls of the functions in one event loop share them."""
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


class UploadOptions(ProofOptions, PriorityOptions, ChangeOptions, FollowOptions, total=False):
    """One upload.

    Options: `on_event`, `require_proof`, `verify_source`, `priority`, `on_change`, `follow`, `idle`, `to`, `service`,
    `api_key`, `s3`, `name`, `part_size`, `expected_size`, `end_marker`, `allow_empty`, `checksum`, `manifest`,
    `resume`, `skip_existing`.
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
    """Let a stream without bytes become an empty object. False (the default): an error, because what writes the stream
    has probably failed."""
    checksum: ChecksumName
    """The algorithm of the parts' checksums; "auto" (the default) is CRC64NVME."""
    manifest: StrPath | None
    """The manifest's path; None: a file in the state directory, named by source and target."""
    resume: bool
    """Resume an unfinished upload of this file to this target (the default). False sets its manifest aside."""
    skip_existing: bool
    """Upload nothing if the object is the file already, proved by a checksum or ETag, for which the file is hashed."""


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

    Options: `s3`, `part_size`, `require_proof`.
    """

    s3: S3Options | None
    """How to reach the store."""
    part_size: int | str | None
    """The size of the object's parts, in bytes or like "16MiB", if the store does not say it."""
    require_proof: Verified | ProofName
    """Raise ProofTooWeak if the object is proved by less; "size" (the default) accepts any proof."""


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


class ResumeCall(UploaderOptions, ResumeOptions, total=False):
    """The options of `bigupload.resume`: of the uploader and of the upload."""


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


def check_names(function: str, options: Mapping[str, Any], declared: type[Any]) -> None:
    """Refuse names that a function does not take, as Python does for parameters, and values of a wrong type.

    Raises:
        TypeError: A name is not declared.
        UsageError: A value is of another type than is declared.
    """
    for name in options:
        if name not in declared.__annotations__:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
    check_types(options, declared)


def checked_concurrency(concurrency: int | None) -> int | None:
    """Raises UsageError for what is neither None nor a whole number from 1 to 256."""
    if concurrency is not None and not (_is_whole(concurrency) and 1 <= concurrency <= MAX_CONCURRENCY):
        raise errors.UsageError(f"concurrency is a whole number from 1 to {MAX_CONCURRENCY}, not {concurrency!r}")
    return concurrency


def checked_max_uploads(most: int | None) -> int | None:
    """Raises UsageError for what is neither None nor a positive whole number."""
    if most is not None and not (_is_whole(most) and most >= 1):
        raise errors.UsageError(f"max_uploads is a whole number from 1 on, not {most!r}")
    return most


def checked_priority(priority: int) -> int:
    """Raises UsageError for what is no whole number."""
    if not _is_whole(priority):
        raise errors.UsageError(f"priority is a whole number, not {priority!r}")
    return priority


def checked_rate(rate: float | str | RateSchedule | None) -> float | RateSchedule | None:
    """The limit in bytes per second, or a schedule. Raises UsageError for what is no positive, finite number."""
    if isinstance(rate, str):
        return parse_rate_limit(rate)
    if rate is not None and not isinstance(rate, RateSchedule) and not (_is_finite(rate) and rate > 0):
        raise errors.UsageError(f"limit_rate is a positive number of bytes per second, or like '20MB/s', not {rate!r}")
    return rate


def checked_part_size(part_size: int | str | None) -> int | None:
    """The size in bytes. Raises UsageError for what is no positive whole number."""
    size = parse_size(part_size) if isinstance(part_size, str) else part_size
    if size is not None and not (_is_whole(size) and size > 0):
        raise errors.UsageError(f"part_size is a positive whole number of bytes, or like '16MiB', not {part_size!r}")
    return size


def checked_expected_size(expected_size: int | str | None) -> int | None:
    """The size in bytes. Raises UsageError for what is no whole number from 0 on."""
    size = parse_size(expected_size) if isinstance(expected_size, str) else expected_size
    if size is not None and not (_is_whole(size) and size >= 0):
        raise errors.UsageError(f"expected_size is a whole number of bytes, or like '5GB', not {expected_size!r}")
    return size


def checked_marker(marker: str | bytes | None) -> bytes | None:
    """The bytes of an end marker. Raises UsageError for one that is empty or very long."""
    encoded = marker.encode("utf-8", "surrogateescape") if isinstance(marker, str) else marker
    if encoded is not None and not 1 <= len(encoded) <= _LONGEST_MARKER:
        raise errors.UsageError(f"`end_marker` has 1 to {_LONGEST_MARKER:,} bytes")
    return encoded


def checked_age(age: float | str) -> float:
    """Seconds. Raises UsageError for what is no finite number from 0 on."""
    if isinstance(age, str):
        return parse_duration(age)
    if not (_is_finite(age) and age >= 0):
        raise errors.UsageError(f"older_than is a number of seconds, or like '7d', not {age!r}")
    return age


def checked_proof(proof: Verified | ProofName) -> Verified:
    """Raises UsageError for an unknown proof."""
    try:
        return Verified(proof)
    except ValueError:
        raise errors.UsageError(f"unknown proof {proof!r}: choose one of {', '.join(Verified)}") from None


def checked_path(path: StrPath, name: str) -> Path:
    """Raises UsageError for what is no path."""
    try:
        return Path(path)
    except TypeError:
        raise errors.UsageError(f"{name} must be a path, not {type(path).__name__}") from None


def checked_temp_dir(path: StrPath | None) -> Path | None:
    """Raises UsageError for what is no directory: a long stream needs it only after hours."""
    directory = None if path is None else checked_path(path, "temp_dir")
    if directory is not None and not directory.is_dir():
        raise errors.UsageError(f"`temp_dir` must be a directory that exists, not {directory}")
    return directory


def upload_settings(
    *,
    checksum: ChecksumName = "auto",
    part_size: int | str | None = None,
    require_proof: Verified | ProofName = Verified.SIZE,
    verify_source: bool = False,
    priority: int = 0,
    on_change: OnChange = "raise",
) -> UploadSettings:
    """The engine's settings. Raises UsageError."""
    algorithm, required = parse_algorithm(checksum), checked_proof(require_proof)
    if algorithm is Algorithm.NONE and required is not Verified.SIZE:
        raise errors.UsageError(
            f"`checksum='none'` proves only the size, and `require_proof` asks for {required}: change one of them"
        )
    return UploadSettings(
        algorithm=algorithm,
        part_size=checked_part_size(part_size),
        require_proof=required,
        verify_source=verify_source,
        priority=checked_priority(priority),
        follow_changes=_follows_changes(on_change),
    )


def _follows_changes(on_change: OnChange) -> bool:
    if on_change not in typing.get_args(OnChange):
        raise errors.UsageError(f"`on_change` is 'raise' or 'restart', not {on_change!r}")
    return on_change == "restart"


def check_target(to: str | None, service: str | None, options: S3Options | None) -> None:
    """Raises UsageError unless exactly one target is named."""
    local = options is not None and options.local
    if service is not None and (to is not None or local):
        raise errors.UsageError("an upload has one target: `to`, `service` or the local store")
    if service is None and to is None and not local:
        raise errors.UsageError("an upload needs a target: to='s3://bucket/key', or service='https://…'")


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _is_finite(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
