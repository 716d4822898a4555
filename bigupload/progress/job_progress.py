"""The words of progress, for rows, bars and lines alike: what an event means, how far a job of many files is.

And which bar an event belongs to: one for each upload, and one for all files of a job.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

from bigupload import events
from bigupload.units import counted, format_rate, format_seconds, format_size, one_line

WAITING = "waiting for the store"
PROVED = "proved"
MOST_CURRENT = 4
"""Large files that are shown while they are under way."""


def time_in(seconds: float) -> str:
    """The local time `seconds` from now: "14:03:12"."""
    return time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))


def done_of(event: events.JobProgress) -> int:
    """Bytes that are in the store."""
    return event.bytes_uploaded + event.bytes_skipped


def has_share(event: events.JobProgress) -> bool:
    """Whether a percentage means anything."""
    return event.is_listed and event.bytes_found > 0


def bytes_text(event: events.JobProgress) -> str:
    """The bytes done of those found, as far as that is known: "1.2 GB of 30.5+ GB"."""
    number, _, unit = format_size(event.bytes_found).partition(" ")
    more = "" if event.is_listed else "+"
    return f"{format_size(done_of(event))} of {number}{more} {unit}"


def counts(event: events.JobProgress) -> list[str]:
    """Return the files' outcomes: "182 of 300 files done", "12 already there", "2 failed"."""
    if event.objects_listed and not event.files_found:
        return [f"{counted(event.objects_listed, 'object')} listed"]
    if not event.files_found and not event.is_listed:
        return ["looking for files"]
    done = event.files_uploaded + event.files_skipped + event.files_failed
    noun = "file" if event.is_listed and event.files_found == 1 else "files"
    texts = [f"{done:,} of {event.files_found:,}{'' if event.is_listed else '+'} {noun} done"]
    for number, what in (
        (event.files_skipped, "already there"),
        (event.objects_deleted, "deleted"),
        (event.files_failed, "failed"),
    ):
        if number:
            texts.append(f"{number:,} {what}")
    return texts


def distinct_names(paths: Iterable[Path]) -> dict[Path, str]:
    """The names of files. Those that share one have as many of their directories before it as make them different."""
    names: dict[Path, str] = {}
    alike, length = list(paths), 1
    while alike:
        groups: dict[tuple[str, ...], list[Path]] = defaultdict(list)
        for path in alike:
            groups[path.parts[-length:]].append(path)
        alike = []
        for parts, group in groups.items():
            if len(group) == 1 or length >= max(len(path.parts) for path in group):
                names |= dict.fromkeys(group, one_line(str(Path(*parts))))
            else:
                alike += group
        length += 1
    return names


def current(files: Mapping[str, tuple[int, int]]) -> Iterable[str]:
    """The largest files under way with their percentages.

    Args:
        files: Names with sizes and acknowledged bytes.
    """
    largest = sorted(files.items(), key=lambda each: (-each[1][0], each[0]))[:MOST_CURRENT]
    return [f"{name} {100 * done // max(1, size)} %" for name, (size, done) in largest]


def hanging(event: events.Progress | events.JobProgress | events.ReadingBack) -> str:
    """The text while reading the file hangs, with the time since; empty if it does not."""
    if isinstance(event, events.ReadingBack) or event.source_hangs_for is None:
        return ""
    return f"no byte of the file could be read since {time_in(-event.source_hangs_for)}"


def note(event: events.Event) -> str | None:
    """Return a note on an upload after an event, in a word or two: "" ends the note before it, None leaves that one."""
    match event:
        case events.OutageStarted():
            return f"no connection since {time_in(0)}"
        case events.OutageEnded():
            return ""
        case events.Hashing():
            return "hashing"
        case events.Completing():
            return "completing"
        case events.UploadCompleted(verified=verified):
            return f"{PROVED}: {verified}"
        case events.UploadSkipped(verified=verified):
            return f"skipped, {PROVED}: {verified}"
        case events.UploadStopped():
            return "stopped"
        case _:
            return None


