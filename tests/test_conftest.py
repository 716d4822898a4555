"""What `conftest` watches over in all tests."""

from __future__ import annotations

import asyncio
import logging

from tests.conftest import NeverRetrieved


def test_an_exception_that_nobody_retrieves_is_noticed() -> None:
    async def leave_behind() -> None:
        failed = asyncio.get_running_loop().create_future()
        failed.set_exception(ValueError("lost"))
        del failed

    handler, log = NeverRetrieved(), logging.getLogger("asyncio")
    others, log.handlers = log.handlers, [handler]
    try:
        asyncio.run(leave_behind())
    finally:
        log.handlers = others
    (found,) = handler.found
    assert "ValueError: lost" in found
