"""Stores and proxies that write ETags in another way: what is proved, compared and resumed is the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import bigupload
from bigupload import PartProof, Verified, events

from .stopped import PARTS, SIZE
from .support import BUCKET, FAST, PART, World


@pytest.fixture
def unquoted(world: World) -> World:
    """Nor does its store have checksums that nobody sent."""
    world.s3.knobs.respond = lambda _, response: response.without_quotes()
    world.s3.knobs.default_crc64nvme = False
    return world


@pytest.mark.parametrize("size", [0, 100, 3 * PART], ids=["empty", "one part", "parts"])
async def test_an_upload_proves_as_much_as_verify_says(unquoted: World, size: int) -> None:
    path = unquoted.file(size)
    result = await unquoted.upload(path, checksum="md5")
    verified = await bigupload.verify(
        path, f"s3://{BUCKET}/key", s3=unquoted.options(), uploader=bigupload.Uploader(retry=FAST)
    )
    assert result.verified is verified.verified is Verified.COMPOSITE_ETAG
    assert result.etag == verified.etag == unquoted.object().etag
    assert {event.proof for event in unquoted.told(events.PartUploaded)} == {PartProof.ETAG}


@pytest.mark.parametrize("checksum", ["md5", "auto"])
async def test_a_proxy_that_marks_etags_as_weak_costs_nothing(world: World, checksum: str) -> None:
    """As a proxy that may compress. No part was found complete, so that each was sent twice."""
    world.s3.knobs.respond = lambda _, response: replace(
        response,
        headers={name: f"W/{value}" if name == "ETag" else value for name, value in response.headers.items()},
    )
    path = world.file(3 * PART)
    result = await world.upload(path, checksum=checksum)
    assert result.verified is (Verified.COMPOSITE_ETAG if checksum == "md5" else Verified.FULL_OBJECT)
    assert result.etag == world.object().etag
    assert sorted(world.sent()) == [1, 2, 3]
    found = await bigupload.read_back(
        path, f"s3://{BUCKET}/key", s3=world.options(), uploader=bigupload.Uploader(retry=FAST)
    )
    assert found.bytes_read == 3 * PART


async def test_a_store_without_checksums_too(unquoted: World) -> None:
    """As s3rver."""
    unquoted.s3.knobs.echo_checksums = False
    result = await unquoted.upload(unquoted.file(3 * PART))
    assert result.verified is Verified.COMPOSITE_ETAG
    assert {event.proof for event in unquoted.told(events.PartUploaded)} == {PartProof.ETAG}


async def test_another_file_is_not_proved(unquoted: World) -> None:
    await unquoted.upload(unquoted.file(3 * PART), checksum="md5")
    other = unquoted.file(3 * PART, "other.bin", seed=9)
    found = await bigupload.verify(
        other, f"s3://{BUCKET}/key", s3=unquoted.options(), uploader=bigupload.Uploader(retry=FAST)
    )
    assert found.verified is Verified.SIZE


async def test_many_files_and_a_sync(unquoted: World) -> None:
    """What is listed is what was uploaded: the second run sends nothing, and what is gone here is deleted there."""
    folder = unquoted.directory / "folder"
    folder.mkdir()
    for n in range(3):
        (folder / f"{n}.bin").write_bytes(bytes([n]) * 100)
    async with bigupload.Uploader(retry=FAST, state_dir=unquoted.directory / "state") as uploader:
        for deleted in (0, 0, 1):
            if deleted:
                (folder / "2.bin").unlink()
            report = await uploader.sync(
                folder, to=f"s3://{BUCKET}/p/", s3=unquoted.options(), checksum="md5", delete=True
            )
            assert not report.failed
    assert unquoted.s3.count("PutObject") == 3
    assert set(unquoted.s3.objects[BUCKET]) == {"p/0.bin", "p/1.bin"}


async def test_what_is_read_back_is_read_by_its_etag(unquoted: World) -> None:
    path = unquoted.file(3 * PART)
    await unquoted.upload(path)
    found = await bigupload.read_back(
        path, f"s3://{BUCKET}/key", s3=unquoted.options(), uploader=bigupload.Uploader(retry=FAST)
    )
    assert found.bytes_read == 3 * PART


def strip_quotes(manifest: Path) -> int:
    """Record ETags as earlier versions did from such a store. Returns how many."""
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    parts = [row for row in rows if row["type"] == "part"]
    for row in parts:
        assert row["etag"].startswith('"')
        row["etag"] = row["etag"].strip('"')
    manifest.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
    return len(parts)


@pytest.mark.parametrize("quoted", [False, True], ids=["a store that still does so", "a store that was mended"])
@pytest.mark.parametrize("checksum", ["md5", "auto"])
async def test_a_manifest_of_an_earlier_version_resumes(world: World, checksum: str, quoted: bool) -> None:
    world.s3.knobs.respond = lambda _, response: response if quoted else response.without_quotes()
    path = world.file(SIZE)
    await world.interrupted(path, after=3, checksum=checksum)
    await world.settled()
    recorded = strip_quotes(world.manifest_path)
    assert recorded >= 3
    missing, before = world.missing(), len(world.s3.requests)
    result = await world.upload(path, checksum=checksum)
    assert world.holds(path)
    assert sorted(world.sent(since=before)) == missing
    assert result.resumed_parts == PARTS - len(missing)
    assert result.verified is (Verified.COMPOSITE_ETAG if checksum == "md5" else Verified.FULL_OBJECT)
