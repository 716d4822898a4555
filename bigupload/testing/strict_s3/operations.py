"""StrictS3's operations: from an exchange to a `StoreResponse`, or to the `S3Error` of S3."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from . import multipart, objects
from .contents import Contents
from .exchange import Exchange, StoreResponse, xml
from .wire import Content, S3Error

Operation = Callable[[Contents, Exchange], Awaitable[StoreResponse]]


async def perform(s3: Contents, exchange: Exchange) -> StoreResponse:
    operation = _OPERATIONS.get(exchange.op)
    if operation is None:
        raise S3Error("NotImplemented")
    verified = exchange.verified
    if verified is None and not (s3.knobs.public_read and exchange.op in ("GetObject", "HeadObject")):
        raise S3Error("AccessDenied")
    if exchange.bucket and exchange.op != "CreateBucket":
        region = s3.buckets.get(exchange.bucket)
        if region is None:
            raise S3Error("NoSuchBucket", fields={"BucketName": exchange.bucket})
        if verified is not None and verified.region != region:
            raise _wrong_region(s3, exchange, verified.region, region)
        if exchange.headers.get("x-amz-expected-bucket-owner", s3.knobs.owner) != s3.knobs.owner:
            raise S3Error("AccessDenied")
        if s3.knobs.requester_pays and exchange.headers.get("x-amz-request-payer") != "requester":
            raise S3Error("AccessDenied")
    response = await operation(s3, exchange)
    return replace(response, headers={**common_headers(s3, exchange), **response.headers})


def common_headers(s3: Contents, exchange: Exchange) -> dict[str, str]:
    headers = {"x-amz-request-id": exchange.request_id, "x-amz-id-2": "strict-s3", "Server": "AmazonS3"}
    if exchange.op == "HeadBucket" and exchange.bucket in s3.buckets:
        headers["x-amz-bucket-region"] = s3.buckets[exchange.bucket]
    return headers


def _wrong_region(s3: Contents, exchange: Exchange, signed: str, region: str) -> S3Error:
    headers = {"x-amz-bucket-region": region}
    if s3.knobs.wrong_region == "redirect":
        endpoint = f"s3.{region}.amazonaws.com"
        return S3Error("PermanentRedirect", fields={"Endpoint": endpoint, "Bucket": exchange.bucket}, headers=headers)
    return S3Error(
        "AuthorizationHeaderMalformed",
        f"The authorization header is malformed; the region '{signed}' is wrong; expecting '{region}'",
        fields={"Region": region},
        headers=headers,
    )


async def list_buckets(s3: Contents, exchange: Exchange) -> StoreResponse:
    rows: list[tuple[str, Content]] = [("Bucket", [("Name", name)]) for name in sorted(s3.buckets)]
    return xml("ListAllMyBucketsResult", [("Owner", [("ID", "strict")]), ("Buckets", rows)])


async def create_bucket(s3: Contents, exchange: Exchange) -> StoreResponse:
    await exchange.read()
    if exchange.bucket in s3.buckets:
        raise S3Error("BucketAlreadyOwnedByYou", fields={"BucketName": exchange.bucket})
    s3.create_bucket(exchange.bucket, region=exchange.verified.region if exchange.verified else None)
    return StoreResponse(200, {"Location": f"/{exchange.bucket}"})


async def head_bucket(s3: Contents, exchange: Exchange) -> StoreResponse:
    return StoreResponse(200, {"Content-Type": "application/xml"})


async def get_bucket_location(s3: Contents, exchange: Exchange) -> StoreResponse:
    region = s3.buckets[exchange.bucket]
    return xml("LocationConstraint", "" if region == "us-east-1" else region)


_OPERATIONS: dict[str, Operation] = {
    "ListBuckets": list_buckets,
    "CreateBucket": create_bucket,
    "HeadBucket": head_bucket,
    "GetBucketLocation": get_bucket_location,
    "ListObjectsV2": objects.list_objects_v2,
    "CreateMultipartUpload": multipart.create_multipart_upload,
    "UploadPart": multipart.upload_part,
    "UploadPartCopy": multipart.upload_part_copy,
    "ListParts": multipart.list_parts,
    "ListMultipartUploads": multipart.list_multipart_uploads,
    "CompleteMultipartUpload": multipart.complete_multipart_upload,
    "AbortMultipartUpload": multipart.abort_multipart_upload,
    "PutObject": objects.put_object,
    "GetObject": objects.get_object,
    "HeadObject": objects.get_object,
    "DeleteObject": objects.delete_object,
    "DeleteObjects": objects.delete_objects,
}
