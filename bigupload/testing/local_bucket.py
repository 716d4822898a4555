"""A bucket of one test in the local store, and what lies in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from bigupload.stores.local_store import LocalStore


class LocalBucket:
    """A bucket that is made on entry, and deleted on exit with all that is in it.

    Attributes:
        name: The bucket's name.
        url: What to upload to: `s3://NAME/`.
        client: A boto3 client of the store.
    """

    def __init__(self, store: LocalStore, name: str) -> None:
        self.name, self.url = name, f"s3://{name}/"
        self._store = store

    def __enter__(self) -> Self:
        import boto3  # only now: it is slow to import
        from botocore.config import Config

        from bigupload.stores import local_store

        self.client: Any = boto3.client(
            "s3",
            endpoint_url=self._store.endpoint_url,
            aws_access_key_id=self._store.access_key,
            aws_secret_access_key=self._store.secret_key,
            region_name=self._store.region,
            config=Config(s3={"addressing_style": "path"}),
        )
        self.client.create_bucket(Bucket=self.name)
        local_store.make_room(self.name, self._store.data_dir, volumes=2)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.client.delete_bucket(Bucket=self.name)  # SeaweedFS deletes its objects, too
        finally:
            self.client.close()

    def read(self, key: str) -> bytes:
        """Return an object's bytes."""
        body: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return body

    def keys(self) -> list[str]:
        """Return the keys of all objects, in order."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [row["Key"] for page in pages for row in page.get("Contents", [])]
