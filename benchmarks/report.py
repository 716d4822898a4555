"""Turn runs into figures: medians, ratios and their spread, tables, JSON, and targets.

rich is imported only where it is needed, because this process's memory would count as its children's.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from .contest import Run
from .contestants import OURS


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One figure over the rounds: median, least and most."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        ordered = sorted(values)
        return cls(least=ordered[0], median=statistics.median(ordered), most=ordered[-1])

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f}–{self.most:.2f})"


NOBODY = "nobody to compare with"
"""The result of a target without a peer to compare with. Such a target is not met."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contestant over all rounds. If it did not finish, `seconds` is a lower bound and the rest is absent."""

    name: str
    proof: str
    outcome: str
    why: str
    seconds: Spread
    ratio: Spread | None
    """bigupload's seconds over its, round by round; an upper bound if it was stopped."""
    cpu: Spread | None = None
    """CPU seconds a GiB; of a file below 1 MiB, CPU seconds."""
    peak: float | None = None
    sent: float | None = None

    @property
    def finished(self) -> bool:
        return self.outcome == "done"


def rows(runs: Sequence[Run], proofs: Mapping[str, str]) -> list[Row]:
    """Return the rows: the fastest first, contestants that did not finish last."""
    ours = {run.round: run.seconds for run in runs if run.contestant == OURS and run.outcome == "done"}
    found = [_row(name, [run for run in runs if run.contestant == name], proofs, ours) for name in _names(runs)]
    return sorted(found, key=lambda row: (not row.finished, row.seconds.median))


def _names(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run.contestant for run in runs))


def _row(name: str, runs: Sequence[Run], proofs: Mapping[str, str], ours: Mapping[int, float]) -> Row:
    bad = next((run for run in runs if run.outcome != "done"), None)
    counted = [run for run in runs if run.outcome != "failed"]
    ratios = [ours[run.round] / run.seconds for run in counted if run.round in ours]
    same: dict[str, Any] = {
        "name": name,
        "proof": proofs.get(name, ""),
        "outcome": bad.outcome if bad else "done",
        "why": bad.why if bad else "",
        "seconds": Spread.of([run.seconds for run in counted] or [float("inf")]),
        "ratio": Spread.of(ratios) if ratios else None,
    }
    if bad:
        return Row(**same)
    sent = [run.sent_ratio for run in runs if run.sent_ratio is not None]
    return Row(
        **same,
        cpu=Spread.of(run.cpu_per_gib if run.size >= 1 << 20 else run.cpu for run in runs),
        peak=statistics.median(run.peak for run in runs),
        sent=statistics.median(sent) if sent else None,
    )


def own(found: Sequence[Row]) -> Row:
    """Return bigupload's row. Raises SystemExit if it did not finish, because then nothing can be compared."""
    row = next((row for row in found if row.name == OURS), None)
    if row is None or not row.finished:
        raise SystemExit(f"{OURS} did not finish: {row.why if row else 'it was left out'}")
    return row


def fastest(found: Sequence[Row], *, but: Sequence[str] = ()) -> Row | None:
    """Return the fastest peer. For a stopped peer, its lower bound counts."""
    peers = [row for row in found if not row.name.startswith(OURS) and row.outcome != "failed" and row.name not in but]
    return min(peers, key=lambda row: row.seconds.median, default=None)


def thriftiest(found: Sequence[Row], *, proving: bool = False) -> Row | None:
    """Return the peer with the least CPU time; with `proving`, among those that send a checksum with each part."""
    peers = [row for row in found if not row.name.startswith(OURS) and row.cpu and (row.proof or not proving)]
    return min(peers, key=lambda row: row.cpu.median if row.cpu else 0.0, default=None)


# -- targets


@dataclass(frozen=True, kw_only=True)
class Target:
    """A target: what it is, the result, and whether it is met."""

    what: str
    found: str
    holds: bool

    def __str__(self) -> str:
        return f"{'yes' if self.holds else 'NO':<4}{self.what}: {self.found}"


