"""Makes the generated part of bigupload/__init__.pyi."""

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
_LINE = "# ---- generated\n"


def stub() -> str:
    """Return the content of the stub: the part that is written by hand, and the functions and the class `Uploader`."""
    by_hand = STUB.read_text().partition(_LINE)[0]
    functions = [getattr(bigupload, name) for name in bigupload.__all__]
    shown = [each for each in functions if getattr(each, "__module__", "") == "bigupload.api.functions"]
    made = "\n".join([*map(_function, shown), *_class(bigupload.Uploader)])
    # An import of its own module would leave every `errors` of the package without a type, for pyright.
    text = f"{by_hand}{_LINE}\n{made.replace('errors.BigUploadError', 'BigUploadError')}"
    ruff = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(STUB), "-"]
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
    if function.__name__ != "open_writer":
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
