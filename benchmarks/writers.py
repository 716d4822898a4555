"""What do writers cost, and what do they leave?  `python -m benchmarks writers [--small] [--leaves]`

Each contestant opens a writer, copies a file into it in blocks of 1 MiB, or with --small of 100 bytes, and closes it.
The file is in the page cache, and the store is a null store over http, or with --tls over https. It measures the whole
process.

--leaves writes half of a file instead, into a real store, and ends the program in four ways: by an exception in the
block, by `sys.exit` in the block, by SIGKILL, and without ever closing the writer. The table says what is in the store
then.

The exit status is 1 if bigupload takes longer than the fastest peer that sends a checksum with each part, needs 200 MB
of memory, or leaves an object that was not closed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from . import children, report
from .command import chosen, files, finish, hold, parser
from .contestants import CRC32, CRC64, OURS, SHA256, Contestant, Job, library
from .peering import Peers
from .report import Target
from .stores import null_store, seaweedfs
from .stream import MOST

FAMILIES = frozenset({"obstore", "smart_open", "s3fs", "pyarrow"})
ENDS = ("exception", "sys.exit", "kill", "never closed")
_TREE = Path(__file__).parents[1]
_LEFT = """
import boto3, json, sys
url, access, secret, region, bucket, key = sys.argv[1:]
client = boto3.client(
    "s3", endpoint_url=url, aws_access_key_id=access, aws_secret_access_key=secret, region_name=region
)
found = client.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", [])
uploads = client.list_multipart_uploads(Bucket=bucket, Prefix=key).get("Uploads", [])
parts = [
    part["Size"]
    for each in uploads
    for part in client.list_parts(Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"]).get("Parts", [])
]
print(json.dumps([[each["Size"] for each in found], len(uploads), sum(parts)]))
"""


def everyone(peers: Peers, **options: Any) -> dict[str, Contestant]:
    """Return the installed contestants by name, bigupload first."""
    module = {name: peers.python("writers", name) for name in FAMILIES}
    (ours,) = library(OURS, sys.executable, "written_bigupload.py", CRC64, CRC64, **options)
    own = Contestant(
        name=OURS,
        argv=ours.argv,
        http=CRC64,
        https=CRC64,
        settings={"BIGUPLOAD_STATE_DIR": "{job.scratch}/state", "PYTHONPATH": str(_TREE)},
    )
    found = [
        own,
        *library("obstore", module["obstore"], "written_obstore.py", SHA256, SHA256, **options),
        *library("smart_open", module["smart_open"], "written_smart_open.py", CRC32, CRC32, **options),
        *library("s3fs", module["s3fs"], "written_s3fs.py", CRC32, CRC32, **options),
        *library("pyarrow", module["pyarrow"], "written_pyarrow.py", CRC64, CRC64, **options),
    ]
    return {each.name: each for each in found}


def left(contestant: Contestant, file: Path, patience: float) -> tuple[str, bool]:
    """Run one program that does not close its writer. Returns what is in the store, and whether that is an object."""
    with tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name:
        directory, scratch = Path(name), Path(name) / "home"
        scratch.mkdir()
        with seaweedfs(directory, 0) as store:
            job = Job.at(store, file, scratch)
            ended = children.run(contestant.argv(job), contestant.environment(job), patience=patience, where=scratch)
            asked = [store.url, store.access_key, store.secret_key, store.region, store.bucket, job.key]
            done = subprocess.run([sys.executable, "-c", _LEFT, *asked], stdout=subprocess.PIPE, check=True)
    objects, uploads, held = json.loads(done.stdout)
    if ended.late:
        return "did not end", bool(objects)
    if objects:
        kind = "whole" if objects == [file.stat().st_size] else "truncated"
        return f"a {kind} object of {objects[0] / 1e6:,.0f} MB", True
    return (f"parts of {held / 1e6:,.0f} MB" if uploads else "nothing"), False


def leaves(arguments: argparse.Namespace) -> int:
    """Print what each contestant leaves after each end."""
    found: dict[str, list[str]] = {}
    made = False
    with files(arguments) as (file, _):
        for ends in ENDS:
            for contestant in chosen(arguments, among=partial(everyone, ends=ends), families=FAMILIES):
                text, is_object = left(contestant, file, arguments.patience)
                print(f"  {ends}: {contestant.name} leaves {text}", flush=True)
                found.setdefault(contestant.name, []).append(text)
                made |= is_object and contestant.name == OURS
    print("\n| writer | " + " | ".join(ENDS) + " |\n|---|" + "---|" * len(ENDS))
    for name, texts in found.items():
        print(f"| {name} | " + " | ".join(texts) + " |")
    target = Target(what="bigupload leaves no object", found="an object" if made else "none", holds=not made)
    if arguments.json is not None:
        figures = {"arguments": vars(arguments), "peers": Peers(arguments.peers).versions(), "left": found}
        report.write(arguments.json, "writers", figures, [target])
    return report.conclude([target])


def targets(found: Sequence[report.Row]) -> list[Target]:
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
    made.add_argument("--small", action="store_true", help="Write 100 bytes at a time.")
    made.add_argument("--leaves", action="store_true", help="Show what is left of a writer that is not closed.")
    arguments = made.parse_args()
    if arguments.leaves:
        return leaves(arguments)
    options: dict[str, Any] = {"writes": 100} if arguments.small else {}
    contestants = chosen(arguments, among=partial(everyone, **options), families=FAMILIES)
    with files(arguments) as (file, warm):
        size, scheme = file.stat().st_size, "https" if arguments.tls else "http"
        writes = "100 bytes" if arguments.small else "1 MiB"
        title = f"{size / 1e9:g} GB into a writer, {writes} a write, null store, {scheme}, whole process"
        store = null_store(tls=arguments.tls)
        held = hold(title, contestants, arguments, store, file=file, warm=warm, tls=arguments.tls)
    return finish("writers", arguments, [held], targets(held.rows))
