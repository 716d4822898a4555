"""Help: the options in groups, the usual ones first, and examples that are true."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from bigupload.cli import _cli
from bigupload.cli.help import EXAMPLES, FEW, groups, options_of
from bigupload.cli.narration import Narrator
from bigupload.cli.options import DURATION, SIZE, DerivedOption
from bigupload.cli.progress_display import Bars
from bigupload.cli.settings import leaves

from .support import Command

COMMANDS = {" ".join(words): command for words, command in leaves(_cli)}


def test_each_option_has_one_place() -> None:
    for name, command in COMMANDS.items():
        every = options_of(command, click.Context(command))
        found = dict(groups(tuple(name.split()), every))
        shown = [option.name for group in found.values() for option in group]
        assert sorted(shown, key=str) == sorted((option.name for option in every), key=str), name
        if len(every) > FEW:
            assert [each for each in found["Help"] if not any("--help" in word for word in each.opts)] == [], name


def test_a_short_command_has_one_list_and_no_other_help(bigupload: Command) -> None:
    shown = bigupload("status", "--help").out
    assert "\nOptions:\n" in shown
    assert "--help-all" not in shown
    assert bigupload("status", "--help-all").code == 2


def test_help_shows_what_is_usual_and_counts_the_rest(bigupload: Command) -> None:
    usual, every = bigupload("upload", "--help").out, bigupload("upload", "--help-all").out
    for option in ("--to", "--endpoint-url", "--no-resume", "--progress", "--help-all"):
        assert f"{option} " in usual
        assert f"{option} " in every
    for option in ("--grant-read-acp", "--hedge / --no-hedge", "--config"):
        assert f"{option} " not in usual
        assert f"{option} " in every
    count = len(options_of(COMMANDS["upload"], click.Context(COMMANDS["upload"])))
    shown = sum(line.startswith("  -") for line in usual.splitlines())
    assert f"{count - shown} more options: bigupload upload --help-all" in usual
    assert "more options" not in every
    assert sum(line.startswith("  -") for line in every.splitlines()) == count


def test_the_service_has_groups_of_its_own(bigupload: Command) -> None:
    titles = [line for line in bigupload("serve", "--help").out.splitlines() if line.endswith(":") and line[0] != " "]
    assert titles[:4] == ["Examples:", "Service:", "What clients may do:", "Keys, hooks and webhooks:"]


def test_each_command_has_examples() -> None:
    assert EXAMPLES.keys() == COMMANDS.keys()
    assert all(1 <= len(examples) <= 3 for examples in EXAMPLES.values())
    assert all(len(EXAMPLES[name]) == 3 for name in ("upload", "move", "sync", "watch", "resume", "verify", "serve"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_command_takes_its_examples(name: str) -> None:
    command = COMMANDS[name]
    for line, _ in EXAMPLES[name]:
        words = shlex.split(line.rpartition("| ")[2].removeprefix("KEY=$(").removesuffix(")"))
        assert words[: 1 + len(name.split())] == ["bigupload", *name.split()], line
        command.make_context(name, words[1 + len(name.split()) :], parent=click.Context(_cli))


def test_titles_are_bold_on_a_terminal_alone(bigupload: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in bigupload("upload", "--help").out
    command = COMMANDS["upload"]
    assert "\x1b[1mTarget" in command.get_help(click.Context(command, info_name="bigupload upload"))
    for name in ("NO_COLOR", "NO_COLOUR"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            assert "\x1b" not in command.get_help(click.Context(command, info_name="bigupload upload"))


def test_an_option_without_a_place_stands_with_the_one_that_is_declared_before_it() -> None:
    known, other = ["--size-only", "--endpoint-url", "--verbose"], [f"--other-{n}" for n in range(FEW)]
    every = [click.Option([name]) for name in (known[0], "--new", *known[1:], *other)]
    found = {title: [option.opts[0] for option in group] for title, group in groups(("sync",), every)}
    assert found["Resume and safety"] == ["--size-only", "--new"]
    assert found["Output"] == ["--verbose", *other]


def test_flags_times_and_sizes_of_the_library_are_options() -> None:
    """With the first sentence of its documentation, in the words of commands."""
    commands = [COMMANDS[name].params for name in ("upload", "sync", "watch")]
    derived = [{each.opts[0]: each for each in params if isinstance(each, DerivedOption)} for params in commands]
    watch = derived[-1]
    assert (watch["--poll"].type, watch["--part-size"].type, watch["--all-names"].is_flag) == (DURATION, SIZE, True)
    assert watch["--until-idle"].help == (
        "End when all is sent and nothing changed for so long, as in 1min. [default: never]"
    )
    texts = "\n".join(each.help or "" for options in derived for each in options.values())
    assert re.findall("`|None|in seconds|in bytes", texts) == []


def test_color_counts_more_than_the_terminal_and_no_color(bigupload: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    for words in (["--color", "always", "upload"], ["upload", "--color", "always"]):
        assert "\x1b[1mTarget" in bigupload(*words, "--help").out, words
    for words in (["upload"], ["upload", "--color", "auto"], ["--color", "always", "upload", "--color", "never"]):
        assert "\x1b" not in bigupload(*words, "--help").out, words


def test_a_variable_counts_for_the_colours_of_help(bigupload: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, is_coloured in (("always", True), ("never", False), ("mauve", False)):
        for name in ("BIGUPLOAD_COLOR", "BIGUPLOAD_UPLOAD_COLOR"):
            monkeypatch.setenv(name, value)
            assert ("\x1b[1mTarget" in bigupload("upload", "--help").out) is is_coloured, (name, value)
            monkeypatch.delenv(name)
    monkeypatch.setenv("BIGUPLOAD_COLOR", "always")
    assert "\x1b" not in bigupload("upload", "--color", "never", "--help").out
    assert "\x1b" not in bigupload("--color", "never", "upload", "--help").out


def test_color_that_is_typed_counts_more_than_a_variable_or_the_file(
    bigupload: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[bool | None] = []
    command = COMMANDS["status"]
    monkeypatch.setattr(command, "invoke", lambda context: seen.append(context.color))
    file = tmp_path / "config.toml"
    file.write_text('color = "never"\n')
    for before, after in (([], ["--color", "always"]), (["--color", "always"], [])):
        bigupload(*before, "status", "--config", file, *after)
        monkeypatch.setenv("BIGUPLOAD_COLOR", "never")
        bigupload(*before, "status", *after)
        monkeypatch.delenv("BIGUPLOAD_COLOR")
    assert seen == [True, True, True, True]
    bigupload("status", "--config", file)
    assert seen[4:] == [False]


@pytest.mark.parametrize("variable", ["NO_COLOR", "NO_COLOUR"])
def test_color_counts_for_the_rows_of_progress(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    for given, no_color in ((None, True), (True, False), (False, True)):
        context = click.Context(_cli)
        context.color = given
        with context:
            assert Bars(Narrator())._console.no_color is no_color, given
