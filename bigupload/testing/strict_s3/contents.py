"""The contents of a StrictS3: buckets, objects and uploads; and the knobs that make it laxer or stricter than AWS, as
other stores are. The operations know no more of it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .exchange import Exchange, StoreResponse
from .model import StoredObject, Upload
from .wire import S3Error

MIB = 1 << 20


@dataclass(slots=True)  # a knob that is misspelt, or was removed, is refused: a test would show nothing
class Knobs:
    """The settings of this store, which may be changed while it runs (`s3.knobs.echo_checksums = False`)."""

    region: str = "us-east-1"
    min_part_size: int = 5 * MIB
    max_part_size: int = 5 << 30
    max_parts: int = 10_000
    page_size: int = 1000
    # The response to a signature for another region: 301 PermanentRedirect, or 400 AuthorizationHeaderMalformed.
    wrong_region: Literal["redirect", "malformed"] = "redirect"
    # True: in memory. "disk": in files of a temporary directory. False: digests only.
    keep_bodies: bool | Literal["disk"] = True
    # False: x-amz-checksum-* might as well not exist (as for Ceph RGW 18): no verification, no echo, none in listings.
    echo_checksums: bool = True
    # True or 400: a create or PutObject with a checksum is InvalidRequest; 501: NotImplemented.
    refuse_checksum_algorithm: bool | int = False
    # A part's checksum where create declared no algorithm: InvalidRequest, or verified and echoed. AWS refused it until
    # the end of 2024; today boto3 itself sends CRC32 so by default, and AWS is said to take it.
    undeclared_checksums: Literal["refuse", "accept"] = "refuse"
    # False: a full-object upload may leave out the parts' checksums, as AWS itself allows (but not for composite).
    require_part_checksums: bool = True
    # AWS gives every object a full-object CRC64NVME where the client declared nothing (since December 2024).
    default_crc64nvme: bool = True
    etags: Literal["md5", "opaque"] = "md5"
    lie_checksum: bool = False  # UploadPart echoes another checksum than the part's
    lie_complete: bool = False  # complete (and HEAD after it) reports another checksum than the object's
    conditional_conflicts: int = 0  # this many uploads' conditional completes end in 409, each for good
    most_of_range: int | None = None  # a GET with a range gets this many bytes at most
    # A second PUT of a part while the first arrives, where parts are taken as streams: "kills" the upload at once;
    # complete is InvalidPart until the part was sent again alone ("voids"), or once and for all ("loses").
    second_put: Literal["counts", "kills", "voids", "loses"] = "counts"
    part_etags: bool = False  # True: with partNumber, HEAD's ETag is the part's and not the object's
    owner: str = "111122223333"  # the account of every bucket, which x-amz-expected-bucket-owner must name
    requester_pays: bool = False  # True: AccessDenied without x-amz-request-payer
    ignores_copy_source: bool = False  # True: UploadPartCopy is taken for UploadPart, of no bytes
    replaces_parts: bool = True  # False: a part that was sent twice is NotImplemented
    completes_copied: bool = True  # False: complete with a copied part is InvalidPart
    copied_checksums: Literal["right", "wrong", "missing"] = "right"  # in the response to UploadPartCopy
    undeletable: Mapping[str, str] = field(default_factory=dict)  # keys, with the codes that DeleteObjects has for them
    versioning: bool = False  # True: each object has a version id
    # Two for a quirk that stands in its test alone. `receive` gets each request before it is performed, and may change
    # its headers and query, or raise S3Error. `respond` gets AWS's response to an operation, and returns the store's.
    receive: Callable[[Exchange], object] = lambda exchange: None
    respond: Callable[[str, StoreResponse], StoreResponse] = lambda op, response: response


class Contents:
    """The contents of one store, in memory or below the directory `keep_in`."""

    url: str

    def __init__(self, knobs: Knobs) -> None:
        self.knobs = knobs
        self.clock: Callable[[], float] = time.time
        self.buckets: dict[str, str] = {}
        self.objects: dict[str, dict[str, StoredObject]] = {}
        self.versions: dict[tuple[str, str, str], StoredObject] = {}
        self.uploads: dict[str, Upload] = {}
        self.completed: set[str] = set()
        self.keep_in: Path | None = None

    @property
    def region(self) -> str:
        return self.knobs.region

    def create_bucket(self, name: str, *, region: str | None = None) -> None:
        self.buckets[name] = region or self.knobs.region
        self.objects.setdefault(name, {})

    def keep(self, bucket: str, made: StoredObject) -> None:
        """Make an object the one of its key, as a version of its own if the buckets keep versions."""
        if self.knobs.versioning:
            made.version_id = uuid.uuid4().hex
            self.versions[bucket, made.key, made.version_id] = made
        self.objects[bucket][made.key] = made

    def find(self, bucket: str, key: str, version: str | None = None) -> StoredObject:
        """An object, or one version of it. Raises S3Error."""
        found = self.objects[bucket].get(key) if version is None else self.versions.get((bucket, key, version))
        if found is None:
            raise S3Error("NoSuchKey" if version is None else "NoSuchVersion", fields={"Key": key})
        return found