def pace(event: events.Progress | events.JobProgress | events.ReadingBack) -> list[str]:
    """The rate and the time left: "12.3 MB/s", "waiting for the store", "5 min left"."""
    if hangs := hanging(event):
        return [hangs]
    texts = [format_rate(event.rate)] if event.rate else []
    if not isinstance(event, events.ReadingBack) and event.is_waiting:
        texts.append(WAITING)
    if event.seconds_left is not None:
        texts.append(f"{format_seconds(event.seconds_left)} left")
    return texts


def line(event: events.JobProgress, files: Mapping[str, tuple[int, int]]) -> str:
    """All of it in one line. `files`: as `current` takes them."""
    texts = counts(event)
    if event.bytes_found:
        share = f"{100 * done_of(event) // event.bytes_found} % of {format_size(event.bytes_found)}"
        texts.insert(0, share if has_share(event) else bytes_text(event))
    if event.bytes_in_flight:
        texts.append(f"{format_size(event.bytes_in_flight)} in flight")
    return "; ".join([", ".join(texts + pace(event)), *([", ".join(current(files))] if files else [])])


Bar = TypeVar("Bar")


class ProgressOfCalls(ABC, Generic[Bar]):
    """An `on_event` that has a bar for each call that is under way. A bar begins when work is under way."""

    def __init__(self) -> None:
        self._bars: dict[events.UploadIdentity, Bar] = {}
        self._jobs: dict[str, events.UploadIdentity] = {}
        """The jobs that are under way, by their targets."""

    def __call__(self, event: events.Event) -> None:
        """Show an event."""
        upload = event.upload
        match event:
            case events.JobProgress() if upload.target not in self._jobs:
                self._jobs[upload.target] = upload
                for each in [each for each in self._bars if self._is_of_a_job(each)]:
                    self._remove(each, self._bars.pop(each))
            case events.PartUploaded():  # `Progress` says as much
                return
        if self._is_of_a_job(upload):
            return
        is_end = events.is_last(event)
        if upload not in self._bars:
            opening = [each for each in self._bars if _was_opened_as(upload, each)]
            for each in opening:
                self._remove(each, self._bars.pop(each))
            if is_end and not opening:  # nothing was under way: an upload that was skipped, a small file of a job
                return
            self._bars[upload] = self._begin(upload)
        self._show(self._bars[upload], event)
        if is_end or (isinstance(event, events.ReadingBack) and event.bytes_compared == event.size):
            self._finish(upload)

    def __enter__(self) -> ProgressOfCalls[Bar]:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the bars that are left. Idempotent."""
        for upload in list(self._bars):
            self._finish(upload)

    def _is_of_a_job(self, upload: events.UploadIdentity) -> bool:
        """Whether an upload is one of a job's files."""
        return bool(upload.source) and any(upload.target.startswith(target) for target in self._jobs)

    def _finish(self, upload: events.UploadIdentity) -> None:
        self._jobs.pop(upload.target, None)
        self._end(upload, self._bars.pop(upload))

    @abstractmethod
    def _begin(self, upload: events.UploadIdentity) -> Bar:
        """Return the bar of a call that begins."""

    @abstractmethod
    def _show(self, bar: Bar, event: events.Event) -> None:
        """Show an event in its bar."""

    @abstractmethod
    def _end(self, upload: events.UploadIdentity, bar: Bar) -> None:
        """Let a bar stay as it is."""

    @abstractmethod
    def _remove(self, upload: events.UploadIdentity, bar: Bar) -> None:
        """Let a bar disappear."""


def _was_opened_as(upload: events.UploadIdentity, opening: events.UploadIdentity) -> bool:
    """Whether an upload's source, which is given by its URL, was `opening` before it was known what the upload is."""
    is_same = upload.source == opening.source and upload.target.startswith(opening.target)
    return is_same and bool(upload.id) and not opening.id


def path_of(upload: events.UploadIdentity) -> Path:
    """Return the name of a bar: the source, or the target of a job."""
    return Path(upload.source or upload.target)
