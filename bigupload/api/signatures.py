"""The signatures and the documentation of the library's methods and functions, made from the options in `arguments`.

`help()`, the stub `bigupload/__init__.pyi` and the site's reference show them. Commands take the summaries of flags.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from inspect import Parameter, Signature, cleandoc, signature
from typing import Any, cast

from bigupload.api import arguments
from bigupload.api.arguments import (
    AbortOptions,
    ChangeOptions,
    EventOptions,
    FollowOptions,
    JobOptions,
    PriorityOptions,
    ProofOptions,
    RequiredProofOptions,
    RetryOptions,
    StateOptions,
    StepOptions,
    StreamOptions,
    default_of,
)

_FIRST = ("to", "service", "api_key", "s3", "source", "selection", "name", "part_size")
"""The options that a signature begins with."""
_SHARED = (
    JobOptions, EventOptions, RequiredProofOptions, ProofOptions, PriorityOptions, RetryOptions, StateOptions,
    ChangeOptions, FollowOptions, StepOptions, AbortOptions, StreamOptions,
)  # fmt: skip
"""Classes of options that are bases of other classes. A TypedDict does not know its bases: they are those all of whose
options it has. The texts of the last one count."""
_ATTRIBUTE = r"(?m)^    (\w+): ((?:.+\n?(?:        .+\n?)*))"
_SENTENCE = r"(.+?[^.…]\.)(?: (?=[A-Z`\"])|$)"
_WIDTH = 120


class _LongSignature(Signature):
    """A signature that is printed with one parameter a line if it is long."""

    __slots__ = ()

    def __str__(self) -> str:
        line = super().__str__()
        if len(line) < _WIDTH - 20:
            return line
        shown, is_keyword = [], False
        for each in self.parameters.values():
            if each.kind is each.KEYWORD_ONLY and not is_keyword:
                shown.append("*")
                is_keyword = True
            shown.append(str(each))
        end = "" if self.return_annotation is self.empty else f" -> {self.return_annotation!r}"
        return "(\n" + "".join(f"    {each},\n" for each in shown) + f"){end}"


class _Code(str):
    """An annotation, which is printed without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def document_options() -> None:
    """Give each class of options the documentation of the options that it has from its bases."""
    for name, declared in vars(arguments).items():
        if name.endswith("Options") and hasattr(declared, "__total__"):
            summary = cleandoc(declared.__doc__ or "").partition("\n")[0]
            lines = [f"    {option}: {text}" for option, text in _attributes(declared)]
            declared.__doc__ = "\n".join([summary, "", "Attributes:", *lines, ""])


def document(function: Callable[..., Any], of: Callable[..., Any], *declared: type) -> None:
    """Give a function a signature and documentation with each of its options.

    Args:
        function: The function that gets them.
        of: The function, or the method that it calls, which has everything but these options.
        declared: The TypedDicts of the options. If there are none, it is the one that `of` takes as `**options`.
    """
    known = signature(of)
    positional = [each for each in known.parameters.values() if each.kind is not each.VAR_KEYWORD]
    if not declared:
        rest = [each for each in known.parameters.values() if each.kind is each.VAR_KEYWORD]
        declared = tuple(getattr(arguments, each.annotation.removeprefix("Unpack[").removesuffix("]")) for each in rest)
    own = [
        each.replace(annotation=each.annotation if each.annotation is each.empty else _Code(each.annotation))
        for each in positional
        if function is of or each.name != "self"
    ]
    own = [each.replace(name="to") if each.name == "_to" else each for each in own]
    names = {each.name for each in own}
    parameters = own + [each for kind in declared for each in _options(kind) if each.name not in names]
    cast("Any", function).__signature__ = _LongSignature(parameters, return_annotation=_Code(known.return_annotation))
    lines = [f"    {name}: {_line(text)}" for kind in declared for name, text in _sorted(_attributes(kind))]
    function.__doc__ = _with_options(cleandoc(of.__doc__ or ""), lines)


def summary(declared: Any, name: str) -> str:
    """Return the first sentence of the documentation of an option of a class."""
    return _line(dict(_attributes(declared))[name])


def _options(declared: Any) -> Iterator[Parameter]:
    for name, hint in _sorted(declared.__annotations__.items()):
        text = hint.__forward_arg__
        default = default_of(declared, name)
        yield Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=_Code(text))


def _attributes(declared: Any) -> Iterator[tuple[str, str]]:
    """The options of a class and their documentation."""
    shared = (kind for kind in _SHARED if kind.__annotations__.keys() <= declared.__annotations__.keys())
    texts = {name: text for kind in (*shared, declared) for name, text in _own_attributes(kind)}
    return ((name, texts.get(name, "")) for name in declared.__annotations__)  # there is none with -OO


@functools.cache
def _own_attributes(declared: Any) -> list[tuple[str, str]]:
    text = cleandoc(declared.__doc__ or "")
    return [(name, text.rstrip()) for name, text in re.findall(_ATTRIBUTE, text)]


def _sorted(items: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return sorted(items, key=lambda item: _FIRST.index(item[0]) if item[0] in _FIRST else len(_FIRST))


def _line(text: str) -> str:
    """The first sentence."""
    line = " ".join(text.split())
    found = re.match(_SENTENCE, line)
    return found[1] if found is not None else line


def _with_options(text: str, lines: list[str]) -> str:
    """Append the lines to the section `Args`, which is added if it is missing."""
    if not lines:
        return text
    before, header, rest = text.partition("Args:\n")
    if header:
        args, blank, after = rest.partition("\n\n")
        return "\n".join([f"{before}{header}{args.rstrip()}", *lines, *([blank[1:] + after] if after else [])])
    summary, section, after = text.partition("\n\nRaises:")
    return "\n".join([summary, "", "Args:", *lines]) + section + after
