"""Credentials that expire while an upload runs, from an async function that is called again before they do.

The vault here issues the local store's keys for one second at a time, and the upload takes four. A real one would be an
HTTP API, and its credentials would live for an hour.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import bigupload
from bigupload.stores import local_store


class Vault:
    """Issues credentials that live for one second."""

    def __init__(self, store: local_store.LocalStore) -> None:
        self._store = store
        self.issued = 0

    async def issue(self) -> bigupload.Credentials:
        await asyncio.sleep(0.01)  # the vault is far away
        self.issued += 1
        return bigupload.Credentials(
            access_key=self._store.access_key,
            secret_key=self._store.secret_key,
            expires_at=datetime.now(UTC) + timedelta(seconds=1),
        )


async def main() -> None:
    await bigupload.upload(b"", to="s3://bigupload/empty", s3=bigupload.S3Options(local=True))  # makes the bucket
    store = local_store.start()
    vault = Vault(store)
    s3 = bigupload.S3Options(endpoint_url=store.endpoint_url, region=store.region, credentials=vault.issue)
    slow = bigupload.Uploader(limit_rate="10MB/s", concurrency=1)
    result = await bigupload.upload(bytes(40_000_000), to="s3://bigupload/large", s3=s3, uploader=slow)
    print(f"uploaded for {result.seconds:.1f} s with {vault.issued} credentials of 1 s each: {result.verified}")


if __name__ == "__main__":
    asyncio.run(main())
