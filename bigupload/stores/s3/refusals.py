"""Refusals of a request that makes an object: which options of the caller's they are of."""

from __future__ import annotations

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.options import S3Options
from bigupload.s3_parameters import named_options

_BLOCKED = (
    "either the bucket blocks SSE-C (its BlockedEncryptionTypes, AWS's default since April 2026): allow it there with "
    "`aws s3api put-bucket-encryption`, or leave out `sse_customer_key`; or "
)


def name_options(fault: Fault, options: S3Options) -> None:
    """Name in a refusal the options that it is of. Then neither another form of the request nor a signature helps.

    Args:
        fault: The refusal of a request that makes an object, or a part of one. Its hint is there already.
        options: The options of the object.
    """
    if fault.kind not in (FaultKind.REFUSED, FaultKind.UNSUPPORTED, FaultKind.FINAL) or fault.is_decided:
        return
    fault.options = named_options(fault.named, options)
    if fault.options:
        names = " and ".join(f"`{name}`" for name in fault.options)
        fault.hint = f"the refusal names your option {names}: change it or leave it out"
        fault.is_lasting = True
    elif fault.code == "AccessDenied" and options.sse_customer_key and not fault.is_explained:
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/blocking-unblocking-s3-c-encryption-gpb.html
        fault.hint = f"{_BLOCKED}{fault.hint}"
        # Where others can be had, the credentials may have expired. AWS has a code for that.
        fault.is_lasting = options.credentials is None or options.endpoint_url is None
