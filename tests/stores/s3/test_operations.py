"""The table of operations against botocore's: what is sent for the same parameters, and read in the same responses."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import functools
import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl
from xml.etree import ElementTree

import botocore.handlers
import botocore.parsers
import botocore.serialize
import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigupload import s3_parameters
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.options import S3Options
from bigupload.s3_parameters import OBJECT, REQUEST, metadata_headers
from bigupload.stores.s3 import operations
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.stores.s3.operations import (
    MOST_TAGS,
    OPERATIONS,
    XMLNS,
    document,
    fields_of,
    request_of,
    required_field,
    rows,
)
from bigupload.testing.strict_s3 import StrictS3
from tests.tools import awkward_tree
from tests.tools.buckets import options_for
from tests.tools.cases import each_case
from tests.tools.weed import weed_client

from .support import EVERY_OPTION, PARAMETERS

S3: Any = botocore.session.get_session().get_service_model("s3")
OF_REQUESTS = s3_parameters.parameters(REQUEST, EVERY_OPTION)
SOURCE = {"Bucket": "from", "Key": "a folder/ein Ü~film's (1)+&=.mp4", "VersionId": "v1"}
VALUES: Mapping[str, Any] = {
    "CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"},
    "Delete": {"Objects": [{"Key": "a&<b>"}, {"Key": "c", "ETag": '"e"'}]},
    "MultipartUpload": {"Parts": [{"PartNumber": n, "ETag": f'"{n}&<>"', "ChecksumCRC32": "a/+="} for n in (1, 2)]},
}


def serialized(operation: str, parameters: Mapping[str, Any]) -> Any:
    """A request as botocore makes it of parameters, with what it does before."""
    model = S3.operation_model(operation)
    theirs = {**({"Bucket": "the-bucket"} if "Bucket" in model.input_shape.members else {}), **parameters}
    botocore.handlers.sse_md5(theirs)
    botocore.handlers.handle_copy_source_param(theirs)
    return botocore.serialize.create_serializer("rest-xml").serialize_to_request(theirs, model)


def in_lower_case(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): text for name, text in headers.items()}


# -- requests


@each_case("operation", OPERATIONS)
def test_each_row_makes_the_request_that_botocore_makes(operation: str) -> None:
    """With all parameters of the row, and all that `s3_parameters.REQUEST` has for requests that take it."""
    row, model = OPERATIONS[operation], S3.operation_model(operation)
    known, payload = model.input_shape.members, model.input_shape.serialization.get("payload")
    ours: dict[str, Any] = {"Key": "key"} if row.of_object else {}
    for number, name in enumerate(sorted(row.takes - {"Body", "CopySource"})):
        text = number if known[name].type_name in ("integer", "long") else f"{name}/+= &~"
        ours[name] = VALUES.get(name, text)
    theirs = {**ours, **({"EncodingType": "url"} if "encoding-type" in (row.query or {}) else {})}
    if "CopySource" in row.takes:
        ours["CopySource"], theirs["CopySource"] = operations.copy_source(*SOURCE.values()), SOURCE
    if "Body" in row.takes:
        ours["Body"] = b"{}"
        shape = known[payload]
        bodies = {"blob": b"{}", "string": "{}"}
        theirs[payload] = bodies.get(shape.type_name) or {member: [] for member in shape.required_members}
    for name in REQUEST:
        theirs |= {parameter: value for parameter, value in PARAMETERS[name][1].items() if parameter in known}
    request, found = serialized(operation, theirs), request_of(operation, ours, {}, OF_REQUESTS)
    path, _, query = request["url_path"].partition("?")
    assert (found.method, found.key) == (request["method"], path.removeprefix("/the-bucket").removeprefix("/"))
    sent = {**dict(parse_qsl(query, keep_blank_values=True)), **request["query_string"]}
    assert found.query == {name: str(value) for name, value in sent.items()}
    if row.has_md5:
        digest = base64.b64encode(hashlib.md5(found.body or b"").digest()).decode()
        assert found.headers["content-md5"] == digest
    headers = {name: value for name, value in found.headers.items() if name != "content-md5"}
    assert headers == in_lower_case(request["headers"])
    assert (found.body or b"") == (b"{}" if "Body" in row.takes else request["body"] or b"")


@each_case("operation", OPERATIONS)
def test_each_row_has_what_s3_requires(operation: str) -> None:
    row, model = OPERATIONS[operation], S3.operation_model(operation)
    payload = model.input_shape.serialization.get("payload")
    taken = {payload if name == "Body" else name for name in row.takes} | {"Bucket", "Key"}
    assert set(model.input_shape.required_members) <= taken
    assert (payload in row.takes or "Body" in row.takes) == (row.body is not None)
    needs_md5 = model.http_checksum_required or model.http_checksum.get("requestChecksumRequired", False)
    assert row.has_md5 == needs_md5
    least = {name: VALUES.get(name, b"") for name in row.takes if name in (payload, "Body")}
    found = request_of(operation, {**least, "Key": "key"} if row.of_object else least, {}, {})
    assert (found.query, {*found.headers} - {"content-md5"}) == (dict(row.query or {}), set())
    with pytest.raises(TypeError, match=f"{operation} has no parameter Wrong"):
        request_of(operation, {**least, "Wrong": 1}, {}, {})


@each_case("operation", ["CreateMultipartUpload", "PutObject"])
@each_case("name", [*OBJECT, *REQUEST])
def test_each_option_is_sent_as_botocore_sends_it(name: str, operation: str) -> None:
    value, meant = PARAMETERS[name]
    ours = {**OBJECT, **REQUEST}[name].send(s3_parameters.normalized(name, value))
    assert ours == in_lower_case(serialized(operation, {"Key": "key", **meant})["headers"])


def test_an_option_that_is_off_is_not_sent() -> None:
    assert s3_parameters.parameters({**OBJECT, **REQUEST}, S3Options()) == {}
    assert OBJECT["object_lock_legal_hold"].send(False) == REQUEST["request_payer"].send(False) == {}


def test_the_source_of_a_copy_may_be_an_access_point() -> None:
    arn = "arn:aws:s3:eu-west-1:123456789012:accesspoint/films"
    theirs = serialized("CopyObject", {"Key": "key", "CopySource": {"Bucket": arn, "Key": "a b"}})["headers"]
    assert operations.copy_source(arn, "a b").replace("%3A", ":") == theirs["x-amz-copy-source"].replace("%3A", ":")


def test_a_request_shows_no_key() -> None:
    found = request_of("HeadObject", {"Key": "key"}, {}, {"x-amz-server-side-encryption-customer-key": "a secret"})
    assert ("a secret" in found.headers.values(), "a secret" in repr(found)) == (True, False)


TEXTS = st.characters(exclude_categories=["Cs", "Cc"], include_characters="\r\n\t", exclude_characters="\ufffe\uffff")


@given(text=st.text(TEXTS))
def test_every_text_comes_back_out_of_a_document(text: str) -> None:
    made = document("Delete", {"Object": [{"Key": text}, {"Key": "b"}], "Quiet": True, "Of": {"A": 1, "B": False}})
    root = ElementTree.fromstring(made)
    found = [(each.tag.rpartition("}")[2], each.text or "") for each in root.iter() if not len(each)]
    assert found == [("Key", text), ("Key", "b"), ("Quiet", "true"), ("A", "1"), ("B", "false")]


# -- responses

MOMENT, AT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), "2026-01-02T03:04:05.000Z"
PART = f"<LastModified>{AT}</LastModified><Size>5242880</Size><ChecksumCRC64NVME>rosUhgp5mIg=</ChecksumCRC64NVME>"
UPLOAD = f"<Initiated>{AT}</Initiated><Owner><ID>o</ID></Owner>"
DOCUMENTS: Mapping[str, str] = {
    "CreateMultipartUpload": "<Bucket>b</Bucket><Key>a &amp; b</Key><UploadId>u/+=</UploadId>",
    "UploadPartCopy": f'<LastModified>{AT}</LastModified><ETag>"e"</ETag><ChecksumCRC32>a</ChecksumCRC32>',
    "ListParts": "<Bucket>b</Bucket><Key>k</Key><UploadId>u</UploadId><PartNumberMarker>0</PartNumberMarker>"
    "<NextPartNumberMarker>2</NextPartNumberMarker><MaxParts>2</MaxParts><IsTruncated>true</IsTruncated>"
    f"<Part><PartNumber>1</PartNumber><ETag>&quot;e&quot;</ETag>{PART}</Part><Part><PartNumber>2</PartNumber>{PART}</Part>"
    "<Owner><ID>o</ID></Owner><ChecksumType>FULL_OBJECT</ChecksumType>",
    "CompleteMultipartUpload": '<Location>http://x</Location><Bucket>b</Bucket><Key>k</Key><ETag>"e-2"</ETag>'
    "<ChecksumCRC64NVME>rosUhgp5mIg=</ChecksumCRC64NVME><ChecksumType>FULL_OBJECT</ChecksumType>",
    "ListMultipartUploads": "<Bucket>b</Bucket><KeyMarker></KeyMarker><NextKeyMarker>k&lt;</NextKeyMarker>"
    "<NextUploadIdMarker>u2</NextUploadIdMarker><MaxUploads>2</MaxUploads><IsTruncated>false</IsTruncated>"
    f"<Upload><Key>k</Key><UploadId>1</UploadId>{UPLOAD}</Upload><Upload><Key>k\n</Key><UploadId>2</UploadId></Upload>",
    "CopyObject": f'<LastModified>{AT}</LastModified><ETag>"e"</ETag>',
    "DeleteObjects": "<Error><Key>a</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
    "<Error><Key>b</Key><Code>InternalError</Code><Message/></Error><Deleted><Key>c</Key></Deleted>",
    "ListObjectsV2": "<Name>b</Name><Prefix>a+%26b%2F</Prefix><EncodingType>url</EncodingType><KeyCount>2</KeyCount>"
    "<MaxKeys>1000</MaxKeys><IsTruncated>true</IsTruncated><NextContinuationToken>1%20+/=</NextContinuationToken>"
    f'<Contents><Key>a+%26b%2F%E6%97%A5%2B</Key><LastModified>{AT}</LastModified><ETag>"e"</ETag><Size>0</Size></Contents>'
    f'<Contents><Key>a+%26b%2F2</Key><LastModified>{AT}</LastModified><ETag>"f"</ETag><Size>7</Size></Contents>'
    "<CommonPrefixes><Prefix>a+%26b%2Fc%2F</Prefix></CommonPrefixes><CommonPrefixes><Prefix>d%2F</Prefix></CommonPrefixes>",
    "GetBucketVersioning": "<Status>Enabled</Status>",
    "CreateSession": "<Credentials><AccessKeyId>a</AccessKeyId><SecretAccessKey>b</SecretAccessKey>"
    f"<SessionToken>c</SessionToken><Expiration>{AT}</Expiration></Credentials>",
}  # fmt: skip
"""What is in the root element."""
HEADERS = {"date": "Fri, 02 Jan 2026 03:04:05 GMT", "x-amz-version-id": "v1"}


def whole(operation: str, inner: str | None = None, namespace: str = f' xmlns="{XMLNS}"') -> bytes:
    root, inner = OPERATIONS[operation].root, DOCUMENTS[operation] if inner is None else inner
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}{namespace}>{inner}</{root}>'.encode()


def read(operation: str, body: bytes, headers: Mapping[str, str] = HEADERS) -> dict[str, Any]:
    return fields_of(operation, 200, headers, body, "to look", bucket="bucket")


def read_by_botocore(operation: str, body: bytes, headers: Mapping[str, str] = HEADERS) -> dict[str, Any]:
    response, shape = {"body": body, "headers": headers, "status_code": 200}, S3.operation_model(operation).output_shape
    found: dict[str, Any] = botocore.parsers.create_parser("rest-xml").parse({**response, "context": {}}, shape)
    if operation == "ListObjectsV2":
        botocore.handlers.decode_list_object_v2(found, {"encoding_type_auto_set": True})
    found |= found.pop(shape.serialization.get("payload"), {})
    return {name: value for name, value in found.items() if name not in ("ResponseMetadata", "VersionId", "Body")}


def same(ours: Any, theirs: Any) -> bool:
    """Whether both mean the same. Numbers that nobody uses are read as texts."""
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[name], theirs[name]) for name in theirs)
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs or (isinstance(ours, str) and not isinstance(theirs, str) and ours == str(theirs))


@each_case("operation", DOCUMENTS)
@each_case("namespace", [f' xmlns="{XMLNS}"', ""])
def test_documents_are_read_as_botocore_reads_them(operation: str, namespace: str) -> None:
    body = whole(operation, namespace=namespace)
    found, theirs = read(operation, body), read_by_botocore(operation, body)
    assert (found.pop("Headers"), found.pop("VersionId")) == (HEADERS, "v1")
    assert same(found, theirs), (found, theirs)
    after_white_space = read(operation, b" \r\n" * 100 + body.partition(b"\n")[2])  # as complete sends it
    assert after_white_space.items() >= found.items()


def test_every_document_is_in_that_test() -> None:
    raw = {name for name, row in OPERATIONS.items() if row.raw}
    assert DOCUMENTS.keys() | raw == {name for name, row in OPERATIONS.items() if row.root}
    for name in raw:
        assert read(name, whole(name, "<Rule><ID>a</ID></Rule>"))["Document"].findtext("Rule/ID") == "a"


@pytest.mark.parametrize("operation", ["HeadObject", "GetObject", "PutObject"])
def test_headers_are_read_as_botocore_reads_them(operation: str) -> None:
    headers = {
        **HEADERS, "content-length": "12", "content-type": "a/b", "content-encoding": "gzip", "etag": '"e"',
        "content-range": "bytes 0-11/100", "last-modified": "Fri, 02 Jan 2026 03:04:05 GMT", "x-amz-meta-a": "b",
        "x-amz-checksum-crc64nvme": "c", "x-amz-checksum-sha256": "d-2", "x-amz-checksum-type": "FULL_OBJECT",
        "x-amz-mp-parts-count": "3", "x-amz-unknown": "e",
    }  # fmt: skip
    found, theirs = read(operation, b"", headers), read_by_botocore(operation, b"", headers)
    assert found.pop("Headers") == headers
    assert theirs.items() <= found.items()
    assert (found["LastModified"], found["Metadata"]) == (MOMENT, {"a": "b"})


def test_stores_that_write_etags_dates_and_keys_in_their_own_way() -> None:
    assert read("CopyObject", whole("CopyObject", "<ETag>e</ETag>"))["ETag"] == '"e"'
    assert read("HeadObject", b"", {"etag": "e", "last-modified": "soon"}).keys() == {"Headers", "Metadata", "ETag"}
    for text in (
        "2026-01-02T03:04:05Z", "2026-01-02T03:04:05", "20260102T030405Z", "2026-01-02T05:04:05+02:00",
        " 2026-01-02T03:04:05.000000000Z\n", "Fri, 02 Jan 2026 03:04:05 GMT", "2026-01-02 03:04:05+00:00",
    ):  # fmt: skip
        found = read("CopyObject", whole("CopyObject", f"<LastModified>{text}</LastModified>"))
        assert found["LastModified"] == MOMENT, text
    row = "<Contents><Key>a%20b+c</Key></Contents>"
    for before, key in (("", "a%20b+c"), ("<EncodingType>url</EncodingType>", "a b c")):
        assert read("ListObjectsV2", whole("ListObjectsV2", before + row))["Contents"] == [{"Key": key}]


# -- what is none of S3's responses


def broken(operation: str, body: bytes, headers: Mapping[str, str] = HEADERS) -> Fault:
    with pytest.raises(Fault) as caught:
        read(operation, body, headers)
    assert "\n" not in str(caught.value)
    return caught.value


@each_case("operation", DOCUMENTS)
def test_half_a_document_is_none(operation: str) -> None:
    """A list that is cut off must not count as a shorter one."""
    body = whole(operation)
    for size in range(1 if OPERATIONS[operation].is_optional else 0, len(body)):
        found = broken(operation, body[:size])
        assert (found.kind, found.status) == (FaultKind.BROKEN, None)
    read(operation, body)


BOMB = '<?xml version="1.0" encoding="{0}"?><!DOCTYPE r [<!ENTITY e "text">]><ListPartsResult>&e;</ListPartsResult>'
ENCODINGS = ("utf-8", "utf-16", "utf-16-be", "utf-16-le", "utf-32", "utf-7", "cp037")
JUNK: Mapping[str, bytes] = {
    "nothing": b"", "a page": b"<!doctype html><html><head><title>Log in</title></head></html>", "json": b'{"a": 1}',
    "another page": b"<HTML><BODY/></HTML>", **{f"a bomb in {e}": BOMB.format(e).encode(e) for e in ENCODINGS},
    "zero bytes": whole("ListParts", "\0"), "not UTF-8": whole("ListParts", "é").replace(b"\xc3", b""),
    "too many": whole("ListParts", "<a/>" * MOST_TAGS),
    "too deep": whole("ListParts", "<a>" * 50_000 + "</a>" * 50_000),
    "no number": whole("ListParts", "<Part><PartNumber>x</PartNumber></Part>"),
    "a name that is not UTF-8": whole("ListParts", "<EncodingType>url</EncodingType><Key>%ff</Key>"),
}  # fmt: skip


@each_case("name", JUNK)
def test_what_is_no_document_of_s3s_was_said_by_something_else(name: str) -> None:
    found = broken("ListParts", JUNK[name], {"Content-Type": "text/html"})
    assert (found.kind, found.status) == (FaultKind.BROKEN, None)
    assert str(found).startswith("the response to the request to look is not S3's, or was cut off: 200 (text/html")


def test_another_document_is_no_empty_list() -> None:
    for operation in ("ListMultipartUploads", "ListObjectsV2", "DeleteObjects"):
        for body in (b"<Other/>", b"<HTML><BODY/></HTML>", whole("ListParts")):
            assert broken(operation, body).kind is FaultKind.BROKEN


@each_case("operation", OPERATIONS)
def test_an_error_in_a_successful_response_is_an_error(operation: str) -> None:
    """An object's bytes, and a policy, may be anything."""
    body = b'<?xml version="1.0"?>\n<Error><Code>SlowDown</Code><Message>later</Message></Error>'
    page = b"\r\n<!DOCTYPE html><html/>"
    if operation in ("GetObject", "GetBucketPolicy"):
        assert [read(operation, each)["Body"] for each in (body, page)] == [body, page]
        return
    found = broken(operation, body)
    assert (found.kind, found.code, found.status) == (FaultKind.BUSY, "SlowDown", 500)
    assert broken(operation, page).kind is FaultKind.BROKEN
    assert broken(operation, b"<Error/>").kind in (FaultKind.SERVER, FaultKind.BROKEN)


