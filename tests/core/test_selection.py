"""The rules of the selection: as `.gitignore`, rclone and the AWS CLI document them, and where they differ on purpose.

What other programs do is from their documentation:

- git: https://git-scm.com/docs/gitignore#_pattern_format
- rclone: https://rclone.org/filtering/ (docs/content/filtering.md of its repository)
- aws: https://docs.aws.amazon.com/cli/latest/reference/s3/#use-of-exclude-and-include-filters
"""

from __future__ import annotations

import pytest

from bigupload.core.selection import (
    ALL,
    FileLimits,
    FileRule,
    exclude,
    has_wildcard,
    include,
    parse_exclude_file,
    scope_of,
    selects,
    split_glob,
)
from bigupload.errors import UsageError
from tests.tools.cases import each_case


def rules_of(text: str) -> list[FileRule]:
    """ "- *.tmp + /keep" as rules."""
    words = text.split()
    return [FileRule(pattern, sign == "+") for sign, pattern in zip(words[::2], words[1::2], strict=True)]


def is_selected(rules: str, path: str) -> bool:
    return selects(scope_of(rules_of(rules)), path)


SAME = [
    # --- git: "If there is a separator at the beginning or middle (or both) of the pattern, then the pattern is
    # relative to the directory level of the particular .gitignore file itself."
    ("git", "- doc/frotz", "doc/frotz", False),
    ("git", "- doc/frotz", "a/doc/frotz", True),
    ("git", "- /doc/frotz", "doc/frotz", False),
    ("git", "- doc/frotz/", "doc/frotz/x", False),
    ("git", "- doc/frotz/", "a/doc/frotz/x", True),
    # "Otherwise the pattern may also match at any level below the .gitignore level."
    ("git", "- frotz/", "frotz/x", False),
    ("git", "- frotz/", "a/frotz/x", False),
    ("git", "- hello.*", "hello.txt", False),
    ("git", "- hello.*", "a/hello.java", False),
    ("git", "- /hello.*", "hello.c", False),
    ("git", "- /hello.*", "a/hello.java", True),
    # "If there is a separator at the end of the pattern then the pattern will only match directories."
    ("git", "- foo/", "foo", True),
    ("git", "- foo/", "foo/bar", False),
    ("git", "- foo", "foo", False),
    ("git", "- foo", "foo/bar", False),
    # "An asterisk matches anything except a slash. The character ? matches any one character except /."
    ("git", "- foo/*", "foo/test.json", False),
    ("git", "- foo/*", "foo/bar/hello.c", False),  # the directory foo/bar matches
    ("git", "- /foo*bar", "foo/bar", True),
    ("git", "- /foo?bar", "foo/bar", True),
    ("git", "- a?c", "abc", False),
    ("git", "- [a-c].txt", "b.txt", False),
    ("git", "- [!a-c].txt", "d.txt", False),
    ("git", "- [^a-c].txt", "b.txt", True),
    # "A leading ** followed by a slash means match in all directories."
    ("git", "- **/foo", "foo", False),
    ("git", "- **/foo", "a/b/foo", False),
    ("git", "- **/foo/bar", "a/foo/bar", False),
    ("git", "- **/foo/bar", "foo/a/bar", True),
    # "A trailing /** matches everything inside."
    ("git", "- abc/**", "abc/d/e", False),
    ("git", "- abc/**", "abc", True),
    ("git", "- abc/**", "x/abc/d", True),
    # "A slash followed by two consecutive asterisks then a slash matches zero or more directories."
    ("git", "- a/**/b", "a/b", False),
    ("git", "- a/**/b", "a/x/y/b", False),
    ("git", "- a/**/b", "a/x/y/c", True),
    # "within one level of precedence, the last matching pattern decides the outcome"
    ("git", "- *.html + foo.html", "foo.html", True),
    ("git", "- *.html + foo.html", "bar.html", False),
    ("git", "+ foo.html - *.html", "foo.html", False),
    # The documentation's example "to exclude everything except a specific directory foo/bar".
    ("git", "- /* + /foo - /foo/* + /foo/bar", "foo/bar/x", True),
    ("git", "- /* + /foo - /foo/* + /foo/bar", "foo/baz/x", False),
    ("git", "- /* + /foo - /foo/* + /foo/bar", "x", False),
    ("git", r"- \#a", "#a", False),
    ("git", r"- \!a", "!a", False),
    ("git", r"- a\*", "a*", False),
    ("git", r"- a\*", "ab", True),
    # --- rclone: its table "Filter pattern examples", each as `--include PATTERN`.
    ("rclone", "+ *.jpg", "file.jpg", True),
    ("rclone", "+ *.jpg", "dir/file.jpg", True),
    ("rclone", "+ *.jpg", "file.png", False),
    ("rclone", "+ *.jpg", "dir/file.png", False),
    ("rclone", "+ /*.jpg", "file2.jpg", True),
    ("rclone", "+ /*.jpg", "dir/file.jpg", False),
    ("rclone", "+ *.{jpg,png}", "dir/file.png", True),
    ("rclone", "+ *.{jpg,png}", "dir/file.gif", False),
    ("rclone", "+ dir/**", "dir/anyfile", True),
    ("rclone", "+ dir/**", "subdir/file.png", False),
    ("rclone", "+ *.t?t", "dir/file.tzt", True),
    ("rclone", "+ *.t?t", "file.qxt", False),
    ("rclone", "+ *.[a-z]", "dir/file.b", True),
    ("rclone", "+ *.[a-z]", "file.0", False),
    ("rclone", r"+ *.\?\?\?", "dir/file.???", True),
    ("rclone", r"+ *.\?\?\?", "file.abc", False),
    # "it only matches a complete path element"
    ("rclone", "+ file.jpg", "directory/file.jpg", True),
    ("rclone", "+ file.jpg", "afile.jpg", False),
    ("rclone", "+ file.jpg", "directory/afile.jpg", False),
    ("rclone", "+ /file.jpg", "directory/file.jpg", False),
    ("rclone", "+ potato", "potato", True),
    ("rclone", "+ potato", "POTATO", False),
    ("rclone", "- /excl/**", "excl/123.jpg", False),
    ("rclone", "- /excl/**", "incl/document.pdf", True),
    ("rclone", "- *.bak - file2.jpg", "a/file2.jpg", False),
    ("rclone", "- *.bak - file2.jpg", "a/file3.jpg", True),
    ("rclone", "+ {A,B}/**", "A/x/y", True),
    ("rclone", "+ {A,B}/**", "C/x", False),
    # --- aws: the examples of "Use of Exclude and Include Filters".
    ("aws", "- * + *.txt", "foo.txt", True),
    ("aws", "- * + *.txt", "sub/foo.txt", True),
    ("aws", "- * + *.txt", "baz.jpg", False),
    ("aws", "+ *.txt - *", "foo.txt", False),
    ("aws", "- .git/*", ".git/config", False),
    ("aws", "- .git/*", "foo.txt", True),
    ("aws", "- ba*", "bar.txt", False),
    ("aws", "- ba*", ".git/config", True),
    ("aws", "- * + *.jpg + *.txt", "bar.txt", True),
    ("aws", "- [!b]*", "foo.txt", False),
    ("aws", "- [!b]*", "bar.txt", True),
]
"""Of whom the rule is, the rules, a path, and whether it is selected: here as there."""

