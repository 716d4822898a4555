"""The progress of a program's uploads by rich, in rows as the command has them."""

from __future__ import annotations

import sys
import time
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.errors import LiveError
from rich.text import Text

from bigupload import events
from bigupload.progress import job_progress
from bigupload.progress.job_progress import ProgressOfCalls, path_of
from bigupload.progress.rows import LiveUnread, Rows, RowState, VisibleCursor, perhaps_unread, update, update_total
from bigupload.units import printable

_REFRESHES_A_SECOND = 5


class RichProgress(ProgressOfCalls[RowState]):
    """An `on_event` that draws a row for each call. The row stays above the others when its call has ended."""

    def __init__(self, console: Console | None = None) -> None:
        """Show nothing yet.

        Args:
            console: Where to draw; None: on standard error.
        """
        super().__init__()
        self._console = console or VisibleCursor(stderr=True)
        self._rows: Rows[events.UploadIdentity] = Rows(self._console)
        self._live: LiveUnread | None = None
        self._drawn_at = float("-inf")
        self._kept: list[Text] = []
        """In a notebook, the lines that are printed when the display ends."""

    def _begin(self, upload: events.UploadIdentity) -> RowState:
        row = self._rows.begin(upload, path_of(upload))
        if self._live is None:
            self._live = self._started()
        return row

    def _started(self) -> LiveUnread | None:
        """The display of rows; None if nobody would see it."""
        is_terminal = _is_terminal(self._console.file)
        live = LiveUnread(
            console=self._console,
            get_renderable=self._draw,
            # A notebook puts the output of one thread into the widget that another thread is drawing, and loses it.
            auto_refresh=not self._console.is_jupyter,
            refresh_per_second=_REFRESHES_A_SECOND,
            transient=True,  # rows are printed when they end
            # The program's output goes above the rows, but only if it goes to a terminal anyhow.
            redirect_stdout=is_terminal and _is_terminal(sys.stdout),
            redirect_stderr=is_terminal and _is_terminal(sys.stderr),
        )
        try:
            live.start()
        except LiveError:  # before rich 14.1, a console has one display: rows are only printed
            pass
        except (OSError, SystemExit):  # of a caller's own console, whose reader is gone
            self._console.clear_live()
            return None
        return live

    def _show(self, bar: RowState, event: events.Event) -> None:
        match event:
            case events.JobProgress():
                update_total(bar, event)
                if event.is_finished:
                    bar.note = ", ".join(job_progress.counts(event))
            case events.Warned(message=message):
                self._print(Text(f"{bar.name}: warning: {printable(message)}"))
            case _:
                update(bar, event)
        self._draw_now_and_then(time.monotonic())

    def _draw_now_and_then(self, now: float) -> None:
        """Draw from the event loop, if no thread draws."""
        if self._live is not None and not self._live.auto_refresh and now - self._drawn_at >= 1 / _REFRESHES_A_SECOND:
            self._drawn_at = now
            self._live.refresh()

    def _end(self, upload: events.UploadIdentity, bar: RowState) -> None:
        self._rows.tell_apart()
        ended = self._rows.render(bar)
        self._rows.end(upload)
        if self._live is not None:
            self._live.refresh()  # the next printed line would have the rows that were drawn last below it
        self._print(*ended)
        self._remove(upload, bar)

    def _remove(self, upload: events.UploadIdentity, bar: RowState) -> None:
        self._rows.end(upload)
        if not self._rows.all and self._live is not None:
            self._live.stop()
            self._live = None
            kept, self._kept = self._kept, []
            for line in kept:
                self._print_now(line)

    def _print(self, line: Text) -> None:
        """Print a line above the rows. A notebook shows it in the widget, and prints it when the display ends."""
        if self._console.is_jupyter:
            self._kept.append(line)
        else:
            self._print_now(line)

    def _print_now(self, line: Text) -> None:
        with perhaps_unread(self._console):
            self._console.print(line, soft_wrap=True)

    def _draw(self) -> RenderableType:
        self._rows.tell_apart()
        return Group(*self._kept, *self._rows.render(*self._rows.all))


def _is_terminal(stream: IO[str] | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except (AttributeError, ValueError):  # it is an object of the program's own, or closed
        return False
