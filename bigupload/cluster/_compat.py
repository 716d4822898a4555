"""Every use of what Dask does not document: its RPCs and handlers. `tests/cluster/test_compat.py` notices changes."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from bigupload import errors
from bigupload.units import install_command

if TYPE_CHECKING:
    from distributed import Client, Worker

CONNECT_TIMEOUT = 10.0
"""Seconds for a scheduler to respond."""


_CLOSE_TIMEOUT = 3.0
"""Seconds for the scheduler to notice that a client leaves."""
_PLUGIN = "bigupload"


class WorkerUnreachable(Exception):
    """A worker did not respond, or could not."""


def require_dask() -> None:
    """Raise UsageError if Dask is not installed."""
    if importlib.util.find_spec("distributed") is None:
        raise errors.UsageError(f"Dask is not installed: {install_command('dask')}")


def address_of(where: Any) -> tuple[str, Any]:
    """The address of a scheduler, and its Security, of what a caller gave: an address or a Client.

    Raises:
        UsageError: It is neither, or the client is closed.
    """
    require_dask()
    if isinstance(where, str):
        return where, None
    from distributed import Client

    if not isinstance(where, Client):
        raise errors.UsageError(f"`dask` is a scheduler's address or a distributed.Client, not {type(where).__name__}")
    if where.scheduler is None or where.status == "closed":
        raise errors.UsageError("`dask` is a client that is not connected")
    return str(where.scheduler.address), where.security


async def connect(address: str, security: Any) -> Client:
    """Connect to a scheduler, in this event loop: a caller's own client may run in another one.

    Raises:
        ClusterUnreachable: Nothing responds there.
        UsageError: It is not an address.
    """
    from distributed import Client

    more = {} if security is None else {"security": security}
    client = None
    try:
        client = Client(  # type: ignore[no-untyped-call]  # Dask does not annotate it
            address, asynchronous=True, set_as_default=False, timeout=CONNECT_TIMEOUT, **more
        )
        await client
    except OSError as e:  # also TimeoutError
        await close(client)
        raise errors.ClusterUnreachable(
            f"no Dask scheduler responds at {address} ({type(e).__name__}): is it running, and is this its address?"
        ) from None
    except (ValueError, TypeError, RuntimeError) as e:
        await close(client)
        raise errors.UsageError(f"can't connect to the Dask scheduler {address!r}: {e}") from None
    except BaseException:
        await close(client)
        raise
    return client


async def close(client: Client | None) -> None:
    """Close a client, also one whose scheduler is gone: its own closing may raise CancelledError then."""
    if client is not None:
        closing = asyncio.ensure_future(client.close())  # type: ignore[no-untyped-call]  # nor this
        closing.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait({closing}, timeout=_CLOSE_TIMEOUT)
        client.status = "closed"  # or its finalizer begins to close it again, in a coroutine that nobody awaits


def quiet() -> None:
    """Let Dask log nothing but disasters: the command line prints the error in one line."""
    import distributed  # noqa: F401 - sets the levels of its loggers when it is imported

    for name in [each for each in logging.root.manager.loggerDict if each.split(".")[0] == "distributed"]:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def connection(client: Client) -> object | None:
    """The present connection to the scheduler; None while it is lost. Another one is another object."""
    comm = client.scheduler_comm
    return None if client.status != "running" or comm is None or comm.closed() or comm.comm.closed() else comm


def scheduler_address(client: Client) -> str:
    """The scheduler's address, also of a client that is closed."""
    return str(client._start_arg)


def reconnects(client: Client) -> bool:
    """Whether a client that lost its connection tries to connect again; not after the scheduler has closed it."""
    reading = client._handle_report_task
    return client.status == "connecting" and reading is not None and not reading.done()


async def workers_of(client: Client) -> set[str]:
    """The addresses of the workers. Raises OSError if the scheduler does not respond."""
    with _closed_as_oserror():
        return set(await client.nthreads())  # type: ignore[no-untyped-call]  # nor this


@contextlib.contextmanager
def _closed_as_oserror() -> Iterator[None]:
    """Raise an OSError for what Dask raises when the client is closed amid a call: errors of its own attributes."""
    try:
        yield
    except (AttributeError, RuntimeError) as e:
        raise ConnectionError(f"the connection to the Dask scheduler is closed ({type(e).__name__})") from None


async def call(client: Client, worker: str, op: str, **message: Any) -> Any:
    """Call a handler of a worker, by way of the scheduler, which keeps nothing of the message.

    Raises:
        WorkerUnreachable: There is no such worker or handler, or it failed.
        OSError: The scheduler did not respond.
    """
    with _closed_as_oserror():
        answers = await client.scheduler.broadcast(msg={"op": op, **message}, workers=[worker], on_error="ignore")  # type: ignore[union-attr]  # it is connected
    answer = answers.get(worker)
    if answer is None or isinstance(answer, dict):  # how Dask says that a handler is missing, or has failed
        raise WorkerUnreachable(worker)
    return answer


def opaque(value: object) -> Any:
    """A value of a message that the scheduler passes on without looking into it."""
    from distributed.protocol.serialize import Serialize

    return Serialize(value)  # type: ignore[no-untyped-call]  # nor this


def add_handler(worker: Worker, op: str, handler: Callable[..., Awaitable[Any]]) -> None:
    """Let `call` reach a function in this worker."""
    worker.handlers[op] = handler


async def call_at_close(worker: Worker, close: Callable[[], Awaitable[None]]) -> None:
    """Have a function called when this worker closes, once, however often this is called."""
    from distributed.diagnostics.plugin import WorkerPlugin

    class _AtClose(WorkerPlugin):
        async def teardown(self, worker: Worker) -> None:
            await close()

    if _PLUGIN not in worker.plugins:
        await worker.plugin_add(_AtClose(), name=_PLUGIN)