DIFFERENT = [
    # git: "It is not possible to re-include a file if a parent directory of that file is excluded." Here the last
    # pattern that matches decides, without an exception.
    ("git", "- foo/ + foo/bar.html", "foo/bar.html", True),
    # git re-includes the directory alone; here a pattern that matches a directory matches all in it.
    ("git", "- *.o + src/", "src/a.o", True),
    # git: "Other consecutive asterisks are considered regular asterisks."
    ("git", "- /a**b", "a/x/b", False),
    # git knows no alternatives.
    ("git", "- *.{jpg,png}", "a.jpg", False),
    # rclone's documentation matches a pattern from the end of the path, unless it begins with a slash. (rclone itself
    # does not read the directory subdir for this one.)
    ("rclone", "+ dir/**", "subdir/dir/subsubdir/anyfile", False),
    # rclone: "commands are applied to path/file names not directories".
    ("rclone", "- node_modules", "node_modules/x.js", False),
    ("rclone", "- dir/*", "dir/sub/file", False),
    ("rclone", "+ /directory/", "directory/x", True),
    # rclone processes all --include before all --exclude, and the first match decides.
    ("rclone", "+ *.jpg - tmp/", "tmp/a.jpg", False),
    ("rclone", "- tmp/ + *.jpg", "a.txt", True),
    # rclone has Perl's classes and regular expressions. Here a backslash makes the next character literal, and braces
    # without a comma are themselves, as in a shell.
    ("rclone", r"+ *.\d\d\d", "file.012", False),
    ("rclone", "+ *.{{jpe?g}}", "file.jpeg", False),
    # aws: "providing only an --include filter will not change what files are transferred".
    ("aws", "+ *.txt", "baz.jpg", False),
    # aws matches the whole path, and its asterisk matches slashes.
    ("aws", "- ba*", "sub/bar.txt", False),
    ("aws", "- /a*c", "ab/c", True),
    ("aws", "- /a**c", "ab/c", False),
]
"""The same for what differs from the program that is named. docs/many-files.md has each."""


