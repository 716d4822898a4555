"""The output of a running command, on standard error: a progress display, plain lines, JSON, or nothing.

`narration` has the text of events, and `progress_display` the rows, which need rich.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bigupload import errors, events
from bigupload.cli import print_line
from bigupload.cli.narration import Narrator, Reporter, about
from bigupload.cli.settings import QUIET, VERBOSE
from bigupload.cli.wording import for_command_line
from bigupload.progress import job_progress
from bigupload.units import counted, format_size, one_line, printable

if TYPE_CHECKING:
    from bigupload.engine.upload_run import UploadResult

PLAIN_EVERY = 2.0
"""Seconds between two plain lines of a file, at first."""
_PLAIN_LATER = 60.0
"""Seconds between two plain lines after ten minutes: a log of hours is not worth reading otherwise."""
CONNECTING = "connecting"
STARTING_STORE = "starting the local store"


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
    from bigupload.support.daemon_threads import run_in_daemon_thread

    return STARTING_STORE if await run_in_daemon_thread(local_store.running) is None else CONNECTING


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
