"""Count the stored parts of uploads that a signal stops, for the last line of the command."""

from __future__ import annotations

from bigupload import events
from bigupload.records import dataclass
from bigupload.units import counted, format_size


@dataclass(slots=True)
class _Unfinished:
    parts: int | None
    """None: of a stream, nobody knows."""
    kept: int


class KeptParts:
    """The files of a command that are in the store, and the number of parts of those that are not complete.

    The store may have more parts: those whose responses were not read when the signal came.
    """

    def __init__(self) -> None:
        self._unfinished: dict[str, _Unfinished] = {}
        self._files = 0
        self._size = 0

    def on_event(self, event: events.Event) -> None:
        """Count the parts of an event."""
        match event:
            case events.UploadStarted():
                self._unfinished[event.upload.id] = _Unfinished(event.parts, event.resumed_parts)
            case events.PartUploaded() if event.upload.id in self._unfinished:
                self._unfinished[event.upload.id].kept += 1
            case events.UploadCompleted():
                self._unfinished.pop(event.upload.id, None)
            case _:
                pass

    def on_outcome(self, outcome: object) -> None:
        """Count a file that is in the store, also one that was there already; nothing else counts."""
        from bigupload.engine.upload_run import UploadResult

        if isinstance(outcome, UploadResult):
            self._files += 1
            self._size += outcome.size

    def on_same(self, files: int, size: int) -> None:
        """Count files that were in the store already, and their bytes together."""
        self._files += files
        self._size += size

    def __str__(self) -> str:
        """As "at least 2 of 39 parts are in the store; ", "7 files (1.2 GB) and at least 1 of …", or empty."""
        files = f"{counted(self._files, 'file')} ({format_size(self._size)})" if self._files else ""
        parts, is_one_part = self._parts()
        if not files and not parts:
            return ""
        is_one = is_one_part if parts else self._files == 1
        kept = " and ".join(filter(None, (files, parts)))
        known = "" if files or any(each.kept for each in self._unfinished.values()) else "known to be "
        return f"{kept} {'is' if is_one and not (files and parts) else 'are'} {known}in the store; "

    def _parts(self) -> tuple[str, bool]:
        """The parts of what is not complete, and whether that is one part; of a single file also if it has none."""
        is_alone = len(self._unfinished) == 1 and not self._files
        begun = [each for each in self._unfinished.values() if each.kept or is_alone]
        if not begun:
            return "", False
        kept = sum(each.kept for each in begun)
        if len(begun) > 1:
            of_files = f"{len(begun):,} {'others' if self._files else 'files'}"
            return f"at least {counted(kept, 'part')} of {of_files}", kept == 1
        count = kept if (of := begun[0].parts) is None else of
        total = f"{kept:,}" if of is None else f"{kept:,} of {of:,}"
        if kept not in (0, of):
            total = f"at least {total}"
        other = " of another" if self._files else " of one file" if len(self._unfinished) > 1 else ""
        return f"{total} {'part' if count == 1 else 'parts'}{other}", count == 1
