"""How fast is an upload of what comes through a pipe?  `python -m benchmarks pipe [--tls]`

Each contestant reads standard input, which is a pipe from `cat FILE`; the file is in the page cache. It measures the
whole process of each contestant, with a null store on the same machine over http or, with --tls, over https. `cat` and
the store need CPU time too, which is not counted, but shows in everybody's seconds. `:sized` is told the size.

Before the rounds it measures how fast `cat` fills a pipe that nothing slows down. The exit status is 1 if bigupload
takes longer than the fastest peer that sends a checksum with each part, or if it needs 200 MB of memory.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from pathlib import Path

from . import pipe_contestants, report
from .command import chosen, files, finish, hold, parser
from .report import Target
from .stores import null_store
from .throughput import proved

MOST = 200e6
"""Bytes of resident memory."""


def producer_rate(file: Path) -> float:
    """Return how many bytes a second come out of `cat FILE`, by the median of three."""
    rates, buffer = [], bytearray(1 << 20)
    for _ in range(3):
        began = time.monotonic()
        with subprocess.Popen(["cat", str(file)], stdout=subprocess.PIPE) as cat:
            assert cat.stdout is not None
            while os.readv(cat.stdout.fileno(), [buffer]):
                pass
        rates.append(file.stat().st_size / (time.monotonic() - began))
    return statistics.median(rates)


def targets(found: list[report.Row]) -> list[Target]:
    """Compare with the peers that prove a part, and show how the others do."""
    proving = [row for row in found if row.proof]
    return [
        *report.wall_target(1.0, report.fastest(proving), "the fastest peer that proves each part"),
        *report.cpu_target(found, 1.0, report.thriftiest(found, proving=True), "the thriftiest of those"),
        *report.peak_target(found, MOST),
    ]


def main() -> int:
    made = parser(__doc__, size="5GB", rounds=3)
    made.add_argument("--tls", action="store_true", help="https instead of http.")
    arguments = made.parse_args()
    contestants = chosen(arguments, among=pipe_contestants.everyone, families=pipe_contestants.FAMILIES)
    with files(arguments) as (file, warm):
        size = file.stat().st_size
        rate = producer_rate(file)
        print(f"cat alone: {rate / 1e6:,.0f} MB/s; load {os.getloadavg()[0]:.1f}", flush=True)
        title = f"{size / 1e9:g} GB through a pipe, null store, {'https' if arguments.tls else 'http'}, whole process"
        store = null_store(tls=arguments.tls)
        held = hold(title, contestants, arguments, store, file=file, warm=warm, tls=arguments.tls, piped=True)
    checked = [*targets(held.rows), proved(held)]
    return finish("pipe", arguments, [held], checked, producer=rate)
