"""The progress of a program's uploads by bars of tqdm. The only module that imports tqdm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tqdm.auto import tqdm  # type: ignore[import-untyped]  # it has no types

from bigupload import events
from bigupload.progress import job_progress
from bigupload.progress.job_progress import ProgressOfCalls, path_of
from bigupload.units import one_line, printable


class TqdmProgress(ProgressOfCalls[Any]):
    """An `on_event` that has a bar for each call."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Show nothing yet.

        Args:
            options: What each bar is made with.
        """
        super().__init__()
        self._options = {"unit": "B", "unit_scale": True} | dict(options)

    def __call__(self, event: events.Event) -> None:
        """Show an event."""
        try:
            super().__call__(event)
        except OSError:  # nobody reads the bars: that ends no upload
            self._disable()
            super().__call__(event)

    def close(self) -> None:
        """End the bars that are left. Idempotent."""
        try:
            super().close()
        except OSError:
            self._disable()
            super().close()

    def _disable(self) -> None:
        """Draw no more."""
        self._options["disable"] = True
        for bar in self._bars.values():
            bar.disable = True

    def _begin(self, upload: events.UploadIdentity) -> Any:
        return tqdm(**{"desc": _name(upload)} | self._options)

    def _show(self, bar: Any, event: events.Event) -> None:
        match event:
            case events.UploadStarted(size=size, resumed_bytes=resumed):
                _restart(bar, size, resumed)
            case events.Restarted():
                _restart(bar, bar.total, 0)
            case events.Progress(size=size, bytes_uploaded=done, bytes_in_flight=in_flight):
                _move(bar, size, done + in_flight)
            case events.ReadingBack(size=size, bytes_compared=done):
                _move(bar, size, done)
            case events.JobProgress():
                whole = event.bytes_found if event.is_listed else None
                _move(bar, whole, job_progress.done_of(event) + event.bytes_in_flight)
                _set_postfix(bar, ", ".join(job_progress.counts(event)))
            case events.Completing():
                _move(bar, bar.total, bar.total or bar.n)
            case events.Warned(message=message) if not bar.disable:  # one that is disabled has no file
                bar.write(f"{_name(event.upload)}: warning: {printable(message)}", file=bar.fp)
            case _:
                pass
        if (note := job_progress.note(event)) is not None:
            _set_postfix(bar, note)

    def _end(self, upload: events.UploadIdentity, bar: Any) -> None:
        bar.close()

    def _remove(self, upload: events.UploadIdentity, bar: Any) -> None:
        bar.leave = False
        bar.close()


def _name(upload: events.UploadIdentity) -> str:
    return printable(one_line(path_of(upload).name))


def _restart(bar: Any, total: int | None, begun: int) -> None:
    """Begin a bar at what is done already, which counts for no rate."""
    bar.reset(total)
    bar.initial = bar.n = bar.last_print_n = begun
    bar.refresh()


def _move(bar: Any, total: int | None, done: int) -> None:
    if total is not None and bar.total is None:  # tqdm's way to restart a notebook's bar, its clock, too
        began = getattr(bar, "start_t", None)  # a bar that is disabled has none
        bar.reset(total)
        bar.start_t = began
    bar.update(done - bar.n)


def _set_postfix(bar: Any, text: str) -> None:
    bar.set_postfix_str(text)
