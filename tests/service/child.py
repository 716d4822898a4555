"""A child process of the tests, which imports this module alone."""

from __future__ import annotations

import asyncio
import os
import signal
from multiprocessing.connection import Connection

from bigupload.service.http.serving import begin_child, when_parent_ends
from tests.tools.other_systems import LoopOfWindows


def until_its_parent_ends(parent: Connection) -> None:
    """Send whether SIGTERM is ignored, and end with status 7 when the parent asks for it or has ended."""
    begin_child()

    async def work() -> None:
        stop = asyncio.Event()
        when_parent_ends(parent, stop.set)
        parent.send(signal.getsignal(signal.SIGTERM) is signal.SIG_IGN)
        await stop.wait()
        os._exit(7)

    with asyncio.Runner(loop_factory=LoopOfWindows) as runner:
        runner.run(work())
