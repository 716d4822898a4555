"""What sources without a fingerprint have in common: no metadata tells whether their bytes have changed."""

from __future__ import annotations

from bigupload.core.manifest import Fingerprint, SourceKind
from bigupload.core.part_plan import Part
from bigupload.ports import Stream


class Unwatched:
    """The part of `ports.Source` that is about metadata."""

    kind = SourceKind.OBJECT
    metadata_changed = False
    is_away = False
    on_local_disk = True
    start = 0
    """Bytes before the first one that is uploaded: a file object was read before."""

    def __init__(self, name: str, size: int) -> None:
        """Take a source's name and its size in bytes."""
        self.path = name
        self.fingerprint = Fingerprint(size, 0, 0, 0)

    @property
    def stream(self) -> Stream | None:
        """None: all parts are there from the beginning."""
        return None

    async def hold(self, part: Part, *, wait: bool = True) -> bool:
        """Nothing to do: any range can be read. See `ports.Source.hold`."""
        return True

    def release(self, part: Part) -> None:
        """Nothing to do. See `ports.Source.release`."""

    def fileno(self) -> None:
        """None: a descriptor below may have other bytes, as a compressed file's has."""

    def check(self) -> None:
        """Do nothing: only the checksums show a change."""

    def accept_metadata(self) -> None:
        """Do nothing: there is no metadata."""
