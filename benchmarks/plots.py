"""Plots that a README can show. matplotlib is imported here alone, once everything was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

from .contest import Run
from .contestants import OURS
from .report import Row, Spread

HIGHLIGHT, PLAIN, PALE, INK = "#0b7285", "#adb5bd", "#dee2e6", "#343a40"
LOG_ABOVE = 8.0
"""Where the largest is more than so many times the least, a linear axis would show nothing of the least."""
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def contest(title: str, rows: Sequence[Row], cpu: str, path: Path) -> None:
    """Bars of time, CPU and memory; whoever did not finish has a pale bar of the time that it was given."""
    shown = [row for row in rows if row.outcome != "failed"][::-1]
    names = [row.name for row in shown]
    panels: list[tuple[str, list[Spread | None]]] = [
        ("seconds", [row.seconds for row in shown]),
        (cpu, [row.cpu for row in shown]),
        ("resident MB", [_megabytes(row.peak) for row in shown]),
    ]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(13, 1.4 + 0.28 * len(shown)), sharey=True, layout="constrained")
        for axis, (label, spreads) in zip(axes, panels, strict=True):
            _bars(axis, label, spreads, shown)
        axes[0].set_yticks(range(len(names)), names)
        for tick, row in zip(axes[0].get_yticklabels(), shown, strict=True):
            tick.set_fontweight("bold" if row.name == OURS else "normal")
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        _save(figure, path)


def _megabytes(peak: float | None) -> Spread | None:
    return None if peak is None else Spread.of([peak / 1e6])


def _bars(axis: Any, label: str, spreads: Sequence[Spread | None], rows: Sequence[Row]) -> None:
    there = [spread.median for spread in spreads if spread is not None]
    logarithmic = bool(there) and max(there) > LOG_ABOVE * min(there)
    if logarithmic:
        axis.set_xscale("log")
    for place, (spread, row) in enumerate(zip(spreads, rows, strict=True)):
        if spread is None:
            continue
        colour = HIGHLIGHT if row.name.startswith(OURS) else PLAIN if row.finished else PALE
        error = None
        if spread.least < spread.most:
            error = [[spread.median - spread.least], [spread.most - spread.median]]
        style = {"ecolor": INK, "elinewidth": 1, "capsize": 2}
        axis.barh(place, spread.median, color=colour, height=0.72, xerr=error, error_kw=style)
        mark = "" if row.finished else "> "
        digits = f"{spread.median:.2f}" if spread.median < 10 else f"{spread.median:.1f}".removesuffix(".0")
        if spread.median >= 100:
            digits = f"{spread.median:,.0f}"
        axis.annotate(
            f"{mark}{digits}", (spread.most, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8
        )
    least = min(there, default=1.0)
    if logarithmic:
        axis.set_xlim(least / 2, max(there) * 2.2)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.minorticks_off()
    elif there:
        axis.set_xlim(0, max(there) * 1.18)
    axis.set_xlabel(label + (" (log)" if logarithmic else ""))
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color=PALE, linewidth=0.6)
    axis.set_axisbelow(True)


def scale(by_size: Mapping[int, Sequence[Run]], costs: Mapping[int, float], path: Path) -> None:
    """Two flat lines, if all is well. `costs` are CPU seconds a GiB beyond the start."""
    sizes = sorted(by_size)
    gigabytes = [size / 1e9 for size in sizes]
    peaks = [Spread.of(run.peak for run in by_size[size]).median / 1e6 for size in sizes]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 3.2), layout="constrained")
        panels = (("CPU seconds a GiB, beyond the start", [costs[size] for size in sizes]), ("resident MB", peaks))
        for axis, (label, values) in zip(axes, panels, strict=True):
            axis.plot(gigabytes, values, color=HIGHLIGHT, marker="o", linewidth=2)
            axis.set_xscale("log")
            axis.set_xticks(gigabytes, [f"{each:g}" for each in gigabytes])
            axis.minorticks_off()
            axis.set_ylim(0, max(values) * 1.3)
            axis.set_xlabel("GB (log)")
            axis.set_title(label, loc="left", fontsize=10)
            axis.grid(color=PALE, linewidth=0.6)
        figure.suptitle("One file, larger and larger", x=0.01, ha="left", fontweight="bold")
        _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
