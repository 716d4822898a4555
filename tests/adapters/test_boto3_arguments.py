"""What `ExtraArgs` and `Config` ask for is what the object gets: as boto3 sends it, or by boto3 itself."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import S3Transfer, TransferConfig
from botocore.exceptions import ClientError, ParamValidationError

from bigupload.adapters.boto3 import NotTakenOver, install
from bigupload.adapters.boto3.arguments import CannotTakeOver, TransferSettings, object_options
from bigupload.testing.strict_s3 import StrictS3
from tests.integration.support import content
from tests.tools.cases import each_case

MIB = 1024 * 1024
SMALL, LARGE = b"data", content(9 * MIB)
MOMENT = datetime.datetime(2030, 1, 31, 1, 2, 3, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
KEY = bytes(range(32))
LOCK = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": MOMENT}
SAME: dict[str, dict[str, Any]] = {
    "ACL": {"ACL": "bucket-owner-full-control"},
    "CacheControl": {"CacheControl": "max-age=3600"},
    "ContentDisposition": {"ContentDisposition": 'attachment; filename="a b.mov"'},
    "ContentEncoding": {"ContentEncoding": "gzip"},
    "ContentLanguage": {"ContentLanguage": "de-CH"},
    "ContentType": {"ContentType": "video/mp4"},
    "ExpectedBucketOwner": {"ExpectedBucketOwner": "111122223333"},
    "Expires": {"Expires": MOMENT},
    "Expires, as a text": {"Expires": "2030-01-31T01:02:03+02:00"},
    "GrantFullControl": {"GrantFullControl": 'id="a"'},
    "GrantRead": {"GrantRead": 'id="a", uri="http://acs.amazonaws.com/groups/global/AllUsers"'},
    "GrantReadACP": {"GrantReadACP": 'id="a"'},
    "GrantWriteACP": {"GrantWriteACP": 'id="a"'},
    "Metadata": {"Metadata": {"Author": "a", "empty": "", "long-name": "b c"}},
    "ObjectLockLegalHoldStatus": {"ObjectLockLegalHoldStatus": "ON"},
    "ObjectLockMode": LOCK,
    "ObjectLockRetainUntilDate": LOCK,
    "RequestPayer": {"RequestPayer": "requester"},
    "ServerSideEncryption": {"ServerSideEncryption": "AES256"},
    "SSEKMSKeyId": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:eu-west-1:1:key/k"},
    "StorageClass": {"StorageClass": "STANDARD_IA"},
    "Tagging": {"Tagging": "a=b&c%20d=%C3%A9&empty="},
    "WebsiteRedirectLocation": {"WebsiteRedirectLocation": "/other"},
}
"""By the names that boto3 allows: arguments that bigupload sends as boto3 does."""
OWN_HEADERS = ("x-amz-meta-bigupload-token", "x-amz-checksum", "x-amz-sdk", "content-md5", "x-amz-object-lock-retain")
BY_BOTO3: dict[str, dict[str, Any]] = {
    "ChecksumAlgorithm": {"ChecksumAlgorithm": "CRC32"},
    "ChecksumType": {"ChecksumType": "COMPOSITE"},
    "ChecksumCRC32": {"ChecksumCRC32": "rfPzYw=="},
    "SSEKMSEncryptionContext": {"ServerSideEncryption": "aws:kms", "SSEKMSEncryptionContext": "e30="},
    "a KMS key of another encryption": {"ServerSideEncryption": "aws:kms:dsse", "SSEKMSKeyId": "k"},
    "a tag that is there twice": {"Tagging": "a=b&a=c"},
    "an ACL that S3 may learn": {"ACL": "log-delivery-write"},
}
"""Arguments that only boto3 can send."""
ELSEWHERE = {"SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5", "MpuObjectSize"}
"""Those with tests of their own."""


def kept(s3: StrictS3, key: str) -> dict[str, str]:
    headers = s3.objects["bucket"][key].headers
    return {name: value for name, value in headers.items() if not name.startswith(OWN_HEADERS)}


@each_case("extra", SAME.values())
def test_the_object_is_as_boto3_makes_it(client: Any, plain: Any, s3: StrictS3, extra: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for key, one in (("ours", client), ("theirs", plain)):
            one.upload_fileobj(io.BytesIO(SMALL), "bucket", key, ExtraArgs=extra)
    assert kept(s3, "ours") == {"content-type": "binary/octet-stream"} | kept(s3, "theirs")


def test_so_is_one_of_parts(client: Any, plain: Any, s3: StrictS3) -> None:
    extra = {**SAME["Metadata"], **SAME["Tagging"], **SAME["StorageClass"], **SAME["RequestPayer"]}
    for key, one in (("ours", client), ("theirs", plain)):
        one.upload_fileobj(io.BytesIO(LARGE), "bucket", key, ExtraArgs=extra)
    assert kept(s3, "ours") == {"content-type": "binary/octet-stream"} | kept(s3, "theirs")


@each_case("extra", BY_BOTO3.values())
def test_what_only_boto3_can_send(client: Any, results: list[Any], extra: dict[str, Any]) -> None:
    """It does so, whatever the store says; a warning names the reason."""
    fileobj = io.BytesIO(b"x" + SMALL)
    fileobj.read(1)
    with pytest.warns(NotTakenOver, match="boto3 makes this upload itself"), contextlib.suppress(ClientError):
        client.upload_fileobj(fileobj, "bucket", "key", ExtraArgs=extra)
    assert results == []


def test_every_argument_that_boto3_allows_is_tried() -> None:
    tried = {name for extra in (*SAME.values(), *BY_BOTO3.values()) for name in extra} | ELSEWHERE
    left = {name for name in S3Transfer.ALLOWED_UPLOAD_ARGS if name not in tried}
    assert {name for name in left if not name.startswith("Checksum")} == set()
    for name in left:
        with pytest.raises(CannotTakeOver, match=f"nothing like {name}"):
            object_options({name: "x"})


def test_a_wrong_name_is_boto3s_error(client: Any, recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(ValueError, match="Invalid extra_args key 'Foo', must be one of: ACL, "):
        client.upload_fileobj(io.BytesIO(SMALL), "bucket", "key", ExtraArgs={"Foo": "bar"})
    with pytest.raises(ValueError, match="Filename must be a string or a path-like object"):
        client.upload_file(7, "bucket", "key")
    with pytest.raises(ValueError, match="Fileobj must implement read"):
        client.upload_fileobj(b"data", "bucket", "key")
    assert [each for each in recwarn if issubclass(each.category, NotTakenOver)] == []


@each_case("extra", [{"Metadata": {"a": 1}}, {"ContentType": 7}, {"Metadata": {"a": "é"}}, {"Tagging": {"a": "b"}}])
def test_a_wrong_value_is_boto3s_error(client: Any, plain: Any, s3: StrictS3, extra: dict[str, Any]) -> None:
    with pytest.raises(Exception) as caught:
        plain.upload_fileobj(io.BytesIO(SMALL), "bucket", "key", ExtraArgs=extra)
    with pytest.warns(NotTakenOver), pytest.raises(caught.type):
        client.upload_fileobj(io.BytesIO(SMALL), "bucket", "key", ExtraArgs=extra)
    assert s3.objects["bucket"] == {}


def calls(client: Any, path: str, **wrong: Any) -> list[Callable[[], object]]:
    """The documented ways to upload, with something else for an argument of theirs."""
    resource = boto3.resource("s3")
    resource.meta.client = client
    named = {"Bucket": "bucket", "Key": "key", **wrong}
    theirs = resource.Object(named.pop("Bucket"), named.pop("Key"))
    both = {"Bucket": theirs.bucket_name, "Key": theirs.key}
    of_file = {"Filename": path, **named}
    return [
        lambda: client.upload_file(**{**of_file, **both}),
        lambda: client.upload_fileobj(**{"Fileobj": io.BytesIO(SMALL), **named, **both}),
        lambda: theirs.upload_file(**of_file),
        lambda: theirs.Bucket().upload_fileobj(**{"Fileobj": io.BytesIO(SMALL), "Key": theirs.key, **named}),
    ]


@each_case(
    "wrong",
    [{name: value} for name in ("Key", "Bucket") for value in (7, b"key", 1.5, True, ["key"], Path("key"))]
    + [{"ExtraArgs": extra} for extra in ({None: "x"}, {7: "x"}, 7, "x", ["ACL"])]
    + [{"ExtraArgs": {name: None}} for name in SAME if name in S3Transfer.ALLOWED_UPLOAD_ARGS]
    + [{"ExtraArgs": {"StorageClass": ""}}, {"Config": 7}, {"Config": {"max_concurrency": 1}}],
)
def test_a_wrong_type_is_boto3s_error(
    client: Any, plain: Any, s3: StrictS3, file_of: Callable[[bytes], str], wrong: dict[str, Any]
) -> None:
    path = file_of(SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error" if {"Key", "Bucket"} & set(wrong) else "ignore", NotTakenOver)
        for ours, theirs in zip(calls(client, path, **wrong), calls(plain, path, **wrong), strict=True):
            with pytest.raises(Exception) as expected:
                theirs()
            with pytest.raises(expected.type):
                ours()
    assert s3.objects["bucket"] == {}


@each_case("nothing", [None, False, 0, "", []])
def test_a_callback_that_is_nothing(client: Any, file_of: Callable[[bytes], str], nothing: Any) -> None:
    """boto3's `upload_file` looks whether it is true, and its `upload_fileobj` whether it is None."""
    client.upload_file(file_of(SMALL), "bucket", "key", Callback=nothing)


