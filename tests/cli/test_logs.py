"""The log: what -v, -vv and --log-file show, and what never gets into it."""

from __future__ import annotations

import importlib
import logging
import os
import re
import stat
import threading
from pathlib import Path

import pytest

from bigupload import errors
from bigupload.cli import logs
from bigupload.testing.strict_s3 import StrictS3

from .support import Command, assert_refused, to

LOGGER = logging.getLogger("bigupload.engine")


@pytest.mark.parametrize(("verbose", "levels"), [(1, ["WARNING", "INFO"]), (2, ["WARNING", "INFO", "DEBUG"])])
def test_levels(verbose: int, levels: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    end = logs.begin(verbose, tmp_path / "log")
    try:
        for level in (logging.WARNING, logging.INFO, logging.DEBUG):
            LOGGER.log(level, "part %d", 7)
    finally:
        end()
    LOGGER.warning("after the end")
    shown = capsys.readouterr().err.splitlines()
    line = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (\w+) bigupload\.engine: part 7")
    assert [match[1] for match in map(line.fullmatch, shown) if match] == levels
    assert len((tmp_path / "log").read_text(encoding="utf-8").splitlines()) == 3  # the file has everything
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_the_level_of_the_file(bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path) -> None:
    for level, levels in (("info", {"INFO"}), ("warning", set())):
        path = tmp_path / level
        options = ["--log-file", path, "--log-level", level]
        assert bigupload(*options, "upload", file, *to(s3, f"s3://bucket/{level}")).code == 0
        assert {line.split()[1] for line in path.read_text(encoding="utf-8").splitlines()} == levels


def test_a_log_file_that_is_rotated(tmp_path: Path) -> None:
    """logrotate renames it, and another process may have begun the new one already."""
    path = tmp_path / "log"
    end = logs.begin(0, path)
    try:
        LOGGER.info("one")
        path.rename(tmp_path / "log.1")
        LOGGER.info("two")
        path.rename(tmp_path / "log.2")
        path.write_text("another's\n")
        LOGGER.info("three")
    finally:
        end()

    def texts(name: str) -> list[str]:
        return [line.rpartition(" ")[2] for line in (tmp_path / name).read_text().splitlines()]

    assert [texts("log.1"), texts("log.2"), texts("log")] == [["one"], ["two"], ["another's", "three"]]


@pytest.mark.parametrize("owner", [0, 12345])
def test_a_link_is_followed_unless_it_is_another_user_s(tmp_path: Path, owner: int) -> None:
    """In a shared directory, somebody may put a link where root's log is to be."""
    precious, link = tmp_path / "precious", tmp_path / "log"
    precious.touch()
    link.symlink_to(precious)
    try:
        os.chown(link, owner, -1, follow_symlinks=False)
    except PermissionError:
        pytest.skip("only root may give a link away")
    if owner:
        with pytest.raises(errors.UsageError, match=r"can't write the log file \S+: it is another user's link"):
            logs.begin(0, link)
    else:
        end = logs.begin(0, link)
        LOGGER.warning("written")
        end()
    assert ("written" in precious.read_text()) == (owner == 0)


def test_one_line_a_record_without_secrets(tmp_path: Path) -> None:
    path = tmp_path / "log"
    end = logs.begin(0, path)
    try:
        url = "https://user:pw@s3.example/b/k?X-Amz-Signature=abc&X-Amz-Credential=AKIA"
        try:
            raise OSError(f"PUT {url} failed\nby far\x1b[2J")
        except OSError:
            LOGGER.exception("two\nlines: %s", url)
    finally:
        end()
    (line,) = path.read_text(encoding="utf-8").splitlines()
    assert "two lines: https://…@s3.example/b/k?…" in line
    assert "OSError: PUT https://…@s3.example/b/k?… failed by far [2J" in line
    for secret in ("abc", "AKIA", "user", "pw@", "\x1b"):
        assert secret not in line


def test_lines_of_several_threads_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    end, other_end = logs.begin(0, path), logs.begin(0, path)  # two handlers, as two processes have
    try:
        threads = [threading.Thread(target=lambda c=c: [LOGGER.info(c * 9000) for _ in range(50)]) for c in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        end()
        other_end()
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 400
    assert {line.rpartition(" ")[2] for line in lines} == {c * 9000 for c in "abcd"}


def test_an_error_is_written_once(bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path) -> None:
    ended = bigupload("upload", "nope.bin", *to(s3), "-v", "--log-file", tmp_path / "log")
    assert_refused(ended, 1, "bigupload: no such file: nope.bin")
    (line,) = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert " ERROR bigupload: " in line


def test_an_upload_is_logged(bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path) -> None:
    ended = bigupload("upload", file, *to(s3), "-v", "--log-file", tmp_path / "log")
    assert ended.code == 0
    assert all(" INFO bigupload: " in line for line in ended.err.splitlines())
    assert "upload begins: 5.2 MB in " in ended.err
    assert "proved by full-object" in ended.err
    logged = (tmp_path / "log").read_text(encoding="utf-8")
    assert " DEBUG bigupload.engine: part 1, attempt 1 to 127.0.0.1:" in logged
    for secret in (StrictS3.secret_key, StrictS3.access_key, "X-Amz-Signature"):
        assert secret not in logged


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_log_file_on_a_full_disk_is_warned_of_once(bigupload: Command, s3: StrictS3, file: Path) -> None:
    ended = bigupload("upload", file, *to(s3), "--log-file", "/dev/full", "-q")
    assert ended.code == 0
    warning = "bigupload: warning: lines are missing in the log file /dev/full: No space left on device"
    assert ended.complaint == warning


def test_a_log_file_that_cannot_be_written(bigupload: Command, tmp_path: Path) -> None:
    path = tmp_path / "none" / "log"
    assert_refused(bigupload("--log-file", path, "status"), 2, f"can't write the log file {path}: No such file")


def test_before_and_after_the_command_s_name(bigupload: Command, tmp_path: Path) -> None:
    importlib.import_module("bigupload.api.event_delivery")  # adds a handler that does nothing, and stays
    before = list(logging.getLogger("bigupload").handlers)
    for arguments in (["--log-file", tmp_path / "a", "status"], ["status", "--log-file", tmp_path / "a"]):
        assert bigupload(*arguments).code == 0
    assert (tmp_path / "a").exists()
    assert logging.getLogger("bigupload").handlers == before


def test_a_log_file_is_not_what_is_uploaded(bigupload: Command, s3: StrictS3, file: Path) -> None:
    """A watch would send its own log for ever, and an upload a file with its log at the end."""
    body = file.read_bytes()
    ended = bigupload("upload", file, *to(s3), "--log-file", file)
    assert_refused(ended, 2, f"--log-file {file} would replace the file that is uploaded: name another one")
    log = file.parent / "log"
    ended = bigupload("watch", file.parent, *to(s3, "s3://bucket/p/"), "--log-file", log)
    assert_refused(ended, 2, f"--log-file {log} would be uploaded itself while it is written", "--exclude '/log*'")
    assert (file.read_bytes(), s3.objects["bucket"]) == (body, {})
    options = ("--log-file", log, "--exclude", "/log*", "--progress", "none", "--idle", "1s")
    ended = bigupload("watch", file.parent, *to(s3, "s3://nowhere/p/"), *options)
    assert_refused(ended, 1, "there is no bucket 'nowhere'")


def test_a_log_file_that_can_not_be_opened_leaves_nothing_behind_to_close(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="can't write the log file") as refused:
        logs.begin(0, tmp_path / "none" / "log")
    closed_at_exit = [reference() for reference in logging._handlerList]  # type: ignore[attr-defined]  # it is private
    assert refused.tb is not None  # holds it, as the command's error does
    assert not any(isinstance(handler, logs._File) for handler in closed_at_exit)
