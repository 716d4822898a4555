"""What `status` says of uploads that are under way, and of those that others replaced."""

from __future__ import annotations

import json
from pathlib import Path

from bigupload.manifests.journal import FileJournal
from bigupload.testing.strict_s3 import StrictS3

from .support import PART, Command, to


def test_an_upload_is_under_way_while_a_process_has_it(bigupload: Command, stopped: Path) -> None:
    def shown() -> tuple[str, bool, str]:
        row = json.loads(bigupload("status", "--json").out)
        return bigupload("status").out.split()[1], row["running"], row["status"]

    assert shown() == ("unfinished", False, "uploading")
    with FileJournal(stopped):
        assert shown() == ("uploading", True, "uploading")
    Path(f"{stopped}.lock").touch(0o600)  # as a killed process leaves it
    assert shown() == ("unfinished", False, "uploading")


def test_status_lists_what_no_resume_replaced(bigupload: Command, s3: StrictS3, file: Path, stopped: Path) -> None:
    assert bigupload("upload", file, *to(s3), "--no-resume", "--progress", "none").code == 0
    aside = Path(f"{stopped}.1")
    completed, replaced = (line.split()[0] for line in bigupload("status").out.splitlines())
    assert completed == stopped.name[:8] != replaced
    ended = bigupload("status", "--clean")
    assert ended.out == f"{replaced}  replaced    at least 5.2 MB         {file} → s3://bucket/key at {s3.url}\n"
    assert ended.err.endswith("1 replaced, with at least 5.2 MB in the store: bigupload abort ID deletes the parts\n")
    row = json.loads(bigupload("status", "--json").out)
    assert (row["status"], row["held"], row["manifest"]) == ("replaced", PART, str(aside))
    assert row["id"].startswith(replaced)
    assert len(s3.uploads) == 1
    ended = bigupload("resume", replaced, "--source", "nowhere")  # it is found, and the file is not
    assert (ended.code, "nowhere" in ended.err) == (1, True)
    assert bigupload("abort", replaced).code == 0
    assert (s3.uploads, bigupload("status").err) == ({}, "this machine knows no upload\n")


def test_each_replaced_upload_has_an_id(bigupload: Command, s3: StrictS3, file: Path, stopped: Path) -> None:
    first = stopped.read_bytes()
    Path(f"{stopped}.1").write_bytes(first.replace(b'"token":"', b'"token":"0', 1))
    Path(f"{stopped}.2").write_bytes(first)
    ids = [line.split()[0] for line in bigupload("status").out.splitlines()]
    assert len(set(ids)) == 3
    assert bigupload("abort", ids[-1]).code == 0
    assert len(bigupload("status").out.splitlines()) == 2
