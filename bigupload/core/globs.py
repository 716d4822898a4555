"""Patterns for paths, read into steps: one for each name between slashes. Pure. `selection` applies them."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bigupload.errors import UsageError
from bigupload.units import one_line

_MOST_ALTERNATIVES = 200
"""Alternatives in one pattern at most. Braces multiply: "{a,b}{a,b}{a,b}" has eight."""


class GlobStep:
    """The pattern of one name."""

    __slots__ = ("_pattern", "_text", "begins_with_dot")

    def __init__(self, tokens: Sequence[_Token]) -> None:
        plain = all(token.kind == "char" for token in tokens)
        self._text = "".join(token.text for token in tokens) if plain else None
        self._pattern = _compiled(tokens)
        self.begins_with_dot = tokens[0] == _Token("char", ".")

    def matches(self, name: str) -> bool:
        """Whether the whole name matches. Case and Unicode form count."""
        return name == self._text if self._text is not None else self._pattern.fullmatch(name) is not None


class _Token(NamedTuple):
    kind: str
    """"char"; "any" ("?"); "class"; "star"; "cross" ("**")."""
    text: str


_STAR = _Token("star", "*")


@functools.lru_cache(maxsize=4096)
def parse_pattern(pattern: str) -> tuple[tuple[tuple[GlobStep | None, ...], bool], ...]:
    """Return the alternatives of a pattern: its steps, and whether it matches directories only.

    A step that is None stands for "**": any number of names. The last step never is.

    Raises:
        UsageError: The pattern is malformed.
    """
    if not pattern:
        raise UsageError("a pattern is empty")
    if pattern.startswith("!"):
        raise UsageError(f"{_named(pattern)}: '!' works in files alone; write \\! for a name that begins with it")
    found: list[tuple[tuple[GlobStep | None, ...], bool]] = []
    _refuse_too_many(2 * pattern.count("{"), pattern)  # nested braces, each in the one before
    for text in _expanded(pattern, pattern):
        for steps, directories_only in _alternatives(text, pattern):
            found.append((tuple(steps), directories_only))
            _refuse_too_many(len(found), pattern)
    return tuple(found)


def has_wildcard(text: str) -> bool:
    """Whether a text is more than a name: it has an asterisk, a question mark, a class or alternatives."""
    return any(each in text for each in "*?[") or ("{" in text and re.search(r"\{[^{}]*,[^{}]*\}", text) is not None)


def split_glob(pattern: str) -> tuple[str, str]:
    """Split off the directories before the first wildcard: "src/a/*.c" is ("src/a", "*.c"). Either may be empty."""
    names = pattern.split("/")
    fixed = next((i for i, name in enumerate(names[:-1]) if has_wildcard(name) or "\\" in name), len(names) - 1)
    base = "/".join(names[:fixed])
    return (base or "/" if pattern.startswith("/") and fixed else base), "/".join(names[fixed:])


def _named(pattern: str) -> str:
    return f"the pattern {one_line(repr(pattern))}"


def _refuse_too_many(count: int, pattern: str) -> None:
    if count > _MOST_ALTERNATIVES:
        raise UsageError(f"{_named(pattern)} has more than {_MOST_ALTERNATIVES:,} alternatives: write several patterns")


def _expanded(text: str, pattern: str) -> Iterator[str]:
    """The texts that braces stand for. As in a shell, braces without a comma are themselves: "{{name}}".

    One at a time: whoever reads them stops at the first one too many, of 2**100 that a pattern may stand for.
    """
    opened = _find(text, "{", 0, pattern)
    while opened is not None:
        closed, commas = _closing(text, opened, pattern)
        if commas:
            bounds = [opened, *commas, closed]
            for a, b in itertools.pairwise(bounds):
                yield from _expanded(text[:opened] + text[a + 1 : b] + text[closed + 1 :], pattern)
            return
        opened = _find(text, "{", opened + 1, pattern)
    yield text


def _closing(text: str, opened: int, pattern: str) -> tuple[int, list[int]]:
    """Return the index of the brace that closes the one at `opened`, and those of its own commas."""
    commas, depth, at = [], 0, opened
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == "[":
            at = _class_end(text, at, pattern)
        elif text[at] == "{":
            depth += 1
        elif text[at] == "," and depth == 1:
            commas.append(at)
        elif text[at] == "}":
            depth -= 1
            if depth == 0:
                return at, commas
        at += 1
    raise UsageError(f"{_named(pattern)} has a {{ without a }}: write \\{{ for the character")


def _find(text: str, wanted: str, start: int, pattern: str) -> int | None:
    """Return the index of a character that no backslash and no class makes literal."""
    at = start
    while at < len(text):
        if text[at] == wanted:
            return at
        at = _class_end(text, at, pattern) + 1 if text[at] == "[" else at + 1 + (text[at] == "\\")
    return None


def _class_end(text: str, at: int, pattern: str) -> int:
    """Return the end of the class that begins at `at`. A "]" that comes first in it is one of its characters."""
    end = at + 1
    if text[end : end + 1] in ("!", "^"):
        end += 1
    if text[end : end + 1] == "]":
        end += 1
    while end < len(text) and text[end] not in "]/":
        end += 1 + (text[end] == "\\")
    if text[end : end + 1] != "]":
        raise UsageError(f"{_named(pattern)} has a [ without a ]: write \\[ for the character")
    return end


def _alternatives(text: str, pattern: str) -> Iterator[tuple[list[GlobStep | None], bool]]:
    names = text.split("/")
    directories_only = len(names) > 1 and names[-1] == ""
    if directories_only:
        names.pop()
    is_anchored = len(names) > 1
    if is_anchored and names[0] == "":
        names.pop(0)
    for name in names:
        if name in (".", ".."):
            raise UsageError(f"{_named(pattern)} has {name!r} in it: write it from the directory on, as in /sub/*.txt")
        if not name:
            what = "names nothing" if len(names) == 1 else "has two slashes in a row"
            raise UsageError(f"{_named(pattern)} {what}: write a name, or names with a slash between them")
    found = [_tokens(name, pattern) for name in names]
    crossing = sum(token.kind == "cross" for tokens in found if len(tokens) > 1 for token in tokens)
    _refuse_too_many(2 ** min(crossing, _MOST_ALTERNATIVES), pattern)
    for steps in itertools.product(*map(list, map(_crossing_name, reversed(found)))):
        yield _normalized([step for name in reversed(steps) for step in name], directories_only, is_anchored)


def _crossing_name(tokens: list[_Token]) -> Iterator[list[list[_Token] | None]]:
    """The alternatives of "**" inside a name: "a**b" is "a*b" or "a*/**/*b"."""
    at = next((i for i, token in enumerate(tokens) if token.kind == "cross"), None)
    if at is None:
        yield [tokens]
    elif len(tokens) == 1:
        yield [None]
    else:
        left, right = [*tokens[:at], _STAR], tokens[at + 1 :]
        for more in _crossing_name([_STAR, *right]):
            yield [[*left, *(more[0] or [])[1:]], *more[1:]]
            yield [left, None, *more]


def _normalized(
    names: list[list[_Token] | None], directories_only: bool, is_anchored: bool
) -> tuple[list[GlobStep | None], bool]:
    if not is_anchored:
        names.insert(0, None)
    steps = [
        None if name is None else GlobStep(name)
        for i, name in enumerate(names)
        if name is not None or i == 0 or names[i - 1] is not None
    ]
    if steps[-1] is None:
        if directories_only or len(steps) == 1:  # "a/**/", "/**" and "**"
            steps.append(GlobStep([_STAR]))
        else:  # "a/**": all in a
            steps.pop()
            directories_only = True
    return steps, directories_only


def _tokens(name: str, pattern: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(name):
        match name[at]:
            case "*":
                end = at
                while name[end : end + 1] == "*":
                    end += 1
                tokens.append(_STAR if end == at + 1 else _Token("cross", "**"))
                at = end - 1
            case "?":
                tokens.append(_Token("any", "."))
            case "[":
                end = _class_end(name, at, pattern)
                tokens.append(_Token("class", _class(name[at + 1 : end], pattern)))
                at = end
            case "\\":
                at += 1
                if at == len(name):
                    raise UsageError(f"{_named(pattern)} has a backslash with no character after it in the name")
                tokens.append(_Token("char", name[at]))
            case character:
                tokens.append(_Token("char", character))
        at += 1
    return tokens


def _class(content: str, pattern: str) -> str:
    """The regular expression of a class, from what is between its brackets."""
    if "[:" in content or "[." in content or "[=" in content:
        raise UsageError(f"{_named(pattern)} has a named class: write its characters, as in [a-z]")
    negated = content[0] in "!^"
    characters = re.findall(r"\\?.", content[negated:], re.DOTALL)
    parts, at = [], 0
    while at < len(characters):
        first = characters[at][-1]
        if at + 2 < len(characters) and characters[at + 1] == "-":
            last = characters[at + 2][-1]
            if last < first:
                raise UsageError(f"{_named(pattern)} has a range that ends before it begins: {first}-{last}")
            parts.append(f"{re.escape(first)}-{re.escape(last)}")
            at += 3
        else:
            parts.append(re.escape(first))
            at += 1
    return f"[{'^' if negated else ''}{''.join(parts)}]"


def _compiled(tokens: Sequence[_Token]) -> re.Pattern[str]:
    """As a regular expression that takes linear time for each asterisk.

    The first place where what follows an asterisk matches is as good as any other, if another asterisk comes after it.
    So these groups are atomic: they are not tried again.
    """
    pieces = [""]
    for token in tokens:
        if token.kind == "star":
            pieces.append("")
        else:
            pieces[-1] += re.escape(token.text) if token.kind == "char" else token.text
    first, *between = pieces
    last = between.pop() if between else None
    middle = "".join(f"(?>.*?{piece})" for piece in between)
    return re.compile(first + middle + ("" if last is None else f".*{last}"), re.DOTALL)
