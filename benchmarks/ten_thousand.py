"""10,000 real parts, the most that S3 allows, of 5 MiB, the least.  `python -m benchmarks.ten_thousand`

It sends 52 GB of a sparse file to the tests' strict fake, which runs in its own process with S3's own limits. The fake
verifies signatures, lengths, and the checksums of the parts and of the object, and keeps digests instead of bodies. The
test suite does the same with small parts. It takes minutes, because the fake hashes everything twice. The exit status
is 1 if the upload is not proved.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from ._running import MIB, run_command

PART = 5 * MIB
BUCKET = "bucket"


def serve() -> None:
    """Run the store until standard input ends. Prints its address, and at the end its content."""
    from bigupload.testing.strict_s3 import StrictS3

    with StrictS3(keep_bodies=False) as s3:
        s3.create_bucket(BUCKET)
        print(s3.url, flush=True)
        sys.stdin.read()
        (found,) = s3.objects[BUCKET].values()
        taken = s3.count("UploadPart")
        print(f"{len(found.parts)} parts, {found.size:,} bytes, {taken} PUTs, {len(s3.uploads)} uploads left open")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=10_000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return 0
    from bigupload.testing.strict_s3 import StrictS3

    serving = [sys.executable, "-m", "benchmarks.ten_thousand", "--serve"]
    with (
        tempfile.TemporaryDirectory(prefix="bigupload-parts-") as name,
        subprocess.Popen(serving, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as store,
    ):
        assert store.stdout is not None
        file = Path(name) / "sparse.bin"
        with file.open("wb") as opened:
            opened.truncate(arguments.parts * PART)
        environment = {
            "AWS_ACCESS_KEY_ID": StrictS3.access_key,
            "AWS_SECRET_ACCESS_KEY": StrictS3.secret_key,
            "BIGUPLOAD_STATE_DIR": str(Path(name) / "state"),
        }
        url = store.stdout.readline().strip()
        to = ["--to", f"s3://{BUCKET}/sparse.bin", "--endpoint-url", url, "--part-size", "5MiB"]
        run = run_command([str(file), *to], environment)
        has, _ = store.communicate()
        manifest = Path(run.result["manifest"]).stat().st_size
    print(f"{run.result['parts']:,} parts, {run.result['size']:,} bytes in {run.seconds:.0f} s: {run.rate:.0f} MB/s")
    print(f"verified {run.result['verified']}, {run.result['retries']} retries")
    print(f"peak {run.peak / 1e6:.1f} MB (at least this script's own), CPU {run.cpu_seconds:.0f} s")
    print(f"manifest {manifest:,} bytes; the store has {has.strip()}")
    return 0 if run.result["verified"] == "full-object" and run.result["parts"] == arguments.parts else 1


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
