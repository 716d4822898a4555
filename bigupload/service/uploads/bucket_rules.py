"""Prepare a bucket for the service: objects expire after 7 days, browsers may PUT, anyone may read media by their key.

The operator's own rules stay: the existing rules are read first, and only the rules of an earlier set-up are replaced.
If the store rejects a rule, the user is warned, and the set-up continues. A store may accept rules and never apply
them, as SeaweedFS does, whose rules need separate workers. That cannot be detected here, so the sweep deletes what
expired.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service.access.keys import ANY_ORIGIN
from bigupload.service.media.object_keys import REFUSED_PREFIX
from bigupload.service.media.policy import (
    DAY,
    LONGEST_UPLOAD,
    POLICY_KEY,
    PUBLISHED_POLICY,
    Policy,
    format_days,
    policy_in_danger,
    read_policy,
    rows_of,
    write_policy,
)
from bigupload.stores.s3.operations import XMLNS, document

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from bigupload.stores.s3.bucket import S3Bucket

_OURS = "bigupload-"
"""The prefix of the IDs of bigupload's rules. Those rules are replaced, all others stay."""
_SID = "BiguploadPublicRead"  # AWS allows letters and digits only
_EXPOSED = (
    "ETag",
    "x-amz-checksum-type",
    *(f"x-amz-checksum-{name}" for name in ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")),
)
"""Each header in full: browsers do not treat "x-amz-checksum-*" as a pattern, and AWS refuses it."""
_MAX_AGE = 3600
"""The time for which a browser may cache the permissions, in seconds."""


_LIFECYCLE = ("BucketLifecycleConfiguration", "LifecycleConfiguration", "Rule")
_CORS = ("BucketCors", "CORSConfiguration", "CORSRule")
"""Of each list of a bucket's rules: S3's operations, the document's root element, the element of one rule."""
_NAMES = {_LIFECYCLE: "lifecycle rules", _CORS: "CORS rules"}
_SMALLEST = "x-amz-transition-default-minimum-object-size"
"""A header of the lifecycle rules to write back, because AWS would reset it otherwise."""


async def set_up(
    bucket: S3Bucket,
    *,
    origins: Sequence[str] = ("*",),
    public_read: bool = True,
    named: Mapping[str, Any] | None = None,
    on_done: Callable[[str], None] | None = None,
) -> list[str]:
    """Create the bucket if it is missing, and set its rules. May be repeated; the last call's arguments apply.

    `origins` are the web origins that may upload, for example "https://app.example.com"; "*" is all. Without
    `public_read`, the permission of an earlier set-up is withdrawn. `named` has the fields of `Policy` to change:
    the bucket's policy is written before the rules that follow from it. `on_done` gets a line for each completed step.

    Returns a line for people about each rule that the store did not accept. Raises public errors if the bucket cannot
    be used at all.
    """
    created = await bucket.ensure()
    done = on_done or (lambda _: None)
    done(f"created the bucket {bucket.name}, which did not exist" if created else f"the bucket {bucket.name} exists")
    policy, warnings = await _set_policy(bucket, named or {}, done)
    access = "anyone may read" if public_read else "anonymous reads are refused"
    blocked = " (does the bucket or its account block public access?)" if public_read else ""
    steps = (
        (
            _ends(policy),
            "the store itself will not delete old files, only the sweep will",
            functools.partial(_merge, bucket, _LIFECYCLE, _lifecycle_rules(policy)),
        ),
        (
            f"browsers may upload from {', '.join(origins)}",
            "browsers may not be able to upload",
            functools.partial(_merge, bucket, _CORS, [_cors_rule(origins)]),
        ),
        (
            f"{access} {policy.keys.prefix}*",
            f"the rule for public reads of the media is not set{blocked}",
            functools.partial(_set_reading, bucket, policy.keys.prefix, allowed=public_read),
        ),
    )
    for held, otherwise, step in steps:
        try:
            await step()
        except (Fault, errors.StoreRefused) as e:
            if isinstance(e, Fault) and e.kind.no_response:
                raise e.public() from e
            warnings.append(f"{otherwise}: {e}")
        else:
            done(held)
    if policy != PUBLISHED_POLICY and (rule := await policy_in_danger(bucket)) is not None:
        warnings.append(
            f"the lifecycle rule {rule!r} will delete {POLICY_KEY}, so the service will not start: limit the rule to "
            f"{policy.keys.prefix} or other folders"
        )
    if await _keeps_versions(bucket):
        warnings.append(
            "the bucket keeps versions: deleted objects stay as noncurrent versions until a lifecycle rule expires them"
        )
    return warnings


async def _set_policy(
    bucket: S3Bucket, named: Mapping[str, Any], done: Callable[[str], None]
) -> tuple[Policy, list[str]]:
    """Change what is named of the bucket's policy. Returns it, with what its operator may not expect."""
    try:
        before = await read_policy(bucket)
        policy = before.replaced(named)
        if policy != before:
            await write_policy(bucket, policy)
    except Fault as fault:
        raise fault.public() from fault
    if policy != PUBLISHED_POLICY:
        done(f"the policy is {' '.join(PUBLISHED_POLICY.differences(policy))}")
    if before.keys == policy.keys:
        return policy, []
    return policy, [f"files under {before.keys.prefix} whose keys have another shape are not the service's any more"]


def _ends(policy: Policy) -> str:
    open_uploads = format_days(policy.upload_lifetime)
    if policy.keep is None:
        return f"files are kept for ever, open uploads end after {open_uploads}"
    if policy.keep == policy.upload_lifetime:
        return f"files and open uploads end after {open_uploads}"
    return f"files end after {format_days(policy.keep)}, open uploads after {open_uploads}"


def _lifecycle_rules(policy: Policy) -> list[dict[str, Any]]:
    """Return the lifecycle rules. S3 counts whole days and rounds up to midnight UTC; the sweep deletes to the second.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html
    """
    days = math.ceil(policy.upload_lifetime / DAY)
    return [
        {"ID": f"{_OURS}{prefix.rstrip('/')}", "Status": "Enabled", "Filter": {"Prefix": prefix}}
        | ({} if kept is None else {"Expiration": {"Days": kept}})
        | {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days}}
        for prefix, kept in ((policy.keys.prefix, policy.kept_days), (REFUSED_PREFIX, LONGEST_UPLOAD // DAY))
    ]


def _cors_rule(origins: Sequence[str]) -> dict[str, Any]:
    return {
        "ID": f"{_OURS}upload",
        "AllowedOrigin": list(origins),
        "AllowedMethod": ["PUT", "GET", "HEAD"],
        "AllowedHeader": ["*"],
        "ExposeHeader": list(_EXPOSED),
        "MaxAgeSeconds": _MAX_AGE,
    }


async def _merge(bucket: S3Bucket, kind: tuple[str, str, str], rules: list[dict[str, Any]]) -> None:
    """Append bigupload's rules to the existing ones: of CORS rules, the first that matches applies.

    The operator's rules are written back as they were read, element by element: S3 can only replace a whole list.

    Raises Fault, also if the rules cannot be read: writing could then delete the operator's rules.
    """
    operation, root, row = kind
    answer = await _read(bucket, kind)
    there = rows_of(answer, row)
    ours = list(ElementTree.fromstring(_document(root, row, rules)))  # noqa: S314 - made here
    kept = [rule for rule in there if not _is_one_of(rule, ours)]
    if list(map(_content, kept + ours)) == list(map(_content, there)):
        return
    smallest = answer["Headers"].get(_SMALLEST)
    carried = {} if smallest is None else {"TransitionDefaultMinimumObjectSize": smallest}
    body = document(root, {}).replace(b"></", b">" + b"".join(map(ElementTree.tostring, kept + ours)) + b"</", 1)
    await bucket.call(f"to set the {_NAMES[kind]}", f"Put{operation}", Body=body, **carried)
    if len(rows_of(await _read(bucket, kind), row)) < len(kept + ours):
        raise Fault(FaultKind.UNSUPPORTED, f"the store accepted the {_NAMES[kind]} and did not keep them")


async def browser_trouble(bucket: S3Bucket, origins: Sequence[str]) -> str | None:
    """Return the pages that can't send files to the bucket because of its CORS rules; None: all can, or nobody knows.

    Args:
        bucket: The bucket.
        origins: The origins that may call the service's API.
    """
    try:
        rules = rows_of(await _read(bucket, _CORS), _CORS[-1])
    except (Fault, errors.StoreRefused):  # a store without such rules, or only the operator may read them
        return None
    able = [rule for rule in rules if "PUT" in _texts(rule, "AllowedMethod") and _shows_etags(rule)]
    allowed = list(dict.fromkeys(origin for rule in able for origin in _texts(rule, "AllowedOrigin")))
    if ANY_ORIGIN in allowed:
        return None
    advice = f"bigupload bucket setup s3://{bucket.name} --origin ORIGIN allows more, if each is named again"
    if not allowed:
        return (
            "the bucket has no CORS rule by which browsers may send files: uploads of pages fail, unless the store "
            f"allows them in another way. bigupload bucket setup s3://{bucket.name} installs one"
        )
    refused = [each for each in origins if not any(_matches(each, pattern) for pattern in allowed)]
    others = f" --cors-origin names others, which can't: {', '.join(refused)}." if refused else ""
    return (
        f"by the bucket's CORS rules, these origins alone may send files: {', '.join(allowed)}.{others} The service's "
        f"own page works only at one of them. {advice}"
    )


def _texts(rule: Element, name: str) -> list[str]:
    return [(each.text or "").strip() for each in rule.findall(name)]


def _shows_etags(rule: Element) -> bool:
    return not {"*", "etag"}.isdisjoint(text.lower() for text in _texts(rule, "ExposeHeader"))


def _matches(origin: str, pattern: str) -> bool:
    """Return whether a rule's origin, which may have one "*", is for `origin`."""
    start, star, end = pattern.partition("*")
    if not star:
        return origin == pattern
    return len(origin) >= len(start + end) and origin.startswith(start) and origin.endswith(end)


def _document(root: str, row: str, rules: list[dict[str, Any]]) -> bytes:
    """Rules as a document without a namespace."""
    return document(root, {row: rules}).replace(f' xmlns="{XMLNS}"'.encode(), b"", 1)


async def _read(bucket: S3Bucket, kind: tuple[str, str, str]) -> Mapping[str, Any]:
    try:
        return await bucket.call(f"to read the {_NAMES[kind]}", f"Get{kind[0]}")
    except Fault as fault:
        if fault.status == 404:  # the code differs between stores
            return {"Headers": {}}
        raise


def _is_one_of(rule: Element, ours: Sequence[Element]) -> bool:
    """Return whether an existing rule is bigupload's: by its ID, or by its content if the store changes IDs."""
    if (rule.findtext("ID") or "").startswith(_OURS):
        return True
    return any(_content(rule, without="ID") == _content(each, without="ID") for each in ours)


def _content(rule: Element, *, without: str | None = None) -> Any:
    """Return a key that equal rules share, in any order of their elements."""
    inner = sorted(_content(child) for child in rule if child.tag != without)
    return rule.tag, "" if inner else (rule.text or "").strip(), inner


async def _set_reading(bucket: S3Bucket, prefix: str, *, allowed: bool) -> None:
    """Let anyone GET objects under `prefix`, but not list or write them; or withdraw that permission."""
    policy: dict[str, Any] = {"Version": "2012-10-17"}
    try:
        answer = await bucket.call("to read the bucket's policy", "GetBucketPolicy")
        policy = _parse_policy(answer.get("Body", b""))
    except Fault as fault:
        if fault.kind is FaultKind.UNSUPPORTED and not allowed:
            return  # a store without policies has nothing to withdraw
        if fault.status != 404:
            raise
    statements = policy.get("Statement", [])
    there = statements if isinstance(statements, list) else [statements]
    wanted = [s for s in there if not (isinstance(s, dict) and s.get("Sid") == _SID)]
    if allowed:
        resource = f"arn:aws:s3:::{bucket.name}/{prefix}*"
        wanted.append(
            {"Sid": _SID, "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": resource}
        )
    if wanted == there:
        return
    if wanted:
        body = json.dumps({**policy, "Statement": wanted}).encode()
        await bucket.call("to set the bucket's policy", "PutBucketPolicy", Body=body)
    else:
        await bucket.call("to delete the bucket's policy", "DeleteBucketPolicy")


def _parse_policy(text: bytes) -> dict[str, Any]:
    try:
        policy = json.loads(text)
    except ValueError:
        policy = None
    if not isinstance(policy, dict):
        raise Fault(FaultKind.FINAL, "the bucket has a policy that can't be read")  # so it is not overwritten
    return policy


async def _keeps_versions(bucket: S3Bucket) -> bool:
    try:
        answer = await bucket.call("to ask whether the bucket keeps versions", "GetBucketVersioning")
    except (Fault, errors.StoreRefused):
        return False  # the store does not support this request
    return bool(answer.get("Status") == "Enabled")