@each_case(("who", "rules", "path", "selected"), SAME + DIFFERENT)
def test_a_row_of_the_rules(who: str, rules: str, path: str, selected: bool) -> None:
    assert is_selected(rules, path) is selected, f"{who}: {rules}"


@each_case(
    ("rules", "path", "selected"),
    [
        ("", "any/thing", True),
        ("- *", "a", False),
        ("- **", "a/b", False),
        ("- /**", "a/b", False),
        ("- **/", "a", True),
        ("- **/", "a/b", False),
        ("- a/**/", "a/b", True),
        ("- a/**/", "a/b/c", False),
        ("+ src/*.c - src/*/", "src/a.c", True),
        ("+ src/* - src/*/", "src/sub/a.c", False),
        ("- dir/* + dir/*/", "dir/a", False),
        ("- dir/* + dir/*/", "dir/sub/a", True),
        ("- **.tmp", "a/b.tmp", False),
        ("- /a/**.tmp", "a/b/c.tmp", False),
        ("- /a**/b", "a1/2/3/b", False),
        ("- /a***b", "a/b", False),
        ("- .*", ".env", False),
        ("- *", ".env", False),
        ("- []a].txt", "].txt", False),
        ("- [a-].txt", "-.txt", False),
        (r"- [\]].txt", "].txt", False),
        ("- [[].txt", "[.txt", False),
        ("- {{cookiecutter.slug}}", "{{cookiecutter.slug}}/x", False),
        ("- {a,b/{c,d}}", "b/d", False),
        ("- {a,b/{c,d}}", "b/e", True),
        (r"- a\{1,2}", "a{1,2}", False),
        (r"- {a\,b,c}", "a,b", False),
        ("- {,x}y", "y", False),
        ("- caf\u00e9", "caf\u00e9", False),
        ("- caf\u00e9", "cafe\u0301", True),  # NFC and NFD are different names
        ("- a?b", "a\nb", False),
        ("- a*b", "a\nb", False),
        ("- [!x]b", "\U0001f3acb", False),
    ],
)
def test_our_own_rows(rules: str, path: str, selected: bool) -> None:
    assert is_selected(rules, path) is selected


@each_case(
    ("pattern", "says"),
    [
        ("", "a pattern is empty"),
        ("/", "names nothing: write a name"),
        ("a//b", "has two slashes in a row"),
        ("//", "names nothing"),
        ("./a", "has '.' in it: write it from the directory on, as in /sub/*.txt"),
        ("a/../b", "has '..' in it"),
        ("[a", r"has a [ without a ]: write \[ for the character"),
        ("[a/b]", "has a [ without a ]"),
        ("[]", "has a [ without a ]"),
        ("[z-a]", "has a range that ends before it begins: z-a"),
        ("[[:alpha:]]", "has a named class: write its characters"),
        ("a\\", "has a backslash with no character after it"),
        ("a\\/b", "has a backslash with no character after it"),
        ("*.{jpg,png", r"has a { without a }: write \{ for the character"),
        ("!a", r"'!' works in files alone; write \! for a name"),
        ("{a,b}" * 100, "has more than 200 alternatives: write several patterns"),
        ("a**b" * 9, "has more than 200 alternatives"),
        ("a**b" * 3000, "has more than 200 alternatives"),
        ("{a," * 5000, "has more than 200 alternatives"),
    ],
)
def test_a_malformed_pattern_is_one_line(pattern: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        exclude(pattern)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError):
        include(pattern)


