"""Draw what was measured.  `python -m benchmarks plots FILE.json [--into DIR]`

FILE is what `python -m benchmarks all --json FILE` wrote, or what one benchmark wrote. These are the plots, of what it
has:

  throughput.svg  throughput, CPU time and memory against peers, over http and https
  path.svg        throughput over the round trip and over the loss
  memory.svg      memory and CPU time over the size of the file
  kills.svg       what a kill costs over the rate of the link
  time-left.svg   the time left that was displayed, and the true one, on each kind of path

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
from .report import Spread

HIGHLIGHT, PLAIN, INK = "#1098ad", "#8d99a5", "#768390"
OTHERS = ("#e8590c", "#9c5fd4", "#4c9a2a", "#b8860b")
"""One for each peer in a plot of lines. Each has a contrast of 3 or more against white and against #0d1117."""
MOST_ROWS = 8
COLUMNS, MOST_POINTS = 3, 60
"""Of panels in a line, and of points in a panel."""
MARKERS = "osD^v"
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
GIB = 1 << 30


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


# -- over paths


def path(found: Figures) -> Figure:
    """Draw a line for each contestant: over the round trip, and over the loss."""
    points = found["points"]
    rtt, loss = _commonest(point["rtt"] for point in points), _commonest(point["loss"] for point in points)
    over_rtt = sorted((each for each in points if each["loss"] == loss), key=lambda each: each["rtt"])
    over_loss = sorted((each for each in points if each["rtt"] == rtt), key=lambda each: each["loss"])
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.2), sharey=True, layout="constrained")
    _lines(axes[0], over_rtt, "rtt")
    axes[0].set_title(f"MB/s over the round trip in ms, {loss:g} % of packets lost")
    _lines(axes[1], over_loss, "loss")
    axes[1].set_title(f"MB/s over the loss in %, round trip {rtt:g} ms")
    axes[0].set_ylim(bottom=0)
    axes[1].legend(fontsize=9)
    return figure


def _commonest(values: Any) -> float:
    there = list(values)
    return float(max(dict.fromkeys(there), key=there.count))


def _lines(axis: Any, points: Sequence[Figures], along: str) -> None:
    places = range(len(points))
    others = iter(OTHERS)
    for name, marker in zip(_names(points), MARKERS * 9, strict=False):
        rates = [_rate(point, name) for point in points]
        ours = name == OURS
        colour = HIGHLIGHT if ours else next(others, PLAIN)
        axis.plot(places, rates, color=colour, marker=marker, label=name, linewidth=3 if ours else 1.5, markersize=5)
    axis.set_xticks(places, [f"{point[along]:g}" for point in points])
    axis.grid()


def _names(points: Sequence[Figures]) -> list[str]:
    """Return all names, bigupload first."""
    found = sorted({row["name"] for point in points for row in point["rows"]})
    return sorted(found, key=lambda name: name != OURS)


def _rate(point: Figures, name: str) -> float:
    row = next((row for row in point["rows"] if row["name"] == name and row["outcome"] == "done"), None)
    return point["size"] / row["seconds"]["median"] / 1e6 if row else float("nan")


# -- over sizes


def memory(found: Figures) -> Figure:
    """Two flat lines, if all is well."""
    runs = [run for run in found["runs"] if run["contestant"] == OURS]
    least = min(run["size"] for run in runs)
    start = Spread.of(run["cpu"] for run in runs if run["size"] == least).median
    sizes = sorted({run["size"] for run in runs} - {least})
    of = {size: [run for run in runs if run["size"] == size] for size in sizes}
    peaks = [Spread.of(run["peak"] for run in of[size]).median / 1e6 for size in sizes]
    costs = [Spread.of((run["cpu"] - start) / (size / GIB) for run in of[size]).median for size in sizes]
    figure, axes = plt.subplots(1, 2, figsize=(11, 2.8), layout="constrained")
    titles = ("resident MB over the size of the file in GB", "CPU s/GiB beyond the start, over the size in GB")
    for axis, title, values in zip(axes, titles, (peaks, costs), strict=True):
        axis.plot(range(len(sizes)), values, color=HIGHLIGHT, marker="o", linewidth=3)
        axis.set_xticks(range(len(sizes)), [f"{size / 1e9:g}" for size in sizes])
        axis.set_ylim(0, max(values) * 1.4)
        axis.set_title(title)
        axis.grid()
    return figure


# -- over rates


def kills(found: Figures) -> Figure:
    """Draw each kill, and the most that one may lose."""
    series = sorted(found["series"], key=lambda each: each["rate"])
    figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
    for place, each in enumerate(series):
        lost = [(kill["received"] - kill["accepted"]) / each["rate"] for kill in each["kills"]]
        axis.plot([place] * len(lost), lost, "o", color=HIGHLIGHT, markersize=6, alpha=0.8, markeredgewidth=0)
    bounds = [max(10.0, max(kill["part_size"] for kill in each["kills"]) / each["rate"]) for each in series]
    axis.plot(range(len(series)), bounds, color=OTHERS[0], linestyle="--", label="ten seconds, or one part")
    axis.set_xticks(range(len(series)), [f"{each['rate'] / 1e6:g}" for each in series])
    axis.set_xlim(-0.4, len(series) - 0.6)
    axis.set_ylim(0, max(bounds) * 1.25)
    axis.set_title("seconds of uploading that a kill loses, over the link's MB/s; 30 ms")
    axis.legend(fontsize=9)
    axis.grid()
    return figure


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
        axis.plot([0, seconds], [seconds, 0], color=OTHERS[0], linestyle="--", label="true")
        axis.plot([at for at, _ in samples], [left for _, left in samples], color=HIGHLIGHT, label="displayed")
        axis.set_ylim(0, 1.5 * seconds)
        axis.set_xlim(0, seconds)
        axis.set_title(f"{each['kind']}, {each['rate'] / 1e6:g} MB/s: seconds left")
        axis.grid()
    axes[0][0].legend(fontsize=8)
    return figure


# -- files


def drawn(found: Figures) -> dict[str, Figure]:
    """Return the plots, by name, of which there are figures."""
    each = [one for one in found.get("benchmarks", {"": found}).values() if "benchmark" in one]
    by_name = {figures["benchmark"]: figures for figures in each if figures["benchmark"] != "throughput"}
    contests = [
        ("https" if figures["arguments"]["tls"] else "http", figures["contests"][0])
        for figures in each
        if figures["benchmark"] == "throughput" and not figures["arguments"]["seaweedfs"]
    ]
    made = {}
    with plt.rc_context(STYLE):
        if contests:
            made["throughput"] = throughput(contests)
        for name, benchmark, draw in (
            ("path", "sweep", path),
            ("memory", "scale", memory),
            ("kills", "interruptions", kills),
            ("time-left", "paths", time_left),
        ):
            if benchmark in by_name:
                made[name] = draw(by_name[benchmark])
    return made


def save(found: Figures, directory: Path) -> list[Path]:
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
    made.add_argument("file", type=Path, metavar="FILE", help="Figures, as JSON.")
    made.add_argument("--into", type=Path, default=Path("docs/images"), metavar="DIR", help="[docs/images]")
    arguments = made.parse_args()
    written = save(json.loads(arguments.file.read_text()), arguments.into)
    for file in written:
        print(f"{file} {file.stat().st_size:,} bytes")
    return 0 if written else 1
