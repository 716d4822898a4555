"""The files that a service accepts, and how long it keeps them: types, sizes, keys, days. The published API's values by
default.

A bucket has one policy: the service, its replicas and the sweep must not differ, because the sweep deletes what the
policy does not allow. `bigupload bucket setup` writes it into the bucket. So all replicas and every sweep act on the
same policy, also one that is started without the options. Without the object, the published policy holds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import field, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bigupload import errors
from bigupload.core.retry_policy import Fault
from bigupload.errors import UsageError
from bigupload.records import dataclass
from bigupload.service.accepted_types import PUBLISHED_TYPES, MediaTypes, types_from_json
from bigupload.service.media import MAX_FILE_SIZE
from bigupload.service.object_keys import KeyTemplate
from bigupload.units import counted, format_size

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from bigupload.stores.s3.bucket import S3Bucket


DAY = 86_400
STORED_FOR = 7 * DAY
"""Seconds: what the published API promises."""
LONGEST_UPLOAD = 7 * DAY
"""Seconds that an upload may take, and its handle is valid."""
MAX_SINGLE_PUT = 5 * 1024**3
"""Bytes: S3's limit of one PUT and of one copy. https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""
_MAX_OBJECT = 5 * 1024**4
"""Bytes: S3's limit of an object of 10,000 parts that each store allows."""
_SHORTEST = 3600
"""Seconds: a presigned URL is valid for an hour, so a file could arrive after it was due to be deleted."""
_LONGEST = 36_500 * DAY
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The files that the service accepts, and how long it keeps them. Raises UsageError for values that can't be."""

    max_file_size: int = MAX_FILE_SIZE
    """Bytes of the largest file. One above 5 GiB can be sent in parts only."""
    types: MediaTypes = field(default=PUBLISHED_TYPES)
    """The types that are accepted."""
    keep: int | None = STORED_FOR
    """Seconds after which an object is deleted; None: never."""
    keys: KeyTemplate = field(default_factory=KeyTemplate)
    """The shape of the objects' keys."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_file_size <= _MAX_OBJECT:
            raise UsageError(
                f"not a largest size: {format_size(self.max_file_size)} (S3's largest object has "
                f"{format_size(_MAX_OBJECT)})"
            )
        if self.keep is not None and not _SHORTEST <= self.keep <= _LONGEST:
            raise UsageError(
                f"objects can't be kept for {format_keep(self.keep)}: presigned URLs are valid for an hour, so name an "
                "hour or more, or forever"
            )

    @property
    def upload_lifetime(self) -> int:
        """Seconds that an upload may take.

        AWS dates an object by its upload's start: with a longer life than its object's, it could be due at complete.
        """
        return LONGEST_UPLOAD if self.keep is None else min(LONGEST_UPLOAD, self.keep)

    @property
    def kept(self) -> timedelta | None:
        """`keep` as a duration."""
        return None if self.keep is None else timedelta(seconds=self.keep)

    @property
    def kept_days(self) -> int | None:
        """`keep` in whole days, as a bucket's rules count; None: for ever."""
        return None if self.keep is None else math.ceil(self.keep / DAY)

    def to_json(self) -> dict[str, Any]:
        """Return it for the bucket."""
        return {
            "version": _VERSION,
            "maxSize": self.max_file_size,
            "types": self.types.to_json(),
            "keep": self.keep,
            "keyTemplate": self.keys.text,
        }

    @classmethod
    def from_json(cls, value: Any, *, where: str) -> Policy:
        """Return the policy that `to_json` wrote. Raises UsageError, which names `where`."""
        match value:
            case {"version": 1, "maxSize": int(size), "keep": None | int() as keep, "keyTemplate": str(keys), **rest}:
                types = types_from_json(rest.get("types"), where=where)
                return cls(max_file_size=size, types=types, keep=keep, keys=KeyTemplate(keys))
        raise UsageError(f"{where} is not a policy that this version of bigupload can read")

    @property
    def fingerprint(self) -> str:
        """A text that differs if a sweep under this policy may find something else."""
        return json.dumps(self.to_json(), sort_keys=True)

    def replaced(self, values: Mapping[str, Any]) -> Policy:
        """Return the policy with those fields of `values` that are not missing.

        Raises:
            UsageError: A value can't be, or there is no field of that name.
        """
        known = {each.name for each in fields(self)}
        for name in values.keys() - known:
            raise UsageError(f"a policy has no `{name}`, only {', '.join(f'`{each}`' for each in sorted(known))}")
        return Policy(**{each.name: values.get(each.name, getattr(self, each.name)) for each in fields(self)})

    def differences(self, other: Policy) -> list[str]:
        """Return the options that make of this policy the other one."""
        options = {
            "max_file_size": f"--max-size {other.max_file_size}",
            "types": f"--types {other.types.name or 'FILE'}",
            "keep": f"--keep {format_keep(other.keep)}",
            "keys": f"--key-template '{other.keys.text}'",
        }
        return [option for name, option in options.items() if getattr(self, name) != getattr(other, name)]


PUBLISHED_POLICY = Policy()


