"""`move` through the media service: a file is deleted only when the service says that it has it."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from bigupload.testing.faults import Refuse
from tests.crash.running import until
from tests.service.client.support import Client, object_sha256, sha256, stopped
from tests.service.client.test_tokens import token
from tests.tools.api_proxy import ApiProxy
from tests.tools.media import sample
from tests.tools.receipts import rows_of
from tests.tools.service import Service

MOVE = ("--delete-source", "--json", "--progress", "none")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clips" / "clip.mp4"
    path.parent.mkdir()
    path.write_bytes(sample("mp4"))
    return path


def test_a_file_is_deleted_when_the_service_has_it(client: Client, proxy: ApiProxy, clip: Path, tmp_path: Path) -> None:
    digest, receipt = sha256(clip), tmp_path / "receipt.json"
    ended = client.upload(clip, *MOVE, "--receipt", str(receipt))
    assert ended.code == 0, ended.err
    assert (ended.result["source_deleted"], ended.result["verified"]) == (True, "full-object")
    assert list(clip.parent.iterdir()) == []
    assert object_sha256(ended.result["url"]) == digest
    assert proxy.calls == ["create", "complete", "check"]
    assert [row["url"] for row in rows_of(receipt)] == [ended.result["url"]]
    again = client.upload(clip, *MOVE)  # as after a kill behind the last record
    assert (again.code, again.result["skipped"], again.result["url"]) == (0, True, ended.result["url"])
    assert proxy.calls == ["create", "complete", "check", "check"]


def test_a_file_that_was_deleted_and_is_another_one_now(client: Client, proxy: ApiProxy, clip: Path) -> None:
    assert client.upload(clip, *MOVE).code == 0
    proxy.script("check", Refuse(200, body=json.dumps({"usable": True, "url": "x", "key": "another"}).encode()))
    stopped(client.upload(clip, *MOVE), 1, f"is another file now: {clip} was deleted by an earlier call")


def test_an_unfinished_upload_is_resumed_and_moved(unfinished: Client, proxy: ApiProxy, short_movie: Path) -> None:
    digest = sha256(short_movie)
    ended = unfinished.upload(short_movie, *MOVE)
    assert ended.code == 0, ended.err
    assert (ended.result["source_deleted"], ended.result["resumed_parts"]) == (True, 2)
    assert not short_movie.exists()
    assert object_sha256(ended.result["url"]) == digest
    assert "create" not in proxy.calls


def test_killed_while_the_service_is_asked(client: Client, proxy: ApiProxy, clip: Path) -> None:
    """The file is set aside then, and recorded."""
    body, digest = clip.read_bytes(), sha256(clip)
    release = proxy.hold("check")
    with client.start(clip, "--delete-source") as process:
        until(lambda: "check" in proxy.calls or bool(list(clip.parent.glob(".bigupload-moved-*"))), process)
        process.kill()
    del proxy.before["check"]
    release.set()
    (left,) = clip.parent.iterdir()
    assert left.read_bytes() == body
    ended = client.upload(clip, *MOVE)
    assert ended.code == 0, ended.err
    assert ended.result["source_deleted"]
    assert list(clip.parent.iterdir()) == []
    assert object_sha256(ended.result["url"]) == digest
    assert proxy.calls.count("create") == 1


def test_what_an_earlier_command_uploaded_is_not_sent_again(client: Client, proxy: ApiProxy, clip: Path) -> None:
    """As after a kill between the proof and the record of the deletion."""
    url = client.upload(clip, "--json").result["url"]
    ended = client.upload(clip, *MOVE)
    assert ended.code == 0, ended.err
    assert (ended.result["source_deleted"], ended.result["url"], clip.exists()) == (True, url, False)
    assert proxy.calls == ["create", "complete", "check"]


def test_a_file_that_the_service_lost_is_sent_again(
    client: Client, proxy: ApiProxy, service: Service, clip: Path
) -> None:
    digest, first = sha256(clip), client.upload(clip, "--json").result
    assert service.call("DELETE", f"/v1/media/{quote(first['key'], safe='')}").status_code == 204
    ended = client.upload(clip, *MOVE)
    assert ended.code == 0, ended.err
    assert ended.result["url"] != first["url"]
    assert object_sha256(ended.result["url"]) == digest
    assert not clip.exists()
    assert proxy.calls == ["create", "complete", "check", "create", "complete", "check"]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, {"usable": False, "url": "x"}, "does not have"),
        (200, {"usable": True, "url": "x", "key": None}, "does not have"),
        (200, {"usable": True, "url": "x", "key": "another"}, "is another file now"),
        (403, {"error": {"code": "not_your_upload", "message": "No."}}, "is in the store and stays here"),
        (200, {"url": "x"}, "does not follow the API"),
    ],
)
def test_a_file_stays_unless_the_service_says_that_it_has_it(
    client: Client, proxy: ApiProxy, clip: Path, status: int, body: dict[str, object], says: str
) -> None:
    content = clip.read_bytes()
    proxy.script("check", Refuse(status, body=json.dumps(body).encode()))
    ended = client.upload(clip, *MOVE)
    stopped(ended, 1, says)
    assert [path.read_bytes() for path in clip.parent.iterdir()] == [content]
    assert clip.exists()
    ended = client.upload(clip, *MOVE)
    assert (ended.code, clip.exists()) == (0, False), ended.err


def test_a_token_is_enough(client: Client, service: Service, clip: Path) -> None:
    client.key = token(service, maxSize=clip.stat().st_size, uploads=1)
    ended = client.upload(clip, *MOVE)
    assert (ended.code, clip.exists()) == (0, False), ended.err
