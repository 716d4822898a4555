"""Objects that the store may copy parts from, so that their bytes need not be sent. Pure."""

from __future__ import annotations

from bigupload.core.checksums import Algorithm
from bigupload.core.part_plan import Part
from bigupload.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySource:
    """An object of the store that an upload goes to, as it was when somebody looked. Holds nothing secret."""

    bucket: str
    key: str
    etag: str
    """With quotes. A copy is refused if the object has another one."""
    size: int
    """Bytes."""
    version_id: str | None = None
    """Copy this version, whatever the newest one is. None: the bucket keeps no versions."""
    owner: str | None = None
    """The AWS account that must own the bucket."""
    customer_key: bool = False
    """Whether it is encrypted with the customer key (SSE-C) of the upload that copies it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOrigin:
    """An object that is uploaded by copying all of it, so that its bytes need not even be read here."""

    source: CopySource
    algorithm: Algorithm
    checksum: str
    """The whole object's checksum, from its store: the checksums of the copied parts must add up to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyBase:
    """An object and the checksums of its parts, so that the parts of a new upload that are the same can be copied."""

    source: CopySource
    part_size: int
    """Bytes of every part but the last."""
    checksums: tuple[str, ...]
    """The parts' checksums, in order, as S3 writes them, by the algorithm of the upload that copies."""

    def has(self, part: Part, checksum: str) -> bool:
        """Whether the object has these bytes in the range of `part`."""
        number, misplaced = divmod(part.offset, self.part_size)
        if misplaced or not part.size or number >= len(self.checksums):
            return False
        size = min(self.part_size, self.source.size - part.offset)
        return part.size == size and self.checksums[number] == checksum
