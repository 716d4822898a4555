"""What `logging.getLogger("bigupload")` tells of an upload, and what it never tells."""

from __future__ import annotations

import contextlib
import logging
import re
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import errors
from bigupload.testing.faults import LostResponse, Reset, Status
from bigupload.testing.strict_s3 import StrictS3

from .stopped import PARTS, SIZE
from .support import BUCKET, FAST, World


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.DEBUG) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("bigupload") and r.levelno >= level]


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "bigupload")


async def test_what_an_operator_is_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    about = f"{path} → s3://{BUCKET}/key: "
    assert lines(caplog, logging.INFO) == [
        f"{about}upload begins: 327.8 kB in 6 parts of 65.5 kB; manifest {world.manifest_path}",
        f"{about}completing 6 parts",
        f"{about}complete: {world.s3.url}/{BUCKET}/key, proved by full-object",
    ]


async def test_each_attempt_has_a_line(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.s3.script("UploadPart", Status(503, "SlowDown"), part_number=2)
    world.s3.script("UploadPart", LostResponse(), part_number=3)
    await world.upload(world.file(SIZE))
    address = world.s3.url.removeprefix("http://")
    attempts = [line for line in lines(caplog) if re.match(r"part \d+, attempt", line)]
    assert len(attempts) == PARTS + 2
    (slow, again) = [line for line in attempts if line.startswith("part 2,")]
    assert re.fullmatch(
        rf"part 2, attempt 1 to {address}: BUSY: .*503 SlowDown.* after \d+ ms, \d+ of 65536 bytes sent", slow
    )
    assert re.fullmatch(rf"part 2, attempt 2 to {address}: acknowledged after \d+ ms, 65536 of 65536 bytes sent", again)
    assert any(line.startswith(f"part 3, attempt 1 to {address}: BROKEN") for line in attempts)
    requests = [line.split(" ")[0] for line in lines(caplog) if f" at {world.s3.url}/{BUCKET}: done after " in line]
    assert requests == ["CreateMultipartUpload", "CompleteMultipartUpload"]


async def test_calls_have_s3_s_own_names(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """With the bucket's address, how it ended, and never a key or a query."""
    await world.interrupted(world.file(SIZE), after=2)
    world.s3.script("ListParts", Status(503, "SlowDown"))
    async with bigupload.Uploader(retry=FAST) as uploader:
        await uploader.resume(world.manifest_path)
        await uploader.verify(world.directory / "file.bin", f"s3://{BUCKET}/key", s3=world.options())
    await world.interrupted(world.file(SIZE), after=2, resume=False)
    async with bigupload.Uploader(retry=FAST) as uploader:
        await uploader.abort(world.manifest_path)
    calls = [line for line in lines(caplog) if re.search(r" after \d+ ms$", line) and not line.startswith("part ")]
    refused = "Fault: the store refused to list the parts: (503 SlowDown|404 NoSuchUpload).*"
    ended = rf" at {world.s3.url}/{BUCKET}: (done|{refused})"
    assert all(re.fullmatch(rf"\w+{ended} after \d+ ms", line) for line in calls)
    assert [line.partition(" ")[0] for line in calls if "SlowDown" in line] == ["ListParts"]
    assert {line.partition(" ")[0] for line in calls} == {
        "CreateMultipartUpload", "ListParts", "CompleteMultipartUpload", "HeadObject", "AbortMultipartUpload"
    }  # fmt: skip


async def test_a_failure_says_what_resumes_it(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.s3.script("UploadPart", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.AccessDenied):
        await world.upload(world.file(SIZE))
    last = lines(caplog, logging.ERROR)[-1]
    assert "failed: AccessDenied: " in last
    assert last.endswith(f" (resume {world.manifest_path})")
    with pytest.raises(errors.SourceNotFound):
        await bigupload.upload(world.directory / "none", to="s3://bucket/key")
    assert lines(caplog, logging.ERROR)[-1].endswith(
        "failed: SourceNotFound: no such file: " + str(world.directory / "none")
    )


FAULTS: list[Any] = [
    Status(500), Status(403, "AccessDenied"), Status(400, "RequestTimeout"), LostResponse(), Status(307), Status(404),
]  # fmt: skip


async def test_a_source_without_a_name_has_its_keys(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """One name in all lines, also in that of a failure."""
    world.s3.script("UploadPart", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.AccessDenied):
        await bigupload.upload(
            iter([b"bytes"]), to=f"s3://{BUCKET}/key", s3=world.options(), uploader=bigupload.Uploader(retry=FAST)
        )
    told = lines(caplog, logging.INFO)
    assert "upload begins" in told[0]
    assert "failed" in told[-1]
    assert {line.partition(" → ")[0] for line in told} == {"key"}


@pytest.mark.exhaustive
@pytest.mark.parametrize("op", ["CreateMultipartUpload", "UploadPart", "ListParts", "CompleteMultipartUpload"])
@pytest.mark.parametrize("fault", FAULTS, ids=repr)
async def test_no_secret_is_logged(world: World, caplog: pytest.LogCaptureFixture, op: str, fault: Any) -> None:
    """Whatever fails: no signature, no key, no query of a URL."""
    if op == "ListParts":
        await world.interrupted(world.file(SIZE), after=2)
    world.s3.script(op, fault, repeat=True)
    with contextlib.suppress(errors.BigUploadError):  # a response that is lost is found out about
        await world.upload(world.file(SIZE), retry=bigupload.RetryPolicy(base_delay=0, max_delay=0, attempts=2))
    assert len(lines(caplog)) >= 2
    text = "\n".join(lines(caplog))
    assert world.s3.secret_key not in text
    assert world.s3.access_key not in text
    for part in ("X-Amz-", "Signature", "uploadId=", "?"):
        assert part not in text, [line for line in lines(caplog) if part in line]


async def test_warnings_are_logged_without_on_event(world: World, caplog: pytest.LogCaptureFixture) -> None:
    path, url = world.file(SIZE), f"s3://{BUCKET}/key"
    for _ in range(2):
        await bigupload.upload(
            path, to=url, s3=world.options(), manifest=world.manifest_path, uploader=bigupload.Uploader(retry=FAST)
        )
    (warning,) = lines(caplog, logging.WARNING)
    assert warning.startswith(f"{path} → {url}: {url} was uploaded before: uploading it again")


async def test_abort_is_logged(stopped: World, caplog: pytest.LogCaptureFixture) -> None:
    await bigupload.abort(stopped.manifest_path, uploader=bigupload.Uploader(retry=FAST))
    assert lines(caplog, logging.INFO)[-1].endswith(f" → s3://{BUCKET}/key: aborted, its parts are deleted")


async def test_without_a_handler_nothing_is_printed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Python prints the warnings of a library that has no handler at all."""
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("bigupload").handlers)


@pytest.mark.parametrize("fault", [Reset(1000), LostResponse()], ids=["reset", "lost response"])
async def test_an_attempt_whose_tls_connection_is_closed(
    s3_tls: StrictS3, tmp_path: Path, small_limits: None, caplog: pytest.LogCaptureFixture, fault: Any
) -> None:
    world = World(s3_tls, tmp_path)
    s3_tls.script("UploadPart", fault, part_number=1)
    path = world.file(SIZE)
    await world.upload(path)
    assert world.holds(path)
    assert any("part 1, attempt 1 to 127.0.0.1:" in line for line in lines(caplog))
