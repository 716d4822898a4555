"""Setting a bucket up: what holds afterwards, what is kept of an operator's rules, and stores that refuse."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service.uploads.bucket_rules import browser_trouble, set_up
from bigupload.stores.local_store import LocalStore
from bigupload.stores.s3.operations import fields_of
from bigupload.testing.faults import Reset, Status
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.buckets import Meddled, Next, ask, client_of, fresh_name, options_for
from tests.tools.cases import each_case

PAGE = "https://page.example"
MEDIA = "media/owner/a.jpg"
OTHER = "other/b.jpg"


@pytest.fixture
async def bucket(weed: LocalStore) -> AsyncIterator[Meddled]:
    """A name in SeaweedFS; there is no such bucket yet."""
    found = Meddled(fresh_name(weed), options_for(weed))
    yield found
    await found.aclose()


async def put(bucket: Meddled, key: str, body: bytes = b"bytes") -> None:
    await bucket.call("to put", "PutObject", Key=key, Body=body)


async def rules(bucket: Meddled) -> list[dict[str, Any]]:
    with contextlib.closing(client_of(bucket)) as client:
        return list(client.get_bucket_lifecycle_configuration(Bucket=bucket.name)["Rules"])


async def cors(bucket: Meddled) -> list[dict[str, Any]]:
    with contextlib.closing(client_of(bucket)) as client:
        return list(client.get_bucket_cors(Bucket=bucket.name)["CORSRules"])


async def statements(bucket: Meddled) -> list[dict[str, Any]]:
    response = await bucket.call("to read", "GetBucketPolicy")
    return list(json.loads(response["Body"])["Statement"])


# -- what holds


async def test_a_new_bucket_takes_everything(bucket: Meddled) -> None:
    done: list[str] = []
    assert await set_up(bucket, on_done=done.append) == []
    assert done == [
        f"created the bucket {bucket.name}, which did not exist",
        "files and open uploads end after 7 days",
        "browsers may upload from *",
        "anyone may read media/*",
    ]
    for rule, prefix in zip(await rules(bucket), ["media/", "refused/"], strict=True):
        assert (rule["Status"], rule["Filter"]) == ("Enabled", {"Prefix": prefix})
        assert rule["Expiration"] == {"Days": 7}
        assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}


async def test_a_second_time_writes_nothing(bucket: Meddled) -> None:
    await set_up(bucket)
    before = (await rules(bucket), await cors(bucket), await statements(bucket))
    bucket.calls.clear()
    assert await set_up(bucket) == []
    assert not [call for call in bucket.calls if call.startswith(("Put", "Create", "Delete"))]
    assert (await rules(bucket), await cors(bucket), await statements(bucket)) == before


async def test_another_process_may_make_the_bucket_first(bucket: Meddled) -> None:
    async def raced(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        await proceed()
        return await proceed()

    bucket.meddle["CreateBucket"] = raced
    assert await set_up(bucket) == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_anyone_may_read_media(bucket: Meddled, weed: LocalStore, method: str) -> None:
    await set_up(bucket, public_read=False)
    await put(bucket, MEDIA)
    path = f"/{bucket.name}/{MEDIA}"
    assert ask(weed.endpoint_url, method, path)[0] == 403
    await set_up(bucket)
    status, _, body = ask(weed.endpoint_url, method, path)
    assert (status, body) == (200, b"bytes" if method == "GET" else b"")


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", MEDIA),
        ("PUT", "media/owner/new.jpg"),
        ("DELETE", MEDIA),
        ("POST", "media/owner/new.mp4?uploads"),
        ("PUT", f"{MEDIA}?tagging"),
        ("GET", OTHER),
        ("HEAD", OTHER),
        ("GET", ""),
        ("GET", "?list-type=2&prefix=media/"),
        ("GET", "?uploads"),
        ("GET", "?policy"),
        ("PUT", "?policy"),
        ("POST", "?delete"),
    ],
)
async def test_and_nothing_else(bucket: Meddled, weed: LocalStore, method: str, path: str) -> None:
    await set_up(bucket)
    await put(bucket, MEDIA)
    await put(bucket, OTHER)
    body = b"x" if method in ("PUT", "POST") else None
    assert ask(weed.endpoint_url, method, f"/{bucket.name}/{path}", body=body)[0] == 403
    assert ask(weed.endpoint_url, "GET", f"/{bucket.name}/{MEDIA}")[2] == b"bytes"


PREFLIGHT = {
    "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "content-type,x-amz-checksum-sha256",
}


@pytest.mark.parametrize("origins", [("*",), (PAGE,), ("https://other.example", PAGE)])
async def test_a_page_may_upload_and_see_what_was_stored(
    bucket: Meddled, weed: LocalStore, origins: tuple[str, ...]
) -> None:
    """As a browser does it: a preflight without a signature, then the PUT with one."""
    await set_up(bucket, origins=origins)
    (url,) = await bucket.presign("PutObject", [{"Key": MEDIA, "Headers": {"content-type": "image/jpeg"}}])
    target = url.removeprefix(weed.endpoint_url)
    status, headers, _ = ask(weed.endpoint_url, "OPTIONS", target, {"Origin": PAGE, **PREFLIGHT})
    assert status == 200
    assert headers["access-control-allow-origin"] in (PAGE, "*")
    assert "PUT" in headers["access-control-allow-methods"]
    allowed = {name.strip() for name in headers["access-control-allow-headers"].lower().split(",")}
    assert "*" in allowed or {"content-type", "x-amz-checksum-sha256"} <= allowed
    assert headers["access-control-max-age"] == "3600"
    sent = {"Origin": PAGE, "Content-Type": "image/jpeg"}
    status, headers, _ = ask(weed.endpoint_url, "PUT", target, sent, b"bytes")
    assert (status, headers["access-control-allow-origin"] in (PAGE, "*")) == (200, True)
    exposed = {name.strip() for name in headers["access-control-expose-headers"].lower().split(",")}
    assert {"etag", "x-amz-checksum-sha256", "x-amz-checksum-crc64nvme"} <= exposed


async def test_another_page_may_not(bucket: Meddled, weed: LocalStore) -> None:
    await set_up(bucket, origins=[PAGE])
    headers = {"Origin": "https://evil.example", **PREFLIGHT}
    status, responded, _ = ask(weed.endpoint_url, "OPTIONS", f"/{bucket.name}/{MEDIA}", headers)
    assert status == 403
    assert "access-control-allow-origin" not in responded


# -- what others have set

THEIR_RULE = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 30}}
THEIR_CORS = {"ID": "theirs", "AllowedMethods": ["GET"], "AllowedOrigins": ["https://their.example"]}
THEIR_STATEMENT = {"Sid": "Theirs", "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject"}


async def theirs(bucket: Meddled) -> None:
    await bucket.ensure()
    statement = {**THEIR_STATEMENT, "Resource": f"arn:aws:s3:::{bucket.name}/public/*"}
    policy = {"Version": "2012-10-17", "Id": "their-policy", "Statement": [statement]}
    with contextlib.closing(client_of(bucket)) as client:
        client.put_bucket_lifecycle_configuration(Bucket=bucket.name, LifecycleConfiguration={"Rules": [THEIR_RULE]})
        client.put_bucket_cors(Bucket=bucket.name, CORSConfiguration={"CORSRules": [THEIR_CORS]})
        client.put_bucket_policy(Bucket=bucket.name, Policy=json.dumps(policy))


async def test_foreign_rules_stay_and_ours_are_replaced(bucket: Meddled) -> None:
    await theirs(bucket)
    assert await set_up(bucket, origins=["https://old.example"]) == []
    assert await set_up(bucket, origins=[PAGE]) == []
    assert [rule["ID"] for rule in await rules(bucket)] == ["theirs", "bigupload-media", "bigupload-refused"]
    assert [(rule["ID"], rule["AllowedOrigins"]) for rule in await cors(bucket)] == [
        ("theirs", ["https://their.example"]),
        ("bigupload-upload", [PAGE]),
    ]
    assert [s["Sid"] for s in await statements(bucket)] == ["Theirs", "BiguploadPublicRead"]


FOREIGN = """<?xml version="1.0" encoding="UTF-8"?>
<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
  <Rule>
    <ID>theirs &amp; more</ID>
    <Status>Enabled</Status>
    <Filter><And><Prefix>lögs/</Prefix><Tag><Key>a</Key><Value>&lt;b&gt;</Value></Tag></And></Filter>
    <Transition><Days>30</Days><StorageClass>GLACIER_IR</StorageClass></Transition>
    <Transition><Days>90</Days><StorageClass>DEEP_ARCHIVE</StorageClass></Transition>
    <FromTheFuture attribute="1"><Deep>x</Deep></FromTheFuture>
  </Rule>
  <Rule><ID>bigupload-media</ID><Prefix>old/</Prefix><Status>Disabled</Status></Rule>
