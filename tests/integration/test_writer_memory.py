"""What `zipfile` and `pyarrow` write into a writer takes no more memory the more it is.

BIGUPLOAD_WRITTEN_SIZE=5000000000 python -m pytest -s -m '' tests/integration/test_writer_memory.py

prints the figures for 5 GB.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bigupload.testing.local_bucket import LocalBucket

pytestmark = pytest.mark.slow

SIZE = int(os.environ.get("BIGUPLOAD_WRITTEN_SIZE", 400_000_000))
MOST = 250.0
"""MB beside what the interpreter and the libraries have once they are imported: 96 MiB of them hold parts."""
PROGRAM = """
import os, sys, zipfile
import bigupload

size, kind, url = int(sys.argv[1]), sys.argv[2], sys.argv[3]
STEP = 8_000_000

def memory(name):
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status[name].split()[0]) * 1024 / 1e6

def zipped(writer):
    with zipfile.ZipFile(writer, "w") as archive, archive.open("member", "w", force_zip64=True) as file:
        for _ in range(size // STEP):
            file.write(os.urandom(STEP))

def tabled(writer):
    schema = pyarrow.schema([("number", pyarrow.int64())])
    with parquet.ParquetWriter(writer, schema, use_dictionary=False, compression="none") as file:
        for _ in range(size // STEP):
            column = pyarrow.Array.from_buffers(pyarrow.int64(), STEP // 8, [None, pyarrow.py_buffer(os.urandom(STEP))])
            file.write_table(pyarrow.table([column], schema))

with bigupload.open_writer(url.replace("KEY", "first")) as writer:  # imports all that is needed
    writer.write(b"first")
if kind == "parquet":
    import pyarrow
    from pyarrow import parquet
before = memory("VmRSS")
with bigupload.open_writer(url.replace("KEY", kind)) as writer:
    {"zipfile": zipped, "parquet": tabled}[kind](writer)
print(writer.result.size, memory("VmHWM") - before, writer.result.verified)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("kind", ["zipfile", "parquet"])
def test_memory_is_bounded(bigupload_bucket: LocalBucket, kind: str) -> None:
    # Not ru_maxrss: it counts the test process, too, whose memory this one had between fork and exec.
    url = f"s3://{bigupload_bucket.name}/KEY"
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(SIZE), kind, url], stdout=subprocess.PIPE, text=True, check=True
    )
    size, grown, verified = program.stdout.split()
    print(f"\n{kind}: {int(size) / 1e9:.2f} GB written, {float(grown):.0f} MB of memory more")
    assert int(size) >= SIZE // 8_000_000 * 8_000_000
    assert float(grown) < MOST
    assert verified == "full-object"
