"""`python -m benchmarks BENCHMARK [OPTIONS]`: run a benchmark.

  throughput   uploads to a null store over http or https, or to a real store; tiny files
  latency      a store 30 ms away with 40 MB/s a connection, a total limit, or a real lossy path
  medium       files of 1 to 256 MB at 0, 30 and 100 ms, over http and https, against the fastest peers
  faults       stragglers, 503s, resets; a store that answers SlowDown
  service_load  500 requests a second to the media service for a minute; a sweep of 20,000 objects
  owner_growth  10,000 to a million objects of one owner of the media service: list, first create, sweep, memory
  memory       resident memory with SeaweedFS and different part sizes
  pipe         5 GB through a pipe, against what other uploaders do with standard input
  files        thousands of small files: files a second, CPU time a file
  tree         10,000 files with awkward names: ten kills, every object read back, three kinds of syncs
  sync         a sync of up to a million files that finds nothing to do: seconds, memory
  paths        what is in flight on nine kinds of paths: regret, bytes sent, the time left, ten kills at three rates
  fairness     how long a small file waits behind fifty big ones
  loop_lag     how long the event loop is blocked while a file is read from the disk
  soak         faults: a thousand schedules, and twenty uploads at once for half an hour
  controller   simulate the effect of each rule of the concurrency control
  goals        the goals for speed: another version, this one and the peers in one table
  growth       the cost of bytes, parts, files and processes, by several Pythons
  starts       the cost of a start with each source of credentials: another version, this one and boto3
  plots        draw what `throughput` and `paths` wrote with --json
  peers        install the peers

`python -m benchmarks BENCHMARK --help` lists the options and the targets.
"""

from __future__ import annotations

import importlib
import signal
import sys

from bigupload.errors import BigUploadError

NAMES = (
    "throughput", "latency", "medium", "faults", "service_load", "owner_growth", "memory", "pipe", "files", "tree",
    "sync", "paths", "fairness", "loop_lag", "soak", "controller", "goals", "growth", "starts", "plots", "peers",
)  # fmt: skip


def main() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in NAMES:
        print(__doc__)
        return 0 if name in ("-h", "--help") else 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # like Ctrl-C: leave no child and no file
    sys.argv[0:2] = [f"benchmarks {name}"]
    module = importlib.import_module(f".{'peering' if name == 'peers' else name}", __package__)
    try:
        return int(module.main())
    except BigUploadError as e:
        raise SystemExit(f"benchmarks {name}: {e}") from None


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
