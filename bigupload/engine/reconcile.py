"""Compare the manifest with the store's list of parts and with the file. ListParts decides, not the manifest.

A part is kept if manifest and store agree on its size and ETag, or if the file's part, hashed again, has the checksum
or ETag that the store lists.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from bigupload import errors, events
from bigupload.core import checksums
from bigupload.core.integrity import PartProof
from bigupload.core.manifest import PartDropped, PartRecord, SourceKind, SourceRecord
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.core.upload_state import PartState, UploadState
from bigupload.engine.context import UploadContext
from bigupload.engine.part_hashing import PartHasher
from bigupload.ports import ListedPart
from bigupload.support.cancellation import for_each
from bigupload.units import counted

_ANOTHER: dict[SourceKind | None, str] = {
    SourceKind.REMOTE: "the remote file is another version now: its parts are fetched again and compared"
}
_AT_ONCE = 4
"""Parts that are hashed at a time: the number of hashing threads at most."""


class Reconciler:
    """Works on one context, and changes `state` together with the manifest."""

    def __init__(self, context: UploadContext, state: UploadState, hasher: PartHasher) -> None:
        self._context = context
        self._state = state
        self._hasher = hasher
        self.algorithm = hasher.algorithm
        self._distrusted: set[int] = set()
        self._dropped_copies = False
        self.unrecorded: dict[int, list[ListedPart]] = {}
        """For a stream, whose parts come later: rows of the store's list without a record, by part number."""

    async def drop_hedged(self, fault: Fault) -> None:
        """Drop the parts that were sent twice, after the store refused complete because of a part.

        They are sent again, each alone, although the store lists them: it has just refused what it lists.
        """
        hedging = self._context.hedging
        if not hedging.parts:
            return
        self._context.stop_hedging(f"the store refused to complete the upload after parts were sent twice ({fault})")
        self._distrusted |= hedging.parts
        hedging.parts.clear()
        hedging.refused_at_complete = True
        recorded = sorted(self._distrusted & self._context.manifest.parts.keys())
        await self.drop(recorded, "it was sent twice at a time, and the store refused to complete")

    async def drop_copied(self, fault: Fault) -> bool:
        """Drop the parts that the store may have copied, once, after it refused complete because of a part.

        Returns:
            Whether there were any. They are sent, although the store lists them.
        """
        context = self._context
        previous, plan = context.previous_version, self._state.plan
        if context.manifest.header.copies is None and context.manifest.header.source_checksum is None:
            return False
        copied = [
            n
            for n, part in context.manifest.parts.items()
            if previous is None or previous.has(plan.part(n), part.checksum)
        ]
        if self._dropped_copies or not copied:
            return False
        self._dropped_copies, context.copying = True, False
        context.warn(f"the store refuses to complete the upload with parts that it has copied ({fault}): they are sent")
        context.counts.bytes_copied = 0
        self._distrusted |= set(copied)
        await self.drop(copied, "it was copied, and the store refused to complete")
        return True

    async def run(self) -> bool:
        """Keep the parts that are in the store and are the file's. Drop the others.

        Returns:
            False if the store does not know the upload.

        Raises:
            SourceChanged: The file has another size.
        """
        is_stream = self._context.source.stream is not None
        if not is_stream:
            self._check_size()
        rows = await self._list()
        if rows is None:
            return False
        await self._keep_recorded(rows)
        unrecorded = self._unrecorded({n: listed for n, listed in rows.items() if n not in self._distrusted})
        if is_stream:
            self.unrecorded = unrecorded
        else:
            await self._check_source()
            if not self._context.copies_unread:  # to copy a part again costs less than to read it
                await self._adopt_all(unrecorded)
        self._distrusted.clear()
        return True

    async def is_open(self) -> bool:
        """Whether the store still knows the upload."""
        return await self._list() is not None

    async def _list(self) -> dict[int, list[ListedPart]] | None:
        context = self._context
        algorithm = context.manifest.header.checksum.algorithm
        try:
            rows = await context.retrier.request(
                lambda: context.store.list_parts(context.manifest.upload_id, algorithm), expected={FaultKind.GONE}
            )
        except Fault:
            return None
        by_number: dict[int, list[ListedPart]] = defaultdict(list)
        for row in rows:
            by_number[row.number].append(row)
        return by_number

    def _check_size(self) -> None:
        recorded, now = self._context.manifest.plan.size, self._context.source.fingerprint.size
        if recorded not in (None, now):
            raise errors.SourceChanged(
                f"{errors.IT} has {now:,} bytes now and had {recorded:,} when its upload began: "
                "nothing was changed. To abort that upload and start again: `on_change='restart'`. If the file as it "
                f"was is at another path, resume with that as the source: `resume('{self._context.journal.path}')`",
                it=self._context.source.path,
                same_size=False,
            )

    async def _keep_recorded(self, rows: dict[int, list[ListedPart]]) -> None:
        lost = [
            number
            for number, part in self._context.manifest.parts.items()
            if not any(row.size == part.size and row.etag == part.etag for row in rows.get(number, ()))
        ]
        await self.drop(lost, "the store does not list it")

    async def _check_source(self) -> None:
        """If the source may be another one of the same size, keep the parts that are still its own."""
        context = self._context
        now, before = context.source_identity, context.manifest.source
        if not context.has_fingerprint:
            changed = await self.changed("nothing but its bytes shows whether the source is the same")
        elif now.fingerprint != before.fingerprint and context.copies_unread:
            changed = list(context.manifest.parts)
        elif now.fingerprint != before.fingerprint:
            changed = await self.changed(_ANOTHER.get(now.kind, "the file was touched, moved or replaced since"))
        else:
            changed = []
        if changed and now.can_be_opened and not before.can_be_opened:  # a file that is to have a stream's bytes
            raise errors.SourceChanged(
                f"{errors.IT} does not hold the bytes of {before.path}: {counted(len(changed), 'part')} of the "
                f"{len(context.manifest.parts)} that are in the store differ. Nothing was changed. Name the file that "
                f"holds them as `source`, or give the upload up: `abort('{context.journal.path}')`",
                it=now.path,
                same_size=False,
            )
        await self.drop(changed, "the file has changed there")
        if now != before:
            await context.journal.append(SourceRecord(now))

    async def verify_source(self, reason: str) -> None:
        """Hash the whole file again, and compare it with the recorded parts.

        Raises:
            SourceChanged: Some parts differ. They are dropped, so that a resumed upload sends them again.
        """
        changed = await self.changed(reason)
        if changed:
            await self.drop(changed, "the file has changed there")
            named = ", ".join(map(str, changed[:5])) + (" and more" if len(changed) > 5 else "")
            raise errors.SourceChanged(
                f"{errors.IT} changed in part {named} while it was uploaded: resume when nothing writes to it",
                it=self._context.source.path,
                same_size=True,
            )

    async def changed(self, reason: str) -> list[int]:
        """List the recorded parts that differ from the source, hashed again."""
        records = sorted(self._context.manifest.parts.values(), key=lambda part: part.number)
        if not records:
            return []
        self._context.emit(events.Hashing(parts=len(records), reason=reason))
        changed: list[int] = []

        async def compare(record: PartRecord) -> None:
            if not await self._matches_file(record):
                changed.append(record.number)

        await for_each(records, compare, at_once=_AT_ONCE)
        return sorted(changed)

    async def _matches_file(self, record: PartRecord) -> bool:
        part = self._state.plan.part(record.number)
        async with self._context.held(part):
            if record.checksum:
                return (await self._hasher.hash(part)).checksum == record.checksum
            md5 = (await self._hasher.hash(part, md5=True)).md5
        return checksums.md5_of_etag(record.etag) == md5

    def _unrecorded(self, rows: dict[int, list[ListedPart]]) -> dict[int, list[ListedPart]]:
        """The parts that only the store has: a kill prevented their records, or another machine sent them."""
        plan = self._state.plan
        return {
            number: listed
            for number, listed in sorted(rows.items())
            if 1 <= number <= plan.count and number not in self._context.manifest.parts
        }

    async def _adopt_all(self, unrecorded: dict[int, list[ListedPart]]) -> None:
        """Record those of the parts that are the source's."""
        plan = self._state.plan
        candidates = [
            (plan.part(number), rows)
            for number, rows in unrecorded.items()
            if any(row.size == plan.part(number).size for row in rows)
        ]
        if not candidates:
            return
        self._context.emit(
            events.Hashing(parts=len(candidates), reason="the store has parts that are not in the manifest")
        )

        async def adopt(candidate: tuple[Part, list[ListedPart]]) -> None:
            async with self._context.held(candidate[0]):
                await self.adopt(*candidate)

        await for_each(candidates, adopt, at_once=_AT_ONCE)

    async def adopt(self, part: Part, listed: Iterable[ListedPart]) -> bool:
        """Record a part that the store lists, if it is the source's, which holds it. Returns whether it is."""
        rows = [row for row in listed if row.size == part.size]
        if not rows:
            return False
        checksum = self._context.manifest.header.checksum
        has_checksums = checksum.algorithm.is_s3_checksum and all(row.checksum is not None for row in rows)
        hashed = await self._hasher.hash(part, md5=not has_checksums)
        for row in reversed(rows):  # if a number is listed twice, the newest is last
            if has_checksums and row.checksum == hashed.checksum:
                proof = PartProof.CHECKSUM
            elif hashed.md5 is not None and checksums.md5_of_etag(row.etag) == hashed.md5:
                proof = PartProof.ETAG
            else:
                continue
            await self._context.journal.append(PartRecord.of(part, hashed, row.etag, proof))
            self._state.record(part.number)
            return True
        return False

    async def drop(self, numbers: Iterable[int], reason: str) -> None:
        """Let recorded parts count no more, so that they are sent again."""
        dropped = [PartDropped(number, reason) for number in numbers]
        if dropped:
            await self._context.journal.append(*dropped)
            for record in dropped:
                if self._state.part(record.number) is PartState.UPLOADED:  # not if the upload starts over
                    self._state.drop(record.number)
