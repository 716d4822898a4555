"""SeaweedFS by its own shell: what S3 can't ask or do, such as making an object older than it is."""

from __future__ import annotations

import struct
import subprocess
from datetime import timedelta
from pathlib import Path

from bigupload.stores import local_store
from bigupload.stores.local_store import LocalStore

_LIFECYCLE_SHARDS = "0-15"  # all of them


def shell(store: LocalStore, *commands: str) -> str:
    """What the commands print."""
    weed = local_store._find_weed()
    ports = _ports(store)
    assert weed is not None
    done = subprocess.run(
        [
            weed,
            f"-logdir={store.data_dir}",  # else in /tmp
            "shell",
            f"-master=127.0.0.1:{ports['master.port']}.{ports['master.port.grpc']}",
            f"-filer=127.0.0.1:{ports['filer.port']}.{ports['filer.port.grpc']}",
        ],
        input="\n".join(commands) + "\n",
        cwd=store.data_dir,  # where security.toml is
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout + done.stderr


def entry(store: LocalStore, bucket: str, key: str) -> str:
    """The filer's entry of an object, as JSON in all but name."""
    return shell(store, f"fs.meta.cat /buckets/{bucket}/{key}")


def backdate(store: LocalStore, bucket: str, folder: str, key: str, by: timedelta, seconds: int, scratch: Path) -> None:
    """Make the object look as if it had been written `by` earlier. `seconds`: since the epoch, when it really was.

    The shell saves entries as protobuf, each behind its length. A time is a varint of 5 bytes, before and after.
    """
    saved, altered = scratch / "entries.bin", scratch / "altered.bin"
    shell(store, f"fs.meta.save -o {saved} /buckets/{bucket}/{folder}")
    data, out, changed = saved.read_bytes(), b"", 0
    while data:
        (length,) = struct.unpack(">I", data[:4])
        row, data = data[4 : 4 + length], data[4 + length :]
        if key.rpartition("/")[2].encode() in row:
            for second in range(seconds - 1, seconds + 2):
                changed += row.count(_varint(second))
                row = row.replace(_varint(second), _varint(second - int(by.total_seconds())))
        out += struct.pack(">I", len(row)) + row
    assert changed, f"no time found in the entry of {key}"
    altered.write_bytes(out)
    shell(store, f"fs.meta.load {altered}")


def run_lifecycle(store: LocalStore) -> str:
    """What a worker of SeaweedFS would do once a day."""
    s3 = f"127.0.0.1:{_ports(store)['s3.port.grpc']}"
    return shell(store, f"s3.lifecycle.run-shard -shards {_LIFECYCLE_SHARDS} -s3 {s3} -runtime 60s")


def _ports(store: LocalStore) -> dict[str, int]:
    run = local_store._read_run(store.data_dir)
    assert run is not None
    return run.ports


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])