def wall_target(most: float, rival: Row | None, whom: str) -> list[Target]:
    """Compare bigupload's wall time with one rival's."""
    what = f"wall ≤ {most} × {whom}"
    if rival is None or rival.ratio is None:
        return [Target(what=what, found=NOBODY, holds=False)]
    bound = "" if rival.finished else "at most "
    return [
        Target(
            what=what,
            found=f"{bound}{rival.ratio} × {rival.name}'s",
            holds=rival.ratio.median <= most,
        )
    ]


def cpu_target(
    found: Sequence[Row],
    most: float,
    rival: Row | None,
    whom: str,
    *,
    unit: str = "s/GiB",
    figure: Callable[[float], str] = "{:.2f}".format,
) -> list[Target]:
    """Compare bigupload's CPU time with one rival's, by the medians. `figure` shows the rows' CPU time in `unit`."""
    mine = own(found).cpu
    what = f"CPU ≤ {most} × {whom}"
    if rival is None or rival.cpu is None or mine is None:
        return [Target(what=what, found=NOBODY, holds=False)]
    ratio = mine.median / rival.cpu.median
    text = f"{ratio:.2f} × {rival.name}'s ({figure(mine.median)} of {figure(rival.cpu.median)} {unit})"
    return [Target(what=what, found=text, holds=ratio <= most)]


def peak_target(found: Sequence[Row], most: float) -> list[Target]:
    peak = own(found).peak or 0.0
    return [Target(what=f"resident ≤ {most / 1e6:.0f} MB", found=f"{peak / 1e6:.0f} MB", holds=peak <= most)]


# -- output


def show(title: str, found: Sequence[Row], cpu: str) -> None:
    """Print a table. `cpu` is the unit of the rows' CPU time."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in ("seconds", cpu, "resident MB", "sent ×", f"{OURS} ÷ it"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("a part's proof")
    for row in found:
        style = "bold" if row.name == OURS else None if row.finished else "dim"
        if row.outcome == "failed":
            table.add_row(row.name, "failed", "", "", "", "", row.why[:60], style=style)
            continue
        table.add_row(
            row.name,
            str(row.seconds) if row.finished else f"> {row.seconds.median:.0f}",
            str(row.cpu) if row.cpu else "",
            f"{row.peak / 1e6:.0f}" if row.peak else "",
            f"{row.sent:.3f}" if row.sent else "",
            str(row.ratio) if row.ratio else "",
            row.proof or "none",
            style=style,
        )
    Console(width=max(120, Console().width)).print(table)


def conclude(targets: Sequence[Target]) -> int:
    """Print the targets. Returns the exit status."""
    for target in targets:
        print(target)
    return 0 if all(target.holds for target in targets) else 1


def insert(page: Path, name: str, lines: Iterable[str], versions: Mapping[str, str]) -> None:
    """Put lines into a Markdown page, between `<!-- name -->` and `<!-- /name -->`, in place of what is there.

    Below them stands when and where they were measured, and with which versions.

    Raises SystemExit if the page has no such place.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, also_found, after = rest.partition(end)
    if not found or not also_found:
        raise SystemExit(f"{page} has no place between {begin.strip()} and {end}")
    text = "\n".join([*lines, "", when_and_where(versions)])
    page.write_text(f"{before}{begin}\n{text}\n\n{end}{after}", encoding="utf-8")


def when_and_where(versions: Mapping[str, str]) -> str:
    """Return a sentence that says that it was measured today, on this machine, and with these versions."""
    there = [f"{os.cpu_count()} cores", f"{platform.system()} {platform.release()}"]
    return f"Measured on {date.today()}: {', '.join([*there, *(' '.join(each) for each in versions.items())])}."


def machine() -> dict[str, Any]:
    """Return a description of the machine."""
    control = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    return {
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "congestion_control": control.read_text().strip() if control.exists() else None,
        "load": os.getloadavg()[0],
    }


def write(path: Path, benchmark: str, figures: Mapping[str, Any], targets: Sequence[Target]) -> None:
    """Write all figures to a JSON file."""
    content = {"benchmark": benchmark, "machine": machine(), **figures, "targets": targets}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"no JSON for {type(value)}")
