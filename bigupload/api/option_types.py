"""The types of the library's options, checked before anything is sent.

The annotations of `arguments` say what each option takes. Python does not check them, and an option of a wrong type
would fail late, or mean something else: `resume="no"` is true.
"""

from __future__ import annotations

import collections.abc
import functools
import os
import types
import typing
from collections.abc import Mapping
from typing import Any

from bigupload import errors

_NAMES = {str: "a text", bool: "True or False", os.PathLike: "a path", collections.abc.Sequence: "a list of paths"}
_CHECKED_ELSEWHERE = (int, float, typing.Literal)
"""What numbers and choices may be is said by functions of `arguments`, in words of their own."""


def check_types(options: Mapping[str, Any], declared: type[Any]) -> None:
    """Refuse values of another type than is declared.

    Args:
        options: The options that a caller gave.
        declared: The TypedDict that declares them.

    Raises:
        UsageError: It names the option and the type that it got. It never shows the value, which may be a secret, or a
            file's whole content.
    """
    hints = _hints(typing.cast("Any", declared))  # mypy takes no class for hashable
    for name, value in options.items():
        choices = [typing.get_origin(choice) or choice for choice in _choices(hints[name])]
        if not any(choice in _CHECKED_ELSEWHERE for choice in choices) and not _fits(value, hints[name]):
            raise errors.UsageError(f"{name} must be {_described(choices)}, not {type(value).__name__}")


@functools.cache
def _hints(declared: Any) -> dict[str, Any]:
    return typing.get_type_hints(declared)


def _choices(hint: Any) -> tuple[Any, ...]:
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return typing.get_args(hint) if union else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    for choice in _choices(hint):
        kind = typing.get_origin(choice) or choice
        if kind is collections.abc.Callable:
            fits = callable(value)
        elif kind is collections.abc.Sequence:  # a str is a sequence of texts, and never meant as one
            (item,) = typing.get_args(choice)
            fits = isinstance(value, kind) and not isinstance(value, str) and all(_fits(each, item) for each in value)
        else:
            fits = isinstance(value, kind)
        if fits:
            return True
    return False


def _described(choices: list[Any]) -> str:
    if os.PathLike in choices:
        return _NAMES[os.PathLike]
    kind = choices[0]
    return "a function" if kind is collections.abc.Callable else _NAMES.get(kind, kind.__name__)
