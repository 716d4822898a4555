"""The progress display of a terminal: a row for each file that is under way, below what has been said."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from bigupload import events
from bigupload.cli.progress_row import RowState, most_name, render
from bigupload.cli.reporting import Narrator, Printing, time_in
from bigupload.units import format_rate, format_size, one_line

_REFRESHES_A_SECOND = 5


class _Terminal(Console):
    """Leaves the cursor visible: nobody could show it again after SIGKILL, or while Ctrl-Z holds the process."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class Bars(Printing):
    """A row for each file, in two tones: acknowledged, and in flight. Results are printed below, at the end."""

    def __init__(self, narrator: Narrator) -> None:
        super().__init__()
        self._console = _Terminal(stderr=True)
        self._results: list[str] = []
        self._narrator = narrator
        self._rows: dict[Path, RowState] = {}
        self._widest_name = 0
        self._live = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=_REFRESHES_A_SECOND,
            redirect_stdout=False,
        )

    @contextlib.contextmanager
    def shown(self) -> Iterator[Bars]:
        """The rows are on the terminal."""
        try:
            with self._live:
                yield self
        finally:
            self.close()

    def begin(self, path: Path, note: str) -> None:
        self._row(path).note = note
        self._live.refresh()

    def end(self, path: Path) -> None:
        """The row stays above those of the files that are still under way."""
        row = self._rows.pop(path, None)
        if row is not None and row.size is not None:
            self._print(self._render(row))

    def on_event(self, path: Path, event: events.Event) -> None:
        if (text := self._narrator.text(event)) is not None:
            self._print(Text(f"{one_line(path.name)}: {one_line(text)}"))
        update(self._row(path), event, time.monotonic())

    def on_result(self, line: str) -> None:
        self._results.append(line)

    def close(self) -> None:
        for line in self._results:
            super().on_result(line)
        super().close()

    def _print(self, text: Text) -> None:
        with contextlib.suppress(OSError):  # nobody reads it
            self._console.print(text, highlight=False, soft_wrap=True)

    def _row(self, path: Path) -> RowState:
        if path not in self._rows:
            self._rows[path] = RowState(one_line(path.name))
            self._widest_name = max(self._widest_name, cell_len(one_line(path.name)))
        return self._rows[path]

    def _render(self, row: RowState) -> Text:
        names = min(self._widest_name, most_name(self._width))
        return render(row, self._width, time.monotonic(), names=names, ascii_only=self._console.options.ascii_only)

    @property
    def _width(self) -> int:
        # The last column is left free: some terminals wrap when it is written.
        return max(1, self._console.width - 1)

    def _draw(self) -> RenderableType:
        return Group(*map(self._render, list(self._rows.values())))


def update(row: RowState, event: events.Event, now: float) -> None:
    """What an event changes of a row."""
    match event:
        case events.UploadStarted(size=size, resumed_bytes=resumed, parts=parts, resumed_parts=resumed_parts):
            row.size, row.acknowledged, row.in_flight, row.note = size, resumed, 0, ""
            row.parts = f"{resumed_parts}/{parts}"
            row.meter.restart()
            row.meter.add(now, resumed)
        case events.Progress():
            row.size, row.note = event.size, ""
            row.acknowledged, row.in_flight = event.bytes_uploaded, event.bytes_in_flight
            row.parts, row.retries = f"{event.parts_uploaded}/{event.parts}", event.retries
            row.meter.add(now, event.bytes_uploaded + event.bytes_in_flight)
            if event.size is None:  # there is no whole to show a share of
                rate = format_rate(row.meter.rate(now))
                row.note = f"{format_size(event.bytes_uploaded)}  {rate}  {event.parts_uploaded} parts"
        case events.ReadingBack(size=size, bytes_compared=done):
            if row.size is None:
                row.meter.add(now, done)
            row.size, row.acknowledged, row.note = size, done, ""
            row.meter.add(now, done)
        case events.Hashing():
            row.note = "hashing"
        case events.Restarted():
            row.acknowledged = row.in_flight = 0
            row.meter.restart()
        case events.Completing():
            row.acknowledged, row.in_flight, row.note = row.size or 0, 0, "completing"
        case events.OutageStarted():
            row.outage = f"no connection since {time_in(0)}"
        case events.OutageEnded():
            row.outage = ""
        case events.UploadSkipped(verified=verified):
            row.note = f"skipped, proved: {verified}"
        case events.UploadCompleted(verified=verified):
            row.note = f"proved: {verified}"
        case _:
            pass
