"""Which signals the processes that tests start begin with."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def heard(*ignored: signal.Signals) -> Iterator[None]:
    """Children started meanwhile ignore these signals and no other, whatever the tests' own caller ignores (nohup)."""
    asking = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in asking}
    for number in asking:
        if number in ignored or before[number] is signal.SIG_IGN:
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
    try:
        yield
    finally:
        for number in asking:
            signal.signal(number, before[number])
