"""What the operator's hooks decide, for each way into the store."""

from __future__ import annotations

import json
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from bigupload.core.checksums import Algorithm
from bigupload.service import contract as c
from bigupload.service.access.handles import Handles
from bigupload.service.access.upload_tokens import TokenRequest, UploadTokens
from bigupload.service.call import AccessLog
from bigupload.service.media.object_keys import note_key
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.sweep import Sweep
from bigupload.service.uploads.uploads import MediaUploads
from bigupload.service.webhooks.hooks import (
    FinishedFile,
    HookFailed,
    Hooks,
    HookSettings,
    NewUpload,
    Question,
    ask_command,
    opened_hooks,
)
from bigupload.stores.local_store import LocalStore
from tests.service.test_multipart import PART, described, film, upload
from tests.service.test_races import DATA, PHOTO, creation, sent
from tests.tools.buckets import Meddled
from tests.tools.http_stub import HttpStub, Response
from tests.tools.media import sample
from tests.tools.service import serving

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
REASON = "l\N{RIGHT SINGLE QUOTATION MARK}image est floue"
SECRET = "0123456789abcdef" * 2


class Asked:
    """A hook that answers as a test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answer: str | None = None
        self.fails = False
        self.questions: list[Question] = []

    async def __call__(self, question: Question) -> str | None:
        self.questions.append(question)
        if self.fails:
            raise HookFailed("it is away")
        return self.answer

    @property
    def files(self) -> list[FinishedFile]:
        return [question for question in self.questions if isinstance(question, FinishedFile)]


@pytest.fixture
def hook() -> Asked:
    return Asked()


@pytest.fixture
def uploads(bucket: Meddled, hook: Asked) -> MediaUploads:
    return made_uploads(bucket, Hooks(None, hook))


def made_uploads(bucket: Meddled, hooks: Hooks) -> MediaUploads:
    return MediaUploads(bucket, Handles([SECRET], clock=time.time), hooks=hooks)


async def put(url: str, content: bytes) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.put(url, content=content, headers={"Content-Type": "image/jpeg"})).status_code == 200


async def media_keys(bucket: Meddled) -> set[str]:
    rows = (await bucket.call("to list", "ListObjectsV2", Prefix="media/")).get("Contents", ())
    return {row["Key"] for row in rows}


async def swept(bucket: Meddled, hook: Asked) -> tuple[int, int]:
    report = await Sweep(bucket, now=lambda: datetime.now(UTC), hooks=Hooks(None, hook)).run()
    return report.refused, report.failed


async def test_a_multipart_upload_is_shown_once_and_can_be_read(bucket: Meddled, hook: Asked) -> None:
    """With what the store says of it. A repeated complete, a post and the sweep do not ask again."""
    tokens = UploadTokens([SECRET], clock=time.time)
    token = tokens.verify(tokens.mint("me", TokenRequest(metadata={"user": "17"}), key_id=None).token)
    uploads = made_uploads(bucket, Hooks(hook, hook))
    made = await uploads.create("me", creation(DATA), token)
    parts = await sent_parts(uploads, made.upload)
    done = await uploads.complete("me", parts)
    asked, shown = hook.questions
    assert asked == NewUpload(
        owner="me", filename="a.mp4", content_type="video/mp4", size=len(DATA), way="multipart",
        metadata={"user": "17"}, token=token.id,
    )  # fmt: skip
    assert isinstance(shown, FinishedFile)
    assert (shown.key, shown.owner, shown.size, shown.content_type) == (done.key, "me", len(DATA), "video/mp4")
    assert (shown.checksum, shown.checksum_algorithm) == (done.checksum, "crc64nvme")
    assert shown.metadata == {"user": "17"}
    assert httpx.get(shown.url, trust_env=False).content == DATA
    assert json.loads(json.dumps(shown.to_json()))["hook"] == "before-finish"
    assert "X-Amz" not in repr(shown)
    await uploads.complete("me", parts)
    await uploads.status("me", made.upload)
    await uploads.finishing.postable("me", done.key)
    assert await swept(bucket, hook) == (0, 0)
    assert len(hook.files) == 1


async def sent_parts(uploads: MediaUploads, handle: str) -> c.CompleteRequest:
    (part,) = described([DATA], Algorithm.CRC64NVME)
    body = c.SignRequest.model_validate({"upload": handle, "parts": [part]})
    (signed,) = (await uploads.sign("me", body)).signed
    async with httpx.AsyncClient(trust_env=False) as http:
        response = await http.put(signed.url, headers=signed.headers, content=DATA)
    row = {"partNumber": 1, "etag": response.headers["ETag"], "checksum": part["checksum"]}
    return c.CompleteRequest.model_validate({"upload": handle, "parts": [row]})


async def test_a_multipart_upload_is_refused_again_with_the_same_reason(
    bucket: Meddled, uploads: MediaUploads, hook: Asked
) -> None:
    """Its object is gone, and the page shows the reason after a reload, too."""
    request, hook.answer = await sent(uploads), REASON
    for _ in range(2):
        with pytest.raises(Refused, match=REASON) as refused:
            await uploads.complete("me", request)
        assert refused.value.problem is Problem.FILE_REFUSED
    status = await uploads.status("me", request.upload)
    assert (status.status, status.error and status.error.message) == (
        c.UploadStatus.GONE,
        REASON,
    )
    assert await media_keys(bucket) == set()
    assert len(hook.files) == 1


async def test_a_hook_that_fails_loses_nothing(bucket: Meddled, uploads: MediaUploads, hook: Asked) -> None:
    """The client gets 503 and repeats the complete. The sweep leaves the object, too."""
    request, hook.fails = await sent(uploads), True
    for call in (uploads.complete("me", request), uploads.status("me", request.upload)):
        with pytest.raises(Refused) as refused:
            await call
        assert (refused.value.problem, refused.value.retry_after) == (Problem.CHECK_FAILED, 10)
    assert await swept(bucket, hook) == (0, 1)
    hook.fails = False
    assert (await uploads.complete("me", request)).size == len(DATA)


async def test_a_refusal_at_a_post_is_noted_as_one_at_complete(
    bucket: Meddled, uploads: MediaUploads, hook: Asked
) -> None:
    """The complete was interrupted, so the post is the first to judge the object. Who asks later gets its reason."""
    request, hook.fails = await sent(uploads), True
    with pytest.raises(Refused):
        await uploads.complete("me", request)
    hook.fails, hook.answer = False, REASON
    (key,) = await media_keys(bucket)
    with pytest.raises(Refused, match=REASON):
        await uploads.finishing.postable("me", key)
    assert await media_keys(bucket) == set()
    status = await uploads.status("me", request.upload)
    assert status.error is not None
    assert (status.status, status.error.code, status.error.message) == (c.UploadStatus.GONE, "file_refused", REASON)
    with pytest.raises(Refused, match=REASON):
        await uploads.complete("me", request)


async def test_a_post_shows_the_copy_that_stays(bucket: Meddled, uploads: MediaUploads, hook: Asked) -> None:
    """The object of a presigned PUT can be replaced for an hour, so another one could be shown than is posted."""
    made = await uploads.presign("me", PHOTO)
    await put(made.upload_url, sample("jpg"))
    posted = await uploads.finishing.postable("me", made.key)
    assert [file.key for file in hook.files] == [posted.key] != [made.key]
    assert (await uploads.finishing.postable("me", made.key)).key == posted.key
    assert len(hook.files) == 1
    hook.answer = "no more"  # another object at the same key is another file
    await put(made.upload_url, sample("jpg") + b"\0")
    with pytest.raises(Refused, match="no more"):
        await uploads.finishing.postable("me", made.key)
    assert await media_keys(bucket) == {posted.key}
    note = await bucket.call("to look", "HeadObject", Key=note_key(made.key))
    assert note["Metadata"] == {"code": "file_refused", "message": "no%20more"}


@pytest.mark.slow
async def test_the_sweep_shows_what_no_post_named(bucket: Meddled, uploads: MediaUploads, hook: Asked) -> None:
    made = await uploads.presign("me", PHOTO)
    await put(made.upload_url, sample("jpg"))
    dry = Sweep(bucket, now=lambda: datetime.now(UTC), hooks=Hooks(None, hook))
    await dry.run(dry_run=True)
    assert hook.files == []
    hook.answer = "infected"
    assert await swept(bucket, hook) == (1, 0)
    assert await media_keys(bucket) == set()


async def test_an_upload_that_is_refused_before_it_begins_leaves_nothing(bucket: Meddled, hook: Asked) -> None:
    """A create that is repeated with a counted token finds its upload, and is not asked about again."""
    uploads, hook.answer = made_uploads(bucket, Hooks(hook)), "your plan has no videos"
    for begin in (uploads.presign("me", PHOTO), uploads.create("me", creation(DATA))):
        with pytest.raises(Refused, match="your plan has no videos") as refused:
            await begin
        assert refused.value.problem is Problem.UPLOAD_REFUSED
    assert (await bucket.call("to list", "ListMultipartUploads")).get("Uploads", []) == []
    tokens, hook.answer = UploadTokens([SECRET], clock=time.time), None
    token = tokens.verify(tokens.mint("me", TokenRequest(uploads=1), key_id=None).token)
    hook.questions.clear()
    keys = {(await uploads.create("me", creation(DATA, token="ab" * 16), token)).key for _ in range(2)}
    assert (len(keys), len(hook.questions)) == (1, 1)


class StandIn(socketserver.StreamRequestHandler):
    """Answers as clamd does: https://manpages.debian.org/bookworm/clamav-daemon/clamd.8.en.html"""

    def handle(self) -> None:
        assert self.rfile.read(10) == b"zINSTREAM\0"
        data = b""
        while size := struct.unpack("!I", self.rfile.read(4))[0]:
            data += self.rfile.read(size)
        self.wfile.write(b"stream: Eicar-Signature FOUND\0" if EICAR in data else b"stream: OK\0")