def test_if_none_match_which_boto3_does_not_take(client: Any, plain: Any, s3: StrictS3) -> None:
    extra = {"IfNoneMatch": "*"}
    with pytest.raises(ValueError, match="Invalid extra_args key 'IfNoneMatch'"):
        plain.upload_fileobj(io.BytesIO(SMALL), "bucket", "key", ExtraArgs=extra)
    client.upload_fileobj(io.BytesIO(SMALL), "bucket", "key", ExtraArgs=extra)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.upload_fileobj(io.BytesIO(b"other"), "bucket", "key", ExtraArgs=extra)
    with pytest.raises(ValueError, match="Invalid extra_args key 'IfNoneMatch'"):  # left to boto3, it replaces nothing
        client.upload_fileobj(io.BytesIO(b"other"), "bucket", "key", ExtraArgs={**extra, "ChecksumAlgorithm": "CRC32"})
    assert s3.objects["bucket"]["key"].body == SMALL


@each_case(
    "algorithm, kind, header",
    [("SHA256", None, "sha256"), ("crc32c", "FULL_OBJECT", "crc32c"), ("CRC64NVME", None, "crc64nvme")],
)
def test_a_checksum_algorithm(client: Any, s3: StrictS3, algorithm: str, kind: str | None, header: str) -> None:
    extra = {"ChecksumAlgorithm": algorithm} | ({"ChecksumType": kind} if kind else {})
    client.upload_fileobj(io.BytesIO(LARGE), "bucket", "key", ExtraArgs=extra)
    made = s3.objects["bucket"]["key"].checksum
    assert made is not None
    assert made.algorithm.lower() == header


