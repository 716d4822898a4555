"""`python -m benchmarks BENCHMARK [OPTIONS]`: run a benchmark.

  throughput   uploads to a null store over http or https, or to a real store; tiny files
  latency      a store 30 ms away with 40 MB/s a connection, a total limit, or a real lossy path
  faults       stragglers, 503s, resets; a store that answers SlowDown
  resume       the time from the start of the process to the first new part
  scale        files from 0.1 to 20 GB, and 10,000 parts
  service      how fast the media service signs
  memory       resident memory with SeaweedFS and different part sizes
  stream       a pipe of 5 GB: resident memory, and ten kills with a replay each
  fairness     how long a small file waits behind fifty big ones
  loop_lag     how long the event loop is blocked while a file is read from the disk
  ten_thousand 10,000 parts to a strict store that verifies all of them
  soak         faults: a thousand schedules, and twenty uploads at once for half an hour
  controller   simulate the effect of each rule of the concurrency control
  peers        install the peers

`python -m benchmarks BENCHMARK --help` lists the options and the targets.
"""

from __future__ import annotations

import importlib
import signal
import sys

NAMES = (
    "throughput", "latency", "faults", "resume", "scale", "service", "memory", "stream", "fairness", "loop_lag",
    "ten_thousand", "soak", "controller", "peers",
)  # fmt: skip


def main() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in NAMES:
        print(__doc__)
        return 0 if name in ("-h", "--help") else 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # like Ctrl-C: leave no child and no file
    sys.argv[0:2] = [f"benchmarks {name}"]
    module = importlib.import_module(f".{'peering' if name == 'peers' else name}", __package__)
    return int(module.main())


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
