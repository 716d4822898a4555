"""A bucket at a scripted server, a moment for botocore's signatures, and the options of an object as botocore's."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bigupload.options import S3Options
from bigupload.stores.s3.bucket import S3Bucket
from tests.tools.leaks import no_leaks
from tests.tools.scripted import Script, serving

PART: Mapping[str, Any] = {"Key": "key", "UploadId": "u", "PartNumber": 1}

NOON = datetime.datetime(2026, 5, 17, 23, 59, 59, tzinfo=datetime.UTC)
"""botocore's time, where a test uses the fixture `now`."""
YEAR = datetime.datetime(2027, 1, 31, tzinfo=datetime.UTC)

PARAMETERS: Mapping[str, tuple[Any, Mapping[str, Any]]] = {
    "content_type": ('video/mp4; codecs="avc1  {0}"', {"ContentType": 'video/mp4; codecs="avc1  {0}"'}),
    "cache_control": ("no-cache,  max-age=0", {"CacheControl": "no-cache,  max-age=0"}),
    "content_disposition": ("attachment; filename*=UTF-8''caf%C3%A9.mov",
                            {"ContentDisposition": "attachment; filename*=UTF-8''caf%C3%A9.mov"}),
    "content_encoding": ("gzip", {"ContentEncoding": "gzip"}),
    "content_language": ("de-CH", {"ContentLanguage": "de-CH"}),
    "expires": ("2027-01-31T00:00:00Z", {"Expires": YEAR}),
    "metadata": ({"Title": "two  spaces {and} braces", "n": "1", "empty": ""},
                 {"Metadata": {"Title": "two  spaces {and} braces", "n": "1", "empty": ""}}),
    "tags": ({"a b": "c&d", "ü": "é"}, {"Tagging": "a%20b=c%26d&%C3%BC=%C3%A9"}),
    "storage_class": ("STANDARD_IA", {"StorageClass": "STANDARD_IA"}),
    "website_redirect": ("/there", {"WebsiteRedirectLocation": "/there"}),
    "acl": ("public-read", {"ACL": "public-read"}),
    "grant_full_control": ('id="a"', {"GrantFullControl": 'id="a"'}),
    "grant_read": ('uri="http://acs.amazonaws.com/groups/global/AllUsers"',
                   {"GrantRead": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'}),
    "grant_read_acp": ('emailAddress="a@b.example"', {"GrantReadACP": 'emailAddress="a@b.example"'}),
    "grant_write_acp": ('id="b"', {"GrantWriteACP": 'id="b"'}),
    "sse": ("AES256", {"ServerSideEncryption": "AES256"}),
    "sse_kms_key_id": ("arn:aws:kms:eu-west-1:1:key/k",
                       {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:eu-west-1:1:key/k"}),
    "object_lock_mode": ("GOVERNANCE", {"ObjectLockMode": "GOVERNANCE"}),
    "object_lock_retain_until": ("2027-01-31T00:00:00Z", {"ObjectLockRetainUntilDate": YEAR}),
    "object_lock_legal_hold": (True, {"ObjectLockLegalHoldStatus": "ON"}),
    "expected_bucket_owner": ("123456789012", {"ExpectedBucketOwner": "123456789012"}),
    "request_payer": (True, {"RequestPayer": "requester"}),
    "sse_customer_key": (b"k" * 32, {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}),
}  # fmt: skip
"""Each field of S3Options that is sent: a value, and the parameters of botocore that mean the same."""

_OTHERS = ("acl", "sse", "sse_kms_key_id")
"""Those that exclude some of the rest."""
EVERY_OPTION = S3Options(
    endpoint_url="https://store.example", **{n: v for n, (v, _) in PARAMETERS.items() if n not in _OTHERS}
)
OTHER_OPTIONS = S3Options(acl="public-read", sse_kms_key_id=PARAMETERS["sse_kms_key_id"][0], metadata={"x": ""})


def parameters_of_boto3(options: S3Options) -> dict[str, Any]:
    """botocore's parameters of PutObject that mean the same as some options."""
    found: dict[str, Any] = {}
    for name, (value, meant) in PARAMETERS.items():
        if getattr(options, name) == value:
            found |= meant
        elif name == "metadata" and options.metadata:
            found["Metadata"] = options.metadata
    return found


@contextlib.asynccontextmanager
async def asking(*responses: bytes, name: str = "bucket", **options: Any) -> AsyncIterator[tuple[S3Bucket, Script]]:
    """A bucket, and the server that it is at. They leave nothing behind."""
    script, keys = Script(*responses), {"access_key": "AK", "secret_key": "SK-hidden"}
    async with no_leaks(), serving(script.serve) as script.url:
        bucket = S3Bucket(name, S3Options(**{"endpoint_url": script.url, **keys, **options}))
        async with contextlib.aclosing(bucket):
            yield bucket, script


async def signer_of(bucket: S3Bucket) -> str:
    """The access key that signs a URL now."""
    (url,) = await bucket.presign("UploadPart", [PART])
    return parse_qs(urlsplit(url).query)["X-Amz-Credential"][0].split("/")[0]
