"""Events as text for a person, without repetitions; and results, printed on standard output as they come.

`reporting` has the ways to show progress, and `progress_display` the one with rows. They share this.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bigupload import errors, events
from bigupload.cli import discard_output, print_line
from bigupload.cli.wording import for_command_line
from bigupload.progress.job_progress import time_in
from bigupload.units import counted, format_seconds, format_size, one_line

_RETRIES_EVERY = 2.0
_OUTAGE_EVERY = 55.0
"""Seconds: a little less than the engine's minute between two events."""
_MOST_ALIKE = 3
"""Warnings that differ by their file or object alone, of one job."""


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
