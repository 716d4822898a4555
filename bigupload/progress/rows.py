"""Rows on a console: one for each upload that is under way, by rich.

What an event changes of a row, and how it looks in a terminal's width, are functions without a console.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import IO, Generic, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.errors import LiveError
from rich.live import Live
from rich.text import Text

from bigupload import events
from bigupload.progress import job_progress
from bigupload.progress.job_progress import ProgressOfCalls, path_of
from bigupload.records import dataclass
from bigupload.units import counted, format_clock, format_rate, format_size, one_line, printable

_LEAST_BAR, _LONGEST_BAR = 8, 40
_SYMBOLS = ("━", "╍", "─")
_ASCII_SYMBOLS = ("#", "=", "-")


@dataclass(slots=True)
class RowState:
    """The state of one file's row. Sizes in bytes."""

    name: str
    size: int | None = None
    """None: not known yet, so that only the name and the note are shown."""
    acknowledged: int = 0
    in_flight: int = 0
    parts: str = ""
    retries: int = 0
    note: str = ""
    """Takes the place of the rate and of all that follows it."""
    outage: str = ""
    """As `note`, and stronger, while nothing connects to the store."""
    rate: float = 0.0
    """Bytes a second."""
    seconds_left: float | None = None
    is_waiting: bool = False
    """Whether everything was sent, and the store's responses are late."""
    hangs: str = ""
    """In place of the rate while reading the file hangs."""