</LifecycleConfiguration>"""


def plain(element: Element) -> Any:
    """An element as nested lists, without its namespace and the white space between elements."""
    name = element.tag.rpartition("}")[2]
    return name, dict(element.attrib), [plain(child) for child in element] or (element.text or "").strip()


async def test_rules_of_others_are_written_back_as_they_were(bucket: Meddled) -> None:
    """Whatever bigupload knows of them. AWS takes a header that is left out for its default."""
    header = "x-amz-transition-default-minimum-object-size"
    written: list[Mapping[str, Any]] = []

    async def read(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        body = written[-1]["Body"] if written else FOREIGN.encode()
        headers = {header: "varies_by_storage_class"}
        return fields_of("GetBucketLifecycleConfiguration", 200, headers, body, "to read")

    async def noted(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        written.append(arguments)
        return {}

    bucket.meddle |= {"GetBucketLifecycleConfiguration": read, "PutBucketLifecycleConfiguration": noted}
    for _ in range(2):  # the second time, nothing is to be written
        assert await set_up(bucket) == []
    (arguments,) = written
    assert arguments["TransitionDefaultMinimumObjectSize"] == "varies_by_storage_class"
    document = ElementTree.fromstring(arguments["Body"])
    assert {child.tag for child in document} == {"{http://s3.amazonaws.com/doc/2006-03-01/}Rule"}
    assert plain(document[0]) == plain(ElementTree.fromstring(FOREIGN)[0])
    assert [rule.findtext("{*}ID") for rule in document] == ["theirs & more", "bigupload-media", "bigupload-refused"]


async def test_what_else_a_policy_says_stays(bucket: Meddled) -> None:
    """SeaweedFS keeps no Id, so it is given back for it."""
    written: list[dict[str, Any]] = []

    async def with_id(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        statement = {**THEIR_STATEMENT, "Resource": f"arn:aws:s3:::{bucket.name}/public/*"}
        policy = {"Version": "2012-10-17", "Id": "their-policy", "Statement": statement}
        return {"Body": json.dumps(policy).encode()}

    async def noted(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        written.append(json.loads(arguments["Body"]))
        return await proceed()

    bucket.meddle |= {"GetBucketPolicy": with_id, "PutBucketPolicy": noted}
    await set_up(bucket)
    (policy,) = written
    assert policy["Id"] == "their-policy"
    assert [s["Sid"] for s in policy["Statement"]] == ["Theirs", "BiguploadPublicRead"]


async def test_reading_is_withdrawn_and_theirs_stays(bucket: Meddled) -> None:
    await theirs(bucket)
    await set_up(bucket)
    await set_up(bucket, public_read=False)
    assert [s["Sid"] for s in await statements(bucket)] == ["Theirs"]


async def test_the_last_statement_takes_the_policy_with_it(bucket: Meddled) -> None:
    await set_up(bucket)
    await set_up(bucket, public_read=False)
    with pytest.raises(Fault) as caught:
        await statements(bucket)
    assert caught.value.code == "NoSuchBucketPolicy"


@pytest.mark.parametrize(
    ("get", "put_method"),
    [
        ("GetBucketLifecycleConfiguration", "PutBucketLifecycleConfiguration"),
        ("GetBucketCors", "PutBucketCors"),
        ("GetBucketPolicy", "PutBucketPolicy"),
    ],
)
async def test_what_cannot_be_read_is_not_overwritten(bucket: Meddled, get: str, put_method: str) -> None:
    async def refused(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        raise Fault(FaultKind.SERVER, "the store refused to read: 500 InternalError", status=500)

    bucket.meddle[get] = refused
    (warning,) = await set_up(bucket)
    assert "500 InternalError" in warning
    assert put_method not in bucket.calls


async def test_a_policy_that_is_no_json_is_not_overwritten(bucket: Meddled) -> None:
    async def odd(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        return {"Body": b"Version: 2012"}

    bucket.meddle["GetBucketPolicy"] = odd
    (warning,) = await set_up(bucket)
    assert "can't be read" in warning
    assert "PutBucketPolicy" not in bucket.calls


async def test_a_store_that_names_rules_itself_gets_them_once(bucket: Meddled) -> None:
    async def renamed(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        response = await proceed()
        for row in response.get("Document", ()):
            for name in row.findall("ID"):
                row.remove(name)
        return response

    bucket.meddle["GetBucketCors"] = renamed
    await set_up(bucket)
    await set_up(bucket)
    assert len(await cors(bucket)) == 1


# -- stores that refuse


async def test_a_store_that_accepts_and_forgets_is_told(bucket: Meddled) -> None:
    async def forgotten(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        return {}

    bucket.meddle["PutBucketLifecycleConfiguration"] = forgotten
    (warning,) = await set_up(bucket)
    assert warning.startswith("the store itself will not delete old files")
    assert "did not keep them" in warning


async def test_versions_are_told(bucket: Meddled) -> None:
    async def enabled(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        return {"Status": "Enabled"}

    bucket.meddle["GetBucketVersioning"] = enabled
    (warning,) = await set_up(bucket)
    assert "keeps versions" in warning


async def test_a_store_that_knows_no_rules_is_told_of_and_used(s3: StrictS3) -> None:
    bucket = Meddled("bucket", options_for(s3))
    done: list[str] = []
    try:
        warnings = await set_up(bucket, on_done=done.append)
    finally:
        await bucket.aclose()
    assert done == ["created the bucket bucket, which did not exist"]
    assert len(warnings) == 3
    assert all("501 NotImplemented" in warning for warning in warnings)
    assert "block public access" in warnings[2]
    assert "bucket" in s3.buckets


async def test_without_public_reading_no_policies_are_no_loss(s3: StrictS3) -> None:
    bucket = Meddled("bucket", options_for(s3))
    try:
        assert len(await set_up(bucket, public_read=False)) == 2
    finally:
        await bucket.aclose()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Status(403, "AccessDenied"), errors.AccessDenied),
        (Status(403, "InvalidAccessKeyId"), errors.AccessDenied),  # HEAD has no body to tell the code
        (Reset(), errors.StoreUnreachable),
        (Status(503, "SlowDown"), errors.StoreUnavailable),
    ],
)
async def test_a_bucket_that_cannot_be_used(s3: StrictS3, fault: Any, error: type[Exception]) -> None:
    s3.script("HeadBucket", fault, repeat=True)
    bucket = Meddled("bucket", options_for(s3))
    try:
        with pytest.raises(error):
            await set_up(bucket)
    finally:
        await bucket.aclose()


async def test_a_bucket_that_may_not_be_made(s3: StrictS3) -> None:
    s3.script("CreateBucket", Status(403, "AccessDenied"))
    bucket = Meddled("bucket", options_for(s3))
    try:
        with pytest.raises(errors.AccessDenied):
            await set_up(bucket)
    finally:
        await bucket.aclose()


async def test_a_store_that_goes_away_meanwhile(bucket: Meddled) -> None:
    async def lost(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        raise Fault(FaultKind.BROKEN, "the store's answer was lost")

    bucket.meddle["PutBucketCors"] = lost
    with pytest.raises(errors.StoreUnreachable):
        await set_up(bucket)


@each_case(
    ("origins", "called", "said"),
    [
        (["*"], [], None),
        (["https://app.example.com"], [], "these origins alone may send files: https://app.example.com. The service's"),
        (["https://*.example.com"], ["https://a.example.com"], "https://*.example.com. The service's own page works"),
        (
            ["https://*.example.com"],
            ["https://b.org", "https://a.example.com"],
            "others, which can't: https://b.org. The",
        ),
        (["https://a.org"], ["*"], "others, which can't: *. The service's own page works only at one of them."),
    ],
)
async def test_which_pages_can_t_send_files(
    bucket: Meddled, origins: list[str], called: list[str], said: str | None
) -> None:
    """`serve` says it at its start: browsers only show that a request failed."""
    await bucket.ensure()
    await set_up(bucket, origins=origins)
    trouble = await browser_trouble(bucket, called)
    assert trouble is None if said is None else said in (trouble or "")


async def test_a_bucket_into_which_no_page_can_send(bucket: Meddled) -> None:
    await bucket.ensure()
    assert "no CORS rule" in (await browser_trouble(bucket, []) or "")
    await theirs(bucket)
    assert "no CORS rule" in (await browser_trouble(bucket, []) or "")

    async def refuse(*_: object) -> Any:
        raise Fault(FaultKind.UNSUPPORTED, "no such request", status=501)

    bucket.meddle["GetBucketCors"] = refuse
    assert await browser_trouble(bucket, []) is None
