"""A Dask cluster of worker processes on this machine, in a process of its own.

It ends when its standard input ends: with this process, in whatever way that ends. It speaks TLS with a certificate of
its own, because whoever can connect to a Dask scheduler can run programs as its user.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from bigupload import errors
from bigupload.cluster._compat import require_dask
from bigupload.records import dataclass
from bigupload.support.daemon_threads import run_in_daemon_thread, starting_threads
from bigupload.units import install_command

_START = 60.0
"""Seconds for the workers to start. Each imports Dask, which takes a second."""
_END = 10.0
"""Seconds for them to end by themselves."""
_KEYS = ("tls_ca_file", "tls_client_cert", "tls_client_key", "tls_scheduler_cert", "tls_scheduler_key",
         "tls_worker_cert", "tls_worker_key")  # fmt: skip


@dataclass(slots=True)
class LocalWorkers:
    """The process that has the cluster."""

    process: asyncio.subprocess.Process
    security: Any
    address: str = ""

    @classmethod
    async def start(cls, workers: int) -> LocalWorkers:
        """Start the worker processes.

        Raises:
            ClusterError: They did not start.
            UsageError: A package is missing.
        """
        require_dask()
        from distributed import Security

        try:
            security = await run_in_daemon_thread(Security.temporary)
        except ImportError:
            raise errors.UsageError(f"a local cluster needs cryptography: {install_command('dask')}") from None
        with starting_threads():  # one waits for the process's end
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bigupload.cluster.local_cluster", str(workers),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
                env=_without_credentials(os.environ),
            )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        started = cls(process, security)
        try:
            process.stdin.write(json.dumps({key: getattr(security, key) for key in _KEYS}).encode() + b"\n")
            async with asyncio.timeout(_START):
                started.address = (await process.stdout.readline()).decode().strip()
        except (OSError, TimeoutError):
            pass
        except BaseException:
            await started.aclose()
            raise
        if not started.address:
            await started.aclose()
            raise errors.ClusterError(f"the local Dask cluster of {workers} workers did not start")
        return started

    async def aclose(self) -> None:
        """End the workers."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(_END):
                await self.process.wait()
        except BaseException as e:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()  # the workers end with it
            if not isinstance(e, TimeoutError):
                raise


def _without_credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of this process's environment that workers get: their proxy is there, too."""
    return {name: value for name, value in environment.items() if not name.startswith(("AWS_", "BIGUPLOAD_"))}


def main() -> None:
    """Run the cluster until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which ends this process in order
    given = json.loads(sys.stdin.readline())
    from distributed import LocalCluster, Security

    with (
        tempfile.TemporaryDirectory(prefix="bigupload-dask-") as scratch,
        LocalCluster(  # type: ignore[no-untyped-call]  # Dask does not annotate it
            n_workers=int(sys.argv[1]),
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # None would mean every address
            security=Security(require_encryption=True, **given),  # type: ignore[no-untyped-call]  # nor this
            local_directory=scratch,
        ) as cluster,
    ):
        print(cluster.scheduler_address, flush=True)  # noqa: T201 - to the process that started this one
        sys.stdin.read()


if __name__ == "__main__":
    main()
