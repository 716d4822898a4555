"""The selection against a slow, obvious reference, and against git."""

from __future__ import annotations

import itertools
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.core.selection import FileRule, parse_exclude_file, scope_of, selects
from tests.tools.cases import examples

NAMES = st.text("ab.", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PIECES = st.sampled_from(["a", "b", ".", "*", "?", "[ab]", "[!a]", "**", "\\a"])
SEGMENTS = st.lists(PIECES, min_size=1, max_size=4).map("".join).filter(lambda name: name not in (".", ".."))
PATTERNS = st.tuples(
    st.sampled_from(["", "/"]), st.lists(SEGMENTS | st.just("**"), min_size=1, max_size=3), st.sampled_from(["", "/"])
).map(lambda parts: parts[0] + "/".join(parts[1]) + parts[2])


def reference_glob(pattern: str, text: str, at_start: bool = True) -> bool:
    """Whether a whole path is what the pattern says: tries everything."""
    if not pattern:
        return not text
    if at_start and pattern.startswith("**/"):
        ends = [i + 1 for i, character in enumerate(text) if character == "/"]
        return any(reference_glob(pattern[3:], text[end:]) for end in [0, *ends])
    if pattern.startswith("**"):
        rest = pattern.lstrip("*")
        return any(reference_glob(rest, text[i:], at_start=False) for i in range(len(text) + 1))
    if pattern[0] == "*":
        longest = len(text.split("/")[0])
        return any(reference_glob(pattern[1:], text[i:], at_start=False) for i in range(longest + 1))
    if pattern[0] == "/":
        return text[:1] == "/" and reference_glob(pattern[1:], text[1:])
    one = re.match(r"\[[^\]]*\]|\\.|.", pattern)
    assert one is not None
    if not text or text[0] == "/":
        return False
    rest = reference_glob(pattern[one.end() :], text[1:], at_start=False)
    match one[0]:
        case "?":
            return rest
        case klass if klass[0] == "[":
            return ((text[0] in klass[1:-1]) != ("!" in klass)) and rest
        case character:
            return text[0] == character[-1] and rest


def reference_matches(pattern: str, path: str) -> bool:
    """Whether a pattern matches a file: its path, or that of a directory above it."""
    body = pattern.removesuffix("/")
    directories_only = body != pattern
    if "/" not in body:
        body = f"**/{body}"
    body = body.removeprefix("/")
    body = re.sub(r"(?<![^/])\*\*/(?=\*\*(/|$))", "", re.sub(r"\*{2,}", "**", body))  # more of them are the same
    names = path.split("/")
    above = ["/".join(names[:i]) for i in range(1, len(names))]
    if body.endswith("/**") and not directories_only:
        return any(reference_glob(body, directory + "/") or reference_glob(body[:-3], directory) for directory in above)
    if body.endswith("/**"):
        return any(reference_glob(body, directory) for directory in above)
    return any(reference_glob(body, it) for it in (above if directories_only else [*above, path]))


def reference_selects(rules: list[FileRule], path: str) -> bool:
    for rule in reversed(rules):
        if reference_matches(rule.pattern, path):
            return rule.is_include
    return not rules or not rules[0].is_include


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.builds(FileRule, PATTERNS, st.booleans()), max_size=4), st.lists(PATHS, min_size=1, max_size=8))
def test_as_the_reference_says_and_pruning_never_changes_that(rules: list[FileRule], paths: list[str]) -> None:
    scope = scope_of(rules)
    for path in paths:
        assert selects(scope, path) is reference_selects(rules, path), (rules, path)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_as_git_says(tmp_path: Path) -> None:
    chance = random.Random(5)
    paths = [
        "/".join(names) for depth in (1, 2, 3) for names in itertools.product(["a", "b", "ab", "a.b"], repeat=depth)
    ]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    compared = 0
    for _ in range(40):
        pieces = ["a", "b", "*", "?", "[ab]", "[!a]", "."]
        segments = ["".join(chance.choices(pieces, k=chance.randint(1, 3))) for _ in range(chance.randint(1, 3))]
        if any(set(segment) <= {"."} or "**" in segment for segment in segments):
            continue
        if chance.random() < 0.3:
            segments.insert(chance.randrange(len(segments) + 1), "**")
        pattern = chance.choice(["", "/"]) + "/".join(segments) + chance.choice(["", "", "/"])
        (tmp_path / ".gitignore").write_text(pattern + "\n")
        command = ["git", "-C", tmp_path, "check-ignore", "--no-index", "--stdin"]
        told = subprocess.run(command, input="\n".join(paths), capture_output=True, text=True)
        ignored = set(told.stdout.splitlines())
        scope = scope_of(parse_exclude_file(pattern, ".gitignore"))
        assert ignored == {path for path in paths if not selects(scope, path)}, pattern
        compared += 1
    assert compared > 20
