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
rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bigupload.core.globs import GlobStep, parse_pattern
from bigupload.errors import UsageError
from bigupload.records import dataclass


@dataclass(frozen=True, slots=True)
class FileRule:
    """One `--include` or `--exclude`. Make it with `include` or `exclude`, which raise UsageError for a bad pattern."""

    pattern: str
    is_include: bool

    def __post_init__(self) -> None:
        parse_pattern(self.pattern)


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
            for steps, directories_only in parse_pattern(rule.pattern)
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
        self, steps: Sequence[GlobStep | None], is_include: bool, directories_only: bool, hidden: bool
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
