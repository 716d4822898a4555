"""`python -m benchmarks BENCHMARK [OPTIONS]`: run a benchmark.

  throughput   uploads to a null store over http or https, or to a real store; tiny files
  latency      a store 30 ms away with 40 MB/s a connection, a total limit, or a real lossy path
  medium       files of 1 to 256 MB at 0, 30 and 100 ms, over http and https, against the fastest peers
  faults       stragglers, 503s, resets; a store that answers SlowDown
  resume       the time from the start of the process to the first new part
  scale        files from 0.1 to 20 GB, and 10,000 parts
  service      how fast the media service signs
  service_load  500 requests a second to the media service for a minute; a sweep of 20,000 objects
  owner_growth  10,000 to a million objects of one owner of the media service: list, first create, sweep, memory
  memory       resident memory with SeaweedFS and different part sizes
  stream       a pipe of 5 GB: resident memory, and ten kills with a replay each
  pipe         the same through a pipe, against what other uploaders do with standard input
  writers      5 GB written into an object: speed, memory, and what is left of a writer that is not closed
  files        thousands of small files: files a second, CPU time a file
  tree         10,000 files with awkward names: ten kills, every object read back, three kinds of syncs
  sync         a sync of up to a million files that finds nothing to do: seconds, memory
  delta        a file of 1 GB with one changed byte: the bytes that are sent
  interruptions  ten kills at each of four speeds: what each loses
  paths        what is in flight on nine kinds of paths: regret, bytes sent, the time left, ten kills at three rates
  closed_page  the upload page behind a buffering proxy, in a real browser: what each close loses
  fairness     how long a small file waits behind fifty big ones
  loop_lag     how long the event loop is blocked while a file is read from the disk
  ten_thousand 10,000 parts to a strict store that verifies all of them
  dask         a file and a tree over a cluster of 1, 2 and 4 workers; kills; what a part costs; 100 workers simulated
  soak         faults: a thousand schedules, and twenty uploads at once for half an hour
  all          all of these in one table: --quick in ten minutes, --full in hours
  controller   simulate the effect of each rule of the concurrency control
  goals        the goals for speed: another version, this one and the peers in one table
  growth       the cost of bytes, parts, files and processes, by several Pythons
  threads      which thread of a process is the limit on a machine with many cores, at how many GB/s
  sweep        throughput over the round trip and over the loss of a path
  starts       the cost of a start with each source of credentials: another version, this one and boto3
  plots        draw what `all --json FILE` has found
  peers        install the peers

`python -m benchmarks BENCHMARK --help` lists the options and the targets.
"""

from __future__ import annotations

import importlib
import signal
import sys

from bigupload.errors import BigUploadError

NAMES = (
    "throughput", "latency", "medium", "faults", "resume", "scale", "service", "service_load", "memory", "stream",
    "pipe", "writers", "files", "tree", "sync", "delta", "interruptions", "paths", "closed_page", "fairness",
    "loop_lag", "ten_thousand", "owner_growth",
    "dask", "soak", "controller", "growth", "threads", "sweep", "starts", "peers", "goals", "plots", "all",
)  # fmt: skip
_OTHER_MODULES = {"peers": "peering", "all": "everything"}


def main() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in NAMES:
        print(__doc__)
        return 0 if name in ("-h", "--help") else 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # like Ctrl-C: leave no child and no file
    sys.argv[0:2] = [f"benchmarks {name}"]
    module = importlib.import_module(f".{_OTHER_MODULES.get(name, name)}", __package__)
    try:
        return int(module.main())
    except BigUploadError as e:
        raise SystemExit(f"benchmarks {name}: {e}") from None


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
