"""A stream: bytes that come once, in order, cut into parts that are held until the store has them."""

from __future__ import annotations

import base64

from bigupload import errors
from bigupload.core.manifest import SourceKind
from bigupload.core.part_plan import Part, Plan
from bigupload.core.remote_url import is_remote
from bigupload.ports import Stream
from bigupload.sources.part_pool import HeldPart, PartPool, SourceOfHeldParts
from bigupload.sources.producers import UNFINISHED, MarkedProducer, Producer

_HEAD = 4096
"""Bytes that are read before the upload begins. They show whether the stream is empty, and a media service sees
by them whether it is media."""
_START_OVER = "start anew with `resume=False`, and the true `expected_size` or none"
"""Advice for a wrong size. A run without `expected_size` keeps the size that the earlier run recorded."""


class StreamSource(SourceOfHeldParts):
    """The parts of a stream. Implements `ports.Source` for the parts that are held, and `ports.Stream`."""

    kind = SourceKind.STREAM
    is_growing = False

    def __init__(
        self,
        name: str,
        producer: Producer,
        pool: PartPool,
        *,
        expected: int | None = None,
        end_marker: bytes | None = None,
        allow_empty: bool = False,
    ) -> None:
        """Read nothing yet.

        Args:
            name: The stream's name.
            producer: Where its bytes come from.
            pool: Where its parts are held.
            expected: The size in bytes that it must have, if known.
            end_marker: What must follow its bytes.
            allow_empty: Whether it may have no bytes.
        """
        super().__init__(name, expected or 0, pool)
        self.position = 0
        self._producer = producer if end_marker is None else MarkedProducer(producer, end_marker, name)
        self.expected = expected
        self.end_marker = None if end_marker is None else base64.b64encode(end_marker).decode()
        self._allow_empty = allow_empty
        self._began = False
        self._parts = 0
        self._torn = False
        """Whether the reading of a part was cancelled, or failed: some of its bytes may have gone by."""
        self._ended = False

    # -- ports.Stream

    @property
    def stream(self) -> Stream:
        """Itself."""
        return self

    async def begin(self) -> None:
        """Wait for the first bytes.

        Raises:
            StreamInterrupted: The stream ends too early.
            SourceUnreadable: The stream failed.
        """
        head = bytearray(_HEAD)
        count = await self._fill(memoryview(head))
        self._head = bytes(head[:count])
        if not count and not (self._allow_empty or self.expected == 0):
            raise errors.StreamInterrupted(
                f"{errors.IT} is empty: did its writer fail? `allow_empty=True` uploads an empty object",
                it=self.path,
                lasting=True,
            )

    async def next_part(self, plan: Plan) -> Part | None:
        """Wait for the next part and hold it. See `ports.Stream.next_part`."""
        expected = plan.size if plan.size is not None else self.expected
        if self._ended:
            return None
        if self._torn:
            raise errors.StreamInterrupted(
                f"{errors.IT} was interrupted half-way through a part. {UNFINISHED}", it=self.path
            )
        number = self._parts + 1
        if number > plan.count:
            await self._require_end(plan)
            return None
        planned = plan.part(number)
        held = await self._add(planned)
        try:
            size = await self._read(held)
        except BaseException:
            self._drop(number, reuse=False)
            self._torn = True
            raise
        self.position += size
        if size < planned.size:
            self._ended = True
        if expected is not None and (self.position > expected or (self._ended and self.position < expected)):
            self._drop(number)
            raise self._unexpected(expected)
        if not size and number > 1:
            self._drop(number)
            return None
        self._parts = number
        return Part(number, planned.offset, size)

    async def rewind(self) -> bool:
        """Whether nothing was taken from the stream yet. See `ports.Stream.rewind`."""
        return not self._parts and not self._torn

    async def is_settled(self) -> bool:
        """True: its bytes do not change. See `ports.Stream.is_settled`."""
        return True

    async def _require_end(self, plan: Plan) -> None:
        """After the last part that the plan has room for."""
        if self._head or await self._fill(memoryview(bytearray(1))):
            if plan.size is not None:
                raise self._unexpected(plan.size, longer=True)
            raise errors.SourceUnsupported(
                f"{errors.IT} is longer than {plan.capacity:,} bytes, the most that {plan.count:,} parts hold while "
                "the size is unknown: upload it again with `expected_size` and `resume=False`",
                it=self.path,
            )
        self._ended = True

    def _unexpected(self, expected: int, *, longer: bool = False) -> errors.SourceError:
        recorded = "" if self.expected is not None else ", the size that an earlier run recorded"
        if longer or self.position > expected:
            return errors.SourceChanged(
                f"{errors.IT} has more than the {expected:,} bytes that were expected{recorded}. Nothing was "
                f"completed: {_START_OVER}",
                it=self.path,
                same_size=False,
            )
        anew = "" if is_remote(self.path) else f". If that size is wrong, {_START_OVER}"
        return errors.StreamInterrupted(
            f"{errors.IT} ended after {self.position:,} bytes, and {expected:,} were expected{recorded}: did its "
            f"writer fail? {UNFINISHED}{anew}",
            it=self.path,
        )

    async def _read(self, held: HeldPart) -> int:
        """Fill a part. Returns its size: smaller than planned at the end of the stream."""
        done = 0
        while done < held.size:
            space = held.space(done)
            if self._head:
                count = min(len(space), len(self._head))
                space[:count], self._head = self._head[:count], self._head[count:]
            else:
                count = await self._fill(space)
                if not count:
                    break
            await held.filled(done, count)
            done += count
        return done

    async def _fill(self, buffer: memoryview) -> int:
        try:
            return await self._producer.fill(buffer)
        except errors.BigUploadError:
            raise
        except Exception as e:
            # Whatever the caller's object raises. Its text may hold anything, also a URL that is a secret.
            reason = (isinstance(e, OSError) and e.strerror) or type(e).__name__
            raise errors.SourceUnreadable(
                f"{errors.IT} failed after {self._producer.taken:,} bytes: {reason}. {UNFINISHED}", it=self.path
            ) from e

    # -- ports.Source

    def _is_in_head(self, offset: int) -> bool:
        return not self._parts and not self._held  # the first bytes belong to the first part, and are used up by it

    def close(self) -> None:
        """Let all parts go. May be called again."""
        self._producer.close()
        super().close()
