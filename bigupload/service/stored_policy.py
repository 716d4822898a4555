"""The bucket's policy, kept in the bucket: what `bucket setup` wrote, and whether the bucket's rules contradict it.

Kept there, all replicas and every sweep act on the same policy, also one that is started without the options: a sweep
under a stricter policy would delete files that were accepted. Without the object, the published policy holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bigupload import errors
from bigupload.core.retry_policy import Fault
from bigupload.service.policy import DAY, PUBLISHED_POLICY, Policy, format_days, format_keep

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from bigupload.stores.s3.bucket import S3Bucket

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