def test_the_size_that_a_caller_expects(client: Any, s3: StrictS3) -> None:
    client.upload_fileobj(io.BytesIO(LARGE), "bucket", "key", ExtraArgs={"MpuObjectSize": len(LARGE)})
    assert s3.objects["bucket"]["key"].body == LARGE


@each_case("given", [KEY, KEY.decode(), "encoded"])
def test_a_customer_key(given: bytes | str) -> None:
    """boto3 encodes a key itself, unless its MD5 comes with it."""
    extra: dict[str, Any] = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": given}
    if given == "encoded":
        extra["SSECustomerKey"] = base64.b64encode(KEY).decode()
        extra["SSECustomerKeyMD5"] = base64.b64encode(hashlib.md5(KEY).digest()).decode()
    assert object_options(extra)[0]["sse_customer_key"] == KEY


@each_case(
    "wrong",
    [
        {"SSECustomerKey": b"short"},
        {"SSECustomerKey": None},
        {"SSECustomerAlgorithm": "AES128"},
        {"SSECustomerKeyMD5": "x"},
        {"SSECustomerKey": base64.b64encode(KEY).decode(), "SSECustomerKeyMD5": "x"},
    ],
)
def test_a_customer_key_that_is_none(wrong: dict[str, Any]) -> None:
    extra = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY} | wrong
    with pytest.raises(CannotTakeOver, match="no such SSECustomerKey") as caught:
        object_options(extra)
    assert "short" not in str(caught.value)


