"""What a person or a program sees while uploads run: a bar, plain lines, JSON, or nothing. All on standard error."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from bigupload import errors, events
from bigupload.units import format_rate, format_seconds, format_size, one_line, printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from bigupload.engine.upload_run import UploadResult

_PLAIN_EVERY = 5.0
"""Seconds between two plain lines."""
_RETRIES_EVERY = 2.0


class Reporter(Protocol):
    """Gets every event of every file, and the line that is its result."""

    def on_event(self, path: Path, event: events.Event) -> None: ...

    def on_result(self, line: str) -> None: ...

    def close(self) -> None: ...


def _say(text: str) -> None:
    """On standard error; an upload does not end because nobody reads that any more."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


class _Printing:
    """Results go to standard output as they come."""

    def __init__(self) -> None:
        self._broken: OSError | None = None

    def on_result(self, line: str) -> None:
        try:
            click.echo(line)
        except OSError as e:  # the other files go on
            self._broken = e

    def close(self) -> None:
        """Raises BigUploadError if a result could not be written."""
        if self._broken is not None:
            # What is still buffered would fail once more when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise errors.BigUploadError(
                f"the results can't be written ({self._broken.strerror}): the uploads are done, see bigupload status"
            )


def _message(event: events.Event) -> str | None:
    """The events that a person should read, as text."""
    match event:
        case events.UploadStarted(resumed_parts=resumed, parts=parts) if resumed:
            return f"going on: {resumed} of {parts} parts are there already"
        case events.Retrying(part=part, attempt=attempt, delay=delay, reason=reason):
            what = "" if part is None else f"part {part}: "
            return f"{what}{reason}; attempt {attempt + 1} in {delay:.1f} s"
        case events.Hashing(parts=parts, reason=reason):
            return f"hashing {parts} parts again: {reason}"
        case events.Restarted(reason=reason):
            return f"starting again: {reason}"
        case events.Warned(message=message):
            return f"warning: {message}"
        case _:
            return None


class _Voice:
    """The same, but of many retries (every part in flight has its own) one in a while."""

    def __init__(self) -> None:
        self._quiet_until = 0.0

    def text(self, event: events.Event) -> str | None:
        if isinstance(event, events.Retrying):
            now = time.monotonic()
            if now < self._quiet_until:
                return None
            self._quiet_until = now + _RETRIES_EVERY
        return _message(event)


class _Silent(_Printing):
    def on_event(self, path: Path, event: events.Event) -> None:
        pass


class _Json(_Printing):
    """One event a line, for programs."""

    def on_event(self, path: Path, event: events.Event) -> None:
        fields = {"event": type(event).__name__, "path": str(path), **dataclasses.asdict(event)}
        _say(json.dumps(fields, default=str))


class _Plain(_Printing):
    """A line every few seconds, for logs."""

    def __init__(self) -> None:
        super().__init__()
        self._voice = _Voice()
        self._next: dict[Path, float] = {}
        self._rates: dict[Path, _Rate] = {}

    def on_event(self, path: Path, event: events.Event) -> None:
        name = one_line(path.name)
        if (text := self._voice.text(event)) is not None:
            _say(f"{name}: {one_line(text)}")
        match event:
            case events.Progress():
                done = event.bytes_uploaded + event.bytes_in_flight
                rest = f", part {event.parts_uploaded}/{event.parts}, {event.retries} retries"
            case events.ReadingBack():
                done, rest = event.bytes_compared, ""
            case _:
                return
        now = time.monotonic()
        rate = self._rates.setdefault(path, _Rate(now, done))
        if now >= self._next.setdefault(path, now + _PLAIN_EVERY):
            self._next[path] = now + _PLAIN_EVERY
            speed = rate.since_start(now, done)
            left = f", {format_seconds((event.size - done) / speed)} left" if speed else ""
            percent = 100 * done // max(1, event.size)
            _say(f"{name}: {percent} % of {format_size(event.size)}, {format_rate(speed)}{left}{rest}")


@dataclasses.dataclass(slots=True)
class _Rate:
    """Bytes a second since the first look."""

    began: float
    at_start: int

    def since_start(self, now: float, done: int) -> float:
        return max(0.0, (done - self.at_start) / max(1e-9, now - self.began))


class _Bars(_Printing):
    """A bar a file."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._results: list[str] = []
        self._voice = _Voice()
        self._progress = progress
        self._tasks: dict[Path, TaskID] = {}

    def on_event(self, path: Path, event: events.Event) -> None:
        from rich.markup import escape

        if (text := self._voice.text(event)) is not None:
            self._progress.console.print(escape(f"{one_line(path.name)}: {one_line(text)}"), highlight=False)
        match event:
            case (
                events.UploadStarted(size=size, resumed_bytes=done) | events.ReadingBack(size=size, bytes_compared=done)
            ) if path not in self._tasks or isinstance(event, events.UploadStarted):
                if path not in self._tasks:
                    self._tasks[path] = self._progress.add_task(escape(one_line(path.name)), total=None, parts="")
                self._progress.reset(self._tasks[path], total=size, completed=done, parts="")
            case events.ReadingBack(bytes_compared=done):
                self._progress.update(self._tasks[path], completed=done, parts="comparing")
            case events.Progress():
                retries = f" ⟲{event.retries}" if event.retries else ""
                self._progress.update(
                    self._tasks[path],
                    completed=event.bytes_uploaded + event.bytes_in_flight,
                    parts=f"{event.parts_uploaded}/{event.parts} parts{retries}",
                )
            case events.Completing():
                self._progress.update(self._tasks[path], parts="completing")
            case events.UploadCompleted(verified=verified) if path in self._tasks:
                self._progress.update(self._tasks[path], parts=f"proved: {verified}")
            case _:
                pass

    def on_result(self, line: str) -> None:
        self._results.append(line)

    def close(self) -> None:
        """The results, below the bars that stand still now."""
        for line in self._results:
            super().on_result(line)
        super().close()


_REPORTERS: dict[str, Callable[[], Reporter]] = {"plain": _Plain, "json": _Json, "none": _Silent}


@contextlib.contextmanager
def reporting(mode: str) -> Iterator[Reporter]:
    """The reporter for `--progress`."""
    if mode == "auto":
        mode = "bar" if sys.stderr.isatty() else "plain"
    if mode != "bar":
        reporter = _REPORTERS[mode]()
        yield reporter
        reporter.close()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )  # fmt: skip

    columns: Any = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[parts]}"),
    )  # fmt: skip
    progress = Progress(*columns, console=Console(stderr=True), refresh_per_second=4, redirect_stdout=False)
    bars = _Bars(progress)
    try:
        with progress:
            yield bars
    finally:
        bars.close()


def result_line(result: UploadResult, *, as_json: bool) -> str:
    """The object's URL, or everything."""
    return json.dumps(dataclasses.asdict(result), default=str) if as_json else printable(result.url)


def worst(codes: list[int]) -> int:
    """The exit status of several files: 1, then 75, then 0."""
    order = (errors.EXIT_FAILED, errors.EXIT_USAGE, errors.EXIT_RESUMABLE)
    return next((code for code in order if code in codes), errors.EXIT_OK)
