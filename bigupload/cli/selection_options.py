"""The options that select files, and their effect on a call."""

from __future__ import annotations

import codecs
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigupload import errors
from bigupload.cli.options import file_option, joined, size_option
from bigupload.cli.settings import COMMAND_LINE, strength
from bigupload.cli.wording import spelled
from bigupload.records import dataclass

if TYPE_CHECKING:
    from bigupload.batch.listing import FileList
    from bigupload.batch.tree import Selection

_TARGETS = ("to", "service")
_RULES = ("include", "exclude", "exclude_from")
_ORDER = "bigupload.order of rules"
"""The key in `Context.meta` of the rules' options in the order of the command line."""
_LIST_FROM_STANDARD_INPUT = Path("-")
_FOR_ONE_FILE = ("manifest", "name", "expected_size", "end_marker", "follow", "delta")
TARGET_LAST = "the target comes last: bigupload upload PATH... s3://BUCKET/KEY"
_FEW = 16
"""Files that are named one by one, up to which each has a row of the display and an upload of its own."""


class CommandWithRules(click.Command):
    """Remembers the order of `--include`, `--exclude` and `--exclude-from`: click keeps that of each alone.

    It refuses two targets, where click takes the last.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        names = [param.name for param in order]
        for name in _TARGETS:
            if names.count(name) > 1:
                raise click.UsageError(
                    f"{spelled(name)} is given twice: name one target, and run the command once for each", ctx
                )
        ctx.meta[_ORDER] = [name for name in names if name in _RULES]
        return super().parse_args(ctx, args)


def quoting_hint() -> str:
    """Return the likely cause of one name too many: the shell has made several of `--exclude *.tmp`."""
    order = click.get_current_context().meta.get(_ORDER, ())
    given = [spelled(name) for name in ("exclude", "include") if name in order]
    return f"; was a pattern after {given[0]} not quoted?" if given else ""


rule_options = joined(
    click.option(
        "--include", metavar="PATTERN", multiple=True, help="Only files that match, as in '*.jpg' or '/raw/**'."
    ),
    click.option(
        "--exclude",
        metavar="PATTERN",
        multiple=True,
        help="Not files that match, as in '*.tmp' or 'cache/'. The last of both that matches decides.",
    ),
    file_option("--exclude-from", multiple=True, help="Take patterns from a file like .gitignore."),
)
"""The options that select by name. The command is a `CommandWithRules`."""


limit_options = joined(
    rule_options,
    size_option("--min-size", help="Only files of at least this size, as in 1MB."),
    size_option("--max-size", help="Only files of at most this size."),
    click.option(
        "--newer-than", metavar="TIME", help="Only files that changed since: 7d, 12h, 2026-01-31, 2026-01-31T08:00."
    ),
    click.option("--follow-symlinks", is_flag=True, help="Upload the targets of symbolic links in a directory."),
)
"""The options that select by name, size and time. The command is a `CommandWithRules`."""


selection_options = joined(
    limit_options,
    file_option(
        "--files-from",
        help="Take the files that FILE names, a path a line; - is standard input. Each path is also the key.",
    ),
    click.option("-0", "--null", is_flag=True, help="With --files-from: NUL separates the paths (find -print0)."),
)
"""The options. The command is a `CommandWithRules`."""


dry_run_option = click.option("--dry-run", is_flag=True, help="Print the files to upload, and transfer nothing.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The values of the options."""

    selection: Selection
    files_from: Path | None
    null: bool
    dry_run: bool
    selects: bool
    """Whether a rule or a limit was given."""
    is_asked: bool
    """Whether one of the options is on the command line."""

    def is_for(self, names: Sequence[str]) -> bool:
        """Whether a call needs a list of files: by an option, or because a name stands for more than one file."""
        if any(map(names_many, names)):
            return True
        if any(map(_is_no_file, names)) and not self.is_asked:
            return False  # a configuration file's options for many files do not apply
        return self.selects or self.dry_run or self.files_from is not None or self.selection.follow_symlinks

    def words(self) -> list[str]:
        """The options that make another job of the same sources."""
        selection = self.selection
        named = {
            "--files-from": self.files_from and os.path.abspath(self.files_from),  # noqa: PTH100 - not read here
            "--min-size": selection.min_size,
            "--max-size": selection.max_size,
            "--newer-than": selection.newer_than,
        }
        words = [f"--include={rule[1:]}" if rule.startswith("!") else f"--exclude={rule}" for rule in selection.exclude]
        return [*words, *(f"{name}={value}" for name, value in named.items() if value is not None)]

    @property
    def list_name(self) -> str:
        """The name of the list of `--files-from` in messages."""
        return "standard input" if self.files_from == _LIST_FROM_STANDARD_INPUT else str(self.files_from)

    def read_list(self) -> FileList | None:
        """The list of `--files-from`. Blocking. Raises UsageError if it can't be read, or has NULs without `--null`."""
        from bigupload.batch.listing import FileList, utf16_order

        if self.files_from is None:
            return None
        is_input = self.files_from == _LIST_FROM_STANDARD_INPUT
        try:
            content = _standard_input() if is_input else self.files_from.read_bytes()
        except OSError as e:
            raise errors.UsageError(f"can't read --files-from {self.files_from}: {e.strerror}") from None
        has_mark = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        if b"\0" in content and not self.null and not has_mark:  # which no path can hold
            if (order := utf16_order(content)) is not None:
                raise errors.UsageError(
                    f"{self.list_name} is UTF-16 without a byte order mark: make it UTF-8 (iconv -f {order} -t UTF-8)"
                )
            raise errors.UsageError(f"the paths of {self.list_name} end in NUL, as from find -print0: add --null")
        if has_mark and self.null:
            raise errors.UsageError(f"{self.list_name} is UTF-16, where NUL separates no paths: leave --null out")
        return FileList.parse(content, self.list_name, null=self.null)