def test_an_exclude_file() -> None:
    text = "\ufeff# comment\n\n*.o\r\n!keep.o\n\\#name\nspaces  \nwith\\  \n  lead\n\\\\ \nu\u2028v\n"
    rules = [(rule.pattern, rule.is_include) for rule in parse_exclude_file(text, "FILE")]
    assert rules == [
        ("*.o", False), ("keep.o", True), ("\\#name", False), ("spaces", False), ("with\\ ", False), ("  lead", False),
        ("\\\\", False), ("u\u2028v", False),
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"^\.gitignore, line 2: the pattern '\[a' has a \["):
        parse_exclude_file("ok\n[a\n", ".gitignore")


def test_limits() -> None:
    assert FileLimits().allow(0, 0)
    sizes = FileLimits(min_size=10, max_size=20)
    assert [size for size in range(30) if sizes.allow(size, 0)] == list(range(10, 21))
    newer, older = FileLimits(newer_than=100), FileLimits(older_than=100)
    assert all(newer.allow(1, time) is not older.allow(1, time) for time in (0, 99, 100, 101))
    assert newer.allow(1, 100)
    for wrong in ({"min_size": 2, "max_size": 1}, {"newer_than": 5, "older_than": 5}):
        with pytest.raises(UsageError, match="no file can be selected"):
            FileLimits(**wrong)


def test_wildcards_of_a_shell_leave_hidden_names_out() -> None:
    def matches(pattern: str, path: str) -> bool:
        return selects(scope_of([include(pattern)], hidden=False), path)

    assert matches("/*.c", "a.c")
    assert not matches("/*.c", ".a.c")
    assert matches("/.*", ".env")
    assert not matches("/**/a", ".git/a")
    assert matches("/**/a", "git/a")
    assert matches("/*", "photos/.hidden"), "a directory that matches is meant with all in it"


@each_case(
    ("glob", "base", "rest"),
    [
        ("*.c", "", "*.c"),
        ("src/*.c", "src", "*.c"),
        ("src/a/**/b", "src/a", "**/b"),
        ("/data/*/x", "/data", "*/x"),
        ("/*.c", "/", "*.c"),
        ("../x/*", "../x", "*"),
        ("a.{c,h}", "", "a.{c,h}"),
        (r"a\*/*", "", r"a\*/*"),
    ],
)
def test_a_glob_is_split(glob: str, base: str, rest: str) -> None:
    assert split_glob(glob) == (base, rest)
    assert has_wildcard(glob)


def test_what_is_no_glob() -> None:
    assert not any(has_wildcard(name) for name in ("a.txt", "a b", "{a}", "a]", "\u00e9"))


def test_what_can_hold_no_match_is_not_entered() -> None:
    def enters(rules: str, directory: str) -> bool:
        scope = scope_of(rules_of(rules))
        for name in directory.split("/"):
            below = scope.enter(name)
            if below is None:
                return False
            scope = below
        return True

    assert not enters("- node_modules", "a/node_modules")
    assert not enters("- node_modules/**", "node_modules")
    assert not enters("+ /src/*.c", "doc")
    assert enters("+ /src/*.c", "src")
    assert not enters("+ /src/*.c - src/*/", "src/sub")
    assert not enters("- * + /a/b/*.txt", "a/c")
    assert enters("- * + /a/b/*.txt", "a/b")
    assert enters("- * + *.txt", "a/c")
    assert enters("- a/ + keep", "a")
    assert ALL.enter("a") is not None


def test_many_asterisks_take_no_time() -> None:
    rules = [exclude("*a" * 100 + "b"), exclude("/" + "**/*a/" * 50 + "b")]
    assert selects(scope_of(rules), "/".join(["a" * 200] * 60))
