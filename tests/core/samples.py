"""Valid manifest records and journals, by hypothesis and by hand."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from bigupload.core.checksums import UPLOAD_ALGORITHMS, Algorithm, ChecksumType, strong_etag
from bigupload.core.checksums import encode as encode_digest
from bigupload.core.integrity import CopySource, PartProof, PreviousVersion, Verified
from bigupload.core.manifest import (
    Aborted,
    ChecksumRecord,
    Completed,
    CompletingRecord,
    Header,
    Manifest,
    PartDropped,
    PartRecord,
    PlanRecord,
    Record,
    Restart,
    SourceIdentity,
    SourceKind,
    SourceRecord,
    Target,
)
from bigupload.core.manifest_lines import encode
from bigupload.core.part_plan import Part, Plan, PlanStep
from tests.tools.cases import examples

QUICK = settings(deadline=None, max_examples=examples(60))
TYPES: tuple[type[Any], ...] = typing.get_args(Record)
"""Of all records."""
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
"""Everything that can be written as UTF-8, control characters and line separators included."""
PATHS = st.binary(max_size=12).map(lambda name: "/" + name.decode("utf-8", "surrogateescape"))
"""File names are bytes: what is no UTF-8 comes as surrogates (os.fsdecode)."""
COUNTS = st.integers(0, 2**63)
NANOSECONDS = st.integers(-(2**63), 2**63)
MAYBE = st.none() | TEXT
ETAGS = TEXT.map(strong_etag)
"""In quotes, as `decode` returns them."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def identities(sizes: st.SearchStrategy[int]) -> st.SearchStrategy[SourceIdentity]:
    kinds = st.none() | st.sampled_from(SourceKind)
    return st.builds(SourceIdentity, PATHS, sizes, NANOSECONDS, NANOSECONDS, COUNTS, kinds)


BASES = st.builds(
    PreviousVersion,
    source=st.builds(
        CopySource,
        bucket=TEXT,
        key=TEXT,
        etag=ETAGS,
        size=COUNTS,
        version_id=MAYBE,
        owner=MAYBE,
        customer_key=st.booleans(),
    ),
    part_size=st.integers(1, 2**40),
    checksums=st.lists(TEXT, max_size=3).map(tuple),
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A plan of few parts, of a file or of a stream of unknown size."""
    if draw(st.booleans()):
        return Plan(draw(st.integers(0, 40)), draw(st.integers(5, 20)))
    steps = draw(st.lists(st.builds(PlanStep, st.integers(1, 3), st.integers(2, 9)), min_size=1, max_size=3))
    return Plan(None, steps[0].part_size, tuple(steps))


@st.composite
def headers(draw: st.DrawFn) -> Header:
    """A header whose plan fits its source's size, in few parts."""
    plan = draw(plans())
    return Header(
        id=draw(TEXT),
        source=draw(identities(st.just(plan.size or 0))),
        target=draw(st.builds(Target, key=TEXT, bucket=MAYBE, endpoint=MAYBE, region=MAYBE, service=MAYBE)),
        plan=PlanRecord.of(plan),
        version=2 if plan.steps else 1,
        checksum=ChecksumRecord(
            draw(st.sampled_from(UPLOAD_ALGORITHMS)), draw(st.none() | st.sampled_from(ChecksumType))
        ),
        copies=draw(st.none() | BASES),
        source_checksum=draw(MAYBE),
        end_marker=draw(MAYBE),
        upload_id=draw(TEXT.filter(bool)),
        token=draw(MAYBE),
        created_at=draw(TEXT),
        options=draw(st.dictionaries(TEXT, TEXT | st.booleans() | st.dictionaries(TEXT, TEXT, max_size=2), max_size=3)),
    )


PARTS = st.builds(
    PartRecord,
    number=st.integers(1, 10_000),
    size=COUNTS,
    etag=ETAGS,
    checksum=TEXT,
    proof=st.sampled_from(PartProof),
)
LATER_RECORDS: dict[type, st.SearchStrategy[Record]] = {
    PartRecord: PARTS,
    PartDropped: st.builds(PartDropped, st.integers(1, 10_000), TEXT),
    SourceRecord: st.builds(SourceRecord, identities(COUNTS)),
    Restart: st.builds(Restart, TEXT.filter(bool), TEXT, TEXT, st.none(), st.sampled_from([None, True])),
    CompletingRecord: st.builds(CompletingRecord, MAYBE),
    Completed: st.builds(Completed, etag=ETAGS, verified=st.sampled_from(Verified), checksum=MAYBE, url=MAYBE),
    Aborted: st.just(Aborted()),
}
RECORDS: dict[type, st.SearchStrategy[Record]] = {Header: headers(), **LATER_RECORDS}


@st.composite
def later(draw: st.DrawFn, header: Header) -> Record:
    """A record that may follow `header`."""
    plan = Manifest(header).first_plan
    record = draw(st.one_of(*LATER_RECORDS.values()))
    algorithm = header.checksum.algorithm
    match record:
        case PartRecord(number=number):
            part = plan.part(1 + number % plan.count)
            checksum = encode_digest(draw(st.binary(min_size=algorithm.digest_size, max_size=algorithm.digest_size)))
            return dataclasses.replace(record, number=part.number, size=part.size, checksum=checksum)
        case SourceRecord(source=source):
            return SourceRecord(dataclasses.replace(source, size=plan.size or 0))
        case CompletingRecord():
            return dataclasses.replace(record, size=draw(st.integers(0, plan.capacity)) if plan.steps else None)
    return record


@st.composite
def journals(draw: st.DrawFn) -> list[Record]:
    header = draw(headers())
    found: list[Record] = [header]
    manifest = Manifest(header)
    for record in draw(st.lists(later(header), max_size=8)):
        missing: Iterable[Part] = ()
        if isinstance(record, CompletingRecord):  # which follows when every part is there
            missing = manifest.first_plan if record.size is None else manifest.first_plan.closed(record.size)
        before = [
            PartRecord(number=part.number, size=part.size, etag='"e"', checksum="", proof=PartProof.ETAG)
            for part in missing
            if part.number not in manifest.parts or manifest.parts[part.number].size != part.size
        ]
        for each in (*before, record):
            manifest.apply(each)
            found.append(each)
    return found


def header(size: int = 25, part_size: int = 10, *, token: str | None = "token") -> Header:
    """By hand: three parts, of 10, 10 and 5 bytes."""
    return Header(
        id="0123",
        source=SourceIdentity("/data/filé", size, 1_700_000_000_000_000_001, 1_700_000_000_000_000_002, 42),
        target=Target(bucket="bucket", key="key"),
        plan=PlanRecord(part_size, Plan(size, part_size).count),
        checksum=ChecksumRecord(Algorithm.CRC64NVME, ChecksumType.FULL_OBJECT),
        upload_id="first",
        token=token,
        created_at="2026-01-01T00:00:00Z",
        options={"content_type": "video/mp4", "metadata": {"k": "v"}},
    )


def part(number: int, size: int = 10, etag: str = '"e"') -> PartRecord:
    return PartRecord(number=number, size=size, etag=etag, checksum="AAAAAAAAAAA=", proof=PartProof.CHECKSUM)


ALL_PARTS = (part(1), part(2), part(3, 5))
"""Of `header`."""


def lines(*records: Record) -> bytes:
    return b"".join(map(encode, records))
