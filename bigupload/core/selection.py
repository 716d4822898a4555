"""The selection of files in a tree by patterns, size and time. Pure: paths are texts with "/", relative to the tree.

The patterns are those of `.gitignore` (https://git-scm.com/docs/gitignore#_pattern_format):

- A pattern without "/" matches a name at any depth. One with "/" at its begin or in its middle is matched from the top.
- "/" at the end matches directories only. A pattern that matches a directory matches all in it.
- "*", "?" and "[a-z]", "[!a-z]" stay within a name; "**" crosses "/". "\\" takes a special character for itself.
- The last pattern that matches decides.

Three differences: a file can be included again below a directory that is excluded; "{jpg,png}" are alternatives; and if
the first rule includes, what no rule matches is excluded. docs/many-files.md compares that with rclone and the AWS CLI.

Matching goes down with the walk. A `Scope` has the decision of the rules for one directory: which of its files are
selected, and whether anything below a subdirectory can be. So each name is looked at once, and not each path for each
rule. A pattern is read into steps: one for each name between slashes.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from bigupload.errors import UsageError
from bigupload.records import dataclass
from bigupload.units import one_line


@dataclass(frozen=True, slots=True)
class FileRule:
    """One `--include` or `--exclude`. Make it with `include` or `exclude`, which raise UsageError for a bad pattern."""

    pattern: str
    is_include: bool

    def __post_init__(self) -> None:
        _parse_pattern(self.pattern)


def include(pattern: str) -> FileRule:
    """A rule that selects what matches. Raises UsageError for a malformed pattern."""
    return FileRule(pattern, is_include=True)


def exclude(pattern: str) -> FileRule:
    """A rule that leaves out what matches. Raises UsageError for a malformed pattern."""
    return FileRule(pattern, is_include=False)


def parse_exclude_file(text: str, name: str) -> list[FileRule]:
    """Return the rules of a file like `.gitignore`: a pattern a line.

    Empty lines and lines that begin with "#" are not rules. "!" before a pattern includes again. Spaces at the end do
    not count, unless a backslash is before them.

    Args:
        text: The file's content.
        name: What the file is called in messages.

    Raises:
        UsageError: A pattern is malformed; the message has its line.
    """
    rules = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        pattern = _without_trailing_spaces(line.removesuffix("\r"))
        if not pattern or pattern.startswith("#"):
            continue
        try:
            rules.append(include(pattern[1:]) if pattern.startswith("!") else exclude(pattern))
        except UsageError as e:
            raise UsageError(f"{name}, line {number}: {e}") from None
    return rules


def _without_trailing_spaces(line: str) -> str:
    stripped = line.rstrip(" \t")
    escapes = len(stripped) - len(stripped.rstrip("\\"))
    return stripped + line[len(stripped) : len(stripped) + 1] if escapes % 2 else stripped


@dataclass(frozen=True, slots=True)
class FileLimits:
    """Sizes in bytes and times in nanoseconds since 1970 that a file must keep to; None: no limit."""

    min_size: int | None = None
    max_size: int | None = None
    newer_than: int | None = None
    """Only files that changed then or later."""
    older_than: int | None = None
    """Only files that changed before."""

    def __post_init__(self) -> None:
        if self.min_size is not None and self.max_size is not None and self.min_size > self.max_size:
            raise UsageError("no file can be selected: `min_size` is more than `max_size`")
        if self.newer_than is not None and self.older_than is not None and self.newer_than >= self.older_than:
            raise UsageError("no file can be selected: `newer_than` must be the earlier of the two times")

    def allow(self, size: int, mtime_ns: int) -> bool:
        """Whether a file of this size and time is selected."""
        return (
            (self.min_size is None or size >= self.min_size)
            and (self.max_size is None or size <= self.max_size)
            and (self.newer_than is None or mtime_ns >= self.newer_than)
            and (self.older_than is None or mtime_ns < self.older_than)
        )


class Scope:
    """The decision of the rules about one directory.

    `_rest` are the patterns that may still match something here or below, the last rule first, each with the steps
    that may be its next ones. Rules before one that matches the directory itself are not among them: all here is as
    that one says, unless a later rule says otherwise.
    """

    __slots__ = ("_otherwise", "_rest")

    def __init__(self, rest: Sequence[tuple[_Glob, tuple[int, ...]]], *, otherwise: bool) -> None:
        self._rest = rest
        self._otherwise = otherwise

    def selects(self, name: str) -> bool:
        """Whether a file of this name in the directory is selected."""
        for pattern, at in self._rest:
            if not pattern.directories_only and pattern.ends_with(at, name):
                return pattern.is_include
        return self._otherwise

    def enter(self, name: str) -> Scope | None:
        """The scope of a directory in this one. None: nothing in it can be selected, so it need not be read."""
        rest, otherwise = [], self._otherwise
        for pattern, at in self._rest:
            if pattern.ends_with(at, name):
                otherwise = pattern.is_include
                break
            if after := pattern.follow(at, name):
                rest.append((pattern, after))
        if not otherwise and not any(pattern.is_include for pattern, _ in rest):
            return None
        return Scope(rest, otherwise=otherwise)


ALL = Scope((), otherwise=True)
"""Selects everything."""


def scope_of(rules: Sequence[FileRule], *, hidden: bool = True) -> Scope:
    """The scope of the tree's top.

    Args:
        rules: In the order in which they were given: the last one that matches decides.
        hidden: Whether wildcards match names that begin with a dot, as in `.gitignore`; a shell's do not.
    """
    rest = [
        (pattern, pattern.start)
        for rule in reversed(rules)
        for pattern in (
            _Glob(steps, rule.is_include, directories_only, hidden)
            for steps, directories_only in _parse_pattern(rule.pattern)
        )
    ]
    return Scope(rest, otherwise=not rules or not rules[0].is_include)


def selects(scope: Scope, path: str) -> bool:
    """Whether the file at a path below the scope's directory is selected."""
    *directories, name = path.split("/")
    for directory in directories:
        below = scope.enter(directory)
        if below is None:
            return False
        scope = below
    return scope.selects(name)


