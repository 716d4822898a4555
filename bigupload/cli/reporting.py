"""The output of a running command, on standard error: a progress display, plain lines, JSON, or nothing.

Also events as text for a person, without repetitions, and results, which are printed on standard output as they come.
`progress_display` has the rows, which need rich.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bigupload import errors, events
from bigupload.cli import discard_output, print_line
from bigupload.cli.settings import QUIET, VERBOSE
from bigupload.cli.wording import for_command_line
from bigupload.progress import job_progress
from bigupload.progress.job_progress import time_in
from bigupload.units import counted, format_seconds, format_size, one_line, printable

if TYPE_CHECKING:
    from bigupload.engine.upload_run import UploadResult

_RETRIES_EVERY = 2.0
_OUTAGE_EVERY = 55.0
"""Seconds: a little less than the engine's minute between two events."""
_MOST_ALIKE = 3
"""Warnings that differ by their file or object alone, of one job."""
PLAIN_EVERY = 2.0
"""Seconds between two plain lines of a file, at first."""
_PLAIN_LATER = 60.0
"""Seconds between two plain lines after ten minutes: a log of hours is not worth reading otherwise."""
CONNECTING = "connecting"
STARTING_STORE = "starting the local store"


TOTAL = Path("total")
"""Stands for all files of a command, where the reporter wants a file."""


def about(path: Path) -> str:
    """Return the beginning of a line about a file, or about no file."""
    return "bigupload" if path == TOTAL else one_line(path.name)


class Reporter:
    """Gets every event of every file, and prints results to standard output as they come."""

    is_dry_run = False
    """Whether results are what would be done."""

    def __init__(self) -> None:
        self._broken: OSError | None = None
        self._has_failed = False

    def begin(self, path: Path, status: str) -> None:
        """Work on a file begins; `status` is what it waits for until its first event."""

    def end(self, path: Path) -> None:
        """Work on a file is over, whichever way."""

    def on_event(self, path: Path, event: events.Event) -> None:
        """Show an event of a file."""

    def on_result(self, line: str) -> None:
        """Print the line of a result."""
        try:
            sys.stdout.write(f"{line}\n")  # `click.echo` takes four times as long, which counts for many small files
            sys.stdout.flush()
        except OSError as e:  # the other files continue
            self._broken = e

    def on_failure(self, line: str) -> None:
        """Print the object of a file that failed."""
        self._has_failed = True
        self.on_result(line)

    def close(self) -> None:
        """Raise BigUploadError if a result could not be written, unless the command fails anyway."""
        if self._broken is None:
            return
        discard_output()
        if self.is_dry_run:
            raise errors.BigUploadError(f"can't write the list ({self._broken.strerror}): nothing was sent")
        unwritten = f"can't write the results ({self._broken.strerror})"
        if not self._has_failed:
            raise errors.BigUploadError(f"the uploads are done, but {unwritten}: see bigupload status")
        print_line(f"bigupload: {unwritten}")


def _message(event: events.Event) -> str | None:
    """An event as text, if a person should read it."""
    match event:
        case events.UploadStarted(resumed_parts=resumed, parts=parts) if resumed:
            has = counted(resumed, "part") if parts is None else f"{resumed:,} of {counted(parts, 'part')}"
            return f"resuming: the store has {has}"
        case events.Retrying(part=part, attempt=attempt, delay=delay, reason=reason):
            if _is_sent_again(event):
                what = "sent again: "
            else:
                what = "" if part is None or reason.startswith(f"part {part} ") else f"part {part}: "
            return f"{what}{reason}; attempt {attempt + 1} in {delay:.1f} s"
        case events.OutageStarted(reason=reason, gives_up_in=left, peer=peer):
            return f"no connection to {peer} since {time_in(0)} ({reason}): waiting, gives up at {time_in(left)}"
        case events.OutageContinues(reason=reason, lasted=lasted, gives_up_in=left):
            return f"no connection for {format_seconds(lasted)} ({reason}): still waiting, gives up at {time_in(left)}"
        case events.OutageEnded(lasted=lasted, peer=peer):
            return f"{peer} responds again, after {format_seconds(lasted)}"
        case events.Hashing(parts=parts, reason=reason):
            return f"hashing {counted(parts, 'part')} again: {reason}"
        case events.Restarted(reason=reason):
            return f"starting again from the first part: {reason}"
        case events.UploadCompleted(bytes_sent=sent, bytes_copied=int(copied)):
            return f"sent {format_size(sent)}, {format_size(copied)} copied by the store"
        case events.UploadSkipped(url=url, verified=verified):
            return f"skipped: {url} is this file already (proved: {verified})"
        case events.Warned(message=message):
            return f"warning: {message}"
        case _:
            return None


