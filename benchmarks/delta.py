"""How much does `upload --delta` send of a large file with one changed byte?  `python -m benchmarks delta [--size 1e9]`

The real command uploads a file whole. Then one byte in the middle is changed, and the command runs again with
`--delta`: against the tests' strict fake of S3, and against the real local store. A proxy before each store counts the
bytes of parts that pass. The objects are read back. The exit status is 1 if more than one part is sent, if an object
has other bytes, or if it is not proved full-object. It needs four times the file's size of free disk, and leaves no
files.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from bigupload.stores import local_store

from ._running import MIB, Finished, all_hold, make_file, run_command
from .memory import scratch, sha256_of

KEY = "delta.bin"


@contextlib.contextmanager
def strict_fake(directory: Path) -> Iterator[local_store.LocalStore]:
    """The tests' fake of S3, whose objects are in files."""
    from bigupload.testing.strict_s3 import StrictS3

    with StrictS3(keep_bodies="disk") as s3:
        s3.create_bucket("bucket")
        yield local_store.LocalStore(
            endpoint_url=s3.url,
            access_key=s3.access_key,
            secret_key=s3.secret_key,
            region=s3.region,
            bucket="bucket",
            data_dir=directory,
            pid=0,
        )


@contextlib.contextmanager
def seaweedfs(directory: Path) -> Iterator[local_store.LocalStore]:
    """The local store, as `--local` starts it."""
    import boto3

    store = local_store.start(directory / "store")
    client = boto3.client(
        "s3",
        endpoint_url=store.endpoint_url,
        region_name=store.region,
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
    )
    client.create_bucket(Bucket=store.bucket)
    client.close()
    yield store
    local_store.stop(directory / "store")


STORES = {"the strict fake": strict_fake, "SeaweedFS": seaweedfs}


def change(file: Path) -> str:
    """Change one byte in the middle. Returns the SHA-256 of the file as it is now."""
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        byte = opened.read(1)[0]
        opened.seek(-1, 1)
        opened.write(bytes([byte ^ 1]))
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def measure(name: str, file: Path, directory: Path) -> dict[str, bool]:
    """Upload, change, upload again. Returns what holds."""
    from bigupload.testing.fault_proxy import FaultProxy

    with STORES[name](directory) as store, FaultProxy("127.0.0.1", urlsplit(store.endpoint_url).port or 0) as proxy:
        environment = {
            "BIGUPLOAD_STATE_DIR": str(directory / f"state of {name}"),
            "AWS_ACCESS_KEY_ID": store.access_key,
            "AWS_SECRET_ACCESS_KEY": store.secret_key,
        }
        arguments = [str(file), "--to", f"s3://{store.bucket}/{KEY}", "--endpoint-url", proxy.url, "--no-hedge"]
        whole = run_command(arguments, environment)
        before = proxy.bytes_taken
        sha256 = change(file)
        delta = run_command([*arguments, "--delta"], environment)
        sent = proxy.bytes_taken - before
        same = sha256_of(store, store.bucket, KEY) == sha256
    for what, run, taken in (("whole", whole, before), ("delta", delta, sent)):
        print(_row(name, what, run, taken), flush=True)
    part = -(-delta.result["size"] // delta.result["parts"] // MIB) * MIB
    return {
        f"{name}: one part of {part // MIB} MiB sent at most ({sent:,} bytes)": sent <= part,
        f"{name}: all other bytes copied by the store": delta.result["bytes_copied"] == delta.result["size"] - sent,
        f"{name}: proved full-object": delta.result["verified"] == "full-object",
        f"{name}: read back the same": same,
    }


def _row(name: str, what: str, run: Finished, taken: int) -> str:
    copied = run.result["bytes_copied"]
    return f"  {name:<16}{what:<7}{taken:>15,} bytes sent{copied:>15,} copied by the store{run.seconds:>8.1f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=1e9, metavar="BYTES")
    parser.add_argument("--dir", type=Path, help="Where the file and the store go for the time being.")
    arguments = parser.parse_args()
    size = int(arguments.size)
    found: dict[str, bool] = {}
    with scratch(size, arguments.dir) as directory:
        print(f"making {size:,} random bytes in {directory}", flush=True)
        make_file(directory / "file.bin", size)
        for name in STORES:
            found |= measure(name, directory / "file.bin", directory)
    return 0 if all_hold(found) else 1


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
