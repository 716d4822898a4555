"""Which bar an event belongs to: one for each upload, and one for all files of a job."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

from bigupload import events

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
    """Return what a bar is named by: the source, or the target of a job."""
    return Path(upload.source or upload.target)
