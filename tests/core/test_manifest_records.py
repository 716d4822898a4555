"""The manifest's records to and from lines."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.core.integrity import CopySource, PreviousVersion, Verified
from bigupload.core.manifest import Completed, Header, Target
from bigupload.core.manifest_lines import decode, encode
from tests.core import samples
from tests.core.samples import JSON, QUICK, RECORDS, TYPES, header, part
from tests.tools.cases import each_case, examples


@pytest.mark.parametrize("cls", TYPES)
@QUICK
@given(data=st.data())
def test_round_trip(cls: type[Any], data: st.DataObject) -> None:
    record = data.draw(RECORDS[cls])
    line = encode(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    line.decode()  # always valid UTF-8, whatever bytes the file's name has
    assert decode(line) == record


def test_what_is_not_known_is_left_out() -> None:
    fields = json.loads(encode(dataclasses.replace(header(), target=Target(bucket="b", key="k"), token=None)))
    assert fields["target"] == {"bucket": "b", "key": "k"}
    assert "token" not in fields


def test_null_means_the_same_as_left_out() -> None:
    fields = json.loads(encode(header(token=None))) | {"token": None}
    fields["target"] |= {"endpoint": None, "region": None, "service": None}
    assert decode(json.dumps(fields).encode()) == header(token=None)


@each_case("etag", ["e", "e-3", '"e"', 'W/"e"', ""])
def test_etags_are_as_the_store_knows_them(etag: str) -> None:
    """Earlier versions recorded them as responses had them: without quotes, or with a proxy's mark."""
    known = '"e"' if etag in ("e", 'W/"e"') else '"e-3"' if etag == "e-3" else etag
    assert decode(encode(part(1, etag=etag))) == part(1, etag=known)
    completed = Completed(etag=etag, verified=Verified.SIZE)
    assert decode(encode(completed)) == dataclasses.replace(completed, etag=known)
    copies = PreviousVersion(
        source=CopySource(bucket="bucket", key="etag", etag=etag, size=9), part_size=5, checksums=()
    )
    found = decode(encode(dataclasses.replace(header(), copies=copies)))
    assert isinstance(found, Header)
    assert found.copies == dataclasses.replace(copies, source=dataclasses.replace(copies.source, etag=known))


def test_names_stay_readable() -> None:
    assert "/data/filé".encode() in encode(header())


@pytest.mark.parametrize("cls", TYPES)
@QUICK
@given(data=st.data())
def test_unknown_fields_are_skipped(cls: type[Any], data: st.DataObject) -> None:
    record = data.draw(RECORDS[cls])
    fields = json.loads(encode(record)) | {"from_the_future": data.draw(JSON)}
    if cls is Header:
        fields["source"]["from_the_future"] = 1
    assert decode(json.dumps(fields).encode()) == record


@each_case(
    ("change", "says"),
    [
        ({"number": "1"}, "number"),
        ({"number": True}, "number"),
        ({"number": 1.0}, "number"),
        ({"number": None}, "number"),
        ({"etag": 1}, "etag"),
        ({"proof": "trust me"}, "PartProof"),
        ({"proof": []}, "PartProof"),
        ({"type": "manifest"}, "Header lacks id"),
        ({"type": None}, "a type"),
        ({"type": ["part"]}, "a type"),
    ],
)
def test_wrong_fields(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        decode(json.dumps(json.loads(encode(part(1))) | change).encode())


@each_case("line", [b"", b"\n", b"{", b"[]\n", b"1\n", b"null\n", b"{}\n", b"\0\0\0\n", b"\xff\n", b"\xfe\xff\n"])
def test_lines_that_are_no_record(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode(line)


def test_an_unknown_type_is_skipped() -> None:
    assert decode(b'{"type":"from_the_future","x":1}\n') is None


@settings(deadline=None, max_examples=examples(150))
@given(line=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_decode_raises_nothing_but_value_error(line: bytes) -> None:
    try:
        record = decode(line)
    except ValueError:
        return
    assert record is None or isinstance(record, TYPES)


@pytest.mark.parametrize("cls", TYPES)
@QUICK
@given(data=st.data())
def test_decode_of_a_record_with_one_field_garbled(cls: type[Any], data: st.DataObject) -> None:
    fields = json.loads(encode(data.draw(RECORDS[cls])))
    name = data.draw(st.sampled_from(sorted(fields)))
    fields[name] = data.draw(JSON)
    try:
        record = decode(json.dumps(fields).encode())
    except ValueError:
        return
    assert record is None or isinstance(record, TYPES)


def test_samples_reach_every_record_type() -> None:
    assert set(samples.RECORDS) == set(TYPES)
