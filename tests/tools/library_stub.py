"""Makes bigupload/__init__.pyi."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bigupload

STUB = Path(bigupload.__file__).with_suffix(".pyi")
_HEAD = """\
# What type checkers and editors see of the package: each name of `__all__`, and each option of the functions with its
# type, default and documentation. `python -m tests.tools.generated` writes this file.

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import Literal, overload

from bigupload.api.arguments import ChecksumName, OnChange, OnError, OnEvent, ProofName
from bigupload.api.types import SyncOutcome, Then
from bigupload.api.types import ManySource, StrPath, UploadSource
"""
"""With the types of options that are not public names."""
_WRITTEN = ("bigupload.api.functions", "bigupload.api.uploader")
"""The modules whose definitions the stub has, instead of imports."""


def stub() -> str:
    """Return the content of the stub."""
    shown = {name: getattr(bigupload, name) for name in bigupload.__all__ if name != "__version__"}
    homes = {name: _home(name, each) for name, each in shown.items()}
    functions = [each for name, each in shown.items() if homes[name] == "bigupload.api.functions"]
    imports = [f"from {home} import {name} as {name}" for name, home in homes.items() if home not in _WRITTEN]
    made = "\n".join([*imports, "__version__: str", *map(_function, functions), *_class(bigupload.Uploader)])
    # An import of its own module would leave every `errors` of the package without a type, for pyright.
    text = _HEAD + made.replace("errors.BigUploadError", "BigUploadError")
    return _ruff(_ruff(text, "check", "--fix-only", "--select", "I"), "format")


def _home(name: str, value: object) -> str:
    """The module that a public name is from."""
    return "bigupload.events" if name == "Event" else str(value.__module__)  # a type alias has none


def _ruff(text: str, *command: str) -> str:
    ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(STUB), "-"]
    return subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout


def _class(kind: type) -> Iterator[str]:
    yield f"class {kind.__name__}:"
    yield textwrap.indent(_doc(kind), "    ")
    for name, each in vars(kind).items():
        if inspect.isfunction(each) and (not name.startswith("_") or name == "__init__"):
            yield textwrap.indent(_function(each), "    ")
    yield f"    async def __aenter__(self) -> {kind.__name__}: ..."
    yield "    async def __aexit__(self, *exc: object) -> None: ..."


def _function(function: Callable[..., Any]) -> str:
    """The definition of a function. An async generator is a plain function for a type checker."""
    is_async = "async " if inspect.iscoroutinefunction(function) else ""
    signature = str(inspect.signature(function))
    doc = textwrap.indent(_doc(function), "    ")
    if not signature.endswith(" -> UploadWriter | TextUploadWriter"):
        return f"{is_async}def {function.__name__}{signature}:\n{doc}"
    return "\n".join(f"@overload\ndef open_writer{each}:\n{doc}" for each in _of_bytes_and_of_text(signature))


def _of_bytes_and_of_text(signature: str) -> tuple[str, str]:
    """The signatures of `open_writer` for each value of `text`, which decides what it returns."""
    parameters, returns, kinds = signature.rpartition(" -> ")
    of_bytes, of_text = kinds.split(" | ")
    return (
        parameters.replace("text: bool = False", "text: Literal[False] = False") + returns + of_bytes,
        parameters.replace("text: bool = False", "text: Literal[True]") + returns + of_text,
    )


def _doc(documented: Any) -> str:
    return f'"""{inspect.cleandoc(documented.__doc__)}\n"""'
