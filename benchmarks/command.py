"""Shared by the benchmarks' commands: options, files, contestants and output."""

from __future__ import annotations

import argparse
import compileall
import contextlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bigupload
from bigupload.units import parse_size

from . import report
from .contest import Contest, Run
from .contestants import OURS, Contestant, everyone
from .peering import Peers, default_directory
from .report import Row, Target
from .stores import Opened

BLOCK = 1 << 20
WARM = 64 << 20


def parser(doc: str | None, *, size: str, rounds: int | None) -> argparse.ArgumentParser:
    """Return a parser with the options of all comparisons. `rounds` is None where each work has a number of its own."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--size", type=parse_size, default=parse_size(size), help=f"Size of the file, like 256MB. [{size}]"
    )
    made.add_argument("--file", type=Path, help="Upload this file instead of a new one of random bytes.")
    usual = "by the work" if rounds is None else rounds
    made.add_argument("--rounds", type=int, default=rounds, metavar="N", help=f"Rounds after the warm-up. [{usual}]")
    made.add_argument("--contestants", metavar="A,B,…", help="Only these; a name without ':' selects all its variants.")
    made.add_argument("--list", action="store_true", help="List the installed contestants and exit.")
    made.add_argument("--patience", type=float, default=600.0, metavar="SECONDS", help="Time limit of a contestant.")
    made.add_argument("--dir", type=Path, metavar="DIR", help="Directory for the temporary file.")
    made.add_argument("--peers", type=Path, default=default_directory(), metavar="DIR", help="See `peers`.")
    made.add_argument(
        "--lock", type=Path, metavar="FILE", help="Lock FILE for each run, to take turns with other benchmarks."
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="Write all figures there.")
    return made


FAMILIES = frozenset({"boto3", "crt", "obstore", "minio", "aioboto3", "s5cmd", "mc", "rclone", "aws-cli"})


def chosen(
    arguments: argparse.Namespace,
    *,
    only: str | None = None,
    among: Callable[[Peers], dict[str, Contestant]] = everyone,
    families: Collection[str] = FAMILIES,
) -> list[Contestant]:
    """Return the contestants: `--contestants`, else `only`, else all installed ones. Prints who is missing.

    `among` makes the contestants, and `families` are those that there are if all peers are installed.
    """
    found = among(Peers(arguments.peers))
    if arguments.list:
        for each in found.values():
            print(f"{each.name:<16} http: {each.http or 'no proof'}; https: {each.https or 'no proof'}")
        raise SystemExit(0)
    named = arguments.contestants or only
    if named is None:
        missing = set(families) - set(found)
        if missing:
            print(f"not installed, left out: {', '.join(sorted(missing))} (see `python -m benchmarks peers`)")
        return list(found.values())
    picked = [each for each in found.values() if {each.name, each.family} & set(named.split(","))]
    if unknown := set(named.split(",")) - {name for each in picked for name in (each.name, each.family)}:
        print(f"unknown or not installed: {', '.join(sorted(unknown))}")
    return picked if any(each.name == OURS for each in picked) else [found[OURS], *picked]


@contextlib.contextmanager
def files(arguments: argparse.Namespace, *, sparse: bool = False) -> Iterator[tuple[Path, Path]]:
    """Make the file to send and a small one for the warm-up, both in the page cache. Compiles bigupload's bytecode.

    `sparse` is for files larger than memory, so that the disk is not measured.
    """
    compileall.compile_dir(Path(bigupload.__file__).parent, quiet=2)
    compileall.compile_dir(Path(__file__).parent, quiet=2)
    with tempfile.TemporaryDirectory(prefix="bigupload-bench-", dir=arguments.dir) as name:
        warm = Path(name) / "warm.bin"
        write_random(warm, min(WARM, arguments.size))
        file = arguments.file
        if file is None:
            file = Path(name) / "file.bin"
            write_sparse(file, arguments.size) if sparse else write_random(file, arguments.size)
        else:
            with file.open("rb") as opened:
                while opened.read(BLOCK):
                    pass
        yield file.resolve(), warm


def write_random(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for offset in range(0, size, BLOCK):
            file.write(os.urandom(min(BLOCK, size - offset)))


def write_sparse(path: Path, size: int) -> None:
    """Make a file that is one hole: it reads as zeros, without a disk."""
    with path.open("wb") as file:
        file.truncate(size)


@dataclass(frozen=True, kw_only=True)
class Held:
    """A finished contest."""

    title: str
    runs: list[Run]
    rows: list[Row]

    @property
    def cpu(self) -> str:
        """The unit of the rows' CPU time."""
        return "CPU s/GiB" if self.runs[0].size >= 1 << 20 else "CPU s"


def hold(
    title: str,
    contestants: Sequence[Contestant],
    arguments: argparse.Namespace,
    store: Opened,
    *,
    file: Path,
    warm: Path | None,
    tls: bool = False,
    inside: bool = False,
    piped: bool = False,
    prefix: Sequence[str] = (),
) -> Held:
    """Run all rounds. Raises SystemExit if bigupload did not finish, because then nothing can be compared."""
    print(f"{title}: {', '.join(each.name for each in contestants)}", flush=True)
    contest = Contest(
        file=file,
        store=store,
        patience=arguments.patience,
        lock=arguments.lock,
        inside=inside,
        piped=piped,
        warm=warm,
        prefix=prefix,
    )
    runs = contest.rounds(contestants, arguments.rounds)
    rows = report.rows(runs, {each.name: each.proof(tls=tls) for each in contestants})
    report.own(rows)
    return Held(title=title, runs=runs, rows=rows)


def finish(
    benchmark: str, arguments: argparse.Namespace, held: Sequence[Held], targets: Sequence[Target], **more: Any
) -> int:
    """Print tables and targets, and write JSON. Returns the exit status."""
    for each in held:
        report.show(each.title, each.rows, each.cpu)
    figures: Mapping[str, Any] = {
        "arguments": vars(arguments),
        "peers": Peers(arguments.peers).versions(),
        "contests": held,
        **more,
    }
    if arguments.json is not None:
        report.write(arguments.json, benchmark, figures, targets)
    return report.conclude(targets)
