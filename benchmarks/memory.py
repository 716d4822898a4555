"""Does resident memory stay the same with every file and part size?  `python -m benchmarks memory [--size 5GB]`

Uploads a file with the real command into a real SeaweedFS, with the defaults and with parts of 64 MiB and 32 workers,
reads both objects back, and compares. The exit status is 1 if the defaults need 150 MB or more, if the other differs by
more than 10 MB, or if anything is not proved. It needs three times the file's size of free disk, and leaves no files.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bigupload.stores import local_store
from bigupload.units import parse_size

from ._running import Finished, all_hold, make_file, run_command
from .children import own_peak

MOST = 150e6
MOST_DIFFERENCE = 10e6
WAYS = {"defaults": [], "64 MiB x 32": ["--part-size", "64MiB", "--concurrency", "32"]}


@contextlib.contextmanager
def scratch(size: int, where: Path | None) -> Iterator[Path]:
    """A directory with room for the file and two copies."""
    with tempfile.TemporaryDirectory(prefix="bigupload-memory-", dir=where) as name:
        free = shutil.disk_usage(name).free
        if free < 3.2 * size:
            raise SystemExit(f"{free / 1e9:.0f} GB are free in {name}, {3.2 * size / 1e9:.0f} are needed: see --dir")
        try:
            yield Path(name)
        finally:
            local_store.stop(Path(name) / "store")


def sha256_of(store: local_store.LocalStore, bucket: str, key: str) -> str:
    """Return the SHA-256 of the stored object."""
    import boto3  # only now: see run_command

    client = boto3.client(
        "s3",
        endpoint_url=store.endpoint_url,
        region_name=store.region,
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
    )
    digest = hashlib.sha256()
    for block in client.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def measure(size: int, directory: Path) -> tuple[dict[str, Finished], dict[str, bool]]:
    """Return for each way of uploading its costs, and whether the object has the same bytes."""
    file = directory / "file.bin"
    print(f"making {size:,} random bytes in {directory}", flush=True)
    sha256 = make_file(file, size)
    store = local_store.start(directory / "store")
    environment = {
        "BIGUPLOAD_STATE_DIR": str(directory / "state"),
        "BIGUPLOAD_LOCAL_STORE_DIR": str(store.data_dir),
    }
    runs: dict[str, Finished] = {}
    for number, (way, arguments) in enumerate(WAYS.items()):
        print(f"uploading: {way}", flush=True)
        file = file.rename(directory / f"file-{number}.bin")  # one object for each way
        runs[way] = run_command([str(file), "--local", *arguments], environment)
    if own_peak() >= min(run.peak for run in runs.values()):
        raise SystemExit("this process is larger than the command, and hides its memory: nothing was measured")
    print("reading back", flush=True)
    same = {way: sha256_of(store, store.bucket, run.result["key"]) == sha256 for way, run in runs.items()}
    return runs, same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=parse_size, default=parse_size("5GB"), help="Of the file, like 500MB. [5GB]")
    parser.add_argument("--dir", type=Path, help="Where the file and the store go for the time being.")
    arguments = parser.parse_args()
    with scratch(arguments.size, arguments.dir) as directory:
        runs, same = measure(arguments.size, directory)

    print(f"\n{'':<14}{'peak MB':>9}{'seconds':>9}{'MB/s':>8}{'CPU s':>7}{'parts':>7}  {'verified':<12} read back")
    for way, run in runs.items():
        row = f"{run.peak / 1e6:>9.1f}{run.seconds:>9.1f}{run.rate:>8.0f}{run.cpu_seconds:>7.1f}"
        back = "same SHA-256" if same[way] else "OTHER BYTES"
        print(f"{way:<14}{row}{run.result['parts']:>7}  {run.result['verified']:<12} {back}")
    peak, other = (runs[way].peak for way in WAYS)
    found = {
        f"defaults under {MOST / 1e6:.0f} MB": peak < MOST,
        f"the other within {MOST_DIFFERENCE / 1e6:.0f} MB ({(other - peak) / 1e6:+.1f})": abs(other - peak)
        <= MOST_DIFFERENCE,
        "both proved full-object": all(run.result["verified"] == "full-object" for run in runs.values()),
        "both read back the same": all(same.values()),
    }
    return 0 if all_hold(found) else 1
