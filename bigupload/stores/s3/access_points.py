"""Names of buckets, and access points, which stand in place of one. Pure.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-points-naming.html
"""

from __future__ import annotations

import re

from bigupload.errors import UsageError
from bigupload.options import S3Options

_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):(?P<service>[a-z0-9-]*):(?P<region>[a-z0-9-]*):(?P<account>[0-9]*):"
    r"(?P<kind>[a-z]+)[/:](?P<name>[^/:]+)(?P<rest>.*)",
    re.DOTALL,
)
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,48}[a-z0-9]")
_SHAPE = "write an access point like s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/NAME/KEY"


def split(target: str) -> tuple[str, str]:
    """Split "BUCKET/KEY" into (bucket, key). The bucket may be an access point's ARN, which has a slash or a colon.

    Raises:
        UsageError: The ARN is not an access point's, or of a kind that takes no uploads from bigupload.
    """
    if not target.startswith("arn:"):
        bucket, _, key = target.partition("/")
        if bucket.endswith("--op-s3"):
            raise _outposts()
        return bucket, key
    found = _ARN.fullmatch(target)
    if found is None:
        raise UsageError(f"not an access point: {target!r} ({_SHAPE})")
    if found["service"] == "s3-outposts":
        raise _outposts()
    if found["service"] == "s3-object-lambda":
        raise UsageError("an Object Lambda access point takes no uploads: name the bucket, or its access point")
    if found["kind"] == "accesspoint" and (found["name"].endswith(".mrap") or not found["region"]):
        raise UsageError(
            "Multi-Region Access Points are not supported, as they need another kind of signature (SigV4A): "
            "name one region's bucket or access point"
        )
    rest = found["rest"]
    sound = (found["service"], found["kind"]) == ("s3", "accesspoint") and len(found["account"]) == 12
    if not sound or _NAME.fullmatch(found["name"]) is None or rest[:1] not in ("", "/"):
        raise UsageError(f"not an access point: {target!r} ({_SHAPE})")
    return target[: len(target) - len(rest)], rest[1:]


def region_of(bucket: str) -> str | None:
    """Return the region that an access point's ARN names; None for a bucket's name."""
    found = _ARN.fullmatch(bucket)
    return None if found is None else found["region"]


def refuse_unsuited(bucket: str, options: S3Options) -> None:
    """Raise UsageError if a bucket's name does not go with the options."""
    region = region_of(bucket)
    if options.accelerate and (region is not None or "." in bucket):
        what = "an access point" if region is not None else "a bucket whose name has dots"
        raise UsageError(f"accelerate can't be used with {what}: leave it out")
    if region is not None and options.region not in (None, region):
        raise UsageError(f"the access point is in region {region}, and {options.region} is asked for: leave that out")
    if region is not None and options.local:
        raise UsageError("the local store has no access points: name a bucket")


def _outposts() -> UsageError:
    return UsageError("S3 on Outposts is not supported: name a bucket or an access point in a region")
