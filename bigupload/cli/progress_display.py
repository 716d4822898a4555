"""The progress display of a terminal: a row for each file that is under way, below what has been said."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from bigupload import events
from bigupload.cli import job_progress
from bigupload.cli.progress_row import RowState, bar_columns, most_name, render
from bigupload.cli.reporting import Narrator, Printing, time_in
from bigupload.units import counted, format_rate, format_size, one_line, printable

_REFRESHES_A_SECOND = 5


class _Terminal(Console):
    """Leaves the cursor visible: nobody could show it again after SIGKILL, or while Ctrl-Z holds the process."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class _Above(io.TextIOBase):
    """Standard error while rows are shown: each line is printed above them.

    Rich has such a stream, too. But that names no encoding, so that click writes to the `buffer` below it, amid the
    rows. This one has no buffer.
    """

    def __init__(self, show: Callable[[Text], None], file: TextIO) -> None:
        self._show = show
        self._file = file
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")  # a TypeError for bytes, by which click finds out
        for line in lines:
            self._show(Text(line))
        return len(text)

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._file.isatty()


class Bars(Printing):
    """A row for each file, in two tones: acknowledged, and in flight. Results are printed below, at the end.

    Of an endless command they are printed as they come.
    """

    def __init__(self, narrator: Narrator, *, endless: bool = False, refreshes_a_second: float | None = None) -> None:
        """Show nothing yet.

        Args:
            narrator: Says what events mean.
            endless: Whether results are printed as they come.
            refreshes_a_second: How often the rows are drawn; None: as it fits.
        """
        super().__init__()
        self._endless = endless
        self._console = _Terminal(file=sys.stderr)
        self._results: list[str] = []
        self._narrator = narrator
        self._rows: dict[Path, RowState] = {}
        self._widest_name = 0
        self._live = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=refreshes_a_second or (1 if endless else _REFRESHES_A_SECOND),
            redirect_stdout=False,
            redirect_stderr=False,
        )

    @contextlib.contextmanager
    def shown(self) -> Iterator[Bars]:
        """The rows are on the terminal."""
        try:
            with self._live, contextlib.redirect_stderr(_Above(self._print, sys.stderr)):
                yield self
        finally:
            self.close()

    def begin(self, path: Path, note: str) -> None:
        is_new = path not in self._rows
        self._row(path).note = note
        if is_new:  # a note that changes is drawn as rows are
            self._live.refresh()

    def end(self, path: Path) -> None:
        """The row stays above those of the files that are still under way."""
        row = self._rows.pop(path, None)
        if row is not None and row.size is not None:
            self._print(*self._render(row))

    def on_event(self, path: Path, event: events.Event) -> None:
        self._narrate(path, event)
        update(self._row(path), event, time.monotonic())

    def _narrate(self, path: Path, event: events.Event) -> None:
        if (text := self._narrator.text(event)) is not None:
            self._print(Text(f"{one_line(path.name)}: {printable(text)}"))

    def on_result(self, line: str) -> None:
        if not self._endless:
            self._results.append(line)
        elif sys.stdout.isatty():  # above the rows, which only the console knows
            self._print(Text(line))
        else:
            super().on_result(line)

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

    def _render(self, *rows: RowState) -> list[Text]:
        """The rows, with their bars below one another."""
        names, now = min(self._widest_name, most_name(self._width)), time.monotonic()
        bar = min((bar_columns(row, self._width, now, names=names) for row in rows), default=0)
        only = self._console.options.ascii_only
        return [render(row, self._width, now, names=names, ascii_only=only, most_bar=bar) for row in rows]

    @property
    def _width(self) -> int:
        # The last column is left free: some terminals wrap when it is written.
        return max(1, self._console.width - 1)

    def _name_rows(self) -> None:
        """Tell files of one name apart."""
        for path, name in job_progress.told_apart(self._rows).items():
            self._rows[path].name = name
            self._widest_name = max(self._widest_name, cell_len(name))

    def _draw(self) -> RenderableType:
        self._name_rows()
        return Group(*self._render(*list(self._rows.values())))


class JobBars(Bars):
    """Of a job: the largest files that are under way, and below them all files together."""

    def __init__(self, narrator: Narrator) -> None:
        self._total: RowState | None = None
        self._total_path: Path | None = None
        self._counts: list[str] = []
        super().__init__(narrator, endless=True, refreshes_a_second=_REFRESHES_A_SECOND)

    def begin(self, path: Path, note: str) -> None:
        self._total, self._total_path = RowState(one_line(path.name), note=note), path
        self._widest_name = max(self._widest_name, cell_len(self._total.name))
        self._live.refresh()

    def end(self, path: Path) -> None:
        """The row goes: the end of the command tells the sums, and what failed."""
        self._rows.pop(path, None)
        if path == self._total_path:
            self._total = None

    def on_event(self, path: Path, event: events.Event) -> None:
        if isinstance(event, events.JobProgress):
            if self._total is not None:
                update_total(self._total, event, time.monotonic())
                self._counts = job_progress.counts(event)
        elif path in self._rows or isinstance(event, events.UploadStarted):
            super().on_event(path, event)
        else:  # a small file has no row: it comes and goes too fast to be read
            self._narrate(path, event)

    def _narrate(self, path: Path, event: events.Event) -> None:
        if not isinstance(event, events.UploadSkipped):  # the end of the command tells how many were there already
            super()._narrate(path, event)

    def _draw(self) -> RenderableType:
        self._name_rows()
        rows = sorted(self._rows.values(), key=lambda row: -(row.size or 0))[: job_progress.MOST_CURRENT]
        if self._total is None:
            return Group()
        lines = self._render(*rows, self._total)
        if self._counts:
            text = Text(f"{', '.join(self._counts)}", no_wrap=True, overflow="crop")
            text.highlight_regex(r"[\d,]+ failed", "red")
            text.truncate(self._width)
            lines.append(text)
        return Group(*lines)


def update_total(row: RowState, event: events.JobProgress, now: float) -> None:
    """What the progress of a job changes of the row that stands for all files."""
    row.meter.add(now, job_progress.moved_of(event))
    if not job_progress.has_share(event):  # there is no whole to show a share of
        rate = row.meter.rate(now)
        row.note = f"{job_progress.bytes_text(event)}  {format_rate(rate)}" if event.bytes_found else ""
        return
    row.size, row.note = event.bytes_found, ""
    row.acknowledged, row.in_flight = job_progress.done_of(event), event.bytes_in_flight
    row.missing = event.bytes_failed


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
                row.note = f"{format_size(event.bytes_uploaded)}  {rate}  {counted(event.parts_uploaded, 'part')}"
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
