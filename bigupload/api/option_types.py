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
_Rule: typing.TypeAlias = "list[tuple[Any, _Rule | None]]"
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
    rules = _rules(typing.cast("Any", declared))  # mypy takes no class for hashable
    for name, value in options.items():
        rule = rules[name]
        if rule is not None and not _fits(value, rule):
            raise errors.UsageError(
                f"{name} must be {_described([kind for kind, _ in rule])}, not {type(value).__name__}"
            )


@functools.cache
def _rules(declared: Any) -> dict[str, _Rule | None]:
    """What each option may be; None: that is checked elsewhere."""
    rules = {name: _rule(hint) for name, hint in typing.get_type_hints(declared).items()}
    return {name: None if any(kind in _CHECKED_ELSEWHERE for kind, _ in rule) else rule for name, rule in rules.items()}


def _rule(hint: Any) -> _Rule:
    """The types that a value may have, and of a sequence those of its items."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    rule: _Rule = []
    for choice in typing.get_args(hint) if union else (hint,):
        kind = typing.get_origin(choice) or choice
        rule.append((kind, _rule(typing.get_args(choice)[0]) if kind is collections.abc.Sequence else None))
    return rule


def _fits(value: Any, rule: _Rule) -> bool:
    for kind, items in rule:
        if kind is collections.abc.Callable:
            fits = callable(value)
        elif items is not None:  # a str is a sequence of texts, and never meant as one
            fits = isinstance(value, kind) and not isinstance(value, str) and all(_fits(each, items) for each in value)
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
