"""Refusals that are of an option of the caller's: named, and final, so that no body is sent twice for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bigupload import S3Options, errors
from bigupload.s3_parameters import OBJECT, named_options
from bigupload.testing.strict_s3 import Exchange, S3Error, StrictS3
from tests.stores.s3.support import PARAMETERS
from tests.tools.cases import each_case

from .support import PART, World

CREATES = {"PutObject", "CreateMultipartUpload"}
KEY = bytes(range(32))


@pytest.fixture
def world_tls(s3_tls: StrictS3, tmp_path: Path, small_limits: None) -> World:
    return World(s3_tls, tmp_path)


def refuse(world: World, error: S3Error) -> None:
    def receive(exchange: Exchange) -> None:
        if exchange.op in CREATES:
            raise error

    world.s3.knobs.receive = receive


SMALL_AND_LARGE = pytest.mark.parametrize("size", [PART // 2, 2 * PART], ids=["one PUT", "parts"])


@SMALL_AND_LARGE
@pytest.mark.parametrize(
    ("error", "given", "option"),
    [
        (S3Error("InvalidTag", status=400), {"tags": {"a": "b"}}, "tags"),
        (S3Error("InvalidArgument", "Unsupported header 'x-amz-tagging'.", status=400), {"tags": {"a": "b"}}, "tags"),
        (S3Error("NotImplemented", fields={"Header": "x-amz-tagging"}, status=501), {"tags": {"a": "b"}}, "tags"),
        (
            S3Error("AccessDenied", "User x is not authorized to perform: s3:PutObjectTagging on y", status=403),
            {"tags": {"a": "b"}},
            "tags",
        ),
        (S3Error("AccessControlListNotSupported", status=400), {"acl": "public-read"}, "acl"),
        (S3Error("AccessControlListNotSupported", status=400), {"grant_read": 'id="x"'}, "grant_read"),
        (S3Error("InvalidStorageClass", status=400), {"storage_class": "GLACIER"}, "storage_class"),
        (S3Error("KMS.NotFoundException", status=400), {"sse_kms_key_id": "x"}, "sse_kms_key_id"),
        (
            S3Error("InvalidArgument", fields={"ArgumentName": "x-amz-server-side-encryption"}, status=400),
            {"sse": "AES256"},
            "sse",
        ),
        (
            S3Error("InvalidRequest", "No x-amz-object-lock-legal-hold here", status=400),
            {"object_lock_legal_hold": True},
            "object_lock_legal_hold",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, S3Error) else None,
)
async def test_a_refusal_that_names_an_option_is_final(
    world: World, error: S3Error, given: dict[str, Any], option: str, size: int
) -> None:
    refuse(world, error)
    named = rf"{error.code}.*: the refusal names your option `{option}`: change it or leave it out$"
    with pytest.raises((errors.StoreRefused, errors.AccessDenied), match=named):
        await world.upload(world.file(size), options=world.options(**given), manifest=None)
    assert len(world.s3.requests) == 1, "no second body, and no second create"


async def test_an_option_that_was_not_given_is_not_to_blame(world: World) -> None:
    refuse(world, S3Error("InvalidTag", status=400))
    with pytest.raises(errors.StoreRefused) as caught:
        await world.upload(world.file(1), options=world.options(acl="private"), manifest=None)
    assert "your option" not in str(caught.value)


@each_case("name", OBJECT)
def test_each_property_is_known_by_its_headers(name: str) -> None:
    lock = {"object_lock_mode": "GOVERNANCE", "object_lock_retain_until": "2999-01-31T00:00:00Z"}
    options = S3Options(**(lock if name in lock else {name: PARAMETERS[name][0]}))
    for header in OBJECT[name].send(getattr(options, name)):
        assert name in named_options({header}, options)
    assert named_options({"x-amz-checksum-crc64nvme", "invalidrequest"}, options) == ()


@SMALL_AND_LARGE
async def test_a_bucket_that_blocks_sse_c(world_tls: World, size: int) -> None:
    """As buckets of AWS do: https://docs.aws.amazon.com/AmazonS3/latest/userguide/blocking-unblocking-s3-c-encryption-gpb.html."""
    world = world_tls
    refuse(world, S3Error("AccessDenied", status=403))
    with pytest.raises(errors.AccessDenied) as caught:
        await world.upload(world.file(size), options=world.options(sse_customer_key=KEY), manifest=None)
    assert "BlockedEncryptionTypes" in str(caught.value)
    assert "put-bucket-encryption" in str(caught.value)
    assert "the credentials from AWS_ACCESS_KEY_ID" in str(caught.value), "or it is they"
    assert len(world.s3.requests) == 1


@SMALL_AND_LARGE
async def test_without_sse_c_a_403_says_nothing_of_it(world: World, size: int) -> None:
    refuse(world, S3Error("AccessDenied", status=403))
    with pytest.raises(errors.AccessDenied) as caught:
        await world.upload(world.file(size), manifest=None)
    assert "BlockedEncryptionTypes" not in str(caught.value)
    assert len(world.s3.requests) == 2, "signed once more"
