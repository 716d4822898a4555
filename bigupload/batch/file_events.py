"""Changes in a directory, as the operating system reports them. The only module that imports `watchfiles`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import threading
from collections.abc import AsyncIterator, Callable

from bigupload import errors
from bigupload.support.daemon_threads import starting_threads
from bigupload.support.extras import install_command

_BEGUN_WITHIN = 200
"""Milliseconds until the first report, also without changes: it shows that the directory is watched."""

_NOT_UTF_8 = "Unable to decode path"
"""What watchfiles ends with when a name that is not UTF-8 changes (watchfiles 1.3, src/lib.rs)."""
_AGAIN_AFTER = 0.5
"""Seconds until watching begins again after that. A listing then finds what changed meanwhile."""


def require_file_events() -> None:
    """Raises UsageError if `watchfiles` is not installed."""
    if importlib.util.find_spec("watchfiles") is None:
        raise errors.UsageError(
            f"to notice new files at once, bigupload needs watchfiles: {install_command('watch')}. Without it, "
            "`poll='5s'` looks at the directory every five seconds"
        )


@contextlib.asynccontextmanager
async def file_events(
    directory: str, changed: Callable[[set[str]], None], failed: Callable[[str], None]
) -> AsyncIterator[None]:
    """Report changes in a directory and below, in the event loop, until the context ends.

    Args:
        directory: The directory.
        changed: Called with the paths that changed; once with none when the watching has begun, and again after a name
            that is not UTF-8 has changed. Paths may be missing: the kernel drops events when there are too many.
        failed: Called with the reason if no more changes are reported.
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def report(function: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            loop.call_soon_threadsafe(function)

    def listen_once() -> None:
        import watchfiles

        begun = False
        for changes in watchfiles.watch(
            directory,
            watch_filter=None,
            stop_event=stop,
            rust_timeout=_BEGUN_WITHIN,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            paths = {path for _, path in changes} if begun else set()
            if paths or not begun:
                report(lambda paths=paths: changed(paths))  # type: ignore[misc]  # mypy does not infer the default
            begun = True

    def listen() -> None:
        while not stop.is_set():
            try:
                listen_once()
                return
            except Exception as e:  # watchfiles raises RuntimeErrors of its own for what the kernel refuses
                if _NOT_UTF_8 not in str(e):
                    reason = os.strerror(e.errno) if isinstance(e, OSError) and e.errno else str(e)
                    tell(lambda reason=reason: failed(reason))  # type: ignore[misc]  # as above
                    return
            stop.wait(_AGAIN_AFTER)

    thread = threading.Thread(target=listen, name="bigupload watch", daemon=True)
    try:
        with starting_threads():
            thread.start()
    except errors.OutOfThreads as e:
        failed(str(e))
    try:
        yield
    finally:
        stop.set()
