"""How many uploads and parts fit into the descriptors that a process may open. Pure arithmetic."""

from __future__ import annotations

from bigupload.core.flight import MOST
from bigupload.records import dataclass

MOST_UPLOADS = 64
"""Uploads that are open at once, where nothing limits them. Each has one request to the store's API at a time, and one
bucket takes 64 of these."""
OF_AN_UPLOAD = 8
"""Descriptors: the source, the manifest, its lock, two connections for requests, two for a part that is sent a second
time, and one file that is open for a moment."""
OF_A_PART = 2
"""Descriptors: the connection, and its duplicate that sends the body."""
_OF_THE_PROGRAM = 4
"""One of so many descriptors is left to the program around, and to what Python and the event loop need."""
_OF_THE_PROGRAM_AT_LEAST = 32


@dataclass(frozen=True, slots=True)
class DescriptorBudget:
    """The most uploads that may be open at once, and the most parts that they may have in flight together."""

    uploads: int
    parts: int


def divide_descriptors(
    limit: int | None, *, concurrency: int | None = None, max_uploads: int | None = None
) -> DescriptorBudget:
    """Divide the descriptors of a process among uploads and parts. What the caller chose stays as it is.

    Args:
        limit: Descriptors that the process may have open; None: any number.
        concurrency: The parts in flight that the caller chose; None: as many as fit.
        max_uploads: The uploads that the caller chose; None: as many as fit.
    """
    parts, uploads = concurrency or MOST, max_uploads or MOST_UPLOADS
    if limit is None:
        return DescriptorBudget(uploads, parts)
    room = limit - max(_OF_THE_PROGRAM_AT_LEAST, limit // _OF_THE_PROGRAM)
    if concurrency is None:
        for_parts = room // 2 if max_uploads is None else room - OF_AN_UPLOAD * max_uploads
        parts = max(1, min(MOST, for_parts // OF_A_PART))
    if max_uploads is None:
        uploads = max(1, min(MOST_UPLOADS, (room - OF_A_PART * parts) // OF_AN_UPLOAD))
    return DescriptorBudget(uploads, parts)