@pytest.fixture
def clamd(tmp_path: Path) -> Iterator[str]:
    """The socket of a stand-in for ClamAV's daemon that knows one virus."""
    place = str(tmp_path / "clamd.ctl")
    with socketserver.ThreadingUnixStreamServer(place, StandIn) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield place
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_the_example_of_a_virus_scanner_in_a_running_service(weed: LocalStore, tmp_path: Path, clamd: str) -> None:
    """As `bigupload serve` starts it: a clean film, an infected one, and a daemon that is away."""
    command = f"{sys.executable} {EXAMPLES / 'scan_upload.py'} {clamd}"
    with serving(weed, tmp_path / "service", "--before-finish", command, "--sweep-every", "0") as service:
        _, clean = upload(service, film(PART))
        assert service.call("POST", "/v1/media/multipart/complete", json=clean).status_code == 200
        _, infected = upload(service, film(PART - len(EICAR)) + EICAR)
        for _ in range(2):
            response = service.call("POST", "/v1/media/multipart/complete", json=infected)
            error = {"code": "file_refused", "message": "the file contains malware (Eicar-Signature)"}
            assert (response.status_code, response.json()) == (422, {"error": error})
        Path(clamd).unlink()
        _, later = upload(service, film(PART))
        response = service.call("POST", "/v1/media/multipart/complete", json=later)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "check_failed")
        assert int(response.headers["Retry-After"]) > 0
        counted = httpx.get(f"{service.url}/metrics", trust_env=False).text
        for result in ("accepted", "refused", "failed"):
            assert f'bigupload_hooks_total{{hook="before-finish",result="{result}"}} 1.0' in counted
        log = service.log()
    assert "ended with status 2: the scan did not work: FileNotFoundError" in log
    assert "X-Amz" not in log


