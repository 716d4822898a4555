"""`bigupload serve`: one process, or a supervisor and several."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from bigupload.service.processes import heeded_signals
from bigupload.service.server import exit_in_time, listen, running
from bigupload.service.settings import ServeSettings
from bigupload.service.supervisor import Supervisor


def serve(settings: ServeSettings, *, on_ready: Callable[[str], None]) -> None:
    """Serve until a stop signal; `on_ready` gets the URL. Blocking. Raises BigUploadError."""
    _refuse_taken_port(settings)
    if settings.workers == 1:
        asyncio.run(_serve_alone(settings, on_ready))
    else:
        Supervisor(settings).run(on_ready)


def _refuse_taken_port(settings: ServeSettings) -> None:
    """Bind without SO_REUSEPORT. With it, a second service would bind too, and get half of the first one's requests."""
    listen(settings.host, settings.port, shared=False).close()


async def _serve_alone(settings: ServeSettings, on_ready: Callable[[str], None]) -> None:
    stop = _on_signals()
    async with running(settings, sweeps=True) as url:
        if not stop.is_set():
            on_ready(url)
        await stop.wait()
        exit_in_time(settings)


def _on_signals() -> asyncio.Event:
    """Handle stop signals: the first asks to stop, the second ends the process at once."""
    stop = asyncio.Event()

    def heard(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in heeded_signals():
        asyncio.get_running_loop().add_signal_handler(number, heard, number)
    return stop
