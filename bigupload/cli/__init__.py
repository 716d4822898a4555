"""The commands. A command's module is imported when it is called: starting is fast, and `--help` needs click alone."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import click

from bigupload import __version__, errors
from bigupload.cli.help import common_options
from bigupload.cli.wording import for_command_line
from bigupload.units import one_line, printable

_SELDOM = (50_000, 20, 20)

CLOSED: set[str] = set()
"""The names of the standard streams that the caller closed, and that are the null device now."""

_COMMANDS = {
    "upload": ("upload", "Upload files, or resume their uploads."),
    "move": ("move", "Upload files, and delete each one here once its object is proved."),
    "sync": ("sync", "Send the files of a directory that are not in the bucket; --delete also deletes what is gone."),
    "watch": ("watch", "Upload the files of a directory as they come and as they grow."),
    "resume": ("resume", "Resume uploads, also one that another program began."),
    "status": ("status", "List the uploads that this machine knows."),
    "abort": ("status", "Abort uploads and free their parts in the store."),
    "gc": ("gc", "Abort the uploads of a bucket that nobody continues, and free their parts."),
    "verify": ("verify", "Prove that an object equals a file, by checksums or by a download."),
    "share": ("share", "Print a link by which anyone can read an object for a while."),
    "serve": ("serve", "Run the media service: clients upload with an API key."),
    "keys": ("keys", "Create, list and revoke the media service's API keys."),
    "bucket": ("bucket", "Prepare a bucket for the media service, and delete expired and refused files."),
    "webhooks": ("webhooks", "Send a test event of the media service, or its events again."),
    "check-url": ("serve", "Check whether the media service would take a URL in place of a file."),
    "store": ("store", "Start, stop, show and remove the local store."),
    "config": ("config", "Show where the values of options come from."),
    "completion": ("completion", "Install completions for bash, zsh and fish."),
}

_GROUPS = {
    "upload": "Upload",
    "resume": "Unfinished uploads",
    "verify": "Objects",
    "serve": "Media service",
    "store": "This machine",
}
"""The titles in `--help`, each with the first command below it."""


_MEANT = {"cp": "upload", "put": "upload", "mv": "move", "ls": "status", "list": "status", "jobs": "status"}
"""Commands of other programs, and the commands that do the same here."""


class _Lazy(click.Group):
    """A group that knows the name and one line of each command. It imports a command's module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{_COMMANDS[cmd_name][0]}")
        from bigupload.cli.settings import prepare

        return prepare(getattr(module, cmd_name.replace("-", "_")), (cmd_name,))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as e:
            import difflib

            if "Did you mean" in e.message:
                raise
            close = _MEANT.get(args[0]) or next(iter(difflib.get_close_matches(args[0], _COMMANDS, 1)), None)
            if close is None:
                raise
            raise click.UsageError(f"{e.message.rstrip('.')}. Did you mean '{close}'?", e.ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        title, width = "", max(map(len, _COMMANDS))
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, (_, line) in _COMMANDS.items():
            title = _GROUPS.get(name, title)
            groups.setdefault(title, []).append((f"{name:{width}}", line))
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows)


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="bigupload")
@click.pass_context
def _cli(ctx: click.Context, /, **common: Any) -> None:
    """Upload files that are too big to lose: in parallel, resumable after any crash, and proved at the end.

    Exit status: 0 done and proved; 1 failed, and the same command would fail again; 2 wrong call; 3 done and proved,
    but what was to follow failed, such as --share; 75 stopped, and the same command (without --no-resume) resumes; 130
    stopped by Ctrl-C, which the same command resumes, too.
    """
    from bigupload.cli.settings import remember

    remember(ctx, **common)


_cli.params += common_options()


REPLACED = "bigupload was updated or removed while this command ran: run the same command again"
_VERSION_FILE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "__init__.py")  # noqa: PTH118, PTH120 - no pathlib


def _installed() -> tuple[int, int] | None:
    """Return what tells this installation from another one in its place; None: it has no files, or has them no more."""
    try:
        status = os.stat(_VERSION_FILE)  # noqa: PTH116 - as above
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


class _OneInstallation:
    """A finder of modules that finds none. It refuses those of another installation than the one that began.

    Modules are imported when they are needed. After an upgrade they would be those of the new version, among those of
    the old one.
    """

    def __init__(self) -> None:
        self._began = _installed()

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.startswith("bigupload.") and self.is_replaced:
            raise ImportError(REPLACED, name=name)

    @property
    def is_replaced(self) -> bool:
        return self._began != _installed()


_INSTALLATION = _OneInstallation()
OUT_OF_MEMORY = (
    "the system gives this process no more memory: allow more (ulimit -v, or the container's limit), or upload less at "
    "once (--concurrency, --part-size), and run the same command again"
)


def discard_output() -> None:
    """Send what is still buffered to the null device: it would fail once more when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_of_output(error: OSError) -> bool:
    """Whether the error is of `click.echo`, by which commands write: no other file has to be named."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return at is not None and at.tb_frame.f_code is click.echo.__code__


def unwritten(error: OSError) -> errors.BigUploadError:
    """Discard the results, and return the message for that."""
    discard_output()
    return errors.BigUploadError(f"can't write the results to standard output: {error.strerror}")


