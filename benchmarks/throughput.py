"""How fast is an upload to a null store, and what does it cost?  `python -m benchmarks throughput [--tls] [--inside]`

It measures the whole process of each contestant, from its start to its end, with a null store on the same machine over
http or, with --tls, over https. `--inside` measures within a running process instead, like a library: connected, warmed
up, without start and imports. `--seaweedfs` uses a real store on this disk, a new one for each run.

`--tiny` sends 1 KiB: the cost of a start, directly and through the media service.

The exit status is 1 if a target is missed. http: wall ≤ 0.7 × the fastest peer, CPU ≤ 0.5 × the thriftiest peer that
checks integrity at all, resident ≤ 100 MB. https: wall ≤ 0.9 ×, CPU ≤ 0.75 × the best peer. SeaweedFS: wall ≤ 1.0 × the
fastest, and proved. 1 KiB: --service ≤ 0.35 s, direct ≤ 0.6 × the wall and CPU time of boto3's upload_file.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from . import report, tiny
from .command import Held, chosen, files, finish, hold, parser
from .contestants import OURS
from .report import Row, Target
from .stores import null_store, seaweedfs


def targets(found: Sequence[Row], *, tls: bool, inside: bool) -> list[Target]:
    """Compare with all peers, with every setting."""
    wall, cpu = (0.9, 0.75) if tls else (0.7, 0.5)
    made = [
        *report.wall_target(wall, report.fastest(found), "the fastest peer"),
        *report.cpu_target(
            found,
            cpu,
            report.thriftiest(found, proving=not tls),
            "the best peer" if tls else "the thriftiest peer that checks integrity",
        ),
    ]
    return made if inside or tls else [*made, *report.peak_target(found, 100e6)]


def proved(held: Held) -> Target:
    """Check the results of bigupload's own runs."""
    levels = {str(run.result.get("verified")) for run in held.runs if run.contestant == OURS}
    return Target(what="proved full-object", found=", ".join(sorted(levels)), holds=levels == {"full-object"})


def main() -> int:
    made = parser(__doc__, size="5GB", rounds=5)
    how = made.add_mutually_exclusive_group()
    how.add_argument("--tls", action="store_true", help="https instead of http.")
    how.add_argument("--seaweedfs", action="store_true", help="A real store.")
    how.add_argument("--tiny", action="store_true", help="Send 1 KiB: the cost of a start, direct and by the service.")
    made.add_argument("--inside", action="store_true", help="Within a running process.")
    arguments = made.parse_args()
    contestants = chosen(arguments)
    if arguments.tiny:
        return tiny.main(arguments, [each for each in contestants if not each.tuned])
    if arguments.inside:
        contestants = [each for each in contestants if each.inside]
    with files(arguments) as (file, warm):
        held = hold(
            _title(arguments, file.stat().st_size),
            contestants,
            arguments,
            seaweedfs if arguments.seaweedfs else null_store(tls=arguments.tls),
            file=file,
            warm=warm,
            tls=arguments.tls,
            inside=arguments.inside,
        )
    if arguments.seaweedfs:
        found = report.wall_target(1.0, report.fastest(held.rows), "the fastest peer")
        return finish("throughput", arguments, [held], found if arguments.inside else [*found, proved(held)])
    return finish("throughput", arguments, [held], targets(held.rows, tls=arguments.tls, inside=arguments.inside))


def _title(arguments: argparse.Namespace, size: int) -> str:
    store = "SeaweedFS" if arguments.seaweedfs else f"null store, {'https' if arguments.tls else 'http'}"
    return f"{size / 1e9:g} GB, {store}, {'running process' if arguments.inside else 'whole process'}"
