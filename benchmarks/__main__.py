"""`python -m benchmarks BENCHMARK [OPTIONS]`: comparisons that anyone can repeat.

  throughput   how fast into a store that costs nothing, over http, https, or into a real one; tiny files
  latency      thirty milliseconds away, 40 MB/s a connection, a cap on all together, a real lossy path
  faults       stragglers, refusals, resets; a store that says SlowDown
  resume       from the start of the process to the first new part
  scale        from 0.1 to 20 GB, and 10,000 parts
  service      how fast the media service signs
  memory       into SeaweedFS and back, whatever the parts' size
  loop_lag     how long the event loop stands still while a file comes from the disk
  ten_thousand parts into a strict store that verifies all of them
  soak         under faults: a thousand schedules, twenty uploads at once for half an hour
  controller   what each rule of the concurrency control brings, simulated
  peers        install who is compared with

`python -m benchmarks BENCHMARK --help` has the options and what is to be shown.
"""

from __future__ import annotations

import importlib
import signal
import sys

NAMES = (
    "throughput", "latency", "faults", "resume", "scale", "service", "memory", "loop_lag", "ten_thousand", "soak",
    "controller", "peers",
)  # fmt: skip


def main() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in NAMES:
        print(__doc__)
        return 0 if name in ("-h", "--help") else 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: no child and no file stays
    sys.argv[0:2] = [f"benchmarks {name}"]
    module = importlib.import_module(f".{'peering' if name == 'peers' else name}", __package__)
    return int(module.main())


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
