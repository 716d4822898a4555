"""`python -m tests.platforms windows|macos [FOLDER…]`: the fast suite on another system, folder by folder.

`windows` runs CPython for Windows by Wine. `macos` takes from bigupload's modules what macOS lacks or does otherwise.
Prints a row a folder, and the reasons of skips. The exit status is 0 if nothing failed.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from . import windows

_ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (
    "core", "support", "manifests", "sources", "http", "engine", "batch", "api", "stores", "integration", "cli",
    "testing", "service", "adapters", "cluster", "crash", "fuzz",
)  # fmt: skip
_ENDS_WITHIN, _STOPS_WITHIN = 3600, 60
"""Seconds, against a hang alone: a busy machine takes half an hour for a folder."""


@dataclass
class Row:
    """What became of the tests of a folder."""

    folder: str
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    note: str = ""

    def line(self) -> str:
        """The row as text."""
        return f"{self.folder:<14}{self.passed:>8}{len(self.failed):>8}{self.skipped.total():>8}  {self.note}".rstrip()


def run(python: list[str], where: Path, folder: str, results: Path, options: list[str]) -> Row:
    """Run the tests of a folder.

    Args:
        python: The command that starts Python.
        where: The checkout, as that Python finds it.
        folder: Below `tests/`.
        results: A directory below the checkout for what pytest writes.
        options: Of pytest.
    """
    report = results / f"{folder.replace('/', '-')}.xml"
    report.unlink(missing_ok=True)
    written = str(report.relative_to(_ROOT))  # from the checkout, which both systems share
    command = [
        *python, "-m", "pytest", f"tests/{folder}", "-v", "-n", "2", "--timeout", "120", "-p", "no:cacheprovider",
        "--continue-on-collection-errors", f"--junit-xml={written}", *options,
    ]  # fmt: skip
    log = results / f"{folder.replace('/', '-')}.txt"
    row = Row(folder)
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=where, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as running,
    ):
        try:
            running.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            row.note = f"cut after {_ENDS_WITHIN} s"
            running.send_signal(signal.SIGINT)  # it reports what has ended, and stops its stores
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(_STOPS_WITHIN)
            running.kill()
    if not report.exists():  # Wine passes no Ctrl-C on
        row.note = row.note or "pytest did not end in order"
        count_printed(log.read_text(encoding="utf-8", errors="replace"), row)
        return row
    for case in ElementTree.parse(report).iter("testcase"):
        if (skipped := case.find("skipped")) is not None:
            row.skipped[re.sub(r"^.*?: ", "", skipped.get("message", ""), count=1)] += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            row.failed.append(f"{case.get('classname')}::{case.get('name')}")
        else:
            row.passed += 1
    return row


def count_printed(log: str, row: Row) -> None:
    """Count in `row` the tests whose end a worker of pytest printed: one that fails in its teardown passed before."""
    ended: dict[str, set[str]] = {"PASSED": set(), "SKIPPED": set(), "FAILED": set(), "ERROR": set()}
    for outcome, node in re.findall(rf"^\[gw\d+\] .*?({'|'.join(ended)}) (.+?) *$", log, re.MULTILINE):
        ended[outcome].add(node)
    failed = ended["FAILED"] | ended["ERROR"]
    row.passed += len(ended["PASSED"] - failed)
    row.failed += sorted(failed)
    row.skipped["the run was cut before pytest printed why"] += len(ended["SKIPPED"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.platforms", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("system", choices=("windows", "macos"))
    parser.add_argument("folders", nargs="*", default=FOLDERS, metavar="FOLDER", help="Below tests/. [default: most]")
    parser.add_argument(
        "--home",
        type=Path,
        default=Path.home() / ".cache" / "bigupload-tests" / "wine",
        help="Where Python for Windows is installed.",
    )
    chosen = parser.parse_intermixed_args()
    python, where, options = [sys.executable], _ROOT, ["-p", "tests.platforms.macos"]
    if chosen.system == "windows":
        try:
            python, options = windows.prepare(chosen.home.absolute()), windows.OPTIONS
        except windows.Unavailable as e:
            parser.error(str(e))
        where = chosen.home.absolute() / "prefix" / "drive_c" / "w"
    results = _ROOT / "build" / chosen.system
    results.mkdir(parents=True, exist_ok=True)
    print(f"{'folder':<14}{'passed':>8}{'failed':>8}{'skipped':>8}")
    rows = []
    for folder in chosen.folders:
        rows.append(run(python, where, folder, results, options))
        print(rows[-1].line(), flush=True)
    print("\nfailed:", *(f"  {name}" for row in rows for name in row.failed), sep="\n")
    reasons = sum((row.skipped for row in rows), Counter[str]())
    print("\nskipped:", *(f"{count:>6}  {reason}" for reason, count in reasons.most_common()), sep="\n")
    print(f"\nWhat pytest printed is in {results.relative_to(_ROOT)}/.")
    return int(any(row.failed or row.note for row in rows))


if __name__ == "__main__":
    sys.exit(main())
