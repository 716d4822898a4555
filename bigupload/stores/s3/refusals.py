"""Refusals of a request that makes an object: which options of the caller's they are of, or which other headers."""

from __future__ import annotations

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.options import S3Options
from bigupload.s3_parameters import named_options
from bigupload.stores.s3.operations import HEADERS

_BLOCKED = (
    "either the bucket blocks SSE-C (its BlockedEncryptionTypes, AWS's default since April 2026): allow it there with "
    "`aws s3api put-bucket-encryption`, or leave out `sse_customer_key`; or "
)
_WITHOUT_CHECKSUMS = "the refusal names a header of checksums: upload again with `checksum='md5'` `resume=False`"


def name_options(fault: Fault, options: S3Options, *, begun: bool = False) -> None:
    """Name in a refusal the options that it is of. Then neither another form of the request nor a signature helps.

    A refusal that names another header, without which the request may succeed, becomes one of the kind UNSUPPORTED,
    even a 403: a policy or a proxy forbids the header, and the credentials are good.

    Args:
        fault: The refusal of a request that makes an object, or a part of one. Its hint is there already.
        options: The options of the object.
        begun: Whether its upload has begun, so that another run of it has the same options.
    """
    if fault.kind not in (FaultKind.REFUSED, FaultKind.UNSUPPORTED, FaultKind.FINAL) or fault.is_decided:
        return
    fault.options = named_options(fault.named, options)
    if fault.kind is FaultKind.REFUSED and options.if_none_match and HEADERS["IfNoneMatch"] in fault.named:
        # This store may well know the condition. It protects an object, so only the caller may leave it out.
        fault.kind, fault.options = FaultKind.UNSUPPORTED, (*fault.options, "if_none_match")
    if fault.options:
        names = " and ".join(f"`{name}`" for name in fault.options)
        again = ", and upload again with `resume=False`" if begun else ""
        fault.hint = f"the refusal names your option {names}: change it or leave it out{again}"
        fault.is_lasting = True
    elif fault.names_checksum or HEADERS["MpuObjectSize"] in fault.named:
        fault.kind, fault.hint = FaultKind.UNSUPPORTED, _WITHOUT_CHECKSUMS if fault.names_checksum else ""
    elif fault.code == "AccessDenied" and options.sse_customer_key and not fault.is_explained:
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/blocking-unblocking-s3-c-encryption-gpb.html
        fault.hint = f"{_BLOCKED}{fault.hint}"
        # Where others can be had, the credentials may have expired. AWS has a code for that.
        fault.is_lasting = options.credentials is None or options.endpoint_url is None
