"""The progress display of a terminal: a row for each file that is under way, below the lines printed so far."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import click
from rich.console import Group, RenderableType
from rich.text import Text

from bigupload import events
from bigupload.cli.help import is_plain
from bigupload.cli.narration import Narrator, Reporter, about
from bigupload.progress import job_progress
from bigupload.progress.rows import LiveUnread, Rows, RowState, VisibleCursor, perhaps_unread, update, update_total
from bigupload.units import printable

_REFRESHES_A_SECOND = 5


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


class Bars(Reporter):
    """A row for each file, in two tones: acknowledged, and in flight. Results are printed below, at the end.

    Of an endless command they are printed as they come.
    """

    def __init__(self, narrator: Narrator, *, endless: bool = False, refreshes_a_second: float | None = None) -> None:
        """Show nothing yet.

        Args:
            narrator: Describes events.
            endless: Whether results are printed as they come.
            refreshes_a_second: How often the rows are drawn; None: as it fits.
        """
        super().__init__()
        self._endless = endless
        color = getattr(click.get_current_context(silent=True), "color", None)
        self._console = VisibleCursor(file=sys.stderr, no_color=is_plain(color))
        self._results: list[str] = []
        self._narrator = narrator
        self._rows: Rows[Path] = Rows(self._console)
        self._live = LiveUnread(
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

    def begin(self, path: Path, status: str) -> None:
        is_new = path not in self._rows
        self._rows.begin(path, path).note = status
        if is_new:  # a status that changes is drawn as rows are
            self._live.refresh()

    def end(self, path: Path) -> None:
        """The row stays above those of the files that are still under way."""
        row = self._rows.end(path)
        self._live.refresh()  # the next printed line would have the rows that were drawn last below it
        if row is not None and row.size is not None:
            self._print(*self._rows.render(row))

    def on_event(self, path: Path, event: events.Event) -> None:
        if isinstance(event, events.UploadStopped):
            return  # the command prints its error itself
        self._narrate(path, event)
        update(self._rows.begin(path, path), event)

    def _narrate(self, path: Path, event: events.Event) -> None:
        if (text := self._narrator.text(event)) is not None:
            self._print(Text(f"{about(path)}: {printable(text)}"))

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
        with perhaps_unread(self._console):
            self._console.print(text, highlight=False, soft_wrap=True)

    def _draw(self) -> RenderableType:
        self._rows.make_names_distinct()
        return Group(*self._rows.render(*self._rows.all))


class JobBars(Bars):
    """The rows of a job: the largest files under way, and below them all files together."""

    def __init__(self, narrator: Narrator) -> None:
        self._total: RowState | None = None
        self._total_path: Path | None = None
        self._counts: list[str] = []
        super().__init__(narrator, endless=True, refreshes_a_second=_REFRESHES_A_SECOND)

    def begin(self, path: Path, status: str) -> None:
        self._total, self._total_path = self._rows.named(path.name, status), path
        self._live.refresh()

    def end(self, path: Path) -> None:
        """Remove the row: at its end, the command prints the sums and the failures."""
        self._rows.end(path)
        if path == self._total_path:
            self._total = None
            self._live.refresh()  # as above

    def on_event(self, path: Path, event: events.Event) -> None:
        if isinstance(event, events.JobProgress):
            if self._total is not None:
                update_total(self._total, event)
                self._counts = job_progress.counts(event)
        elif path in self._rows or isinstance(event, events.UploadStarted):
            super().on_event(path, event)
        else:  # a small file has no row: it comes and goes too fast to be read
            self._narrate(path, event)

    def _narrate(self, path: Path, event: events.Event) -> None:
        if not isinstance(event, events.UploadSkipped):  # the command prints their number at its end
            super()._narrate(path, event)

    def _draw(self) -> RenderableType:
        total = self._total  # another thread draws
        return Group() if total is None else self._rows.of_job(total, self._counts)