class _Glob:
    """One alternative of one rule: steps, of which each matches one name, or any number of names ("**")."""

    __slots__ = ("_hidden", "_last", "_steps", "directories_only", "is_include", "start")

    def __init__(
        self, steps: Sequence[_GlobStep | None], is_include: bool, directories_only: bool, hidden: bool
    ) -> None:
        self._steps = steps
        self._last = len(steps) - 1
        self._hidden = hidden
        self.is_include = is_include
        self.directories_only = directories_only
        self.start = self._reach([0])
        """The steps that the first name may match."""

    def ends_with(self, at: Iterable[int], name: str) -> bool:
        """Whether a name matches the last step, where the names before it have led to the steps `at`."""
        return self._last in at and self._matches(self._last, name)

    def follow(self, at: Iterable[int], name: str) -> tuple[int, ...]:
        """The steps that the next name may match, after a directory of this name; empty: nothing below matches."""
        return self._reach([i if self._steps[i] is None else i + 1 for i in at if self._matches(i, name)])

    def _matches(self, index: int, name: str) -> bool:
        step = self._steps[index]
        if not self._hidden and name.startswith(".") and (step is None or not step.begins_with_dot):
            return False
        return step is None or step.matches(name)

    def _reach(self, at: Iterable[int]) -> tuple[int, ...]:
        """`at`, and what is reached from there because "**" also stands for no name at all."""
        found: set[int] = set()
        for index in at:
            while index <= self._last and index not in found:
                found.add(index)
                if self._steps[index] is not None:
                    break
                index += 1
        return tuple(sorted(found))


_MOST_ALTERNATIVES = 200
"""Alternatives in one pattern at most. Braces multiply: "{a,b}{a,b}{a,b}" has eight."""


class _GlobStep:
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
def _parse_pattern(pattern: str) -> tuple[tuple[tuple[_GlobStep | None, ...], bool], ...]:
    """Return the alternatives of a pattern: its steps, and whether it matches directories only.

    A step that is None stands for "**": any number of names. The last step never is.

    Raises:
        UsageError: The pattern is malformed.
    """
    if not pattern:
        raise UsageError("a pattern is empty")
    if pattern.startswith("!"):
        raise UsageError(f"{_named(pattern)}: '!' works in files alone; write \\! for a name that begins with it")
    found: list[tuple[tuple[_GlobStep | None, ...], bool]] = []
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


def _alternatives(text: str, pattern: str) -> Iterator[tuple[list[_GlobStep | None], bool]]:
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
) -> tuple[list[_GlobStep | None], bool]:
    if not is_anchored:
        names.insert(0, None)
    steps = [
        None if name is None else _GlobStep(name)
        for i, name in enumerate(names)
        if name is not None or i == 0 or names[i - 1] is not None
    ]
    if steps[-1] is None:
        if directories_only or len(steps) == 1:  # "a/**/", "/**" and "**"
            steps.append(_GlobStep([_STAR]))
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