@pytest.mark.parametrize("operation", ["UploadPartCopy", "DeleteObjects"])
def test_some_stores_answer_without_a_document(operation: str) -> None:
    """To a copy that they do not know, and to a quiet delete of which nothing failed."""
    assert read(operation, b" \n") == {"Headers": HEADERS, "VersionId": "v1"}


def test_fields_that_must_be_there() -> None:
    assert (required_field({"a": 1}, "a", int), rows({"a": [{}]}, "a"), rows({}, "a")) == (1, [{}], ())
    for call in (
        lambda: required_field({"a": "1"}, "a", int), lambda: required_field({"a": ""}, "a", str),
        lambda: required_field({}, "a", str),
        lambda: rows({"a": ["b"]}, "a"), lambda: rows({"a": "b"}, "a"),
        lambda: read("HeadObject", b"", {"content-length": "b"}),
    ):  # fmt: skip
        with pytest.raises(Fault, match=r"the store's response has no (a|ContentLength): something else") as caught:
            call()
        assert caught.value.kind is FaultKind.BROKEN


# -- two stores


@pytest.mark.parametrize("store", ["s3", "weed"])
async def test_what_is_in_a_store_is_read_as_a_client_reads_it(store: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(store)
    client = server.client() if isinstance(server, StrictS3) else weed_client(server)
    client.create_bucket(Bucket="operations")
    async with contextlib.aclosing(S3Bucket("operations", options_for(server))) as bucket:
        keys = [f"p/{name}" for name in (*awkward_tree.FOR_SEAWEEDFS, "a+b c%20", "été/ä", "z&<>'\"")]
        write = functools.partial(bucket.call, "to write", "PutObject", headers=metadata_headers({"A": "b c"}))
        await asyncio.gather(*(write(Key=key, Body=key.encode()) for key in keys))
        start, found, page = {}, [], {}
        while page.get("IsTruncated", True):
            page = await bucket.call("to list", "ListObjectsV2", Prefix="p/", MaxKeys=30, **start)
            found += page["Contents"]
            start = {"ContinuationToken": page.get("NextContinuationToken", "")}
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="operations", Prefix="p/")
        listed, names = [row for each in pages for row in each["Contents"]], ("Key", "ETag", "Size", "LastModified")
        assert [[row[name] for name in names] for row in found] == [[row[name] for name in names] for row in listed]
        assert {row["Key"] for row in found} == set(keys)
        for key in keys[::3]:
            head = await bucket.call("to look", "HeadObject", Key=key, ChecksumMode="ENABLED")
            known = client.head_object(Bucket="operations", Key=key, ChecksumMode="ENABLED")
            assert head.pop("Headers").keys() == known["ResponseMetadata"]["HTTPHeaders"].keys()
            assert head.items() <= known.items()
            assert head.items() >= {"ContentLength": len(key.encode()), "Metadata": {"a": "b c"}}.items()
            assert {"ETag", "ContentType", "LastModified"} <= head.keys()
    client.close()
