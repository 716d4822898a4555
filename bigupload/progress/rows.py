"""Rows on a console: one for each upload that is under way, by rich."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from bigupload.progress import job_progress
from bigupload.progress.row import RowState, bar_columns, most_name, render
from bigupload.units import one_line

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
        console.print()  # a quiet console drops what it holds; else each drawing would be added to those before it
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
            path: What is uploaded: its name is shown.
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

    def tell_apart(self) -> None:
        """Give longer names to those rows whose files have the same name."""
        rows, paths = dict(self._rows), dict(self._paths)
        names = job_progress.told_apart(paths.values())
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
        self.tell_apart()
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
