"""The library's messages name arguments, and the command line's options: one text, translated in one place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from keyword import iskeyword
from pathlib import Path

import click
import pytest

import bigupload
from bigupload.api.arguments import TextOptions, UploadOptions, WriterOptions
from bigupload.cli import _COMMANDS, _cli
from bigupload.cli.wording import COMMANDS, OTHERS, for_command_line
from tests.tools.cases import each_case

_ROOT = Path(bigupload.__file__).parent
_OTHERS_MESSAGES = {"cli", "service", "progress", "testing", "adapters"}
"""Folders whose messages nobody meets but who types commands, or nobody but who writes programs."""


@each_case(
    ("message", "shown"),
    [
        ("again with `resume=False`", "again with --no-resume"),
        ("(`skip_existing=True` sends nothing)", "(--skip-existing sends nothing)"),
        ("never: `hedge=False`", "never: --no-hedge"),
        ("began with `part_size='16MiB'`, and", "began with --part-size 16MiB, and"),
        ("with another `tags`, `storage_class`", "with another --tag, --storage-class"),
        ("use `read_back`", "use bigupload verify --download"),
        ("`abort('/x/a b.jsonl')`", "bigupload abort '/x/a b.jsonl'"),
        ("`adopt('s3://b/k')`", "bigupload resume --adopt s3://b/k --source FILE"),
        ("`resume('/x/b.jsonl')`", "bigupload resume /x/b.jsonl --source PATH"),
        ("`abort` deletes its parts", "bigupload abort deletes its parts"),
        ("`chcp 65001`, `with`", "`chcp 65001`, `with`"),
        ("a file named `x` or `abort(1)`", "a file named `x` or `abort(1)`"),
        (
            "`DeleteSource(proved_by='size')` or `Digest('sha256')`",
            "--delete-if-proved size or --sha256 (or --write-checksums)",
        ),
        ("can't read a`b: `resume=False` starts anew", "can't read a`b: --no-resume starts anew"),
        ("`resume=False", "`resume=False"),
        ("nothing", "nothing"),
    ],
)
def test_what_the_command_line_shows(message: str, shown: str) -> None:
    assert for_command_line(message) == shown


@pytest.fixture(scope="module")
def texts() -> list[tuple[str, str]]:
    """Each text of the library that is not a docstring, with its place."""
    return list(_texts())


def _texts() -> Iterator[tuple[str, str]]:
    for path in sorted(_ROOT.rglob("*.py")):
        if path.relative_to(_ROOT).parts[0] in _OTHERS_MESSAGES:
            continue
        tree = ast.parse(path.read_text())
        documentation = {
            id(statement.value)
            for node in ast.walk(tree)
            for statement in (node.body if isinstance(getattr(node, "body", None), list) else ())
            if isinstance(statement, ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [each.value if isinstance(each, ast.Constant) else "…" for each in node.values]
                yield f"{path.relative_to(_ROOT)}:{node.lineno}", "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                yield f"{path.relative_to(_ROOT)}:{node.lineno}", node.value


@pytest.mark.slow
def test_no_message_of_the_library_is_for_a_command_line(texts: list[tuple[str, str]]) -> None:
    """A program that calls the library has no `--no-resume`, and runs no command again."""
    assert [(where, text) for where, text in texts if re.search("(run|repeat) the (same )?command", text)] == []
    assert [
        (where, text) for where, text in texts if re.search(r"(?<![\w-])--(?!op-s3|files-from)[a-z]{2}", text)
    ] == []


@pytest.mark.slow
def test_every_argument_that_a_message_names_is_an_option(texts: list[tuple[str, str]]) -> None:
    """`credentials` itself is an argument that no command has: its text is for programs, or translated."""
    options = {
        option
        for name in _COMMANDS
        if isinstance(command := _cli.get_command(click.Context(_cli), name), click.Command)
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    declared = {*WriterOptions.__annotations__, *TextOptions.__annotations__}
    of_writers = declared - UploadOptions.__annotations__.keys() | {"then"}  # no command has a writer, or such a list
    found = {(where, *names) for where, text in texts for names in re.findall(r"`([a-z][a-z0-9_]*)([`=(])", text)}
    named = {(where, name, end) for where, name, end in found if name not in of_writers and not iskeyword(name)}
    assert len(named) > 100
    for where, name, end in sorted(named):
        shown = {for_command_line(f"`{name}{value}`") for value in ("", "=True", "=False")}
        assert f"{name}('" in COMMANDS if end == "(" else name in OTHERS or shown & options, (where, name)