async def test_the_example_passes_no_file_of_which_only_a_part_came(clamd: str, session_stub: HttpStub) -> None:
    session_stub.responses["/film"] = Response(body=b"clean", headers={"Content-Length": "9"})
    file = FinishedFile(
        key="media/me/1.mp4", owner="me", size=9, content_type="video/mp4", etag='"1"', checksum=None,
        checksum_algorithm=None, metadata={}, url=f"{session_stub.url}/film",
    )  # fmt: skip
    scanner = [sys.executable, str(EXAMPLES / "scan_upload.py"), clamd]
    with pytest.raises(HookFailed, match="status 2: the scan did not work: ConnectionError"):
        await ask_command(scanner, file)
    session_stub.responses["/film"] = Response(body=b"clean too")
    assert await ask_command(scanner, file) is None


@pytest.mark.slow
async def test_a_sweep_of_the_command_asks_too(bucket: Meddled, tmp_path: Path) -> None:
    """Settings as the command line makes them."""
    settings = HookSettings(before_finish=f"{sys.executable} -c 'print(\"no\"); raise SystemExit(1)'")
    key, headers = f"media/me/{'a' * 32}.jpg", {"content-type": "image/jpeg"}
    await bucket.call("to put", "PutObject", Key=key, Body=sample("jpg"), headers=headers)
    async with opened_hooks(settings, AccessLog(write=lambda _: None)) as hooks:
        report = await Sweep(bucket, now=lambda: datetime.now(UTC), hooks=hooks).run()
    assert (report.refused, report.deleted) == (1, 1)
