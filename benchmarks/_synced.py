"""Write the record that a first sync leaves: `python -m benchmarks._synced DIRECTORY TO URL STATE`

A first sync of a million files to a store that proves each takes half an hour. So the record is written here, by the
functions that a sync calls: which files the directory has, with their metadata, and which ETags their objects have. If
a row were not as a sync writes it, the measured sync would ask for that object, and the benchmark would stop.
"""

from __future__ import annotations

import asyncio
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bigupload.api.many_items import job_target
from bigupload.batch.listing import FileListing
from bigupload.batch.tree import FileEntry, Selection
from bigupload.core.integrity import Verified
from bigupload.manifests.job_record import JOB_SUFFIX, JobRecord, RecordedFile, job_id
from bigupload.options import S3Options

from .listed_store import etag_of

_BATCH = 5000


async def write(directory: str, to: str, url: str, state: Path) -> None:
    """Record that all files of a tree are in the store."""
    name, (target, endpoint) = f"sync {directory}", await job_target(to, S3Options(endpoint_url=url))
    state.mkdir(0o700)
    path = state / f"{job_id(name, target)}{JOB_SUFFIX}"
    with (
        ThreadPoolExecutor(1) as executor,
        JobRecord(path, name, target, endpoint, now=lambda: "2026-01-01T00:00:00+00:00", executor=executor) as record,
    ):
        record.open(resume=True, keep=True)
        batch: list[RecordedFile] = []
        for number, found in enumerate(FileListing([directory], Selection(), now=time.time()).found()):
            assert isinstance(found, FileEntry)
            batch.append(
                RecordedFile(
                    key=found.key,
                    path=found.path,
                    fingerprint=found.fingerprint,
                    etag=f'"{etag_of(number)}"',
                    checksum=None,
                    verified=Verified.COMPOSITE_ETAG,
                    version_id=None,
                )
            )
            if len(batch) == _BATCH:
                await record.record(batch)
                batch.clear()
        await record.record(batch)
        await record.finish(keep=lambda _: True)


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])))