def format_keep(seconds: int | None) -> str:
    """How `--keep` is written: "7d", "36h", "forever"."""
    if seconds is None:
        return "forever"
    for unit, size in (("d", DAY), ("h", 3600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def format_days(seconds: int) -> str:
    """For sentences: "7 days", "36 hours"."""
    if seconds % DAY == 0:
        return counted(seconds // DAY, "day")
    return counted(round(seconds / 3600), "hour")


POLICY_KEY = "bigupload-policy.json"
_MOST_BYTES = 256 * 1024


async def read_policy(bucket: S3Bucket) -> Policy:
    """Return the bucket's policy.

    Raises:
        Fault: The store refused or failed.
        BigUploadError: The same; a UsageError if the policy can't be read.
    """
    try:
        found = await bucket.call("to read the policy", "GetObject", Key=POLICY_KEY, first=_MOST_BYTES)
    except Fault as fault:
        if fault.status == 404:
            return PUBLISHED_POLICY
        raise
    where = f"s3://{bucket.name}/{POLICY_KEY}"
    try:
        value = json.loads(found.get("Body", b""))
    except (ValueError, RecursionError):
        value = None
    return Policy.from_json(value, where=where)


async def write_policy(bucket: S3Bucket, policy: Policy) -> None:
    """Make `policy` the bucket's. Raises as `read_policy`."""
    if policy == PUBLISHED_POLICY:
        await bucket.call("to delete the policy", "DeleteObject", Key=POLICY_KEY)
        return
    body = json.dumps(policy.to_json(), indent=1).encode() + b"\n"
    headers = {"content-type": "application/json"}
    await bucket.call("to write the policy", "PutObject", Key=POLICY_KEY, Body=body, headers=headers)


async def agreed_policy(bucket: S3Bucket, wanted: Mapping[str, Any]) -> Policy:
    """Return the bucket's policy for a service that starts.

    Args:
        bucket: The bucket, which exists.
        wanted: Fields of `Policy` that the operator named.

    Raises:
        Fault: The store refused or failed.
        UsageError: The operator named something else than the bucket's policy says, or a rule of the bucket deletes
            objects sooner than the policy, or the policy itself: without it, the published one would hold.
    """
    policy = await read_policy(bucket)
    named = policy.replaced(wanted)
    if named != policy:
        options = " ".join(policy.differences(named))
        was = " ".join(named.differences(policy))
        raise errors.UsageError(
            f"the bucket {bucket.name} was set up with {was}: run bigupload bucket setup s3://{bucket.name} {options} "
            "to change that, or leave the option out"
        )
    rules = await _rules_that_delete(bucket)
    for rule, prefix, days in rules:
        if policy.keys.prefix.startswith(prefix) and days is not None and _is_sooner(days, policy):
            raise errors.UsageError(
                f"the lifecycle rule {rule!r} of the bucket {bucket.name} deletes files after "
                f"{format_days(days * DAY)}, and the policy is --keep {format_keep(policy.keep)}: change the rule, or "
                f"run bigupload bucket setup s3://{bucket.name} --keep {days}d"
            )
    fatal = _rule_that_deletes_the_policy(rules)
    if policy != PUBLISHED_POLICY and fatal is not None:
        raise errors.UsageError(
            f"the lifecycle rule {fatal!r} of the bucket {bucket.name} will delete {POLICY_KEY}, and then the "
            f"published policy would hold, by which the sweep deletes files: limit the rule to {policy.keys.prefix} or "
            "other folders"
        )
    return policy


async def policy_in_danger(bucket: S3Bucket) -> str | None:
    """Return the ID of a lifecycle rule that will delete the policy; None: no such rule, or unreadable rules."""
    return _rule_that_deletes_the_policy(await _rules_that_delete(bucket))


def _is_sooner(days: int, policy: Policy) -> bool:
    return policy.kept_days is None or days < policy.kept_days


def _rule_that_deletes_the_policy(rules: list[tuple[str, str, int | None]]) -> str | None:
    return next((rule for rule, prefix, _ in rules if POLICY_KEY.startswith(prefix)), None)


async def _rules_that_delete(bucket: S3Bucket) -> list[tuple[str, str, int | None]]:
    """Return the ID, the prefix and the days of each rule that deletes all objects under a prefix; None: at a date."""
    try:
        found = await bucket.call("to read the lifecycle rules", "GetBucketLifecycleConfiguration")
    except (Fault, errors.StoreRefused):  # no rules, a store without rules, or only the operator may read them
        return []
    rules = []
    for rule in rows_of(found, "Rule"):
        days, date = (rule.findtext("Expiration/Days") or "").strip(), rule.findtext("Expiration/Date")
        wanted = rule.find("Filter")
        if wanted is None:
            prefix: str | None = rule.findtext("Prefix") or ""
        else:
            prefix = (wanted.findtext("Prefix") or "") if {each.tag for each in wanted} <= {"Prefix"} else None
        if rule.findtext("Status") == "Enabled" and prefix is not None and (days or date):
            rules.append((rule.findtext("ID") or "", prefix, int(days) if days.isdecimal() else None))
    return rules


def rows_of(answer: Mapping[str, Any], element: str) -> list[Element]:
    """Return the rules in a document that a bucket's settings are read as; none if there is no document."""
    return list(answer["Document"].findall(element)) if "Document" in answer else []
