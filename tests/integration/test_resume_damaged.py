"""Going on by a manifest that is damaged, lost, or another's."""

from __future__ import annotations

import pytest

import bigupload
from bigupload import errors, events
from bigupload.testing.strict_s3 import StrictS3

from .stopped import PARTS, SIZE, lines, the_file
from .support import BUCKET, World


async def test_a_lost_tail_is_found_in_the_store(stopped: World) -> None:
    """As after a kill between an acknowledgement and its fsync."""
    stopped.manifest_path.write_bytes(b"".join(lines(stopped)[:1]))
    missing, before = stopped.missing(), len(stopped.s3.requests)
    result = await stopped.upload(the_file(stopped))
    assert stopped.holds(the_file(stopped))
    assert sorted(stopped.sent(since=before)) == missing
    assert result.resumed_parts == PARTS - len(missing)
    assert any("not in the manifest" in event.reason for event in stopped.told(events.Hashing))


@pytest.mark.exhaustive
@pytest.mark.parametrize("damage", [b'{"type":"part","num', b"\0" * 4096, b"not json\n", b'{"type":"part"}\n'])
async def test_a_torn_tail_is_cut_and_saved(stopped: World, damage: bytes) -> None:
    good = stopped.manifest_path.read_bytes()
    stopped.manifest_path.write_bytes(good + damage)
    missing, before = stopped.missing(), len(stopped.s3.requests)
    await stopped.upload(the_file(stopped))
    assert stopped.holds(the_file(stopped))
    assert sorted(stopped.sent(since=before)) == missing
    assert "it was cut from there on" in stopped.warnings()
    assert stopped.manifest_path.read_bytes().startswith(good)
    saved = [p for p in stopped.directory.iterdir() if p.is_file() and p.read_bytes() == damage]
    assert len(saved) == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("damage", [b"garbage\n", b'{"type":"part"}\n', b'{"type":"manifest","version":9}\n', b"{"])
async def test_a_damaged_first_line_is_refused_and_left(stopped: World, damage: bytes) -> None:
    stopped.manifest_path.write_bytes(damage)
    before = len(stopped.s3.requests)
    for attempt in (lambda: stopped.upload(the_file(stopped)), stopped.resume):
        with pytest.raises(errors.ManifestCorrupt, match="nothing was changed") as caught:
            await attempt()
        assert caught.value.exit_code == 1
    assert stopped.manifest_path.read_bytes() == damage
    assert len(stopped.s3.requests) == before


async def test_an_empty_manifest_is_none_yet(world: World) -> None:
    world.manifest_path.touch()
    with pytest.raises(errors.ManifestCorrupt, match="empty"):
        await world.resume()
    path = world.file(1)
    await world.upload(path)
    assert world.holds(path)


async def test_no_manifest(world: World) -> None:
    with pytest.raises(errors.ManifestNotFound):
        await world.resume()
    with pytest.raises(errors.ManifestNotFound):
        await bigupload.abort(world.manifest_path)


async def test_the_manifest_of_another_file_or_target(stopped: World) -> None:
    other = stopped.file(SIZE, "other.bin", seed=3)
    before, journal = len(stopped.s3.requests), stopped.manifest_path.read_bytes()
    with pytest.raises(errors.ManifestMismatch, match=r"file\.bin"):
        await stopped.upload(other)
    with pytest.raises(errors.ManifestMismatch, match="s3://bucket/key"):
        await stopped.upload(the_file(stopped), to=f"s3://{BUCKET}/another")
    assert stopped.manifest_path.read_bytes() == journal
    assert len(stopped.s3.requests) == before


async def test_nothing_secret_is_in_a_manifest(stopped: World) -> None:
    options = stopped.options(access_key=StrictS3.access_key, secret_key=StrictS3.secret_key)
    await stopped.upload(the_file(stopped), options=options, resume=False)
    manifests = list(stopped.directory.glob("the.manifest*"))
    assert stopped.manifest_path in manifests
    assert len(manifests) > 1, "also the one that was set aside"
    for path in manifests:
        text = path.read_text()
        assert StrictS3.secret_key not in text
        assert StrictS3.access_key not in text
        assert "X-Amz" not in text
        assert path.stat().st_mode & 0o077 == 0
