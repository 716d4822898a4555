"""The manifest: records to and from lines, replay of whole, torn and garbled journals, and its JSON schema."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
import json
import typing
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.checksums import Algorithm
from bigupload.errors import ManifestCorrupt
from bigupload.manifest import (
    VERSION,
    Aborted,
    Completed,
    Completing,
    Fingerprint,
    Header,
    Manifest,
    PartDropped,
    Record,
    Restart,
    SourceIdentity,
    SourceRecord,
    Target,
    belongs_to,
    decode,
    encode,
    manifest_id,
    replay,
)
from bigupload.options import S3Options
from bigupload.proof import Verified
from tests.unit import samples
from tests.unit.samples import ALL_PARTS, JSON, PATHS, RECORDS, header, journals, lines, part

QUICK = settings(deadline=None, max_examples=60)
TYPES: tuple[type[Any], ...] = typing.get_args(Record)


def state_of(manifest: Manifest) -> dict[str, Any]:
    return vars(manifest)


# -- one record


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


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"{", b"[]\n", b"1\n", b"null\n", b"{}\n", b"\0\0\0\n", b"\xff\n", b"\xfe\xff\n"]
)
def test_lines_that_are_no_record(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode(line)


def test_an_unknown_type_is_skipped() -> None:
    assert decode(b'{"type":"from_the_future","x":1}\n') is None


@settings(deadline=None, max_examples=150)
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


# -- the fold


def test_what_a_fresh_manifest_says() -> None:
    manifest = replay(lines(header())).manifest
    assert manifest.status == "uploading"
    assert (manifest.upload_id, manifest.token) == ("first", "token")
    assert manifest.parts == {}
    assert manifest.bytes_uploaded == 0
    assert manifest.plan.count == 3
    assert manifest.source.fingerprint == Fingerprint(25, 1_700_000_000_000_000_001, 1_700_000_000_000_000_002, 42)


def test_the_last_record_of_a_part_wins() -> None:
    manifest = replay(lines(header(), part(1, etag='"old"'), part(3, 5), part(1, etag='"new"'))).manifest
    assert manifest.parts == {1: part(1, etag='"new"'), 3: part(3, 5)}
    assert manifest.bytes_uploaded == 15


def test_a_dropped_part_does_not_count() -> None:
    manifest = replay(lines(header(), *ALL_PARTS, Completing("x"), PartDropped(1, "why"), PartDropped(3, ""))).manifest
    assert set(manifest.parts) == {2}
    assert manifest.status == "uploading"


def test_a_restart_voids_the_parts_before() -> None:
    manifest = replay(lines(header(), *ALL_PARTS, Completing(None), Restart("second", "t2", "gone"), part(2))).manifest
    assert set(manifest.parts) == {2}
    assert (manifest.upload_id, manifest.token, manifest.status) == ("second", "t2", "uploading")
    assert manifest.header.upload_id == "first"


def test_a_new_fingerprint() -> None:
    moved = SourceIdentity("/elsewhere", 25, 7, 8, 9)
    manifest = replay(lines(header(), part(1), SourceRecord(moved))).manifest
    assert manifest.source == moved
    assert manifest.header.source.path == "/data/filé"
    assert set(manifest.parts) == {1}


@pytest.mark.parametrize(
    ("records", "status"),
    [
        ([Completing("c")], "completing"),
        ([Completing("c"), Completed(etag="e", verified=Verified.SIZE)], "completed"),
        ([Aborted()], "aborted"),
        ([Completing("c"), Aborted()], "aborted"),
        ([Aborted(), Completed(etag="e", verified=Verified.SIZE)], "completed"),
    ],
)
def test_status(records: list[Record], status: str) -> None:
    assert replay(lines(header(), *ALL_PARTS, *records)).manifest.status == status


HOSTILE: dict[str, dict[str, Any]] = {
    "more parts than memory": {"source": {"size": 10**15}, "plan": {"part_size": 1, "parts": 10**15}},
    "more parts than S3 has": {"source": {"size": 10_001}, "plan": {"part_size": 1, "parts": 10_001}},
    "a size of thousands of digits": {"source": {"size": 10**4000}, "plan": {"part_size": 10**4000, "parts": 2}},
    "a negative part size": {"plan": {"part_size": -1, "parts": -25}},
    "no upload id, so that an abort would delete the object": {"upload_id": ""},
    "an upload id that is no UTF-8": {"upload_id": "\ud800"},
    "a key that is no UTF-8": {"target": {"key": "\udcff"}},
    "a number for a name": {"upload_id": 7},
    "true for a number": {"version": True},
    "a fraction of a size": {"source": {"size": 25.0}},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_first_lines(name: str) -> None:
    fields = json.loads(encode(header()))
    for field, value in HOSTILE[name].items():
        fields[field] = fields[field] | value if isinstance(value, dict) else value
    with pytest.raises(ManifestCorrupt):
        replay(json.dumps(fields).encode() + b"\n")


@pytest.mark.parametrize(
    "record",
    [
        Completing("c"),  # without the parts, which the engine would look for
        dataclasses.replace(part(1), checksum="not base64"),
        dataclasses.replace(part(1), checksum="AAAA"),
        Restart("", "token", "why"),
    ],
)
def test_hostile_later_records(record: Record) -> None:
    found = replay(lines(header(), part(2), record, part(3, 5)))
    assert found.damage is not None
    assert set(found.manifest.parts) == {2}
    assert found.manifest.status == "uploading"


@pytest.mark.parametrize(
    "record",
    [part(0, 10), part(4, 5), part(-1, 10), part(3, 10), part(1, 9), part(1, -10), header(),
     SourceRecord(SourceIdentity("/x", 24, 1, 1, 1))],
)  # fmt: skip
def test_records_that_contradict_the_header(record: Record) -> None:
    """Nothing of them counts, and nothing after them."""
    good = lines(header(), part(1))
    found = replay(good + lines(record, part(2)))
    assert found.damage == "line 3 can't be read (ValueError)"
    assert found.good_bytes == len(good)
    assert set(found.manifest.parts) == {1}


@pytest.mark.parametrize(
    "bad",
    [
        dataclasses.replace(header(), version=VERSION + 1),
        dataclasses.replace(header(), plan=dataclasses.replace(header().plan, parts=4)),
        dataclasses.replace(header(), plan=dataclasses.replace(header().plan, part_size=0)),
        dataclasses.replace(header(), plan=dataclasses.replace(header().plan, part_size=-1)),
        dataclasses.replace(header(), source=dataclasses.replace(header().source, size=-25)),
    ],
)
def test_headers_that_make_no_sense(bad: Header) -> None:
    with pytest.raises(ManifestCorrupt):
        replay(lines(bad))
    with pytest.raises(ValueError):
        Manifest(bad)


def test_a_newer_version_is_refused_by_name() -> None:
    with pytest.raises(ManifestCorrupt, match="version 2 is newer than this program understands"):
        replay(lines(dataclasses.replace(header(), version=VERSION + 1), part(1)))


def test_how_targets_are_shown() -> None:
    assert str(Target(bucket="b", key="k/l", endpoint="https://e")) == "s3://b/k/l"
    assert str(Target(key="k", service="https://media.example")) == "https://media.example#k"


@QUICK
@given(fingerprint=st.builds(Fingerprint, st.integers(), st.integers(), st.integers(), st.integers()))
def test_an_identity_is_a_path_and_a_fingerprint(fingerprint: Fingerprint) -> None:
    identity = SourceIdentity.of("/p", fingerprint)
    assert identity.path == "/p"
    assert identity.fingerprint == fingerprint


# -- damage

SAMPLE = [
    header(), part(1), part(2), PartDropped(2, "other"), SourceRecord(header().source), Restart("second", "t2", "why"),
    Restart("third", "t3", "why", "media/owner/other.mp4"),
    part(1), part(2), part(3, 5), Completing("AAAAAAAAAAA="), Completed(etag='"e-3"', verified=Verified.FULL_OBJECT),
]  # fmt: skip


def test_cut_at_every_byte() -> None:
    """Whatever a crash leaves of the sample: only a cut first line is fatal, and only whole records count."""
    data = lines(*SAMPLE)
    ends = [len(lines(*SAMPLE[:count])) for count in range(len(SAMPLE) + 1)]
    for cut in range(len(data) + 1):
        if cut < ends[1]:
            with pytest.raises(ManifestCorrupt):
                replay(data[:cut])
            continue
        whole = max(count for count, end in enumerate(ends) if end <= cut)
        found = replay(data[:cut])
        assert found.good_bytes == ends[whole]
        assert (found.damage is None) == (cut == ends[whole])
        assert state_of(found.manifest) == state_of(replay(data[: ends[whole]]).manifest)


@QUICK
@given(records=journals(), data=st.data())
def test_any_cut_of_any_journal(records: list[Record], data: st.DataObject) -> None:
    whole = lines(*records)
    assert replay(whole).damage is None
    assert replay(whole).good_bytes == len(whole)
    cut = data.draw(st.integers(len(encode(records[0])), len(whole)))
    found = replay(whole[:cut])
    good = [record for n, record in enumerate(records) if len(lines(*records[: n + 1])) <= cut]
    first, *rest = good
    assert isinstance(first, Header)
    expected = Manifest(first)
    for record in rest:
        expected.apply(record)
    assert state_of(found.manifest) == state_of(expected)
    assert found.good_bytes == len(lines(*good))


@pytest.mark.parametrize(
    "tail",
    [b"\0" * 512, b"\0", b"garbage\n", b"{}\n", b"\n", b'{"type":"part","number":2}\n', b"[" * 100_000 + b"\n",
     b"\xff\xfe\n",
     b'{"type":"part","number":' + b"9" * 5000 + b"}\n", encode(part(2)).rstrip(b"\n"),
     encode(part(2)).replace(b"\n", b"\r")],
    ids=["nuls", "nul", "garbage", "no type", "empty", "lacking", "deep", "no utf-8", "huge number", "torn",
         "carriage return"],
)  # fmt: skip
def test_a_bad_tail_is_cut(tail: bytes) -> None:
    good = lines(header(), part(1))
    found = replay(good + tail + lines(part(3, 5)))
    assert found.good_bytes == len(good)
    assert set(found.manifest.parts) == {1}
    assert found.damage is not None
    assert found.damage.startswith("line 3 can't be read")


def test_a_record_of_the_future_does_not_stop_the_replay() -> None:
    data = lines(header()) + b'{"type":"from_the_future","number":1}\n' + lines(part(1))
    found = replay(data)
    assert (found.damage, found.good_bytes) == (None, len(data))
    assert set(found.manifest.parts) == {1}


def test_white_space_between_the_tokens_harms_nothing() -> None:
    """As an editor may leave it: a line ends at a line feed alone, and offsets count every byte."""
    data = lines(header()) + b'  {"type":"part_dropped",\r "number":1, "reason":""} \r\n' + lines(part(1)) + b"torn"
    found = replay(data)
    assert set(found.manifest.parts) == {1}
    assert found.good_bytes == len(data) - len(b"torn")


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"\0" * 100, encode(header())[:-1], encode(part(1)), b'{"type":"from_the_future"}\n',
     b"[" * 100_000 + b"\n",
     b"not json\n" + encode(header())],
    ids=["empty", "blank", "nuls", "no line end", "a part", "unknown type", "deep", "header second"],
)  # fmt: skip
def test_a_first_line_that_can_not_be_read(data: bytes) -> None:
    with pytest.raises(ManifestCorrupt, match="nothing was changed") as caught:
        replay(data)
    assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=150)
@given(
    data=st.binary(max_size=80)
    | st.lists(JSON, max_size=3).map(lambda v: b"".join(json.dumps(x).encode() + b"\n" for x in v))
)
def test_replay_of_anything(data: bytes) -> None:
    with pytest.raises(ManifestCorrupt):
        replay(data)
    good = lines(header(), part(1))
    found = replay(good + data)
    assert len(good) <= found.good_bytes <= len(good + data)
    assert found.manifest.parts[1] == part(1)


# -- the identity of an upload

TARGETS = st.builds(
    Target,
    key=st.text(max_size=6),
    bucket=st.none() | st.text(max_size=6),
    endpoint=st.none() | st.text(max_size=6),
    region=st.none() | st.text(max_size=6),
    service=st.none() | st.text(max_size=6),
)


@settings(deadline=None, max_examples=80)
@given(path=PATHS, target=TARGETS)
def test_the_id_is_a_file_name(path: str, target: Target) -> None:
    found = manifest_id(path, target)
    assert len(found) == 32
    assert set(found) <= set("0123456789abcdef")
    assert manifest_id(path, target) == found
    assert manifest_id(path, dataclasses.replace(target, region="another")) == found


def test_the_id_does_not_change_between_versions() -> None:
    """Else an upload that is under way would begin again after an update."""
    target = Target(bucket="b", key="k", endpoint="https://e")
    assert manifest_id("/p", target) == hashlib.sha256(b"/p\0b\0k\0https://e\0").hexdigest()[:32]


OTHER: list[dict[str, Any]] = [{"bucket": "b2"}, {"key": "k2"}, {"endpoint": "https://e2"}, {"service": "https://s"}]


@pytest.mark.parametrize("change", OTHER)
def test_another_target_is_another_upload(change: dict[str, Any]) -> None:
    target = Target(bucket="b", key="k", endpoint="https://e")
    other = dataclasses.replace(target, **change)
    assert manifest_id("/p", target) != manifest_id("/p", other)
    known = dataclasses.replace(header(), source=SourceIdentity("/p", 25, 1, 1, 1), target=target)
    assert belongs_to(known, "/p", target)
    assert belongs_to(known, "/p", dataclasses.replace(target, region="elsewhere"))
    assert not belongs_to(known, "/p", other)


def test_the_key_that_a_service_chooses_makes_no_other_upload() -> None:
    """It is not known before create, and another one after a restart."""
    before = Target(service="https://media.example", key="")
    after = Target(service="https://media.example", key="media/o/k.mp4")
    assert manifest_id("/p", before) == manifest_id("/p", after)
    assert manifest_id("/p", before) != manifest_id("/p", Target(service="https://other.example", key=""))
    known = dataclasses.replace(header(), source=SourceIdentity("/p", 25, 1, 1, 1), target=after)
    assert belongs_to(known, "/p", before)
    assert not belongs_to(known, "/p", Target(service="https://other.example", key=after.key))
    assert str(before) == "https://media.example"


def test_another_file_is_another_upload() -> None:
    target = header().target
    assert manifest_id("/p", target) != manifest_id("/q", target)
    assert belongs_to(header(), header().source.path, target)
    assert not belongs_to(header(), "/other", target)


# -- secrets


def test_no_secret_reaches_a_manifest() -> None:
    options = S3Options(
        endpoint_url="https://minio.example:9000", access_key="AKIASECRET", secret_key="hunter2", region="r",
        session_token="FwoGZX", ca_bundle=Path("/ca.pem"), metadata={"a": "b"}, if_none_match=True,
    )  # fmt: skip
    line = encode(dataclasses.replace(header(), options=options.to_json()))
    for secret in (b"AKIASECRET", b"hunter2", b"FwoGZX", b"access_key", b"secret", b"session_token"):
        assert secret not in line
    read = decode(line)
    assert isinstance(read, Header)
    without = dataclasses.replace(options, access_key=None, secret_key=None, session_token=None)
    assert S3Options.from_json(read.options) == without
    assert S3Options.from_json(read.options, options) == options


def test_secrets_in_a_manifest_are_not_believed() -> None:
    given_back = S3Options.from_json({"access_key": "planted", "secret_key": "planted", "region": "r", "unknown": 1})
    assert given_back == S3Options(region="r")


def test_no_record_has_a_place_for_a_secret() -> None:
    names = {f.name for cls in (*TYPES, Target, SourceIdentity) for f in dataclasses.fields(cls)}
    assert not [
        name for name in names if any(word in name for word in ("secret", "access", "password", "api_key", "signed"))
    ]


# -- the schema

SCHEMA: dict[str, Any] = json.loads(
    (importlib.resources.files("bigupload") / "schema/manifest.schema.json").read_bytes()
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
BY_TYPE: dict[str, dict[str, Any]] = {
    SCHEMA["$defs"][ref["$ref"].rpartition("/")[2]]["properties"]["type"]["const"]: SCHEMA["$defs"][
        ref["$ref"].rpartition("/")[2]
    ]
    for ref in SCHEMA["oneOf"]
}


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("cls", TYPES)
@QUICK
@given(data=st.data())
def test_every_record_validates(cls: type[Any], data: st.DataObject) -> None:
    assert list(VALIDATOR.iter_errors(json.loads(encode(data.draw(RECORDS[cls]))))) == []


@pytest.mark.parametrize("cls", TYPES)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_without_a_required_field_nothing_validates_nor_decodes(cls: type[Any], data: st.DataObject) -> None:
    fields = json.loads(encode(data.draw(RECORDS[cls])))
    for name in BY_TYPE[cls.type]["required"]:
        less = {key: value for key, value in fields.items() if key != name}
        assert not VALIDATOR.is_valid(less), name
        with pytest.raises(ValueError):
            decode(json.dumps(less).encode())


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    named: dict[str, Any] = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    return named


def assert_same_fields(cls: type[Any], schema: dict[str, Any]) -> None:
    """The schema and the dataclass name the same fields, call the same ones required, and so on inside."""
    tag = {"type"} if isinstance(getattr(cls, "type", None), str) else set()
    fields = {f.name: f for f in dataclasses.fields(cls)}
    assert set(schema["properties"]) == {*fields, *tag}, cls
    hints = typing.get_type_hints(cls)
    required = {
        name
        for name, f in fields.items()
        if f.default is f.default_factory is dataclasses.MISSING and type(None) not in typing.get_args(hints[name])
    }
    assert set(schema["required"]) == required | tag, cls
    for name in fields:
        assert resolved(schema["properties"][name]).get("description"), f"{cls.__name__}.{name} says nothing"
        if dataclasses.is_dataclass(hints[name]):
            assert_same_fields(typing.cast("type[Any]", hints[name]), resolved(schema["properties"][name]))


def test_schema_and_dataclasses_have_the_same_fields() -> None:
    assert set(BY_TYPE) == {cls.type for cls in TYPES}
    assert len(SCHEMA["oneOf"]) == len(TYPES)
    for cls in TYPES:
        assert_same_fields(cls, BY_TYPE[cls.type])


def test_schema_and_enums_have_the_same_values() -> None:
    header_fields, part_fields = BY_TYPE["manifest"]["properties"], BY_TYPE["part"]["properties"]
    assert header_fields["version"]["const"] == VERSION
    checksum = resolved(header_fields["checksum"])["properties"]
    assert checksum["algorithm"]["enum"] == list(Algorithm)
    assert set(BY_TYPE["completed"]["properties"]["verified"]["enum"]) == set(Verified)
    assert set(part_fields["proof"]["enum"]) == set(typing.get_type_hints(type(part(1)))["proof"])


@pytest.mark.parametrize(
    "change",
    [{"number": 0}, {"number": "1"}, {"number": 10_001}, {"size": -1}, {"size": 1.5}, {"proof": "trust me"},
     {"etag": None},
     {"type": "parts"}],
)  # fmt: skip
def test_the_schema_refuses_wrong_values(change: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(json.loads(encode(part(1))) | change)


def test_the_schema_lets_unknown_fields_pass() -> None:
    assert VALIDATOR.is_valid(json.loads(encode(part(1))) | {"from_the_future": 1})


def test_samples_reach_every_record_type() -> None:
    assert set(samples.RECORDS) == set(TYPES)
