"""The error tree: as its docstring draws it, so it is; and what each error makes a command exit with."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import bigupload
from bigupload import errors
from tests.tools.cases import each_case

CLASSES = errors.classes()
_LINE = re.compile(r"^    (?P<branch>[│├└─ ]*)(?P<name>\w+)(?P<rest>.*)$")


def drawn() -> dict[str, tuple[str, str]]:
    """Name: (its parent, the rest of its line), from the drawing in the docstring."""
    found: dict[str, tuple[str, str]] = {}
    path: list[str] = []
    drawing = (errors.__doc__ or "").partition("::\n\n")[2].partition("\n\n")[0]
    for line in drawing.splitlines():
        match = _LINE.match(line)
        assert match, line
        depth = len(match["branch"]) // 4
        path[depth:] = [match["name"]]
        found[match["name"]] = (path[-2] if depth else "Exception", match["rest"])
    return found


def make(cls: type[errors.BigUploadError], **arguments: Any) -> errors.BigUploadError:
    if cls is errors.SourceChanged:
        arguments.setdefault("same_size", True)
    return cls("what happened", **arguments)


def test_the_drawing_is_the_tree() -> None:
    assert {name: parent for name, (parent, _) in drawn().items()} == {
        name: cls.__base__.__name__ for name, cls in CLASSES.items()
    }


def test_the_drawing_says_what_is_resumable() -> None:
    assert {name for name, (_, rest) in drawn().items() if "resumable" in rest} == {
        name for name, cls in CLASSES.items() if make(cls).resumable
    }


def test_every_error_says_what_it_means() -> None:
    for name, cls in CLASSES.items():
        assert cls.__doc__, name


@each_case("cls", CLASSES.values())
def test_exit_codes(cls: type[errors.BigUploadError]) -> None:
    bare, with_manifest = make(cls), make(cls, manifest=Path("m"))
    if cls is errors.UsageError:
        assert bare.exit_code == with_manifest.exit_code == 2
    elif not bare.resumable or cls is errors.SourceNotFound:
        assert bare.exit_code == with_manifest.exit_code == 1
    else:
        assert with_manifest.exit_code == 75
        assert bare.exit_code == (75 if cls.transient else 1)  # nothing to resume, so a lasting obstacle is final


def test_what_passes_by_itself() -> None:
    """Exit 75 even before there is a manifest."""
    assert {name for name, cls in CLASSES.items() if cls.transient} == {
        "ManifestLocked", "ManifestUnwritable", "SourceUnreachable", "StoreUnreachable", "StoreUnavailable",
        "PartCorrupted", "UploadCancelled", "DirectoryGone", "ClusterUnreachable", "OutOfThreads",
        "StreamInterrupted",
    }  # fmt: skip
    assert all(make(cls).resumable for cls in CLASSES.values() if cls.transient)


def test_a_changed_source_is_resumable_by_its_size() -> None:
    assert errors.SourceChanged("x", same_size=True, manifest=Path("m")).exit_code == 75
    assert errors.SourceChanged("x", same_size=False, manifest=Path("m")).exit_code == 1
    assert not errors.SourceChanged.resumable


def test_a_file_that_is_gone_is_resumable_by_another_command() -> None:
    """It was moved: --source names its new place. The same command would fail again, for ever in a loop until 0."""
    assert errors.SourceNotFound("x", manifest=Path("m")).exit_code == 1
    assert errors.SourceNotFound("x").exit_code == 1
    assert errors.SourceNotFound.resumable


def test_a_manifest_that_can_t_be_written_is_resumable_where_that_passes() -> None:
    for manifest in (None, Path("m")):
        assert errors.ManifestUnwritable("a full disk", manifest=manifest).exit_code == 75
        assert errors.ManifestUnwritable("no permission", manifest=manifest, lasting=True).exit_code == 1


def test_a_stream_that_ended_early_may_be_sent_again_also_before_a_part_was_sent() -> None:
    """One without a byte may be meant."""
    assert errors.StreamInterrupted("cut off").exit_code == 75
    assert errors.StreamInterrupted("empty", lasting=True).exit_code == 1


def test_codes_as_shells_know_them() -> None:
    assert (errors.EXIT_OK, errors.EXIT_FAILED, errors.EXIT_USAGE, errors.EXIT_RESUMABLE, errors.EXIT_INTERRUPTED) == (
        0, 1, 2, 75, 130,
    )  # fmt: skip


def test_an_error_keeps_its_text_and_its_manifest() -> None:
    error = make(errors.AccessDenied, manifest=Path("m"))
    assert str(error) == "what happened"
    assert error.manifest == Path("m")
    assert make(errors.AccessDenied).manifest is None


@each_case("cls", CLASSES.values())
def test_errors_pass_between_processes(cls: type[errors.BigUploadError]) -> None:
    """An error that can't be unpickled breaks a process pool, and makes multiprocessing's wait for ever."""
    error = make(cls, manifest=Path("m"))
    if isinstance(error, errors.WrongRegion):
        error.region = "eu-west-1"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy), copy.exit_code) == (cls, str(error), vars(error), error.exit_code)


def test_all_errors_are_public() -> None:
    """By themselves: no other list names them."""
    assert {name: getattr(bigupload, name) for name in CLASSES} == CLASSES
    assert set(CLASSES) <= set(bigupload.__all__)