def _is_sent_again(event: events.Retrying) -> bool:
    """Whether all of a body was sent, and is sent again. `PutInFlight.stalled` has the words."""
    return event.reason.startswith("no response to ")


class Narrator:
    """Events of all files as text, without repetitions.

    Each part in flight has retries of its own, and each file in flight notices the same outage. One retry in a while is
    reported, and each that sends a whole part again: that costs the most, and is rare. An outage is reported when it
    begins, now and then while it lasts, and when it ends.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, verbose: int = 0, job: bool = False) -> None:
        """Start with nothing reported.

        Args:
            clock: a monotonic clock in seconds. Tests pass their own.
            verbose: how often -v was given: lines that the log prints to standard error are not repeated.
            job: whether the files are many, so that the same warning of each would hide all else.
        """
        self._clock = clock
        self._verbose = verbose
        self._most_alike = _MOST_ALIKE if job else None
        self._alike: Counter[str] = Counter()
        self._quiet_until = 0.0
        self._outage_quiet_until: float | None = None

    def text(self, event: events.Event) -> str | None:
        """Return the line to print for an event; None: none."""
        if self._verbose > 1 or (self._verbose and not isinstance(event, events.Retrying)):
            return None
        now = self._clock()
        match event:
            case events.Retrying(part=part) if part is None or not _is_sent_again(event):
                if now < self._quiet_until:
                    return None
                self._quiet_until = now + _RETRIES_EVERY
            case events.OutageStarted() | events.OutageContinues():
                if self._outage_quiet_until is not None and now < self._outage_quiet_until:
                    return None
                self._outage_quiet_until = now + _OUTAGE_EVERY
            case events.OutageEnded():
                if self._outage_quiet_until is None:
                    return None
                self._outage_quiet_until = None
            case _:
                pass
        message = _message(event)
        return None if message is None else self._seldom(event, for_command_line(message))

    def _seldom(self, event: events.Event, text: str) -> str | None:
        """Return the text unless it was printed for several files already."""
        if self._most_alike is None or not isinstance(event, events.Warned):
            return text
        alike = text
        for own in (event.upload.target, event.upload.source):
            alike = alike.replace(own, "") if own else alike
        alike = re.sub(r"\w+://\S+", "", alike)  # a media service gives each object another one
        self._alike[alike] += 1
        if self._alike[alike] < self._most_alike:
            return text
        return f"{text} (not repeated for other files)" if self._alike[alike] == self._most_alike else None


class _Silent(Reporter):
    """Show no progress. Warnings, and the loss of bytes sent earlier, are still printed, unless -q is given."""

    def __init__(self, narrator: Narrator) -> None:
        super().__init__()
        self._narrator = narrator

    def on_event(self, path: Path, event: events.Event) -> None:
        if isinstance(event, events.Warned | events.Restarted) and not _given(QUIET):
            self._narrate(path, event)

    def _narrate(self, path: Path, event: events.Event) -> None:
        if (text := self._narrator.text(event)) is not None:
            print_line(f"{about(path)}: {printable(text)}")


class _Json(Reporter):
    """One event a line, for programs."""

    def on_event(self, path: Path, event: events.Event) -> None:
        print_line(event_line(path, event))


def event_line(path: Path, event: events.Event) -> str:
    """Return an event as JSON. `schema/events.schema.json` describes it."""
    fields = {"event": type(event).__name__, **dataclasses.asdict(event), "path": str(path)}
    for name in ("message", "reason"):
        if name in fields:
            fields[name] = for_command_line(fields[name])
    import json  # not for every command

    return json.dumps(fields, default=str)


class _Plain(_Silent):
    """A line every few seconds, later every minute, for logs."""

    def __init__(self, narrator: Narrator, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(narrator)
        self._clock = clock
        self._began = clock()
        self._next: dict[Path, float] = {}
        self._next_status: dict[Path, float] = {}
        self._followed: set[Path] = set()
        """Files with a printed line: their wait for the end gets one, too."""

    def begin(self, path: Path, status: str) -> None:
        now = self._clock()
        if status != CONNECTING and now >= self._next_status.get(path, now):
            self._next_status[path] = now + self._interval(now)
            print_line(f"{one_line(path.name)}: {printable(status)}")

    def end(self, path: Path) -> None:
        self._next.pop(path, None)
        self._next_status.pop(path, None)
        self._followed.discard(path)

    def on_event(self, path: Path, event: events.Event) -> None:
        name = one_line(path.name)
        self._narrate(path, event)
        if isinstance(event, events.UploadCompleted) and not _given(VERBOSE):  # a log line has it, too
            print_line(f"{name}: done, proved: {event.verified}")
        if isinstance(event, events.Completing) and path in self._followed:  # which may take minutes without a line
            print_line(f"{name}: all parts are in the store, which completes the object")
        match event:
            case events.Progress():
                done, flying = event.bytes_uploaded, format_size(event.bytes_in_flight)
                of = f"{event.parts_uploaded:,} of " if event.parts is not None else ""
                parts = counted(event.parts_uploaded if event.parts is None else event.parts, "part")
                rest = f", {of}{parts}, {flying} in flight"
            case events.ReadingBack():
                done, rest = event.bytes_compared, " compared"
            case _:
                return
        if self._due(path):
            self._followed.add(path)
            share = "" if event.size is None else f"{100 * done // max(1, event.size)} % of "
            size = format_size(done if event.size is None else event.size)
            print_line(f"{name}: {share}{', '.join([f'{size}{rest}', *job_progress.pace(event)])}")

    def _due(self, path: Path) -> bool:
        """Whether it is time for a line of a file."""
        now = self._clock()
        if now < self._next.setdefault(path, now + self._interval(now)):
            return False
        self._next[path] = now + self._interval(now)
        return True

    def _interval(self, now: float) -> float:
        """Seconds until the next line of a file: a tenth of the time since the beginning, within bounds."""
        return max(PLAIN_EVERY, min(_PLAIN_LATER, (now - self._began) / 10))


class _PlainJob(_Plain):
    """One line for all files, with the largest that are under way."""

    def __init__(self, narrator: Narrator, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(narrator, clock)
        self._moving: dict[Path, tuple[int, int]] = {}
        """Sizes, and acknowledged bytes."""

    def begin(self, path: Path, status: str) -> None:
        super().begin(Path("bigupload"), status)  # no file is at work yet

    def end(self, path: Path) -> None:
        self._moving.pop(path, None)
        super().end(path)

    def on_event(self, path: Path, event: events.Event) -> None:
        if isinstance(event, events.Progress):
            self._moving[path] = event.size or 0, event.bytes_uploaded
        elif not isinstance(event, events.JobProgress):
            self._narrate(path, event)
        elif self._due(path):
            names = job_progress.distinct_names(self._moving)
            files = {names[each]: moved for each, moved in self._moving.items()}
            print_line(f"{one_line(path.name)}: {job_progress.line(event, files)}")


def _given(option: str) -> int:
    ctx = click.get_current_context(silent=True)
    return int(ctx.meta.get(option, 0)) if ctx is not None else 0


def mode_of(mode: str) -> str:
    """Return the meaning of `--progress auto` here."""
    if mode != "auto":
        return mode
    # The terminal of an editor, or a serial console, can only append lines. Rich asks the same.
    appends = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    return "bar" if sys.stderr.isatty() and not appends else "plain"


@contextlib.contextmanager
def reporting(mode: str, *, endless: bool = False, job: bool = False) -> Iterator[Reporter]:
    """The reporter for `--progress`.

    Args:
        mode: The option's value.
        endless: Whether results can't wait for the end of the command.
        job: Whether it is of many files, whose sums matter more than each of them.
    """
    mode, narrator = mode_of(mode), Narrator(verbose=_given(VERBOSE), job=job)
    if mode == "bar":
        from bigupload.cli.progress_display import Bars, JobBars  # rich is slow to import

        with (JobBars(narrator) if job else Bars(narrator, endless=endless)).shown() as bars:
            yield bars
        return
    printer = _Silent if mode == "none" else _PlainJob if job else _Plain
    reporter = _Json() if mode == "json" else printer(narrator)
    yield reporter
    reporter.close()


async def waits_for(*, local: bool) -> str:
    """Show what an upload waits for until its first event: a local store that has to be started takes seconds."""
    if not local:
        return CONNECTING
    from bigupload.stores import local_store
    from bigupload.support.daemon_threads import run_in_thread

    return STARTING_STORE if await run_in_thread(local_store.running) is None else CONNECTING


def result_line(result: UploadResult, *, as_json: bool) -> str:
    """The line to print: the link or else the object's URL, or with `as_json` everything."""
    if as_json:
        import json

        return json.dumps(dataclasses.asdict(result), default=str)
    link = result.share.url if result.share is not None else None
    return printable(link or result.url)


def worst(codes: list[int]) -> int:
    """The exit status of several files: 1 if there is one, else 2, else 75, else 0."""
    order = (errors.EXIT_FAILED, errors.EXIT_USAGE, errors.EXIT_RESUMABLE)
    return next((code for code in order if code in codes), errors.EXIT_OK)
