"""Many files through a media service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bigupload
from tests.crash.running import until
from tests.service.client.support import AHEAD, PART, Client, object_sha256, sha256
from tests.tools.api_proxy import ApiProxy
from tests.tools.media import sample
from tests.tools.service import Service


async def test_many_files_are_uploads_of_their_own(service: Service, short_movie: Path, tmp_path: Path) -> None:
    other, text = tmp_path / "other.mp4", tmp_path / "no media.txt"
    other.write_bytes(short_movie.read_bytes())
    text.write_bytes(b"text")
    outcomes = [
        each
        async for each in bigupload.upload_many(
            [short_movie, (other, "folder/name.mp4"), text],
            service=service.url,
            api_key=service.key,
            part_size=PART,
            uploader=bigupload.Uploader(state_dir=tmp_path / "state"),
        )
    ]
    sent = [each for each in outcomes if isinstance(each, bigupload.UploadResult)]
    failed = [each for each in outcomes if isinstance(each, bigupload.UploadFailed)]
    assert {object_sha256(each.url) for each in sent} == {sha256(short_movie)}
    assert len({each.url for each in sent}) == 2
    assert [(each.source, type(each.error)) for each in failed] == [(str(text), bigupload.MediaRefused)]


@pytest.mark.slow
def test_a_directory_that_is_killed_and_resumed(client: Client, proxy: ApiProxy, movie: Path, tmp_path: Path) -> None:
    """One file is refused; the large one resumes with its parts; nothing is uploaded twice."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    movie.rename(tree / "sub" / "movie.mp4")
    for number in range(5):
        (tree / f"{number}.jpg").write_bytes(sample("jpg") + bytes(number))
    (tree / "no media.txt").write_bytes(b"text")
    release = proxy.hold("sign")
    with client.start(tree) as process:
        until(lambda: parts_of(client) == AHEAD + 5 and ended_of(client) == 5, process)
        process.kill()
    del proxy.before["sign"]
    release.set()
    proxy.exchanges.clear()
    ended = client.upload(tree, "--json", "--progress", "none")
    assert ended.code == 1
    assert "no media.txt" in ended.complaint
    *files, total = map(json.loads, ended.out.splitlines())
    sent = {Path(each["path"]).name: each for each in files if "url" in each}
    assert proxy.calls.count("create") == 1, "that of the file which is refused"
    assert sent["movie.mp4"]["resumed_parts"] == AHEAD
    assert (total["files"], total["failed"]) == (6, 1)
    for path in tree.rglob("*.[jm]p[g4]"):
        assert object_sha256(sent[path.name]["url"]) == sha256(path)
    (tree / "no media.txt").unlink()
    ended = client.upload(tree, "--json", "--progress", "none")
    assert ended.code == 0
    *files, total = map(json.loads, ended.out.splitlines())
    assert total["skipped"] == 6
    assert {(each["key"], each["url"]) for each in files} == {(each["key"], each["url"]) for each in sent.values()}


def parts_of(client: Client) -> int:
    """Parts in all manifests."""
    return sum(path.read_bytes().count(b'\n{"type":"part",') for path in client.place.state.glob("*.manifest.jsonl"))


def ended_of(client: Client) -> int:
    """Manifests of uploads that are complete."""
    return sum(b'\n{"type":"completed",' in path.read_bytes() for path in client.place.state.glob("*.manifest.jsonl"))


async def test_a_job_uploads_a_file_under_each_of_its_names(
    service: Service, short_movie: Path, tmp_path: Path
) -> None:
    """Both have one manifest: what it says of the first one is not true of the second."""
    sources = [(short_movie, "a/name.mp4"), (short_movie, "b/name.mp4")]
    async with bigupload.Uploader(max_uploads=1, state_dir=tmp_path / "state") as uploader:
        outcomes = uploader.upload_many(
            sources, service=service.url, api_key=service.key, part_size=PART, job="nightly"
        )
        sent = [each async for each in outcomes if isinstance(each, bigupload.UploadResult)]
    assert len({each.url for each in sent if not each.skipped}) == 2
