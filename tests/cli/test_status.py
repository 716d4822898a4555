"""What `status` says of uploads that are under way, and of those that others replaced; what `none` tells."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

from bigupload.manifests.journal import FileJournal
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Place

from .support import IN_PARTS, PART, Command, assert_refused, to
from .test_on_a_terminal import on_terminal, screen


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
    assert re.fullmatch(
        rf"{replaced}  replaced  at least 5.2 MB  \d+ s  {re.escape(f'{file} → s3://bucket/key at {s3.url}')}\n",
        ended.out,
    )
    assert ended.err.endswith("1 replaced, with at least 5.2 MB in the store: bigupload abort ID deletes the parts\n")
    row = json.loads(bigupload("status", "--json").out)
    assert (row["status"], row["held"], row["manifest"]) == ("replaced", PART, str(aside))
    assert row["id"].startswith(replaced)
    assert len(s3.uploads) == 1
    ended = bigupload("resume", replaced, "--source", "nowhere")  # it is found, and the file is not
    assert (ended.code, "nowhere" in ended.err) == (1, True)
    assert bigupload("abort", replaced).code == 0
    assert (s3.uploads, bigupload("status").err) == ({}, "this machine knows no upload\n")


def test_status_of_one_upload(bigupload: Command, s3: StrictS3, file: Path, stopped: Path, place: Place) -> None:
    (line,) = bigupload("status", "--json").out.splitlines()
    known = json.loads(line)["id"]
    folder = place.directory / "folder"
    folder.mkdir()
    (folder / "small").write_bytes(b"small")
    assert bigupload("upload", folder, *to(s3, "s3://bucket/folder/")).code == 0
    assert len(bigupload("status").out.splitlines()) == 2
    assert bigupload("status", "--json", known[:6]).out.splitlines() == [line]
    (job,) = (fields for fields in map(json.loads, bigupload("status", "--json").out.splitlines()) if "kind" in fields)
    assert [json.loads(each)["id"] for each in bigupload("status", "--json", job["id"]).out.splitlines()] == [job["id"]]
    assert bigupload("status", "--unfinished", job["id"]).code == 0, "it is known, and has ended"
    unknown = "0" * 31 + "x"
    assert_refused(bigupload("status", unknown), 1, f"no such upload: {unknown}. bigupload status lists the ids")
    for command in ("resume", "abort"):
        assert bigupload(command, unknown).code == 1, "as the others have it"
    assert_refused(bigupload("status", ""), 2, "an id is empty: is a variable of the shell not set?")
    assert bigupload("status", known, "--clean").code == 2


def test_each_replaced_upload_has_an_id(bigupload: Command, s3: StrictS3, file: Path, stopped: Path) -> None:
    first = stopped.read_bytes()
    Path(f"{stopped}.1").write_bytes(first.replace(b'"token":"', b'"token":"0', 1))
    Path(f"{stopped}.2").write_bytes(first)
    ids = [line.split()[0] for line in bigupload("status").out.splitlines()]
    assert len(set(ids)) == 3
    assert bigupload("abort", ids[-1]).code == 0
    assert len(bigupload("status").out.splitlines()) == 2


def test_no_progress_is_no_silence_about_what_is_lost(bigupload: Command, s3: StrictS3, file: Path) -> None:
    s3.script("UploadPart", Status(403, "AccessDenied"), part_number=2, repeat=True)
    upload = ["upload", file, *to(s3), "--part-size", "5MiB", "--progress", "none"]
    assert bigupload(*upload).code in (1, 75)
    s3.clear()
    s3.uploads.clear()  # as a lifecycle rule does
    ended = bigupload(*upload)
    assert ended.code == 0
    assert "file.bin: starting again from the first part: " in ended.complaint
    assert "file.bin: warning: s3://bucket/key was uploaded before" in bigupload(*upload).complaint


def test_what_is_unfinished_and_what_is_recent(bigupload: Command, s3: StrictS3, file: Path, stopped: Path) -> None:
    assert bigupload("upload", file, *to(s3, "s3://bucket/other"), *IN_PARTS, "--progress", "none").code == 0
    (line,) = bigupload("status", "--unfinished").out.splitlines()
    assert line.split()[:2] == [stopped.name[:8], "unfinished"]
    assert len(bigupload("status", "--unfinished", "--json").out.splitlines()) == 1
    os.utime(stopped, (time.time() - 2 * 86_400 - 60,) * 2)
    (line,) = bigupload("status", "--since", "1d").out.splitlines()
    assert line.split()[1] == "completed"
    assert bigupload("status", "--since", "1d", "--unfinished").err == "this machine knows no such upload\n"
    (line,) = bigupload("status", "--unfinished").out.splitlines()
    assert "  2 d  " in line, "its age"


def test_the_table_on_a_terminal(place: Place, bigupload: Command, s3: StrictS3, file: Path) -> None:
    """Names that differ at their ends stay different, and no line is cut by the terminal."""
    for number in range(3):
        path = place.directory / f"part-{'long' * 20}-{number}.mov"
        path.hardlink_to(file)
        target = to(s3, f"s3://bucket/folder/{path.name}")
        assert bigupload("upload", path, *target, *IN_PARTS, "--progress", "none").code == 0
    code, shown = on_terminal(place, "status")
    header, *lines = screen(shown)
    assert (code, header.split()) == (0, ["ID", "STATE", "DONE", "AGE", "WHAT"])
    assert all(len(line) <= 80 for line in [header, *lines])
    assert len({line[header.index("WHAT") :] for line in lines}) == 3
    assert all("…" in line and " → " in line for line in lines)
