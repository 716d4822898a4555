"""The parts that one source holds in a `PartPool`: added and dropped in the event loop, read by any thread."""

from __future__ import annotations

from bigupload.core.part_plan import Part
from bigupload.sources.part_pool import HeldPart, PartPool


class HeldParts:
    """By their numbers."""

    def __init__(self, pool: PartPool) -> None:
        """Hold nothing yet."""
        self._pool = pool
        self._held: dict[int, tuple[int, HeldPart]] = {}
        """A part's offset in the source, and its bytes."""

    def __len__(self) -> int:
        return len(self._held)

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(held.size for _, held in self._held.values())

    async def add(self, part: Part) -> HeldPart:
        """Wait for room, and hold a part."""
        held = await self._pool.hold(part.size, self._held)
        self._held[part.number] = part.offset, held
        return held

    def drop(self, number: int, *, reuse: bool = True) -> None:
        """Hold a part no longer. May be called again.

        Args:
            number: The part's.
            reuse: False if a thread may still write into it.
        """
        found = self._held.pop(number, None)
        if found is not None:
            self._pool.release(found[1], reuse=reuse)

    def drop_all(self) -> None:
        """Hold nothing any more, and give the system back what no part uses."""
        for number in list(self._held):
            self.drop(number)
        self._pool.trim()

    def at(self, offset: int) -> tuple[int, HeldPart] | None:
        """The part that has a byte, and the part's offset; None: none of them has it."""
        for begin, held in list(self._held.values()):  # a copy: threads read while the event loop adds and drops
            if begin <= offset < begin + held.size or (begin == offset and not held.size):
                return begin, held
        return None