def test_a_customer_key_over_https(tmp_path: Any) -> None:
    with StrictS3(tls=True, undeclared_checksums="accept") as s3:
        s3.create_bucket("bucket")
        client = install(
            boto3.client(
                "s3", endpoint_url=s3.url, region_name=s3.region, verify=str(s3.ca_bundle),
                aws_access_key_id=s3.access_key, aws_secret_access_key=s3.secret_key,
            ),
            state_dir=tmp_path,
        )  # fmt: skip
        extra = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}
        client.upload_fileobj(io.BytesIO(LARGE), "bucket", "key", ExtraArgs=extra)
        assert client.get_object(Bucket="bucket", Key="key", **extra)["Body"].read() == LARGE
        client.close()


@each_case(
    "given, means",
    [
        ({}, {}),
        ({"max_concurrency": 3}, {"concurrency": 3}),
        ({"max_concurrency": 1000}, {"concurrency": 256}),
        ({"use_threads": False, "max_concurrency": 3}, {"concurrency": 1}),
        ({"use_threads": True}, {}),
        ({"multipart_threshold": 1, "multipart_chunksize": 2}, {"threshold": 1, "chunk": 2}),
        ({"max_bandwidth": 1000}, {"rate": 1000}),
        ({"num_download_attempts": 9, "io_chunksize": 9, "max_io_queue": 9}, {}),
        ({"preferred_transfer_client": "classic"}, {}),
    ],
)
def test_a_config(given: dict[str, Any], means: dict[str, Any]) -> None:
    assert TransferSettings.of(TransferConfig(**given)) == TransferSettings(**means)
    changed = TransferConfig()
    for name, value in given.items():
        setattr(changed, name, value)
    assert TransferSettings.of(changed) == TransferSettings(**means)


def test_a_config_of_a_boto3_that_does_not_tell_defaults_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from s3transfer.manager import TransferConfig as Base

    monkeypatch.delattr(Base, "UNSET_DEFAULT")

    class Old:
        DEFAULTS = TransferConfig.DEFAULTS

        def __init__(self) -> None:
            vars(self).update(self.DEFAULTS)

    assert TransferSettings.of(Old()) == TransferSettings()
    changed = Old()
    changed.max_request_concurrency = 4  # type: ignore[attr-defined]  # made by `vars`, unseen by mypy
    assert TransferSettings.of(changed) == TransferSettings(concurrency=4)


@each_case("key", ["", "folder/", "a\nb\n"])
def test_a_key_that_bigupload_does_not_take(client: Any, key: str) -> None:
    done: list[object] = []
    install(client, on_result=done.append)
    with pytest.warns(NotTakenOver), contextlib.suppress(ClientError, ParamValidationError):
        client.upload_fileobj(io.BytesIO(SMALL), "bucket", key)
    assert done == [], "boto3 did it, or refused it"
