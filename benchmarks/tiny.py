"""The cost of a start: the whole process of a 1 KiB upload. `python -m benchmarks throughput --tiny`

First directly to the null store, compared with all peers; then through the real media service and the real local store,
which has no peers. The exit status is 1 if a direct upload takes more than 0.6 × the wall or CPU time of boto3's
`upload_file` in a script, or `--service` more than 0.35 s.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import zlib
from pathlib import Path

from bigupload.stores import local_store

from . import report
from ._serving import serving
from .children import Ended, run
from .command import finish, hold
from .contest import turn
from .contestants import OURS, Contestant
from .report import Spread, Target
from .stores import null_store

SIZE = 1024
_IHDR = b"IHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\r" + _IHDR + zlib.crc32(_IHDR).to_bytes(4, "big") + b"\x00\x00\x00\x00IDAT"
"""A file that passes the service's check of the first bytes."""
MOST_DIRECT = 0.6
MOST_SERVICE = 0.35


def through_service(file: Path, arguments: argparse.Namespace) -> list[Ended]:
    """Run the command with --service, after a warm-up."""
    found: list[Ended] = []
    with tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name:
        home = Path(name)
        try:
            with turn(arguments.lock):
                store = local_store.start(home / "store")
                with serving(store.data_dir, home / "service", 1) as service:
                    environment = {
                        "PATH": os.environ["PATH"],
                        "HOME": name,
                        "PYTHONPATH": str(Path(__file__).parent.parent),
                        "BIGUPLOAD_API_KEY": service.key,
                        "BIGUPLOAD_STATE_DIR": str(home / "state"),
                    }
                    argv = [sys.executable, "-m", "bigupload", "upload", str(file), "--service", service.url, "--json"]
                    for number in range(arguments.rounds + 1):
                        ended = run([*argv, "--no-resume"], environment, patience=60)
                        if ended.status != 0 or json.loads(ended.output)["size"] != SIZE:
                            raise SystemExit(f"through the service: {ended.complaint}")
                        print(f"  {f'round {number}' if number else 'warm-up'}  --service {ended.seconds:.3f} s")
                        if number:
                            found.append(ended)
        finally:
            local_store.stop(home / "store")
    return found


def main(arguments: argparse.Namespace, contestants: list[Contestant]) -> int:
    with tempfile.TemporaryDirectory(prefix="bigupload-bench-", dir=arguments.dir) as name:
        file = Path(name) / "tiny.png"
        file.write_bytes(PNG.ljust(SIZE, b"\0"))
        served = through_service(file, arguments)
        held = hold(
            "1 KiB, null store, http, whole process", contestants, arguments, null_store(), file=file, warm=file
        )
    boto3 = next((row for row in held.rows if row.name == "boto3"), None)
    seconds = Spread.of(each.seconds for each in served)
    targets = [
        Target(what=f"--service ≤ {MOST_SERVICE} s", found=f"{seconds} s", holds=seconds.median <= MOST_SERVICE),
        *report.wall_target(MOST_DIRECT, boto3, f"boto3's upload_file ({OURS} direct)"),
        *report.cpu_target(held.rows, MOST_DIRECT, boto3, "that", unit="s"),
    ]
    return finish("throughput-tiny", arguments, [held], targets, service=served)
