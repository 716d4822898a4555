"""A bucket made fit for the service: files end after 7 days, browsers may PUT, anyone may read the media by its key.

An operator's own rules are kept: what is there is read first, and of it only what an earlier set-up wrote is replaced.
What a store does not take is told, and not fatal. Rules that are accepted and never acted on (SeaweedFS's, which want
workers of their own) can't be told apart from here: the sweep keeps the promise where they don't.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service.contract import STORED_FOR

if TYPE_CHECKING:
    from bigupload.stores.s3.client import S3Bucket

MEDIA_PREFIX = "media/"
"""Of the uploads' keys. Nothing else is publicly readable."""
REFUSED_PREFIX = "refused/"
"""Of the keys under which it is kept why an upload was refused."""

_DAYS = STORED_FOR // 86_400
_OURS = "bigupload-"
"""How the IDs of our rules begin: those are replaced, all others kept."""
_SID = "BiguploadPublicRead"  # AWS allows letters and digits only
_EXPOSED = (
    "ETag",
    "x-amz-checksum-type",
    *(f"x-amz-checksum-{name}" for name in ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")),
)
"""Written out: to a browser "x-amz-checksum-*" is a header of that name, and AWS refuses the pattern."""
_MAX_AGE = 3600
"""Seconds for which a browser may remember what it was allowed."""

_NO_ANSWER = frozenset({FaultKind.UNREACHABLE, FaultKind.BROKEN, FaultKind.STALLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A list of rules that a bucket has: how it is read and written as a whole, which is the only way there is."""

    name: str
    get: str
    put: str
    argument: str
    rows: str
    """The list's name, in the answer and in the argument."""
    carried: tuple[str, ...] = ()
    """What else of the answer goes back, as AWS would otherwise reset it."""


_LIFECYCLE = _Kind(
    name="lifecycle rules",
    get="get_bucket_lifecycle_configuration",
    put="put_bucket_lifecycle_configuration",
    argument="LifecycleConfiguration",
    rows="Rules",
    carried=("TransitionDefaultMinimumObjectSize",),
)
_CORS = _Kind(
    name="CORS rules", get="get_bucket_cors", put="put_bucket_cors", argument="CORSConfiguration", rows="CORSRules"
)


async def set_up(
    bucket: S3Bucket,
    *,
    origins: Sequence[str] = ("*",),
    public_read: bool = True,
    on_done: Callable[[str], None] | None = None,
) -> list[str]:
    """Make the bucket where it is missing, and its rules. May be repeated: the last call's wishes hold.

    `origins` are the pages that may upload, like "https://app.example.com"; "*" is all. Without `public_read`, what
    an earlier set-up allowed is withdrawn. `on_done` is told each thing that holds now, in a line.

    Returns a line, for people, for each thing that the store did not take. Raises public errors where the bucket can't
    be used at all.
    """
    created = await bucket.ensure()
    done = on_done or (lambda _: None)
    done(f"created the bucket {bucket.name}, which did not exist" if created else f"the bucket {bucket.name} exists")
    access = "anyone may read" if public_read else "nobody may read without a signature"
    steps: list[tuple[str, str, Callable[[], Awaitable[None]]]] = [
        (
            f"files and open uploads end after {_DAYS} days",
            "the store itself will not delete old files, only the sweep will",
            functools.partial(_merge, bucket, _LIFECYCLE, _lifecycle_rules()),
        ),
        (
            f"browsers may upload from {', '.join(origins)}",
            "browsers may not be able to upload",
            functools.partial(_merge, bucket, _CORS, _cors_rules(origins)),
        ),
        (
            f"{access} {MEDIA_PREFIX}*",
            "the rule on who may read the media is not set"
            + (" (does the bucket or its account block public access?)" if public_read else ""),
            functools.partial(_set_reading, bucket, allowed=public_read),
        ),
    ]
    warnings = []
    for held, otherwise, step in steps:
        try:
            await step()
        except (Fault, errors.StoreRefused) as e:
            if isinstance(e, Fault) and e.kind in _NO_ANSWER:
                raise e.public() from e
            warnings.append(f"{otherwise}: {e}")
        else:
            done(held)
    if await _keeps_versions(bucket):
        warnings.append(
            "the bucket keeps versions: deleted objects stay as noncurrent versions until a lifecycle rule expires them"
        )
    return warnings


def _lifecycle_rules() -> list[dict[str, Any]]:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html: S3 counts in whole days and
    rounds up to midnight UTC. To the second, the sweep deletes."""
    return [
        {
            "ID": f"{_OURS}{prefix.rstrip('/')}",
            "Status": "Enabled",
            "Filter": {"Prefix": prefix},
            "Expiration": {"Days": _DAYS},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _DAYS},
        }
        for prefix in (MEDIA_PREFIX, REFUSED_PREFIX)
    ]


def _cors_rules(origins: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "ID": f"{_OURS}upload",
            "AllowedOrigins": list(origins),
            "AllowedMethods": ["PUT", "GET", "HEAD"],
            "AllowedHeaders": ["*"],
            "ExposeHeaders": list(_EXPOSED),
            "MaxAgeSeconds": _MAX_AGE,
        }
    ]


async def _merge(bucket: S3Bucket, kind: _Kind, ours: list[dict[str, Any]]) -> None:
    """Put our rules among those that are there, behind them: of CORS rules the first that fits holds.

    Raises Fault; also where the rules can't be read, as writing then could wipe out others.
    """
    answer = await _read(bucket, kind)
    there = answer.get(kind.rows, [])
    wanted = [row for row in there if not _is_one_of(row, ours)] + ours
    if wanted == there:
        return
    arguments: dict[str, Any] = {name: answer[name] for name in kind.carried if name in answer}
    arguments[kind.argument] = {kind.rows: wanted}
    await bucket.call(f"to set the {kind.name}", kind.put, **arguments)
    if len((await _read(bucket, kind)).get(kind.rows, [])) < len(wanted):
        raise Fault(FaultKind.UNSUPPORTED, f"the store accepted the {kind.name} and did not keep them")


async def _read(bucket: S3Bucket, kind: _Kind) -> Mapping[str, Any]:
    try:
        answer: Mapping[str, Any] = await bucket.call(f"to read the {kind.name}", kind.get)
    except Fault as fault:
        if fault.status == 404:  # stores don't agree on the code
            return {}
        raise
    return answer


def _is_one_of(row: Mapping[str, Any], ours: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a rule that is there is ours: by its ID; and where a store gives it another, by what it says."""
    if str(row.get("ID", "")).startswith(_OURS):
        return True
    said = {name: value for name, value in row.items() if name != "ID"}
    return any(said == {name: value for name, value in rule.items() if name != "ID"} for rule in ours)


async def _set_reading(bucket: S3Bucket, *, allowed: bool) -> None:
    """Let anyone GET what is under MEDIA_PREFIX, but neither list nor write; or withdraw that."""
    policy: dict[str, Any] = {"Version": "2012-10-17"}
    try:
        answer = await bucket.call("to read the bucket's policy", "get_bucket_policy")
        policy = _parse_policy(answer["Policy"])
    except Fault as fault:
        if fault.kind is FaultKind.UNSUPPORTED and not allowed:
            return  # where there are no policies, none allows anything
        if fault.status != 404:
            raise
    statements = policy.get("Statement", [])
    there = statements if isinstance(statements, list) else [statements]
    wanted = [s for s in there if not (isinstance(s, dict) and s.get("Sid") == _SID)]
    if allowed:
        wanted.append(
            {
                "Sid": _SID,
                "Effect": "Allow",
                "Principal": "*",
                "Action": "s3:GetObject",
                "Resource": f"arn:aws:s3:::{bucket.name}/{MEDIA_PREFIX}*",
            }
        )
    if wanted == there:
        return
    if wanted:
        text = json.dumps({**policy, "Statement": wanted})
        await bucket.call("to set the bucket's policy", "put_bucket_policy", Policy=text)
    else:
        await bucket.call("to delete the bucket's policy", "delete_bucket_policy")


def _parse_policy(text: str) -> dict[str, Any]:
    try:
        policy = json.loads(text)
    except ValueError:
        policy = None
    if not isinstance(policy, dict):
        raise Fault(FaultKind.FINAL, "the bucket has a policy that can't be read")  # and so is not overwritten
    return policy


async def _keeps_versions(bucket: S3Bucket) -> bool:
    try:
        answer = await bucket.call("to ask whether the bucket keeps versions", "get_bucket_versioning")
    except (Fault, errors.StoreRefused):
        return False  # a store that does not know the question
    return bool(answer.get("Status") == "Enabled")
