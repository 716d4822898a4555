"""What a store, a service, a manifest or a file's name says never reaches the terminal as anything but text."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from bigupload import events
from bigupload.cli.reporting import reporting, result_line
from bigupload.core.integrity import Verified
from bigupload.engine.upload_run import UploadResult
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.cli.support import IN_PARTS, Command, to
from tests.cli.test_trust import changed

EVIL = "a\x1b]0;pwned\x07\x9b2J\x1b[2J\r\x08\x7f\u202egpj.exe\u2066\u200b\u2028\x00b"
"""C0 and C1 sequences, bidirectional overrides and isolates, what is invisible, line separators, NUL."""


def assert_plain(text: str) -> None:
    for c in text.replace("\n", ""):
        assert unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"), repr(text)


def test_a_name(bigupload: Command, s3: StrictS3, file: Path) -> None:
    file = file.rename(file.with_name(EVIL.replace("\0", "")))
    s3.script("UploadPart", Status(503, "SlowDown"))
    for progress in ("plain", "json", "none"):
        ended = bigupload("upload", file, *to(s3), "--progress", progress)
        assert ended.code == 0
        assert_plain(ended.out.replace("\x7f", "") + ended.err.replace("\x7f", ""))  # JSON keeps DEL, which is harmless


@pytest.mark.parametrize("op", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_the_store_s_words(bigupload: Command, s3: StrictS3, file: Path, op: str) -> None:
    # Of what XML can hold, all; a part's refusal is not parsed as XML, and may hold more.
    said = EVIL.replace("\0", "") if op == "UploadPart" else "a\x9b2J\x85\u202egpj.exe\u2066\u200b\u2028b"
    s3.script(op, Status(418, "Weird", said), repeat=True)
    ended = bigupload("upload", file, *to(s3), *IN_PARTS, "--progress", "plain")
    s3.clear(op)
    assert ended.code != 0
    assert "gpj.exe" in ended.err  # it is told
    assert_plain(ended.out + ended.err)


@pytest.mark.exhaustive
@pytest.mark.parametrize("field", ["source", "target", "id"])
def test_a_manifest_s_words(
    bigupload: Command, s3: StrictS3, stopped: Path, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evil(header: dict[str, Any]) -> dict[str, Any]:
        match field:
            case "source":
                return header | {"source": header["source"] | {"path": f"/{EVIL}"}}
            case "target":
                return header | {"target": header["target"] | {"key": EVIL}}
        return header | {"id": EVIL, "created_at": EVIL}

    stopped.write_bytes(changed(stopped, evil))
    named = stopped.rename(stopped.with_name(f"{EVIL[:-2]}.manifest.jsonl"))
    told: list[list[Any]] = [["status"], ["status", "--json"]]
    if field != "target":  # the fake store can't have such a key, and would be asked for long
        told += [["resume", named], ["resume"], ["resume", named, "--json"]]
    for arguments in told:
        ended = bigupload(*arguments)
        assert_plain(ended.out.replace("\x7f", "") + ended.err)
        for line in ended.out.splitlines() if "--json" in arguments else ():
            json.loads(line)


def test_a_result(tmp_path: Path) -> None:
    """A media service's URL is checked when it is told; a manifest's comes from a file."""
    result = UploadResult(
        path=tmp_path, bucket="", key=EVIL, url=f"https://x/{EVIL}", size=1, etag=EVIL, checksum=None,
        verified=Verified.SIZE, parts=1, resumed_parts=0, bytes_sent=0, retries=0, seconds=0, manifest=tmp_path,
    )  # fmt: skip
    assert_plain(result_line(result, as_json=False))
    assert json.loads(result_line(result, as_json=True))["key"] == EVIL
    assert_plain(result_line(result, as_json=True).replace("\x7f", ""))


@pytest.mark.parametrize("mode", ["plain", "bar", "json"])
def test_every_event(mode: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    path = Path(EVIL.replace("\0", ""))
    told: list[events.Event] = [
        events.UploadStarted(
            path=path, target=EVIL, size=9, part_size=9, parts=1, manifest=path, resumed_parts=1, resumed_bytes=1
        ),
        events.Hashing(parts=1, reason=EVIL), events.Restarted(reason=EVIL), events.Warned(message=EVIL),
        events.Retrying(part=1, attempt=1, delay=0, reason=EVIL), events.Completing(parts=1),
        events.UploadCompleted(url=EVIL, etag=EVIL, verified=Verified.SIZE),
        events.UploadSkipped(url=EVIL, etag=EVIL, verified=Verified.FULL_OBJECT),
        events.OutageStarted(reason=EVIL, gives_up_in=900), events.OutageEnded(lasted=90),
        events.OutageContinues(reason=EVIL, lasted=60, gives_up_in=840),
    ]  # fmt: skip
    with reporting(mode) as reporter:
        for event in told:
            reporter.on_event(path, event)
    shown = capfd.readouterr()
    assert_plain((shown.out + shown.err).replace("\x7f", "" if mode == "json" else "\x7f"))


@pytest.mark.parametrize("mode", ["plain", "bar"])
def test_a_warning_is_never_cut(mode: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with reporting(mode) as reporter:
        reporter.on_event(Path("small.bin"), events.Warned(message=f"{'the server has no ranges: ' * 20}use a file"))
    shown = capfd.readouterr().err
    assert "use a file" in shown
    assert "…" not in shown