def names_many(name: str) -> bool:
    """Whether a name on the command line is a directory or a pattern."""
    from bigupload.core.selection import has_wildcard

    if _is_no_file(name):  # a question mark in a URL is not a wildcard
        return False
    return os.path.isdir(name) or (has_wildcard(name) and not os.path.lexists(name))  # noqa: PTH112 - also of ""


def _is_no_file(name: str) -> bool:
    """Whether a name is standard input, or a URL."""
    return name == "-" or ("://" in name and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", name) is not None)


def is_better_a_job(names: Sequence[str], arguments: dict[str, Any]) -> bool:
    """Whether enough plain files are named, as by a shell's `*.jpg`, for one job to be faster than separate uploads."""
    is_plain = not any(map(_is_no_file, names)) and not any(arguments[name] for name in _FOR_ONE_FILE)
    return is_plain and len(set(names)) > _FEW


def take_selection(ctx: click.Context, arguments: dict[str, Any]) -> Chosen:
    """Take the options out of a command's arguments.

    Raises:
        UsageError: A pattern or a time is malformed, or a file of patterns can't be read.
    """
    from bigupload.batch.tree import Selection

    limits = {name: arguments.pop(name) for name in ("min_size", "max_size", "newer_than")}
    follow = arguments.pop("follow_symlinks")
    others = {"files_from": arguments.pop("files_from", None), "null": arguments.pop("null", False)}
    others["dry_run"] = arguments.pop("dry_run", False)
    rules = _rules(ctx, {name: arguments.pop(name) for name in _RULES})
    if others["null"] and others["files_from"] is None:
        raise click.UsageError("--null is for --files-from: leave it out")
    selection = Selection(exclude=rules, follow_symlinks=follow, **limits)
    return Chosen(
        selection=selection,
        selects=bool(rules) or any(value is not None for value in limits.values()),
        is_asked=any(strength(ctx, name) == COMMAND_LINE for name in (*_RULES, *limits, *others, "follow_symlinks")),
        **others,
    )


def take_rules(ctx: click.Context, arguments: dict[str, Any]) -> Selection:
    """Take the options of `rule_options` out of a command's arguments. Raises UsageError as `take_selection`."""
    from bigupload.batch.tree import Selection

    return Selection(exclude=_rules(ctx, {name: arguments.pop(name) for name in _RULES}))


def _rules(ctx: click.Context, given: dict[str, Sequence[Any]]) -> list[str]:
    """The rules in their order, as `Selection.exclude` takes them.

    They are one list: if one of them is on the command line, those of the environment and of a file do not count.
    """
    from bigupload.batch.tree import read_exclude_file
    from bigupload.core.selection import exclude, include

    is_ordered = any(strength(ctx, name) == COMMAND_LINE for name in _RULES)
    unordered = [name for name in ("include", "exclude_from", "exclude") for _ in given[name]]
    order = ctx.meta[_ORDER] if is_ordered else unordered
    values = {name: iter(given[name]) for name in _RULES}
    rules = []
    for name in order:
        value = next(values[name])
        if name == "exclude_from":
            rules += read_exclude_file(value)
        else:
            rules.append(include(value) if name == "include" else exclude(value))
    return [f"!{rule.pattern}" if rule.is_include else rule.pattern for rule in rules]


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise errors.UsageError("can't read --files-from -: standard input is closed")
    return sys.stdin.buffer.read()


def check_many(names: Sequence[str], chosen: Chosen, arguments: dict[str, Any], to: str | None, *, local: bool) -> None:
    """Raise UsageError for what can't be done with a list of files.

    Args:
        names: The sources.
        chosen: Which files.
        arguments: The command's.
        to: The target; None: a media service.
        local: Whether it is in the local store.
    """
    if not names and chosen.files_from is None:
        raise click.UsageError("name a file or a directory: bigupload upload PATH... s3://BUCKET/KEY")
    for name in filter(_is_no_file, names):
        raise click.UsageError(_not_listed(name, names, chosen, local=local))
    if chosen.files_from is not None and any(not names_many(name) for name in names):
        raise click.UsageError("beside --files-from, name at most the directory that its paths are in")
    if chosen.dry_run and arguments["skip_existing"]:
        raise click.UsageError(
            "--dry-run asks no store, so it does not know which files --skip-existing skips: leave one out"
        )
    if not is_many(names, chosen):
        return
    for name in _FOR_ONE_FILE:
        if arguments[name]:
            raise click.UsageError(f"{spelled(name)} is for one file: leave it out, or upload one file at a time")
    if to is not None and not is_prefix(to):
        raise click.UsageError(f"many files can't become one object: end the target with a slash, as in {to}/")


def _not_listed(name: str, names: Sequence[str], chosen: Chosen, *, local: bool) -> str:
    """Return the reason why standard input, or a URL, is not among the sources of a call with many files."""
    if name[:5].lower() == "s3://" and local and name != names[-1]:
        return f"{TARGET_LAST}{quoting_hint()}"
    if name[:5].lower() == "s3://" and is_prefix(name):
        return f"{name} names no object to read; {TARGET_LAST}{quoting_hint()}"
    what = "standard input" if name == "-" else "a URL"
    if chosen.dry_run or chosen.selects or chosen.files_from is not None or chosen.selection.follow_symlinks:
        return f"{what} can't be listed: leave out --dry-run, and the options that select or list files"
    return f"{what} can't be beside a directory or a pattern: upload it by itself"


def check_verify_many(names: Sequence[str], chosen: Chosen, url: str) -> None:
    """Raise UsageError for a list of files that can't be compared with what is below a URL."""
    if chosen.files_from is not None and not names_many(names[0]):
        raise click.UsageError("beside --files-from, name the directory that its paths are in, as in .")
    if not is_prefix(url):
        raise click.UsageError(f"many files are not one object: end the URL with a slash, as in {url}/")


def is_prefix(url: str) -> bool:
    """Whether an s3:// URL is what keys begin with, and not one object."""
    from bigupload.stores.s3.access import split_bucket

    return url.endswith("/") or not split_bucket(url.partition("://")[2])[1]


def is_many(names: Sequence[str], chosen: Chosen) -> bool:
    """Whether a call may make more than one object."""
    return len(names) != 1 or chosen.files_from is not None or names_many(names[0])
