"""Processes: forked one by one from a server that is warm, so that a kill is a SIGKILL and a lock is a lock."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable

from .process import Order, Told, carry_out

_HANGS_AFTER = 60.0
"""Seconds after which a process hangs."""
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["__main__", "tests.model.warmed"])


def run(order: Order, begun: Callable[[int], None]) -> tuple[int, Told | None]:
    """A process from its beginning, of which `begun` is told its number, to its end: its exit status (negative: killed
    by that signal), and what it told. May be called while another runs."""
    reader, writer = _processes.Pipe(duplex=False)
    process = _processes.Process(target=carry_out, args=(order, writer), daemon=True)
    process.start()
    writer.close()
    told: Told | None = None
    try:
        begun(process.pid or 0)
        assert reader.poll(_HANGS_AFTER), "it hangs"
        with contextlib.suppress(EOFError):  # killed
            told = reader.recv()
    finally:
        if told is None:
            process.kill()
        process.join()
        reader.close()
    code = process.exitcode
    process.close()
    assert code is not None
    return code, told
