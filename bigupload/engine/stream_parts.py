"""The parts of a stream as they come: compared with what earlier runs uploaded, sent if they are missing.

A stream is resumed by replay: the same bytes come again. What the store has of them is hashed here and not sent. Once
bytes have gone by, nobody can read them again: a run that needs them ends in StreamInterrupted, and the next one
continues.

The parts of a growing file can be read again at any time. All of them are hashed once more at its end, because what
writes it may have rewritten some, and those are sent again.
"""

from __future__ import annotations

from bigupload import errors
from bigupload.core import checksums
from bigupload.core.manifest import PartRecord, SourceRecord
from bigupload.core.part_plan import Part
from bigupload.core.upload_state import UploadState
from bigupload.engine.context import UploadContext
from bigupload.engine.part_hashing import PartHasher
from bigupload.engine.reconcile import Reconciler
from bigupload.ports import Stream

_AGAIN = "try again with the same bytes to resume"


class StreamParts:
    """The parts of a stream, as one run knows them."""

    def __init__(
        self, context: UploadContext, stream: Stream, state: UploadState, hasher: PartHasher, reconciler: Reconciler
    ) -> None:
        self._context = context
        self._stream = stream
        self._state = state
        self._hasher = hasher
        self._reconciler = reconciler
        self._seen: set[int] = set()
        """The parts that came in this run."""
        self._before = dict(context.manifest.parts) if context.journal.exists else {}
        """The records of earlier runs."""
        self._ended = False
        self._compared = False
        """Whether all parts of a growing file were hashed again since it ended."""
        self.is_growing = stream.is_growing
        self.is_another = False
        """Whether a part was not what an earlier run uploaded."""
        self._replaces = context.settings.follow_changes and not self.is_growing
        """Whether this stream is what is to be uploaded, whatever an earlier run uploaded of another one."""

    async def restart(self) -> None:
        """Begin with the first part again, for a new upload.

        Raises:
            StreamInterrupted: The first parts have gone by.
        """
        if not await self._stream.rewind():
            raise errors.StreamInterrupted(
                f"{errors.IT} has to be uploaded from its first byte again, which has gone by: {_AGAIN}",
                it=self._context.source.path,
            )
        self._seen.clear()
        self._before.clear()
        self._reconciler.unrecorded.clear()  # those are of the upload before
        self._ended = self._compared = False
        self._state.reopen()

    async def next_missing(self) -> Part | None:
        """Wait for the next part that the store does not have; None when the stream has ended.

        Raises:
            SourceChanged: A part is not what an earlier run uploaded, and does not replace that.
            StreamInterrupted: The stream ended before the place that an earlier run had reached.
        """
        while not self._ended:
            part = await self._stream.next_part(self._state.plan)
            if part is None:
                await self._end()
                break
            self._seen.add(part.number)
            if not await self._is_there(part):
                self._state.take(part.number)
                return part
            self._context.release(part)
        return next(self._state.pending(), None) if self.is_growing else None

    async def is_settled(self) -> bool:
        """Whether the parts in the store are the source as it is now. Else some are missing again.

        That nothing was written while a growing file was hashed, and until the parts that differed were in the store,
        makes the object the file as it was at one moment.
        """
        context = self._context
        if not self.is_growing:
            return True
        if not self._compared:
            changed = await self._reconciler.changed("the file has ended, and parts may have been rewritten")
            await self._reconciler.drop(changed, "the file was rewritten there")
            self._compared = True
            if changed:
                return False
        if not await self._stream.is_settled():
            await self.restart()
            return False
        if context.source_identity != context.manifest.source:
            await context.journal.append(SourceRecord(context.source_identity))
        return True

    async def compare_all(self) -> None:
        """Read the whole stream, and compare it with the parts of an upload that turned out to be complete.

        Raises:
            SourceError: The object is not the stream.
        """
        while (part := await self._stream.next_part(self._context.manifest.plan)) is not None:
            record = self._context.manifest.parts[part.number]
            if await self._is_same(part, record) is not True:
                raise errors.SourceChanged(
                    f"an earlier run completed {self._context.manifest.target}, and this stream is another one: it "
                    f"differs in the part from byte {part.offset:,} on. Nothing was changed: try "
                    "again to replace the object",
                    same_size=False,
                )
            self._context.release(part)

    async def forget(self) -> None:
        """If the stream is another one, drop what this run recorded of it, so that the right one still resumes."""
        if not self.is_another:
            return
        recorded = self._context.manifest.parts.items()
        await self._reconciler.drop(
            sorted(number for number, record in recorded if record != self._before.get(number)), "it is of other bytes"
        )

    def require_all(self) -> None:
        """Raises StreamInterrupted if a part is missing that has gone by."""
        if self._state.missing and not self.is_growing:
            raise errors.StreamInterrupted(
                f"the store lost {self._state.missing} parts of {errors.IT}, "
                f"which the stream can't deliver again: {_AGAIN}",
                it=self._context.source.path,
            )

    async def _end(self) -> None:
        size = self._stream.position
        # Only a longer stream made the parts that the store lists, recorded or not: this one was cut off.
        recorded = self._context.manifest.parts.keys()
        if (recorded | self._reconciler.unrecorded.keys()) - self._seen:
            if not self._replaces:
                raise self._ended_early(size)
            await self._reconciler.drop(sorted(recorded - self._seen), "the stream ends before it now")
        self._ended = True
        self._state.end(size)

    def _uploaded_end(self) -> int:
        """Return the end of the last byte that earlier runs uploaded, from the beginning of the stream."""
        recorded = {number: record.size for number, record in self._context.manifest.parts.items()}
        listed = {number: max(row.size for row in rows) for number, rows in self._reconciler.unrecorded.items()}
        return max(self._state.plan.part(number).offset + size for number, size in (listed | recorded).items())

    def _ended_early(self, size: int) -> errors.SourceError:
        path, uploaded = self._context.source.path, f"an earlier run uploaded it up to byte {self._uploaded_end():,}"
        if self.is_growing:
            return errors.SourceChanged(
                f"{errors.IT} was truncated or replaced: it has {size:,} bytes now, and {uploaded}. Nothing was "
                "changed: `resume=False` uploads it as it is now",
                it=path,
                same_size=False,
            )
        return errors.StreamInterrupted(
            f"{errors.IT} ended after {size:,} bytes, but {uploaded}: did its writer fail? Nothing was "
            f"completed; {_AGAIN}",
            it=path,
        )

    async def _is_there(self, part: Part) -> bool:
        record = self._context.manifest.parts.get(part.number)
        if record is None:
            rows = self._reconciler.unrecorded.get(part.number, ())
            if any(row.size > part.size for row in rows) and not self._replaces:
                raise self._ended_early(part.offset + part.size)
            self._reconciler.unrecorded.pop(part.number, None)
            if not rows or not await self._reconciler.adopt(part, rows):
                return False
            self._context.counts.resumed_parts += 1
            return True
        if record.size > part.size and not self._replaces:
            raise self._ended_early(part.offset + part.size)
        if record.size == part.size:
            if self.is_growing:  # it is hashed again at the end
                return True
            same = await self._is_same(part, record)
            if same:
                return True
            if same is not None and self._replaces:
                await self._reconciler.drop([part.number], "the stream has other bytes there now")
                return False
            if same is not None:
                self.is_another = True
                raise errors.SourceChanged(
                    f"{errors.IT} differs from an earlier run's stream: the part from byte "
                    f"{part.offset:,} on differs. Nothing was changed: {_AGAIN}, or start anew with `resume=False`",
                    it=self._context.source.path,
                    same_size=False,
                )
        # It was the stream's end, which goes on now; or nothing identifies the bytes sent.
        await self._reconciler.drop([part.number], "the stream goes on there")
        return False

    async def _is_same(self, part: Part, record: PartRecord) -> bool | None:
        """Whether the part is the recorded one; None if only the ETag could decide, which need not be an MD5."""
        if record.checksum:
            return (await self._hasher.hash(part)).checksum == record.checksum
        known = checksums.md5_of_etag(record.etag)
        return True if known is not None and (await self._hasher.hash(part, md5=True)).md5 == known else None
