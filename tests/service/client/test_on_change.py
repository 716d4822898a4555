"""A file that has another size the next night, through a media service: the old upload is aborted there."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

from bigupload.api.sources import reopening
from bigupload.options import S3Options
from bigupload.sources.file import FileSource
from bigupload.stores.service_client import HEAD_BYTES
from bigupload.stores.targets import connect_service
from tests.service.client.support import PART, Client, object_sha256, sha256, stopped
from tests.tools.media import sample
from tests.tools.service import Service


def test_another_size_the_next_night(unfinished: Client, service: Service, short_movie: Path) -> None:
    before = unfinished.place.manifest()
    short_movie.write_bytes(sample("mp4") + random.Random(8).randbytes(2 * PART))
    stopped(unfinished.upload(short_movie), 1, "nothing was changed", "--on-change restart")
    ended = unfinished.upload(short_movie, "--on-change", "restart", "--json")
    assert ended.code == 0, ended.err
    assert "starting again from the first part: the source has" in ended.err
    assert object_sha256(ended.result["url"]) == sha256(short_movie)
    assert ended.result["key"] != before.target.key
    status = service.call("GET", "/v1/media/multipart", params={"upload": before.upload_id}).json()["status"]
    assert status == "gone"


async def test_the_service_is_shown_the_new_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old" * HEAD_BYTES)
    with contextlib.ExitStack() as opened:
        source = opened.enter_context(FileSource(path))
        store = connect_service("https://media.example", S3Options(), api_key="sk_x", name="a.mp4", source=source)
        path.write_bytes(b"new" * HEAD_BYTES)
        reopen = reopening(source, store, opened)
        assert reopen is not None
        again = await reopen()
        assert store._head == (b"new" * HEAD_BYTES)[:HEAD_BYTES]
        assert again.fingerprint != source.fingerprint
