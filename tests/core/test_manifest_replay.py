"""The replay of whole, torn and garbled manifests."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.core.checksums import composite_etag, md5_of_etag
from bigupload.core.integrity import ObjectFacts, Verified
from bigupload.core.manifest import (
    VERSION,
    Aborted,
    Completed,
    CompletingRecord,
    Fingerprint,
    Header,
    Manifest,
    PartDropped,
    Record,
    Restart,
    SourceIdentity,
    SourceRecord,
)
from bigupload.core.manifest_lines import encode, replay
from bigupload.errors import ManifestCorrupt
from tests.core.samples import ALL_PARTS, JSON, QUICK, header, journals, lines, part
from tests.tools.cases import each_case, examples

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
    manifest = replay(
        lines(header(), *ALL_PARTS, CompletingRecord("x"), PartDropped(1, "why"), PartDropped(3, ""))
    ).manifest
    assert set(manifest.parts) == {2}
    assert manifest.status == "uploading"


def test_a_restart_voids_the_parts_before() -> None:
    manifest = replay(
        lines(header(), *ALL_PARTS, CompletingRecord(None), Restart("second", "t2", "gone"), part(2))
    ).manifest
    assert set(manifest.parts) == {2}
    assert (manifest.upload_id, manifest.token, manifest.status) == ("second", "t2", "uploading")
    assert manifest.header.upload_id == "first"


MD5S = [f'"{number:032x}"' for number in range(3)]


@each_case(
    ("etags", "is_ours"),
    [(MD5S, True), ([*MD5S[:2], '"opaque"'], False), ([*MD5S[:2], MD5S[0]], False)],
)
def test_without_a_token_an_etag_of_the_parts_etags_makes_an_object_ours(etags: list[str], is_ours: bool) -> None:
    parts = [dataclasses.replace(each, etag=etag) for each, etag in zip(ALL_PARTS, etags, strict=True)]
    manifest = Manifest(header(token=None))
    for each in parts:
        manifest.apply(each)
    known = [md5 for etag in MD5S if (md5 := md5_of_etag(etag)) is not None]
    assert manifest.made_object(ObjectFacts(etag=composite_etag(known), size=25)) is is_ours


def test_a_new_fingerprint() -> None:
    moved = SourceIdentity("/elsewhere", 25, 7, 8, 9)
    manifest = replay(lines(header(), part(1), SourceRecord(moved))).manifest
    assert manifest.source == moved
    assert manifest.header.source.path == "/data/filé"
    assert set(manifest.parts) == {1}


@each_case(
    ("records", "status"),
    [
        ([CompletingRecord("c")], "completing"),
        ([CompletingRecord("c"), Completed(etag="e", verified=Verified.SIZE)], "completed"),
        ([Aborted()], "aborted"),
        ([CompletingRecord("c"), Aborted()], "aborted"),
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


@each_case("name", HOSTILE)
def test_hostile_first_lines(name: str) -> None:
    fields = json.loads(encode(header()))
    for field, value in HOSTILE[name].items():
        fields[field] = fields[field] | value if isinstance(value, dict) else value
    with pytest.raises(ManifestCorrupt):
        replay(json.dumps(fields).encode() + b"\n")


@each_case(
    "record",
    [
        CompletingRecord("c"),  # without the parts, which the engine would look for
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


@each_case(
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


@each_case(
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
    with pytest.raises(ManifestCorrupt, match="version 3 is newer than this program understands"):
        replay(lines(dataclasses.replace(header(), version=VERSION + 1), part(1)))


# -- damage


def state_of(manifest: Manifest) -> dict[str, Any]:
    return vars(manifest)


SAMPLE = [
    header(), part(1), part(2), PartDropped(2, "other"), SourceRecord(header().source), Restart("second", "t2", "why"),
    Restart("third", "t3", "why", "media/owner/other.mp4"),
    part(1), part(2), part(3, 5), CompletingRecord("AAAAAAAAAAA="),
    Completed(etag='"e-3"', verified=Verified.FULL_OBJECT),
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
        if cut == ends[whole]:
            of_whole_records = state_of(found.manifest)
        assert state_of(found.manifest) == of_whole_records


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


@each_case(
    "tail",
    [b"\0" * 512, b"\0", b"garbage\n", b"{}\n", b"\n", b'{"type":"part","number":2}\n', b"[" * 100_000 + b"\n",
     b"\xff\xfe\n",
     b'{"type":"part","number":' + b"9" * 5000 + b"}\n", encode(part(2)).rstrip(b"\n"),
     encode(part(2)).replace(b"\n", b"\r")],
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


@each_case(
    "data",
    [b"", b"\n", b"\0" * 100, encode(header())[:-1], encode(part(1)), b'{"type":"from_the_future"}\n',
     b"[" * 100_000 + b"\n",
     b"not json\n" + encode(header())],
)  # fmt: skip
def test_a_first_line_that_can_not_be_read(data: bytes) -> None:
    with pytest.raises(ManifestCorrupt, match="nothing was changed") as caught:
        replay(data)
    assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=examples(150))
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