def most_name(width: int) -> int:
    """Return the columns that a name may have in a row of `width` columns."""
    return max(8, min(24, width // 5))


def render(state: RowState, width: int, *, names: int, ascii_only: bool = False, most_bar: int = _LONGEST_BAR) -> Text:
    """The row, never wider than `width` columns. What matters least is left out first where it does not fit.

    Args:
        state: what is known of the file.
        width: columns of the row.
        names: columns for the name.
        ascii_only: draw the bar with ASCII characters.
        most_bar: columns of the bar at most.
    """
    row = Text(_name(state.name, names), no_wrap=True, overflow="crop")
    if state.size is None:
        row.append(f"  {state.note}", style="dim")
        row.truncate(width)
        return row
    bar, fields = _layout(state, state.size, width, names)
    row.append(" ")
    row.append_text(_bar(state, state.size, min(bar, most_bar), ascii_only=ascii_only))
    for text, style in fields:
        row.append(" ")
        row.append(text, style)
    row.truncate(width)
    return row


def bar_columns(state: RowState, width: int, *, names: int) -> int:
    """The columns that the bar of a row would have; without a bar, the most that it may have."""
    return _LONGEST_BAR if state.size is None else _layout(state, state.size, width, names)[0]


def _layout(state: RowState, size: int, width: int, names: int) -> tuple[int, list[tuple[str, str]]]:
    """The columns of the bar, and what has room behind it."""
    fields: list[tuple[str, str]] = []
    room = width - names - 1 - _LEAST_BAR
    for text, style in _fields(state, size):
        if len(text) + 1 > room:
            break  # only less important text follows
        fields.append((text, style))
        room -= len(text) + 1
    return min(_LONGEST_BAR, max(0, room + _LEAST_BAR)), fields


def _name(name: str, width: int) -> str:
    """The name in exactly `width` columns. A directory before it keeps its beginning, which distinguishes names."""
    head, slash, rest = name.partition("/")
    room = width - cell_len(rest) - 2
    if slash and cell_len(name) > width and room > 0:
        return set_cell_size(f"{set_cell_size(head, room).rstrip()}…/{rest}", width)
    return set_cell_size(cut_middle(name, width), width)


def cut_middle(text: str, width: int) -> str:
    """A text in at most `width` columns. Both its ends stay, because either may distinguish names."""
    if cell_len(text) <= width:
        return text
    tail = ""
    for character in reversed(text):
        if cell_len(character + tail) > (width - 1) // 2:
            break
        tail = character + tail
    return f"{set_cell_size(text, width - 1 - cell_len(tail)).rstrip()}…{tail.lstrip()}"


def _fields(state: RowState, size: int) -> list[tuple[str, str]]:
    """Return the fields behind the bar, the most important first."""
    percent = 100 if not size else 100 * state.acknowledged // size
    sizes = f"{format_size(state.acknowledged)}/{format_size(size)}"
    number, _, unit = format_size(state.acknowledged).partition(" ")
    if format_size(size).endswith(f" {unit}"):
        sizes = f"{number}/{format_size(size)}"
    widest = len(format_size(size).partition(" ")[0]) + 2 + len(format_size(size)) + 1
    first = [(f"{percent:>3} %", "bold"), (f"{sizes:>{widest}}", "")]
    if state.outage:
        return [*first, (state.outage, "red")]
    if state.note:
        return [*first, (state.note, "green" if state.note.startswith(job_progress.PROVED) else "")]
    if state.hangs:
        return [first[0], (state.hangs, "red"), (sizes, "")]  # 80 columns have no room for the sizes
    left = "-:--" if state.seconds_left is None else format_clock(state.seconds_left)
    pace = job_progress.WAITING if state.is_waiting else f"{format_rate(state.rate):>10}"
    retries = "1 retry" if state.retries == 1 else f"{state.retries} retries"
    return [
        *first,
        (pace, "" if state.rate or state.is_waiting else "red"),
        (f"{left:>7}", "cyan"),
        *([(f"{state.parts} {'part' if state.parts.endswith('/1') else 'parts'}", "")] if state.parts else []),
        *([(retries, "yellow")] if state.retries else []),
    ]


def _bar(state: RowState, size: int, width: int, *, ascii_only: bool) -> Text:
    """Three tones: what the store has acknowledged, what is in flight, what is left."""
    acknowledged = width if not size else width * state.acknowledged // size
    in_flight = 0 if not size else width * min(size, state.acknowledged + state.in_flight) // size - acknowledged
    done, flying, left = _ASCII_SYMBOLS if ascii_only else _SYMBOLS
    bar = Text()
    bar.append(done * acknowledged, style="green")
    bar.append(flying * max(0, in_flight), style="cyan")
    bar.append(left * (width - acknowledged - max(0, in_flight)), style="bright_black")
    return bar


def update_total(row: RowState, event: events.JobProgress) -> None:
    """Update the row of all files by a job's progress."""
    _take_pace(row, event)
    if not job_progress.has_share(event):  # there is no whole to show a share of
        row.note = f"{job_progress.bytes_text(event)}  {format_rate(event.rate)}" if event.bytes_found else ""
        return
    row.size, row.note = event.bytes_found, ""
    row.acknowledged, row.in_flight = job_progress.done_of(event), event.bytes_in_flight


def _take_pace(row: RowState, event: events.Progress | events.JobProgress | events.ReadingBack) -> None:
    row.rate, row.seconds_left = event.rate, event.seconds_left
    row.hangs = job_progress.hanging(event)
    row.is_waiting = not isinstance(event, events.ReadingBack) and event.is_waiting


def update(row: RowState, event: events.Event) -> None:
    """Update a row by an event."""
    if isinstance(event, events.OutageStarted | events.OutageEnded):
        row.outage = job_progress.note(event) or ""
    elif (note := job_progress.note(event)) is not None:
        row.note = note
    match event:
        case events.UploadStarted(size=size, resumed_bytes=resumed, parts=parts, resumed_parts=resumed_parts):
            row.size, row.acknowledged, row.in_flight, row.note = size, resumed, 0, ""
            row.parts = f"{resumed_parts}/{parts}"
        case events.Progress():
            row.size, row.note = event.size, ""
            row.acknowledged, row.in_flight = event.bytes_uploaded, event.bytes_in_flight
            row.parts, row.retries = f"{event.parts_uploaded}/{event.parts}", event.retries
            _take_pace(row, event)
            if event.size is None:  # there is no whole to show a share of
                rate = format_rate(event.rate)
                row.note = f"{format_size(event.bytes_uploaded)}  {rate}  {counted(event.parts_uploaded, 'part')}"
        case events.ReadingBack(size=size, bytes_compared=done):
            row.size, row.acknowledged, row.note = size, done, ""
            _take_pace(row, event)
        case events.Restarted():
            row.acknowledged = row.in_flight = 0
        case events.Completing():
            row.acknowledged, row.in_flight = row.size or 0, 0
        case events.UploadStopped():
            row.in_flight, row.outage = 0, ""
        case _:
            pass


K = TypeVar("K", bound=Hashable)


class VisibleCursor(Console):
    """Leaves the cursor visible: nobody could show it again after SIGKILL, or while Ctrl-Z holds the process."""

    def show_cursor(self, show: bool = True) -> bool:
        return False

    def on_broken_pipe(self) -> None:
        """Draw no more. Rich would end the program, and close its standard output."""
        self.quiet = True


@contextlib.contextmanager
def perhaps_unread(console: Console) -> Iterator[None]:
    """Whoever read what is drawn may be gone: that ends no upload. What was not written is dropped."""
    try:
        yield
    except (OSError, SystemExit, ValueError) as e:  # SystemExit: a console of the caller's own, whose pipe is broken
        if isinstance(e, ValueError) and not getattr(console.file, "closed", False):
            raise
        quiet, console.quiet = console.quiet, True
        console.print()  # a quiet console drops its buffer; else each drawing would be added to those before it
        console.quiet = quiet


class LiveUnread(Live):
    """A display that goes on, in vain, when nobody reads it any more."""

    def refresh(self) -> None:
        with perhaps_unread(self.console):
            super().refresh()

    def stop(self) -> None:
        with perhaps_unread(self.console):
            super().stop()


class Rows(Generic[K]):
    """The rows, by what the caller knows an upload by."""

    def __init__(self, console: Console) -> None:
        """Start without rows.

        Args:
            console: Where they are shown: they are as wide as it is.
        """
        self._console = console
        self._rows: dict[K, RowState] = {}
        self._paths: dict[K, Path] = {}
        self._widest_name = 0

    def __contains__(self, key: K) -> bool:
        return key in self._rows

    @property
    def all(self) -> list[RowState]:
        """The rows of what is under way, in the order in which they began."""
        return list(self._rows.values())

    def begin(self, key: K, path: Path) -> RowState:
        """Return the row of an upload. It is a new one at the first call.

        Args:
            key: The upload.
            path: The source of the upload: its name is shown.
        """
        if key not in self._rows:
            self._paths[key] = path
            self._rows[key] = self.named(path.name)
        return self._rows[key]

    def named(self, name: str, note: str = "") -> RowState:
        """Return a row of the caller's own, which has its name below the others'."""
        row = RowState(one_line(name), note=note)
        self._widest_name = max(self._widest_name, cell_len(row.name))
        return row

    def end(self, key: K) -> RowState | None:
        """Remove the row of an upload, and return it; None without a row."""
        self._paths.pop(key, None)
        return self._rows.pop(key, None)

    def make_names_distinct(self) -> None:
        """Give longer names to those rows whose files have the same name."""
        rows, paths = dict(self._rows), dict(self._paths)
        names = job_progress.distinct_names(paths.values())
        for key, row in rows.items():
            if key in paths:
                row.name = names[paths[key]]
                self._widest_name = max(self._widest_name, cell_len(row.name))

    def render(self, *rows: RowState) -> list[Text]:
        """The rows as texts, with their bars below one another."""
        names = min(self._widest_name, most_name(self._width))
        bar = min((bar_columns(row, self._width, names=names) for row in rows), default=0)
        only = self._console.options.ascii_only
        return [render(row, self._width, names=names, ascii_only=only, most_bar=bar) for row in rows]

    def of_job(self, total: RowState, counts: Sequence[str]) -> Group:
        """The largest files that are under way, the row of all files below them, and what became of files."""
        self.make_names_distinct()
        rows = sorted(self.all, key=lambda row: -(row.size or 0))[: job_progress.MOST_CURRENT]
        lines = self.render(*rows, total)
        if counts:
            text = Text(", ".join(counts), no_wrap=True, overflow="crop")
            text.highlight_regex(r"[\d,]+ failed", "red")
            text.truncate(self._width)
            lines.append(text)
        return Group(*lines)

    @property
    def _width(self) -> int:
        # The last column is left free: some terminals wrap when it is written.
        return max(1, self._console.width - 1)


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
        self._rows.make_names_distinct()
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
        self._rows.make_names_distinct()
        return Group(*self._kept, *self._rows.render(*self._rows.all))


def _is_terminal(stream: IO[str] | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except (AttributeError, ValueError):  # it is an object of the program's own, or closed
        return False
