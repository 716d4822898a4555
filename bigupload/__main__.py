"""`python -m bigupload`, and the console script."""

from __future__ import annotations

import contextlib
import gc
import os
import sys


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its status. See `bigupload.cli.main`.

    The commands are imported in here, so that Ctrl-C during the imports ends the process without a traceback, too.

    A key has the bytes of a file's name. In a locale of another encoding than UTF-8, Python decodes names by that: keys
    would be wrong, and `sync --delete` would delete the objects of the right ones. So the process starts itself again.
    """
    try:
        if arguments is None and os.name == "posix" and sys.getfilesystemencoding() != "utf-8":
            _start_again_in_utf8_mode()
        if arguments is None:
            # Imports create many objects that stay. To search them for garbage takes a tenth of a short command's time.
            # The garbage of a long one is still found, only later: `cli.running.collect_garbage`.
            gc.disable()
        from bigupload.cli import main as run_command

        run_command(arguments)
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # `errors.EXIT_INTERRUPTED`, which may not be imported yet


def _start_again_in_utf8_mode() -> None:
    """Replace this process, once. A program that was frozen, or that has Python inside, goes on as it is."""
    options = ["-X", "utf8"]
    if sys.executable and sys.orig_argv[1:] and sys.orig_argv[1:3] != options and not getattr(sys, "frozen", False):
        with contextlib.suppress(OSError):
            os.execv(sys.executable, [sys.executable, *options, *sys.orig_argv[1:]])  # noqa: S606 - it is not a shell


if __name__ == "__main__":
    main()
