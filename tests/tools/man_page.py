"""Makes the manual page bigupload(1) from the commands."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from bigupload.cli import _cli, settings
from bigupload.cli.help import EXAMPLES, groups, options_of

PAGE = Path(__file__).parents[2] / "docs" / "bigupload.1"
_STATUS = (
    ("0", "Done and proved."),
    ("1", "Failed, and the same command would fail again."),
    ("2", "Wrong call: an option, an argument or a setting that cannot be used."),
    ("3", "Done and proved, but what was to follow (a receipt, say) failed."),
    ("75", "Stopped; the same command (without --no-resume) resumes."),
    ("130", "Ctrl-C; the same command (without --no-resume) resumes."),
)
_VARIABLES = (
    ("BIGUPLOAD_<COMMAND>_<OPTION>, BIGUPLOAD_<OPTION>", "Options: of one command, or of every command that has it."),
    ("BIGUPLOAD_API_KEY", "The API key for a media service."),
    ("BIGUPLOAD_STATE_DIR", "The directory of the manifests."),
    ("BIGUPLOAD_LOCAL_STORE_DIR", "The directory of the local store."),
    ("AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, ...", "Credentials and settings, as for every AWS tool."),
)
_FILES = (
    ("~/.config/bigupload/config.toml", "Options, see \\fBbigupload config show\\fR."),
    ("~/.local/state/bigupload/", "The manifests of uploads."),
    ("~/.local/share/bigupload/local-store/", "The local store."),
)
_COMMON = frozenset({"verbose", "quiet", "log_file", "log_level", "color", "config"})


def man_page() -> str:
    """The page as troff, with the macros of man(7)."""
    ctx = click.Context(_cli, info_name="bigupload", **_cli.context_settings)
    lines = [
        ".TH BIGUPLOAD 1",
        ".SH NAME",
        "bigupload \\- upload files that are too big to lose",
        ".SH SYNOPSIS",
        ".B bigupload",
        "[OPTIONS] COMMAND [ARGS]...",
        ".SH DESCRIPTION",
        *_paragraphs((inspect.getdoc(_cli.callback) or "").partition("\n\nExit status")[0]),
        ".SH OPTIONS",
        "Every command takes these options, also before its name.",
        *_rows(options_of(_cli, ctx), ctx),
        ".TP",
        ".B \\-h, \\-\\-help",
        "Show the help of a command and exit.",
        ".SH COMMANDS",
    ]
    for words, command in settings.leaves(_cli):
        name = " ".join(("bigupload", *words))
        ctx = click.Context(command, info_name=name, **command.context_settings)
        usage = " ".join(command.collect_usage_pieces(ctx))
        lines += [f'.SS "{_plain(" ".join(words))}"', f".B {_plain(name)}", _plain(usage), ".PP"]
        lines += _paragraphs(inspect.cleandoc(command.help or ""))
        for example, meaning in EXAMPLES.get(" ".join(words), ()):
            lines += [".TP", f".B {_plain(example)}", _plain(f"{meaning[0].upper()}{meaning[1:]}.")]
        options = [each for each in options_of(command, ctx) if each.name not in _COMMON]
        for heading, group in groups(words, options):
            described = list(_rows(group, ctx))
            lines += [".PP", f".I {heading}", *described] if described else []
    for title, rows in (("EXIT STATUS", _STATUS), ("ENVIRONMENT", _VARIABLES), ("FILES", _FILES)):
        lines.append(f".SH {title}")
        for term, text in rows:
            lines += [".TP", f".B {_plain(term)}", text]
    return "\n".join(lines) + "\n"


def _rows(options: Iterable[click.Option], ctx: click.Context) -> Iterator[str]:
    for option in options:
        if "--help" not in option.opts and (row := option.get_help_record(ctx)):
            yield from (".TP", f".B {_plain(row[0])}", _plain(row[1]))


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ".PP"
        yield _plain(" ".join(paragraph.split()))


def _plain(text: str) -> str:
    """Text that troff takes as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text
