"""`python -m bigupload`, and the console script."""

from __future__ import annotations

import gc
import os
import sys


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its status. See `bigupload.cli.main`.

    The commands are imported in here, so that Ctrl-C during the imports ends the process without a traceback, too.

    A key has the bytes of a file's name. Where the locale has another encoding than UTF-8, Python would decode these
    bytes by that, and `sync --delete` would delete the objects of all such names. So the process starts again.
    """
    try:
        if arguments is None and os.name == "posix" and sys.getfilesystemencoding() != "utf-8" and sys.executable:
            os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - itself
        if arguments is None:
            # Imports create many objects that stay. To search them for garbage takes a tenth of a short command's time.
            # The garbage of a long one is still found, only later: `cli.running.collect_garbage`.
            gc.disable()
        from bigupload.cli import main as run_command

        run_command(arguments)
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # `errors.EXIT_INTERRUPTED`, which may not be imported yet


if __name__ == "__main__":
    main()
