"""The table that `bigupload status` prints: a header and fitted columns on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from bigupload.records import dataclass

_HEADER = ("ID", "STATE", "DONE", "AGE")
_WHAT = "WHAT"
_ARROW = " → "
_LEAST = 20
"""Columns that the last one has at least, however narrow the terminal is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRow:
    """An upload or a job, as texts for a terminal."""

    id: str
    state: str
    done: str
    """How much is in the store, or how that was proved."""
    age: str
    """Since when nothing was recorded."""
    source: str
    target: str = ""
    note: str = ""
    """The text behind the target."""


def terminal_width() -> int | None:
    """The columns of the terminal; None: standard output is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def lines_of(rows: Sequence[StatusRow], width: int | None) -> list[str]:
    """The lines of the table.

    Args:
        rows: What it has.
        width: Columns of the terminal, in which no line is cut by the terminal. None: the lines are for a program or a
            file, without a header, and whole.
    """
    if not rows:
        return []
    table = [(row.id, row.state, row.done, row.age) for row in rows]
    heads = () if width is None else _HEADER
    columns = [max(map(len, column)) for column in zip(*table, *[heads] * bool(heads), strict=True)]

    def line(cells: Sequence[str], what: str) -> str:
        padded = [f"{cell:<{column}}" for cell, column in zip(cells, columns, strict=True)]
        return "  ".join([*padded, what])

    room = None if width is None else max(_LEAST, width - sum(columns) - 2 * len(columns))
    lines = [line(cells, _what(row, room)) for cells, row in zip(table, rows, strict=True)]
    return lines if width is None else [line(_HEADER, _WHAT), *lines]


def _what(row: StatusRow, room: int | None) -> str:
    """Shorten source and target to the given number of columns: each keeps its beginning and end."""
    arrow = _ARROW if row.target else ""
    whole = f"{row.source}{arrow}{row.target}{row.note}"
    if room is None or len(whole) * 2 <= room:
        return whole
    from rich.cells import cell_len

    from bigupload.progress.rows import cut_middle

    if cell_len(whole) <= room:
        return whole
    if not row.target:
        return cut_middle(whole, room)
    left = room - len(arrow)
    target = cut_middle(row.target, max(left // 2, left - cell_len(row.source)))
    return f"{cut_middle(row.source, left - cell_len(target))}{arrow}{target}"
