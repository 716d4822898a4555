"""Running an async command so that it can be stopped: the first signal asks, the second leaves at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import click

from bigupload import errors

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def run(command: Callable[[], Awaitable[int]]) -> int:
    """The command's exit status; 130 after Ctrl-C, 75 after another signal. Both leave a resumable manifest."""
    return asyncio.run(_supervise(command))


async def _supervise(command: Callable[[], Awaitable[int]]) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(command())
    received: list[int] = []

    def stop(number: int) -> None:
        if received:
            os._exit(_status(number))
        received.append(number)
        task.cancel()

    for number in _SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:  # nohup, or a shell's background job: the caller's wish
            continue
        try:
            loop.add_signal_handler(number, stop, number)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda n, _: loop.call_soon_threadsafe(stop, n))
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
        click.echo("bigupload: stopped; the same command goes on where this one stopped", err=True)
        return _status(received[0])


def _status(number: int) -> int:
    return errors.EXIT_INTERRUPTED if number == signal.SIGINT else errors.EXIT_RESUMABLE
