"""A file that is written beside uploads: one process at a time, and whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigupload import errors
from bigupload.support.output_file import output_file, partial_name


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