@contextlib.contextmanager
def writing_results(done: str) -> Iterator[None]:
    """While a result is written that an exit status of 1 would contradict.

    Args:
        done: What is done, for the message if it can't be written.

    Raises:
        BigUploadError: It can't be written.
    """
    try:
        yield
    except OSError as e:
        raise errors.BigUploadError(f"{done}, but {unwritten(e)}") from e


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its status. Users see no traceback of an expected error.

    Args:
        arguments: the command line without the program's name. None takes that of this process, and ends the process
            at once when the command is done; otherwise SystemExit is raised.
    """
    if arguments is not None:
        _run(arguments)
    sys.meta_path.insert(0, _INSTALLATION)
    _open_closed_streams()
    _escape_foreign_characters()
    gc.set_threshold(*_SELDOM)
    try:
        _run(None)
    except SystemExit as e:
        if e.code is None or isinstance(e.code, int):
            _leave(e.code or 0)
        raise


def _open_closed_streams() -> None:
    """Open the null device as each standard stream that the caller closed, as `2>&-` does.

    Python has None in place of such a stream, which cannot be written to. And the next file or socket would get its
    number, and what another program or library writes to that number. Standard input stays None: who uploads that must
    learn that it was closed, and not that it is empty.
    """
    for name, flags in (("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY)):
        if getattr(sys, name) is not None:
            continue
        CLOSED.add(name)
        number = os.open(os.devnull, flags)  # the lowest number that is free: the stream's own
        os.set_inheritable(number, True)  # or programs that this one starts would find it closed again
        if name != "stdin":
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace"))


def _escape_foreign_characters() -> None:
    """Write what the encoding of standard output lacks as `\\u2192`, as on standard error.

    A pipe or a file of Windows has that of its language, which knows neither the arrow of `status` nor most names.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.encoding.lower().startswith("utf"):
        sys.stdout.reconfigure(errors="backslashreplace")


def _leave(status: int) -> None:
    """End the process without finalising the modules, which takes as long as importing botocore did.

    Everything is on disk and closed by now. Returns if the output can't be flushed: Python reports that in its own way.
    """
    with contextlib.suppress(OSError, ValueError):
        atexit._run_exitfuncs()  # they may write, too
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(status)


def _run(arguments: list[str] | None) -> NoReturn:
    if os.environ.get("_BIGUPLOAD_COMPLETE"):  # a shell asks for completions
        from bigupload.cli.completion import answering

        with answering():
            _cli.main(arguments, prog_name="bigupload", windows_expand_args=False)
    try:
        # Not standalone: click would report a wrong call in four lines, two of them about how to get help.
        # The shells of Windows expand no patterns. click would, also those of `--include`; bigupload knows them itself.
        raise SystemExit(_cli.main(arguments, prog_name="bigupload", standalone_mode=False, windows_expand_args=False))
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
    except (click.Abort, KeyboardInterrupt):  # before the command began: from then on, `running` handles them
        raise SystemExit(errors.EXIT_INTERRUPTED) from None
    except (MemoryError, ImportError, OSError, BaseExceptionGroup) as e:
        if isinstance(e, OSError) and is_of_output(e):
            complain(unwritten(e))
            raise SystemExit(errors.EXIT_FAILED) from None
        if (lacking := _lacking(e)) is None:
            raise
        message, status = lacking
        complain(errors.BigUploadError(message))
        raise SystemExit(status) from None


def _lacking(error: BaseException) -> tuple[str, int] | None:
    """Return message and exit status of an error, or of one in a group, for lack of memory, descriptors or a directory.

    None: it is another error. These may come wherever a module is imported or a path is looked at.
    """
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_lacking, error.exceptions)), None)
    # The dynamic loader's error for a library that does not fit has no class or number of its own.
    if isinstance(error, MemoryError) or (isinstance(error, ImportError) and "failed to map segment" in str(error)):
        return OUT_OF_MEMORY, errors.EXIT_RESUMABLE
    if isinstance(error, ImportError) and _INSTALLATION.is_replaced:  # also of what it depends on
        return REPLACED, errors.EXIT_RESUMABLE
    if isinstance(error, OSError | ImportError):
        from bigupload.support.files import OUT_OF_DESCRIPTORS, is_out_of_descriptors

        if is_out_of_descriptors(error):
            return f"{OUT_OF_DESCRIPTORS}, and try again", errors.EXIT_RESUMABLE
        if isinstance(error, FileNotFoundError) and error.filename is None and _is_homeless():
            return "the working directory was deleted: change into another one, then run again", errors.EXIT_FAILED
    return None


def _is_homeless() -> bool:
    """Whether the working directory is not there any more."""
    try:
        os.getcwd()  # noqa: PTH109 - pathlib takes a while to import
    except FileNotFoundError:
        return True
    return False


def _usage(error: click.UsageError) -> str:
    """Return the error of a call, its place if that is not the command line, and the help to read."""
    message = error.format_message().rstrip(".")
    message = message.replace("is not a valid integer range", "is not a whole number")
    if error.ctx is None:
        return f"{message} (see bigupload --help)"
    where = ""
    if isinstance(error, click.BadParameter) and error.param is not None:
        from bigupload.cli.settings import origin

        where = origin(error.ctx, error.param)
    return f"{message}{where} (see {error.ctx.command_path} --help)"


def complain(error: errors.BigUploadError, what: str = "") -> None:
    """Write the one line on standard error.

    Args:
        error: what happened.
        what: what it is about; written before the error's text, unless that names the same file itself.
    """
    message = printable(for_command_line(str(error)))  # not cut, as other foreign texts are: its end has the advice
    is_named = error.it is not None and error.it in (what, os.path.abspath(what))  # noqa: PTH100 - pathlib is slow
    about = f"{one_line(what)}: " if what and not is_named else ""
    print_line(f"bigupload: {about}{message}")


def print_line(text: str) -> None:
    """Print a line on standard error. A command does not end because nobody reads that."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)
