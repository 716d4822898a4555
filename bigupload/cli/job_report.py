"""The output of a command with many files, during the run and at its end: `upload`, `sync` and `verify`.

Where many files failed or are left out, the first ones for each reason are printed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigupload import errors, events
from bigupload.api.types import SyncStep, VerificationFailed
from bigupload.batch.job import UploadFailed
from bigupload.batch.tree import Omitted
from bigupload.cli import complain, print_line, writing_results
from bigupload.cli.narration import TOTAL, Reporter
from bigupload.cli.reporting import result_line, worst
from bigupload.cli.wording import for_command_line
from bigupload.core.remote_url import is_remote
from bigupload.units import counted, escaped, format_rate, format_seconds, format_size, one_line, printable

if TYPE_CHECKING:
    from bigupload.api.types import SyncOutcome, SyncResult
    from bigupload.engine.upload_run import UploadResult
    from bigupload.verification.by_checksum import Verification
    from bigupload.verification.media_hash_lists import ListedFile
    from bigupload.verification.receipts import ReceiptVerdict


_MOST_FAILURES = 20
"""Failures printed at the end, if they have few reasons: nobody reads a longer list."""
_MOST_REASONS = 10
_OTHERS = ""
"""Stands for all reasons but the first ones."""
_LEAST_OF_A_REASON = 2
"""Failures printed for each reason."""
_TOTALS = ("files", "skipped", "size", "failed", "bytes_sent", "bytes_copied", "sources_deleted")
"""`files` counts those that were in the store already (`skipped`), too, and `size` the bytes of the others. `failed`
counts objects that were not deleted, too."""
_FEW_LEFT_OUT = 5
"""Names of omitted files printed while the command runs."""


class Failures:
    """Keeps the first failures of each reason for a table, and the number of the others."""

    def __init__(self) -> None:
        """Begin with none."""
        self._counts: Counter[str] = Counter()
        self._first: dict[str, list[str]] = {}
        """The first files of each of the first reasons."""

    @property
    def count(self) -> int:
        """How many files failed."""
        return self._counts.total()

    def add(self, path: str, error: errors.BigUploadError) -> None:
        """A file, or an object, has failed."""
        reason = printable(for_command_line(error.reason))
        if isinstance(error, errors.ObjectMismatch):  # each has an object of its own
            path = f"{path}: {reason}"
            reason = "there is no object" if isinstance(error, errors.ObjectNotFound) else "the object is not the file"
        if reason not in self._first and len(self._first) == _MOST_REASONS:
            self._counts[_OTHERS] += 1
            return
        self._counts[reason] += 1
        first = self._first.setdefault(reason, [])
        if len(first) < _MOST_FAILURES:
            first.append(one_line(escaped(path)))

    def table(self) -> list[str]:
        """Return the lines of the table: each reason, and below it the first affected files."""
        if not self.count:
            return []
        is_cut = self.count > _MOST_FAILURES
        most = max(_LEAST_OF_A_REASON, _MOST_FAILURES // len(self._first)) if is_cut else _MOST_FAILURES
        lines = [f"failed: {self.count:,}"]
        for reason, first in self._first.items():
            lines += [f"  {reason}", *(f"    {path}" for path in first[:most])]
            if self._counts[reason] > most:
                lines.append(f"    … and {self._counts[reason] - most:,} more")
        if others := self._counts[_OTHERS]:
            lines.append(f"  … and {others:,} more for other reasons")
        return [*lines, "  With --json, standard output names each of them."] if self.count > most else lines

    def print_table(self) -> None:
        """Print the table on standard error."""
        for line in self.table():
            print_line(line if line.startswith(" ") else f"bigupload: {line}")


class LeftOut:
    """Print the first files that are left out for good reason, and count the others."""

    def __init__(self, *, quiet: bool) -> None:
        """Begin with none.

        Args:
            quiet: Whether to print nothing.
        """
        self._quiet = quiet
        self._count = 0

    def add(self, path: str, reason: str) -> None:
        """One is left out."""
        self._count += 1
        if not self._quiet and self._count <= _FEW_LEFT_OUT:
            complain(errors.SourceError(f"left out: {reason}"), escaped(path))

    def finish(self) -> None:
        """Print the number of the other files."""
        if not self._quiet and self._count > _FEW_LEFT_OUT:
            complain(
                errors.SourceError(f"left out in the same way: {counted(self._count - _FEW_LEFT_OUT, 'more name')}")
            )


class JobReport:
    """Counts what becomes of the files, and shows that through a reporter."""

    _deleting = "{:,} deleted"
    """The words for objects that are deleted."""

    def __init__(
        self,
        reporter: Reporter,
        *,
        as_json: bool,
        sums: bool,
        mode: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to measure the time.

        Args:
            reporter: Shows what happens, and prints results as they come.
            as_json: Whether a result is a JSON object.
            sums: Whether a last one has the sums. Not where files were named one by one, be they few or many.
            mode: How progress is shown, as `mode_of` returns it.
            clock: A monotonic clock in seconds. Tests pass their own.
        """
        self._reporter = reporter
        self._as_json = as_json
        self._sums = sums
        self._mode = mode
        self._clock = clock
        self._began = clock()
        self.only_sums = False
        """Whether of all JSON objects only the last one is printed."""
        self._failures = Failures()
        self._latest: Callable[[], None] | None = None
        """Prints the latest failure."""
        self._sum_of: Counter[str] = Counter()
        """What was done, by the names that it has in JSON (`_TOTALS`)."""
        self.codes: set[int] = set()

    @property
    def failed(self) -> int:
        """Files that failed, and objects that were not deleted."""
        return self._failures.count

    def begin(self, status: str) -> None:
        """Show what the first file waits for."""
        self._reporter.begin(TOTAL, status)

    def on_event(self, event: events.Event) -> None:
        """Take an event of a file, or of all of them."""
        source = event.upload.source
        if self._mode == "none" and source:  # nothing is printed, and each file has an event
            return
        self._reporter.on_event(Path(source) if source else TOTAL, event)

    def on_outcome(self, outcome: UploadResult | UploadFailed) -> None:
        """A file is done, or has failed."""
        if isinstance(outcome, UploadFailed):
            self._reporter.end(Path(outcome.source).absolute())
            self.fail(outcome.source, outcome.key, outcome.error, escaped(outcome.source))
            return
        self._sum_of.update(
            files=1,
            skipped=outcome.skipped,
            size=0 if outcome.skipped else outcome.size,
            bytes_sent=outcome.bytes_sent,
            bytes_copied=outcome.bytes_copied,
            sources_deleted=outcome.source_deleted,
        )
        self._reporter.end(outcome.path)
        if self._is_printed(outcome):
            self._reporter.on_result(result_line(outcome, as_json=self._as_json))

    def fail(self, path: str, key: str, error: errors.BigUploadError, shown: str) -> None:
        """Count a failure. A terminal shows how many there are, and names them at the end."""
        self._failures.add(path, error)
        self.codes.add(error.exit_code)
        self._latest = functools.partial(complain, error, shown)
        if self._mode != "bar":
            self._latest()
        if self._as_json and not self.only_sums:
            self._reporter.on_result(failed_json(absolute(path), key, error))

    def _is_printed(self, result: UploadResult | None) -> bool:
        """Whether to print a line for a result. On a terminal, nobody reads a million lines."""
        return not self.only_sums and (self._as_json or not sys.stdout.isatty())

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Surround the run of the job. If it ends early, print the results so far."""
        try:
            yield
        except BaseException as e:
            self._reporter.end(TOTAL)
            has_begun = self._as_json and not isinstance(e, errors.UsageError)  # a wrong call has no object
            if self._sum_of["files"] or self.failed or has_begun:
                self._print_end(
                    e.exit_code if isinstance(e, errors.BigUploadError) else None,
                    error=e if isinstance(e, errors.BigUploadError) else errors.UploadCancelled("stopped"),
                )
            raise

    def finish(self) -> int:
        """Print the results. Return the exit status."""
        self._reporter.end(TOTAL)
        status = worst([*self.codes])
        self._print_end(status)
        return status

    def _print_end(self, status: int | None, error: errors.BigUploadError | None = None) -> None:
        """Print the failures and the sums. After a signal, `running` prints the number of stored files."""
        seconds = self._clock() - self._began
        # Then a table and sums would repeat it.
        is_printed = error is None and self.failed == 1 and not self._sum_of["files"]
        if is_printed and self._mode == "bar" and self._latest is not None:
            self._latest()
        elif not is_printed and self._mode in ("bar", "plain"):
            self._failures.print_table()
        if self._as_json and self._sums:
            ended = {"exit_status": status, "seconds": round(seconds, 3)}
            why = {"error": errors.name_of(error), "message": for_command_line(str(error))} if error is not None else {}
            self._reporter.on_result(json.dumps({**self._total(), **ended, **why}))
        elif not self._as_json and not is_printed and self._mode != "none" and status is not None:
            print_line(f"bigupload: {'until now: ' if error is not None else ''}{self._sum(seconds)}")

    def _total(self) -> dict[str, Any]:
        return {name: self._sum_of[name] for name in _TOTALS} | {"failed": self.failed}

    def _sum(self, seconds: float) -> str:
        sent = self._sum_of["bytes_sent"]
        rate = f", {format_rate(sent / seconds)}" if sent and seconds >= 1 else ""  # else it means nothing
        return f"uploaded {self._counts()} in {format_seconds(seconds)}{rate}"

    def _counts(self) -> str:
        total = self._sum_of
        text = f"{counted(total['files'] - total['skipped'], 'file')}, {format_size(total['size'])}"
        if total["bytes_copied"]:
            text += f" ({format_size(total['bytes_copied'])} copied by the store)"
        elif 0 < total["bytes_sent"] < total["size"]:
            text += f" ({format_size(total['bytes_sent'])} sent now)"
        counts = {
            "{:,} already there": total["skipped"],
            "{:,} deleted here": total["sources_deleted"],
            self._deleting: total["deleted"],
            "{:,} failed": self.failed,
        }
        return "".join([text, *(f", {words.format(count)}" for words, count in counts.items() if count)])


def failed_json(path: str, key: str, error: errors.BigUploadError) -> str:
    """Return the JSON object of a file that failed."""
    fields = {"path": path, "key": key, "error": errors.name_of(error), "message": for_command_line(str(error))}
    return json.dumps(fields | {"manifest": error.manifest}, default=str)


def absolute(source: str) -> str:
    """Return the path of a file as its result has it. A URL stays as it is."""
    return source if is_remote(source) else os.path.abspath(source)  # noqa: PTH100 - as FileSource


class SyncReport(JobReport):
    """Count the results for files and objects. Unchanged objects are printed only with `--json`."""

    def __init__(self, reporter: Reporter, *, as_json: bool, mode: str, dry_run: bool) -> None:
        """Begin to measure the time.

        Args:
            reporter: Shows what happens, and prints results as they come.
            as_json: Whether a result is a JSON object.
            mode: How progress is shown, as `mode_of` returns it.
            dry_run: Whether everything is only what would be done.
        """
        super().__init__(reporter, as_json=as_json, sums=True, mode=mode)
        self._dry_run = reporter.is_dry_run = dry_run
        if dry_run:
            self._deleting = "would delete {:,}"
        self._left_out = LeftOut(quiet=mode == "none")
        self._not_deleted: str | None = None

    def on_sync(self, outcome: SyncOutcome) -> None:
        """A file or an object is done, has failed, or is left out."""
        if isinstance(outcome, Omitted):
            self._left_out.add(outcome.path, outcome.reason)
        elif isinstance(outcome, SyncStep):
            self._on_step(outcome)
        else:
            self.on_outcome(outcome)

    def on_same(self, files: int) -> None:
        """Some files were in the store already, and nobody wants a line for each."""
        self._sum_of.update(files=files, skipped=files)

    def _on_step(self, step: SyncStep) -> None:
        if step.error is not None:
            self.fail(step.url, step.key, step.error, printable(step.url))
            return
        if step.action == "upload":
            self._sum_of.update(files=1, size=step.size)
        else:
            self._sum_of["deleted"] += 1
        if self._is_printed(None):
            self._reporter.on_result(self._line(step))

    def _line(self, step: SyncStep) -> str:
        if self._as_json:
            fields = {"source": step.source} if step.source is not None else {}
            verb = "would" if self._dry_run else "did"
            return json.dumps({verb: step.action, **fields, "url": step.url, "size": step.size})
        if self._dry_run:
            return f"{step.action}  {format_size(step.size):>10}  {printable(escaped(step.url))}"
        return f"deleted {printable(escaped(step.url))}"

    def _is_printed(self, result: UploadResult | None) -> bool:
        if self._dry_run and not self._as_json:  # its purpose
            return result is None
        return (self._as_json or result is None or not result.skipped) and super()._is_printed(result)

    def end(self, result: SyncResult) -> int:
        """Print the sum. Return the exit status."""
        self._left_out.finish()
        self._not_deleted = result.not_deleted
        if result.not_deleted is not None:
            kept = "some objects were kept" if result.deleted else "nothing was deleted"
            complain(errors.BigUploadError(f"{kept}: {result.not_deleted}"))
        return self.finish()

    def _total(self) -> dict[str, Any]:
        return {**super()._total(), "deleted": self._sum_of["deleted"], "not_deleted": self._not_deleted}

    def _sum(self, seconds: float) -> str:
        if self._dry_run:
            return f"would upload {self._counts()}; nothing was changed"
        return super()._sum(seconds)


_WAYS = {
    "full-object": "the store's checksum of each whole object is the file's",
    "composite-checksum": "the store's checksum of each object's parts is that of the file's parts",
    "composite-etag": "each object's ETag is made of the MD5s of the file's parts",
    "size": "only the sizes were compared",
}


class VerificationReport:
    """Print the result of each file, and the sums."""

    def __init__(self, against: str, arguments: Mapping[str, Any], *, ways: Mapping[str, str] = _WAYS) -> None:
        """Begin with nothing.

        Args:
            against: What the files are compared with, for the sums.
            arguments: The command's.
            ways: What each proof means.
        """
        self._against = against
        self._ways = ways
        self._failures = Failures()
        self._first: Callable[[], None] | None = None
        """Prints the first failure."""
        self._as_json = arguments["as_json"]
        self._is_quiet = arguments["progress"] == "none"
        """Whether to print results alone."""
        self._proofs: Counter[str] = Counter()
        self._codes: list[int] = []
        self._size = 0

    def add(self, found: Verification | ReceiptVerdict | ListedFile | VerificationFailed) -> None:
        """Count one file, and print its result if it failed or every result is printed."""
        if isinstance(found, VerificationFailed):
            self._codes.append(found.error.exit_code)
            self._failures.add(found.source, found.error)
            report = functools.partial(complain, found.error, escaped(found.source))
            self._first = self._first or report
            if self._is_quiet:  # nobody asked for a table
                report()
            line = failed_json(absolute(found.source), found.key, found.error)
        else:
            self._proofs[found.verified] += 1
            self._size += found.size
            line = json.dumps(dataclasses.asdict(found), default=str)
        if self._as_json:
            done = self._proofs.total() + len(self._codes)
            with writing_results(f"{counted(done, 'file')} verified until now"):
                click.echo(line)

    def finish(self) -> int:
        """Print the sums. Return the exit status."""
        count, status = self._proofs.total(), worst(self._codes)
        summary = f"verified {counted(count, 'file')}, {format_size(self._size)}, against {one_line(self._against)}"
        failed = f"; {len(self._codes):,} failed" if self._codes else ""
        self._print_failures()
        with writing_results(summary + failed):
            if self._as_json:
                sums = {"files": count, "size": self._size, "failed": len(self._codes), "exit_status": status}
                click.echo(json.dumps({**sums, "verified": self._proofs}))
                return status
            for proof, proved in sorted(self._proofs.items()):
                click.echo(f"{proof}: {counted(proved, 'file')}")
        if not self._is_quiet:
            click.echo(f"bigupload: {summary}{self._how()}{failed}", err=True)
        return status

    def _print_failures(self) -> None:
        if self._is_quiet:
            return
        if self._failures.count == 1 and self._first is not None:
            self._first()
            return
        self._failures.print_table()

    def _how(self) -> str:
        """Return what each proof means, and of how many files it is, if there are several."""
        each = [(self._ways[proof], counted(proved, "file")) for proof, proved in sorted(self._proofs.items())]
        ways = ", ".join(way if len(each) == 1 else f"{way} ({files})" for way, files in each)
        return f": {ways}" if ways else ""
