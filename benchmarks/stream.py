"""How does a pipe upload, in how much memory, and what does a kill cost?  `python -m benchmarks stream [--size 5e9]`

The real command reads a file from a pipe (`cat FILE | bigupload upload -`) into a real SeaweedFS: once whole, and once
killed with SIGKILL at ten seeded counts of bytes that the store had taken, and replayed each time. Both objects are
read back. The exit status is 1 if the command needs 200 MB or more, if an object has other bytes or is not proved
full-object, or if more is sent than the file and, for each kill, the parts that were held then. It needs three times
the file's size of free disk, and leaves no files.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bigupload.stores import local_store

from ._running import all_hold, make_file
from .children import RSS_UNIT, own_peak
from .memory import scratch, sha256_of

MOST = 200e6
KILLS = 10
HELD = 96 << 20
"""Bytes of parts that a stream holds at most: what a kill can cost."""


@dataclass(frozen=True, kw_only=True)
class Piped:
    """One run of the command behind a pipe. Sizes in bytes, times in seconds; `peak` is the largest resident set."""

    status: int
    seconds: float
    cpu: float
    peak: int
    output: str

    @property
    def result(self) -> dict[str, Any]:
        """What `--json` printed."""
        found: dict[str, Any] = json.loads(self.output)
        return found


def piped(file: Path, arguments: list[str], environment: Mapping[str, str], proxy: Any = None, at: int = 0) -> Piped:
    """Run `cat FILE | bigupload upload - …`.

    Args:
        file: What comes through the pipe.
        arguments: The command's.
        environment: What the command has beside the caller's environment.
        proxy: A `FaultProxy` to the store.
        at: Kill the command when the proxy has taken so many bytes in all; 0: never.
    """
    command = [sys.executable, "-m", "bigupload", "upload", "-", *arguments, "--json", "--progress", "none"]
    with tempfile.TemporaryFile() as output:
        began = time.monotonic()
        with subprocess.Popen(["cat", str(file)], stdout=subprocess.PIPE) as cat:
            child = subprocess.Popen(command, stdin=cat.stdout, stdout=output, env={**os.environ, **environment})
            assert cat.stdout is not None
            cat.stdout.close()
            if at:
                proxy.on_taken(at, child.kill)
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.monotonic() - began
        output.seek(0)
        return Piped(
            status=child.returncode,
            seconds=seconds,
            cpu=used.ru_utime + used.ru_stime,
            peak=used.ru_maxrss * RSS_UNIT,
            output=output.read().decode(),
        )


def killed(file: Path, size: int, store: local_store.LocalStore, state: Path, seed: int) -> tuple[list[Piped], int]:
    """Kill and replay. Returns the runs, and how many bytes of parts the store has taken in all."""
    from bigupload.testing.fault_proxy import FaultProxy  # only now: this process stays small until memory is measured

    environment = {
        "BIGUPLOAD_STATE_DIR": str(state),
        "AWS_ACCESS_KEY_ID": store.access_key,
        "AWS_SECRET_ACCESS_KEY": store.secret_key,
    }
    counts = sorted(random.Random(seed).sample(range(1, size), KILLS))
    runs: list[Piped] = []
    with FaultProxy("127.0.0.1", urlsplit(store.endpoint_url).port or 0) as proxy:
        arguments = ["--to", f"s3://{store.bucket}/killed.bin", "--endpoint-url", proxy.url]
        for at in [*counts, 0]:
            if at and at <= proxy.bytes_taken:
                at = proxy.bytes_taken + 1
            runs.append(piped(file, arguments, environment, proxy, at))
            killed_as_meant = runs[-1].status == (-signal.SIGKILL if at else 0)
            print(f"  {proxy.bytes_taken / 1e9:6.2f} GB taken, run of {runs[-1].seconds:5.1f} s", flush=True)
            if not killed_as_meant:
                raise SystemExit(f"the run ended with {runs[-1].status}")
            proxy.wait_for(lambda p: p.idle, 60)
        return runs, proxy.bytes_taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=5e9, metavar="BYTES")
    parser.add_argument("--seed", type=int, default=0, help="Chooses the counts at which the command is killed.")
    parser.add_argument("--dir", type=Path, help="Where the file and the store go for the time being.")
    arguments = parser.parse_args()
    size = int(arguments.size)
    with scratch(size, arguments.dir) as directory:
        file = directory / "file.bin"
        print(f"making {size:,} random bytes in {directory}", flush=True)
        sha256 = make_file(file, size)
        store = local_store.start(directory / "store")
        environment = {
            "BIGUPLOAD_STATE_DIR": str(directory / "state"),
            "BIGUPLOAD_LOCAL_STORE_DIR": str(store.data_dir),
        }
        whole = piped(file, ["--local", "--name", "whole.bin"], environment)
        if own_peak() >= whole.peak:
            raise SystemExit("this process is larger than the command, and hides its memory: nothing was measured")
        print("killing and replaying", flush=True)
        runs, taken = killed(file, size, store, directory / "killed", arguments.seed)
        print("reading back", flush=True)
        same = [sha256_of(store, store.bucket, key) == sha256 for key in ("whole.bin", "killed.bin")]
    last, peak = runs[-1], max(run.peak for run in [whole, *runs])
    print(f"\nwhole: {whole.seconds:.1f} s, {size / whole.seconds / 1e6:.0f} MB/s, {whole.cpu:.1f} s of CPU")
    print(f"killed {KILLS} times: {taken / 1e6:,.0f} MB taken, {(taken - size) / 1e6:,.0f} MB more than the file")
    found = {
        f"resident memory under {MOST / 1e6:.0f} MB ({peak / 1e6:.0f})": peak < MOST,
        f"a kill costs {HELD / 1e6:.0f} MB at most ({(taken - size) / KILLS / 1e6:.0f} on average)": taken - size
        <= KILLS * HELD + 0.001 * size,
        f"resumed ({last.result['resumed_parts']} of {last.result['parts']} parts)": last.result["resumed_parts"] > 0,
        "both proved full-object": {run.result["verified"] for run in (whole, last)} == {"full-object"},
        "both read back the same": all(same),
    }
    return 0 if all_hold(found) else 1


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
