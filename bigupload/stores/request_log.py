"""One DEBUG line for each request to a store: method, address, outcome, milliseconds. Never a URL's query or a key."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

_LOG = logging.getLogger("bigupload.stores")


@contextlib.contextmanager
def log_request(method: str, where: str) -> Iterator[None]:
    """Log how the request inside the `with` statement ended.

    Args:
        method: What is requested, for example `ListParts`.
        where: The store's endpoint, without a query.
    """
    if not _LOG.isEnabledFor(logging.DEBUG):
        yield
        return
    began, outcome = time.monotonic(), "done"
    try:
        yield
    except Exception as e:
        outcome = f"{type(e).__name__}: {e}"
        raise
    except BaseException as e:
        outcome = type(e).__name__
        raise
    finally:
        _LOG.debug("%s at %s: %s after %.0f ms", method, where, outcome, (time.monotonic() - began) * 1000)
