"""The arguments of the library's functions: what is refused at once, and that each is declared in one place."""

from __future__ import annotations

import ast
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
from tests.tools import library_stub
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


@each_case("part_size", [*NO_NUMBERS, 6.5e6, "", "6 parts"])
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
        await bigupload.abort_orphans(
            "s3://bucket/", older_than=older_than, uploader=bigupload.Uploader(state_dir=tmp_path)
        )


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
        with pytest.raises(TypeError, match=r"\(\)(: multiple| got an unexpected)"):
            await call()
    with pytest.raises(TypeError, match="unexpected keyword argument 'to'"):
        Uploader(to="s3://b/k")  # type: ignore[call-arg]  # what is refused


def test_an_option_of_a_method_is_told_from_those_of_the_uploader() -> None:
    told = r"argument 'name': it is an option of each upload \(uploader\.upload\(…, name=…\)\)"
    with pytest.raises(TypeError, match=told):
        Uploader(name="x")  # type: ignore[call-arg]  # what is refused


async def test_an_option_of_the_uploader_is_told_from_those_of_a_method() -> None:
    async with Uploader() as uploader:
        with pytest.raises(
            TypeError, match=re.escape("it is an option of the uploader (uploader=Uploader(concurrency=…))")
        ):
            await uploader.upload("f", to="s3://b/k", concurrency=4)  # type: ignore[call-arg]  # what is refused


def test_help_has_no_word_for_other_programs() -> None:
    assert bigupload.__doc__ is not None
    assert "PYTEST" not in bigupload.__doc__
    assert bigupload.__doc__.rstrip().endswith("See docs/library.md.")


async def test_the_target_is_given_once() -> None:
    for call in (bigupload.upload, bigupload.sync):
        with pytest.raises(TypeError, match="multiple values for argument 'to'"):
            await call("f", "s3://b/k/", to="s3://b/k/")  # type: ignore[misc]  # what is refused
    async with Uploader() as uploader:
        with pytest.raises(errors.UsageError, match="the target is given twice, by its place and as `to`"):
            await uploader.upload("f", "s3://b/k/", to="s3://b/k/")  # type: ignore[misc]  # what is refused
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


async def test_a_wrong_call_names_the_function_that_was_called() -> None:
    for name in FUNCTIONS:
        function: Any = getattr(bigupload, name)
        for args, options in (((), {"zzz": 1}), ((), {}), ((1, 2, 3, 4, 5, 6, 7), {})):
            needed = [each for each in inspect.signature(function).parameters.values() if each.default is each.empty]
            if not (needed or args or options):
                continue
            with pytest.raises(TypeError, match=rf"^{name}\(\)"):
                await _first(lambda f=function, a=args, o=options: f(*a, **o))


async def _first(call: Callable[[], Any]) -> None:
    made = call()
    await (anext(made) if hasattr(made, "__anext__") else made)


FUNCTIONS = [n for n in bigupload.__all__ if getattr(getattr(bigupload, n), "__module__", "") == functions.__name__]
OPTIONS = [n for n in bigupload.__all__ if n.endswith("Options") and n != "S3Options"]  # a dataclass shows its fields


def test_the_functions_take_what_the_methods_take() -> None:
    assert len(FUNCTIONS) == 16
    for name in set(FUNCTIONS) - {"upload_sync"}:
        whole = inspect.signature(getattr(bigupload, name)).parameters
        own = {k: v for k, v in inspect.signature(getattr(Uploader, name)).parameters.items() if k != "self"}
        assert own.items() <= whole.items()
        of_text = arguments.TextOptions.__annotations__.keys() if name == "open_writer" else set[str]()
        assert whole.keys() - own.keys() == {"uploader"} | of_text
    assert inspect.signature(bigupload.upload_sync) == inspect.signature(bigupload.upload)


@pytest.mark.parametrize(
    "function", [*(getattr(bigupload, name) for name in FUNCTIONS), *map(Uploader.__dict__.get, FUNCTIONS), Uploader]
)
def test_help_has_a_line_for_every_parameter(function: Any) -> None:
    """In the order of the signature, with types as they are written."""
    if function is None:
        return  # `upload_sync` is no method
    text = (function.__init__ if function is Uploader else function).__doc__.partition("Args:\n")[2]
    described = re.findall(r"^    (\w+): \S.*$", text.partition("\n\n")[0], re.MULTILINE)
    parameters = [each for each in inspect.signature(function).parameters.values() if each.name != "self"]
    assert described == [each.name for each in parameters]
    assert "'" not in "".join(repr(each.annotation) for each in parameters)
    assert not any(each.kind is each.VAR_KEYWORD for each in parameters)


def test_the_signature_begins_with_the_source_and_the_target() -> None:
    assert list(inspect.signature(bigupload.upload).parameters)[:3] == ["source", "to", "service"]
    assert len(inspect.signature(bigupload.upload).parameters) <= 24  # so that `help` fits on two screens
    assert str(inspect.signature(bigupload.upload)).startswith("(\n    source: UploadSource,\n    to: str | None = N")
    assert str(inspect.signature(bigupload.list_uploads)) == (
        "(*, uploader: Uploader | None = None) -> list[KnownUpload]"
    )


@pytest.mark.parametrize("name", OPTIONS)
def test_help_describes_every_option(name: str) -> None:
    """`help` shows neither the fields of a TypedDict nor what is written in its bases."""
    declared = getattr(bigupload, name)
    described = re.findall(r"^    (\w+): \S.{10}", declared.__doc__, re.MULTILINE)
    assert described == list(declared.__annotations__)


def test_the_defaults_of_the_signatures_are_those_of_the_code() -> None:
    """The code reads an option as `options.get(name, default)`."""
    found = 0
    for path in Path(arguments.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name("options") | ast.Attribute(attr="_options"), attr="get"),
                    args=[ast.Constant(str(name)), default],
                ):
                    text = ast.unparse(default).replace("Verified.SIZE", "'size'")
                    assert ast.literal_eval(text) == arguments.DEFAULTS.get(name, False), f"{path.name}: {name}"
                    found += 1
    assert found > 30


def test_the_stub_is_what_the_program_has() -> None:
    text = library_stub.STUB.read_text()
    named: set[str | None] = set()
    for each in ast.parse(text).body:
        match each:
            case ast.AsyncFunctionDef(name=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                named.add(name)
            case ast.AnnAssign(target=ast.Name(name)):
                named.add(name)
            case ast.ImportFrom(names=names):
                named |= {alias.asname for alias in names}
    assert named - {None} == set(bigupload.__all__)


@pytest.mark.slow
def test_an_editor_shows_every_option() -> None:
    """jedi reads the stub, as Pyright does; a language server shows its answer as the help of a call."""
    jedi = pytest.importorskip("jedi")
    for call, function in (("bigupload.upload(", bigupload.upload), ("bigupload.Uploader().sync(", Uploader.sync)):
        script = jedi.Script(f"import bigupload\n{call}", project=jedi.Project(Path(__file__).parents[2]))
        (shown,) = script.get_signatures()
        expected = [each.name for each in inspect.signature(function).parameters.values() if each.name != "self"]
        assert [each.name for each in shown.params] == expected
        assert "part_size: int | str | None = None" in [
            each.to_string().replace("=None", " = None") for each in shown.params
        ]
        assert 'to: "s3://BUCKET/' in shown.docstring()


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
