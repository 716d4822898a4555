"""A file that is written beside uploads: one process at a time, and whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigupload import errors
from bigupload.api.steps.receipt import OpenReceipt
from bigupload.support.output_file import output_file, partial_name
from tests.tools.other_systems import keep_open_files


def test_two_that_write_one_file(tmp_path: Path) -> None:
    """The second one is refused while the first writes, and neither spoils what the other has."""
    path = tmp_path / "receipt.json"
    with output_file(path, "--receipt") as first:
        first.write("first")
        with (
            pytest.raises(errors.OutputUnwritable, match=r"can't write --receipt .*: another process writes it"),
            output_file(path, "--receipt"),
        ):
            raise AssertionError
        first.finish()
        with output_file(path, "--receipt") as second:  # the first is not over: it runs the command of --on-done
            assert path.read_text() == "first"
            second.write("second")
            with output_file(tmp_path / "other", "--receipt"):
                pass
            second.finish()
    assert path.read_text() == "second"
    with output_file(path, "--receipt") as third:
        third.write("third")
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="nothing shows which files are open")
def test_where_no_open_file_can_be_renamed_or_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "receipt.json"
    keep_open_files(monkeypatch)
    with output_file(path, "--receipt") as file:
        file.write("whole")
        file.finish()
    with output_file(path, "--receipt") as unwanted:
        unwanted.write("not wanted")
    assert [(each, each.read_text()) for each in tmp_path.iterdir()] == [(path, "whole")]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="nothing shows which files are open")
async def test_a_receipt_without_a_file_is_deleted_where_no_open_file_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_open_files(monkeypatch)
    path = tmp_path / "receipt.json"
    async with OpenReceipt(path, "s3://bucket/p/", None, deletes=True, grows=True).opened() as receipt:
        await receipt.end()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "receipt.json"
    partial_name(path).write_text("of a longer receipt")
    with output_file(path, "--receipt") as file:
        file.write("new")
        file.finish()
    assert path.read_text() == "new"


def test_the_name_is_given_up_only_by_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "receipt.json"
    with output_file(path, "--receipt") as first:
        first.finish()
        second = output_file(path, "--receipt")
        file = second.__enter__()
    file.write("second")  # while the first one ended
    file.finish()
    second.__exit__(None, None, None)
    assert path.read_text() == "second"
