"""The arguments of the library's functions: what is refused at once, and that each is declared in one place."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import errors
from bigupload.api import arguments, functions
from bigupload.api.uploader import Uploader
from bigupload.cli.options import CHECKSUMS, PROOFS
from tests.tools.cases import each_case

NO_NUMBERS = [math.nan, math.inf, -math.inf, 0, -1, True, [], b"1"]


@each_case("rate", [*NO_NUMBERS, "nan", "inf", "0", "-1MB/s", "true", ""])
def test_a_rate_that_is_none(rate: Any) -> None:
    with pytest.raises(errors.UsageError):
        Uploader(limit_rate=rate)


@pytest.mark.parametrize(
    ("rate", "limited"),
    [(None, False), (1, True), (0.5, True), (20e6, True), ("20MB/s", True), ("off", False),
     ("08:00=2MB/s,20:00=off", True)],
)  # fmt: skip
def test_a_rate(rate: Any, limited: bool) -> None:
    assert (Uploader(limit_rate=rate)._resources._limiter is not None) == limited


def test_what_is_shared_knows_the_rate() -> None:
    assert Uploader(limit_rate="20MB/s")._resources.shared._rate() == 20e6
    assert Uploader()._resources.shared._rate() is None


@each_case("concurrency", [*NO_NUMBERS, 2.5, 1.0, 257, "8"])
def test_a_concurrency_that_is_none(concurrency: Any) -> None:
    with pytest.raises(errors.UsageError, match="whole number from 1 to 256"):
        Uploader(concurrency=concurrency)


@pytest.mark.parametrize("most", [*NO_NUMBERS, 2.5, "8"])
def test_a_number_of_uploads_that_is_none(most: Any) -> None:
    with pytest.raises(errors.UsageError, match="whole number from 1 on"):
        Uploader(max_uploads=most)


@pytest.mark.parametrize("priority", [1.0, True, None, "1", math.inf])
async def test_a_priority_that_is_none(priority: Any, tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="whole number"):
        await bigupload.upload(tmp_path / "none", to="s3://b/k", priority=priority)


@pytest.mark.parametrize("part_size", [*NO_NUMBERS, 6.5e6, "", "6 parts"])
async def test_a_part_size_that_is_none(part_size: Any, tmp_path: Path) -> None:
    for call in (
        lambda: bigupload.upload(tmp_path / "none", to="s3://b/k", part_size=part_size),
        lambda: bigupload.verify(tmp_path / "none", "s3://b/k", part_size=part_size),
    ):
        with pytest.raises(errors.UsageError):
            await call()


@pytest.mark.parametrize("older_than", [math.nan, math.inf, -1, True, [], "7", "soon"])
async def test_an_age_that_is_none(older_than: Any, tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError):
        await bigupload.abort_orphans("s3://bucket/", older_than=older_than, state_dir=tmp_path)


async def test_a_name_that_is_not_declared() -> None:
    """As for any function: else a misspelled `if_none_match` would be ignored."""
    # A type checker refuses each of these, too: `test_types` sees that.
    calls: list[Any] = [
        lambda: bigupload.upload("f", to="s3://b/k", part_sice=1),  # type: ignore[call-arg]  # what is refused
        lambda: bigupload.resume("m", checksum="md5"),  # type: ignore[call-arg]  # what is refused
        lambda: bigupload.abort("m", limit_rate=1),  # type: ignore[call-arg]  # what is refused
        lambda: bigupload.adopt("s3://b/k", source="f", to="x"),  # type: ignore[misc]  # what is refused
        lambda: bigupload.verify("f", "s3://b/k", hedge=False),  # type: ignore[call-arg]  # what is refused
        lambda: bigupload.read_back("f", "s3://b/k", part_size=1),  # type: ignore[call-arg]  # what is refused
        lambda: bigupload.abort_orphans("s3://b/", prefix="x"),  # type: ignore[call-arg]  # what is refused
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"\(\) got (an unexpected|multiple)"):
            await call()
    with pytest.raises(TypeError, match="unexpected keyword argument 'to'"):
        Uploader(to="s3://b/k")  # type: ignore[call-arg]  # what is refused


def test_an_option_of_a_method_is_told_from_those_of_the_uploader() -> None:
    told = r"argument 'name': it is an option of each upload \(uploader\.upload\(…, name=…\)\)"
    with pytest.raises(TypeError, match=told):
        Uploader(name="x")  # type: ignore[call-arg]  # what is refused


def test_help_has_no_word_for_other_programs() -> None:
    assert bigupload.__doc__ is not None
    assert "PYTEST" not in bigupload.__doc__
    assert bigupload.__doc__.rstrip().endswith("See docs/library.md.")


async def test_the_target_is_given_once() -> None:
    for call in (bigupload.upload, bigupload.sync):
        with pytest.raises(errors.UsageError, match="the target is given twice, as the second argument and as `to`"):
            await call("f", "s3://b/k/", to="s3://b/k/")
    with pytest.raises(errors.UsageError, match="to must be a text, not int"):
        await bigupload.upload("f", 7)  # type: ignore[arg-type]  # what is refused
    with pytest.raises(errors.UsageError, match="s3 must be"):
        Uploader(s3="local")  # type: ignore[arg-type]  # what is refused


async def test_a_name_that_is_nearly_one_is_suggested() -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'part_sise': did you mean part_size\?"):
        await bigupload.upload("f", to="s3://b/k", part_sise=3)  # type: ignore[call-arg]  # what is refused
    with pytest.raises(TypeError, match=r"argument 'zzz'$"):
        await bigupload.upload("f", to="s3://b/k", zzz=3)  # type: ignore[call-arg]  # what is refused


async def test_an_option_of_s3_says_where_it_belongs() -> None:
    with pytest.raises(TypeError, match=re.escape("(s3=S3Options(cache_control=…))")):
        await bigupload.upload("f", to="s3://b/k", cache_control="no-store")  # type: ignore[call-arg]  # what is refused


def options_of(function: Callable[..., Any]) -> set[str]:
    (options,) = [p for p in inspect.signature(function).parameters.values() if p.kind is p.VAR_KEYWORD]
    declared = getattr(arguments, options.annotation.removeprefix("Unpack[").removesuffix("]"))
    return set(declared.__annotations__)


def test_the_functions_take_what_the_methods_take() -> None:
    for name in ("upload", "resume", "adopt", "abort", "verify", "read_back", "abort_orphans"):
        own, whole = options_of(getattr(Uploader, name)), options_of(getattr(functions, name))
        assert own <= whole
        assert whole - own <= set(arguments.UploaderOptions.__annotations__)
        assert getattr(bigupload, name) is getattr(functions, name)


# S3Options is a dataclass, whose fields are shown.
@pytest.mark.parametrize("name", [n for n in bigupload.__all__ if n.endswith("Options") and n != "S3Options"])
def test_help_names_every_option(name: str) -> None:
    """`help` shows neither the fields of a TypedDict nor what is written below them."""
    declared = getattr(bigupload, name)
    listed = (declared.__doc__ or "").partition("Options: ")[2]
    assert re.findall(r"`(\w+)`", listed) == list(declared.__annotations__)


def test_the_commands_choices_are_the_librarys() -> None:
    # A type alias has no such attribute for a type checker; a Literal has it when the program runs.
    assert arguments.ChecksumName.__args__ == CHECKSUMS  # type: ignore[attr-defined]  # as said above
    assert arguments.ProofName.__args__ == PROOFS  # type: ignore[attr-defined]  # as said above
    assert list(PROOFS) == list(bigupload.Verified)


@pytest.mark.parametrize("proof", ["", "perfect", None, 1])
async def test_an_unknown_proof(proof: Any, tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="unknown proof"):
        await bigupload.upload(tmp_path / "none", to="s3://b/k", require_proof=proof)


async def test_a_proof_that_the_checksum_cannot_give(tmp_path: Path) -> None:
    """It would be found out only after the whole file was sent and the object replaced."""
    with pytest.raises(errors.UsageError, match="`checksum='none'` proves only the size, and `require_proof`"):
        await bigupload.upload(tmp_path / "none", to="s3://b/k", checksum="none", require_proof="full-object")


async def test_a_closed_uploader_says_so(tmp_path: Path) -> None:
    async with Uploader() as uploader:
        pass
    with pytest.raises(errors.UsageError, match="was closed"):
        await uploader.upload(tmp_path / "none", to="s3://b/k")


async def test_upload_sync_in_a_running_loop() -> None:
    with pytest.raises(errors.UsageError, match="await bigupload"):
        bigupload.upload_sync("f", to="s3://b/k")
