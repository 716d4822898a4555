"""Draw what was measured.  `python -m benchmarks plots FILE.json … [--into DIR]`

Each FILE is what a benchmark wrote with `--json`:

  throughput.svg  of `throughput`, with and without --tls: throughput, CPU time and memory against peers
  time-left.svg   of `paths`: the time left that was displayed, and the true one, on each kind of path

The same figures make the same bytes. The background is transparent, and all colours can be read on light and on dark.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from .contestants import OURS

HIGHLIGHT, PLAIN, INK = "#1098ad", "#8d99a5", "#768390"
TRUE = "#e8590c"
"""Each colour has a contrast of 3 or more against white and against #0d1117."""
MOST_ROWS = 8
COLUMNS, MOST_POINTS = 3, 60
"""Of panels in a line, and of points in a panel."""
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "font.family": ["DejaVu Sans", "sans-serif"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "bigupload",
}
_ANONYMOUS = {"Date": None, "Creator": None, "Format": None, "Type": None}
"""What SVG says of its making, left out."""

Figures = Mapping[str, Any]


# -- against peers


def throughput(contests: Sequence[tuple[str, Figures]]) -> Figure:
    """Draw bars: a line of panels for each contest. Only those who finished, the fastest first."""
    shown = [(scheme, [row for row in found["rows"] if row["outcome"] == "done"]) for scheme, found in contests]
    shown = [(scheme, _kept(rows)) for scheme, rows in shown]
    heights = [len(rows) + 1.6 for _, rows in shown]
    figure, axes = plt.subplots(
        len(shown), 3, figsize=(11, 0.27 * sum(heights)), height_ratios=heights, layout="constrained", squeeze=False
    )
    for line, (scheme, rows), (_, found) in zip(axes, shown, contests, strict=True):
        size = found["runs"][0]["size"]
        names = [_named(row) for row in rows]
        _bars(line[0], f"{scheme}: MB/s", names, [size / row["seconds"]["median"] / 1e6 for row in rows])
        _bars(line[1], "CPU s/GiB", names, [row["cpu"]["median"] for row in rows])
        _bars(line[2], "resident MB", names, [row["peak"] / 1e6 for row in rows])
        for axis in line[1:]:
            axis.set_yticklabels([])
    return figure


def _kept(rows: Sequence[Figures]) -> list[Figures]:
    ordered = sorted(rows, key=lambda row: row["seconds"]["median"])
    kept = ordered[:MOST_ROWS]
    return kept + [row for row in ordered[MOST_ROWS:] if row["name"] == OURS]


def _named(row: Figures) -> str:
    """Return a name, with the proof of a part behind it."""
    return f"{row['name']} ({row['proof'] or 'no proof'})"


def _bars(axis: Any, title: str, names: Sequence[str], values: Sequence[float]) -> None:
    places = range(len(names))
    colours = [HIGHLIGHT if name.startswith(OURS) else PLAIN for name in names]
    axis.barh(places, values, color=colours, height=0.7)
    for place, value in zip(places, values, strict=True):
        text = f"{value:.2f}" if value < 10 else f"{value:,.0f}"
        axis.annotate(text, (value, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axis.set_yticks(places, names)
    for tick, name in zip(axis.get_yticklabels(), names, strict=True):
        tick.set_fontweight("bold" if name.startswith(OURS) else "normal")
    axis.invert_yaxis()
    axis.set_xlim(0, max(values) * 1.2)
    axis.set_title(title)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x")


# -- over the time of an upload


def time_left(found: Figures) -> Figure:
    """Draw a panel for each path: what the first upload displayed, and the truth."""
    shown = [(each, each["displayed"][OURS][0]) for each in found["found"] if each["displayed"].get(OURS)]
    lines = max(1, -(-len(shown) // COLUMNS))
    figure, axes = plt.subplots(lines, COLUMNS, figsize=(11, 2.2 * lines), layout="constrained", squeeze=False)
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis, (each, upload) in zip(axes.flat, shown, strict=False):
        began, seconds = upload["began"], upload["ended"] - upload["began"]
        samples = [(one["at"] - began, one["left"]) for one in upload["samples"] if one["left"] is not None]
        samples = samples[:: -(-len(samples) // MOST_POINTS) or 1]
        axis.plot([0, seconds], [seconds, 0], color=TRUE, linestyle="--", label="true")
        axis.plot([at for at, _ in samples], [left for _, left in samples], color=HIGHLIGHT, label="displayed")
        axis.set_ylim(0, 1.5 * seconds)
        axis.set_xlim(0, seconds)
        axis.set_title(f"{each['kind']}, {each['rate'] / 1e6:g} MB/s: seconds left")
        axis.grid()
    axes[0][0].legend(fontsize=8)
    return figure


# -- files


def drawn(found: Sequence[Figures]) -> dict[str, Figure]:
    """Return the plots, by name, of which there are figures."""
    contests = [
        ("https" if figures["arguments"]["tls"] else "http", figures["contests"][0])
        for figures in found
        if figures["benchmark"] == "throughput"
    ]
    over_paths = [figures for figures in found if figures["benchmark"] == "paths"]
    made = {}
    with plt.rc_context(STYLE):
        if contests:
            made["throughput"] = throughput(contests)
        if over_paths:
            made["time-left"] = time_left(over_paths[-1])
    return made


def save(found: Sequence[Figures], directory: Path) -> list[Path]:
    """Write the plots into a directory. Returns their files."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in drawn(found).items():
        file = directory / f"{name}.svg"
        with plt.rc_context(STYLE):
            figure.savefig(file, metadata=_ANONYMOUS)
        plt.close(figure)
        file.write_text("\n".join(line.rstrip() for line in file.read_text().splitlines()) + "\n")
        written.append(file)
    return written


def main() -> int:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("files", type=Path, nargs="+", metavar="FILE", help="Figures, as JSON.")
    made.add_argument("--into", type=Path, default=Path("docs/images"), metavar="DIR", help="[docs/images]")
    arguments = made.parse_args()
    written = save([json.loads(file.read_text()) for file in arguments.files], arguments.into)
    for file in written:
        print(f"{file} {file.stat().st_size:,} bytes")
    return 0 if written else 1
