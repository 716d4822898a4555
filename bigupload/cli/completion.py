"""Shell completions: `bigupload completion` installs what click makes; the rest answers a shell beside that.

Whatever fails while a shell asks completes nothing: a message would be in the middle of the line that a person types.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, get_completion_class

from bigupload import errors
from bigupload.support.files import user_path
from bigupload.units import escaped, one_line, printable

_SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_BIGUPLOAD_COMPLETE"
"""By which click knows that a shell asks; from the name of the program."""
_MARK = "# bigupload completion"
_SHELL = click.argument("shell", metavar="[bash|zsh|fish]", type=click.Choice(_SHELLS), required=False)


@click.group()
def completion() -> None:
    """Completions of commands, options, files, uploads and profiles for bash, zsh and fish."""


@completion.command()
@_SHELL
@click.pass_context
def show(ctx: click.Context, shell: str | None) -> None:
    """Print the completion script of a shell. SHELL is bash, zsh or fish; without it, your shell.

    eval "$(bigupload completion show bash)"
    """
    click.echo(_script(ctx, shell or _own_shell()))


@completion.command()
@_SHELL
@click.pass_context
def install(ctx: click.Context, shell: str | None) -> None:
    """Install the completions of a shell for your user. SHELL is bash, zsh or fish; without it, your shell.

    bash and zsh get one line in ~/.bashrc or ~/.zshrc. fish needs none. It is safe to run this again, as after an
    upgrade.
    """
    shell = shell or _own_shell()
    script = _script_path(shell)
    try:
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(_script(ctx, shell) + "\n", encoding="utf-8")
        startup = None if shell == "fish" else _add_line(shell, script)
    except OSError as e:
        raise errors.BigUploadError(f"can't install the completions: {e.filename}: {e.strerror}") from e
    except RuntimeError:  # of `Path.home`
        raise errors.UsageError("can't install the completions: there is no home directory: set HOME") from None
    also = f", and a line in {printable(str(startup))} that loads it" if startup else ""
    click.echo(f"installed {printable(str(script))}{also}: open a new {shell} to use it", err=True)


def _own_shell() -> str:
    shell = Path(os.environ.get("SHELL", "")).name
    if shell not in _SHELLS:
        raise errors.UsageError(f"no completions for the shell {shell or 'of this user'}: name one of bash, zsh, fish")
    return shell


def _script(ctx: click.Context, shell: str) -> str:
    kind = get_completion_class(shell)
    assert kind is not None  # click has all three
    return kind(ctx.find_root().command, {}, "bigupload", _VARIABLE).source().strip()


def _script_path(shell: str) -> Path:
    if shell == "fish":
        config = os.environ.get("XDG_CONFIG_HOME")
        return (Path(config) if config else Path.home() / ".config") / "fish" / "completions" / "bigupload.fish"
    return user_path("data", instead="XDG_DATA_HOME") / f"completion.{shell}"


def _add_line(shell: str, script: Path) -> Path:
    """Have the shell's start-up file load the script, once."""
    home = Path(os.environ.get("ZDOTDIR") or Path.home()) if shell == "zsh" else Path.home()
    startup = home / f".{shell}rc"
    before = startup.read_text(encoding="utf-8", errors="surrogateescape") if startup.exists() else ""
    lines = [line for line in before.splitlines() if not line.endswith(_MARK)]
    quoted = "'" + str(script).replace("'", "'\\''") + "'"
    # zsh: compdef is compinit's, which few start-up files leave out.
    ready = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }; " if shell == "zsh" else ""
    lines.append(f"{ready}[ ! -r {quoted} ] || . {quoted}  {_MARK}")
    after = "\n".join(lines) + "\n"
    if after != before:
        startup.write_text(after, encoding="utf-8", errors="surrogateescape")
    return startup


_PLAIN = re.compile(r"[A-Za-z0-9_.,+/%=:-]*")
"""Names that no shell needs quotes for. Others are left out: the line must not become another command."""


class _Bash(BashComplete):
    """Bash makes three words of --profile=name."""

    def get_completion_args(self) -> tuple[list[str], str]:
        words, last = super().get_completion_args()
        return [word for word in words if word != "="], last


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """While a shell is answered. Nothing is written but the answer, and an exception ends it without a word."""
    add_completion_class(_Bash)
    with open(os.devnull, "w") as null, contextlib.redirect_stderr(null):  # noqa: PTH123 - no path
        try:
            yield
        except Exception:
            sys.exit(0)


def uploads(ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """Ids of unfinished uploads, for `abort` and `status` also of jobs. What looks like a path is completed as one."""
    from bigupload.cli.unfinished import completions

    given = {str(path) for name in ("manifests", "paths", "ids") for path in ctx.params.get(name) or ()}
    rows = completions(with_all=ctx.info_name in ("abort", "status"))
    found = [(id_, says) for id_, says in rows if id_.startswith(incomplete) and id_ not in given]
    if incomplete and not found and ctx.info_name != "status":
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(id_, help=one_line(escaped(says))) for id_, says in found]


def files(_ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """Files, which the shell lists itself."""
    return [CompletionItem(incomplete, type="file")]


def profiles(_ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """Profiles of the AWS configuration files."""
    from bigupload.stores.s3.aws_files import profile_names

    names = profile_names()
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and _PLAIN.fullmatch(name)]
