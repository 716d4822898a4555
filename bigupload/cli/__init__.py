"""The commands. Each is imported when it is called: starting is part of the speed, and `--help` needs click alone."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from bigupload import __version__, errors
from bigupload.units import one_line, printable

_SELDOM = (50_000, 20, 20)

_COMMANDS = {
    "upload": ("upload", "Upload files, or go on where their upload stopped."),
    "resume": ("resume", "Go on with uploads by their manifests, or adopt one that no manifest knows."),
    "status": ("status", "Show the uploads that this machine knows."),
    "abort": ("status", "Give uploads up and free their parts in the store."),
    "gc": ("gc", "Give up open uploads that nobody goes on with, and free their parts."),
    "check-url": ("check_url", "Tell whether a URL can be used as a media item."),
    "verify": ("verify", "Prove that an object is a file, by its checksums or by reading it back."),
    "serve": ("serve", "Serve media uploads: clients need an API key only."),
    "keys": ("keys", "Make, list and revoke the media service's API keys."),
    "bucket": ("bucket", "Make a bucket fit for the media service, and delete what may not stay in it."),
    "store": ("store", "Start, stop, show and remove the local store."),
    "config": ("config", "Show where the values of options come from."),
}


class _Lazy(click.Group):
    """Knows its commands' names and one line of each; their modules are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{_COMMANDS[cmd_name][0]}")
        from bigupload.cli.settings import prepare

        return prepare(getattr(module, cmd_name.replace("-", "_")), (cmd_name,))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="bigupload")
@click.option("-v", "--verbose", count=True, help="Log what happens; -vv logs each attempt of each request.")
@click.option("-q", "--quiet", is_flag=True, help="Show errors and results only.")
@click.option("--log-file", type=click.Path(path_type=Path), metavar="FILE", help="Append a full log to FILE.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Take options from this TOML file.")
@click.pass_context
def _cli(ctx: click.Context, /, **common: Any) -> None:
    """Upload files that are too big to lose: in parallel, resumable after any crash, and proved at the end.

    Exit status: 0 done and proved, 1 failed for good, 2 usage, 75 stopped but resumable, 130 Ctrl-C (resumable).
    """
    from bigupload.cli.settings import remember

    remember(ctx, **common)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its status. No traceback reaches a user for an error that was foreseen.

    With `arguments` it raises SystemExit; without, the process is the command's own, and ends at once.
    """
    if arguments is not None:
        _run(arguments)
    # Imports make many objects that stay: looking through them for garbage again and again is a tenth of a short
    # command's time. What cycles a long one leaves is still found, only later.
    gc.set_threshold(*_SELDOM)
    try:
        _run(None)
    except SystemExit as e:
        if isinstance(e.code, int):
            _leave(e.code)
        raise


def _leave(status: int) -> None:
    """Everything is on disk and closed, and nobody needs the modules taken apart one by one, which takes as long as
    importing botocore did. Returns where the output can't be flushed: Python has its own way to say that."""
    with contextlib.suppress(OSError, ValueError):
        atexit._run_exitfuncs()  # they may still say something
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(status)


def _run(arguments: list[str] | None) -> NoReturn:
    try:
        # Not standalone: click would say what is wrong with a call in four lines, two of them how to get help.
        raise SystemExit(_cli.main(arguments, prog_name="bigupload", standalone_mode=False))
    except errors.BigUploadError as e:
        complain(e)
        raise SystemExit(e.exit_code) from None
    except getattr(click.exceptions, "NoArgsIsHelpError", ()) as e:  # from click 8.2 on
        e.show()
        raise SystemExit(errors.EXIT_USAGE) from None
    except click.UsageError as e:
        complain(errors.UsageError(_usage(e)))
        raise SystemExit(errors.EXIT_USAGE) from None
    except click.ClickException as e:
        complain(errors.BigUploadError(e.format_message()))
        raise SystemExit(errors.EXIT_FAILED) from None
    except (click.Abort, KeyboardInterrupt):  # before anything was begun: later, _running sees to it
        raise SystemExit(errors.EXIT_INTERRUPTED) from None


def _usage(error: click.UsageError) -> str:
    """What is wrong with a call, where that stands if it is not on the command line, and which help to read."""
    message = error.format_message().rstrip(".")
    if error.ctx is None:
        return f"{message} (see bigupload --help)"
    where = ""
    if isinstance(error, click.BadParameter) and error.param is not None:
        from bigupload.cli.settings import origin

        where = origin(error.ctx, error.param)
    return f"{message}{where} (see {error.ctx.command_path} --help)"


def complain(error: errors.BigUploadError, what: str = "") -> None:
    """The one line on standard error."""
    about = f"{one_line(what)}: " if what else ""
    # Longer than other foreign texts: it says what to do, and that must not be cut.
    message = printable(str(error))
    with contextlib.suppress(OSError):  # nobody reads it
        click.echo(f"bigupload: {about}{message}", err=True)
