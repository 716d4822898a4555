"""The events of uploads, as lines of `logging.getLogger("bigupload")`.

INFO has the outcome of each upload, for an operator; WARNING is for a person to read. DEBUG has one line for each
attempt: of a part from the engine, of any other request from the stores. No line holds a credential or a URL's query.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from bigupload import errors, events
from bigupload.units import counted, format_size, printable

if TYPE_CHECKING:
    from bigupload.verification.orphans import Orphan

LOG = logging.getLogger("bigupload")
LOG.addHandler(logging.NullHandler())  # else Python prints warnings of a library to standard error


def log_event(event: events.Event) -> None:
    """Log an event, if its kind has a line."""
    line = _LINES.get(type(event))
    if line is not None and LOG.isEnabledFor(line[0]):
        LOG.log(line[0], "%s: %s", printable(f"{event.upload.source} → {event.upload.target}"), line[1](event))


@contextlib.contextmanager
def log_failure(subject: str) -> Iterator[None]:
    """Log how an upload ended if it did not complete."""
    try:
        yield
    except errors.UploadCancelled:
        LOG.info("%s: stopped; it can be resumed", printable(subject))
        raise
    except errors.BigUploadError as e:
        # Without a traceback: the error is foreseen, and the caller gets it too.
        LOG.log(logging.ERROR, "%s: failed: %s: %s%s", printable(subject), errors.name_of(e), e, _resumable(e))
        raise
    except BaseException as e:  # cancelled, or the caller's on_event raised
        LOG.info("%s: stopped (%s); it can be resumed", printable(subject), type(e).__name__)
        raise


def log_orphans(on_orphan: Callable[[Orphan], None] | None, *, dry_run: bool) -> Callable[[Orphan], None]:
    """Return a function that logs an orphaned upload that was aborted, and passes it on."""

    def log_orphan(orphan: Orphan) -> None:
        if not dry_run:
            place = printable(f"s3://{orphan.bucket}/{orphan.key}")
            LOG.info("%s: aborted the orphaned upload %s, %d bytes", place, orphan.upload_id, orphan.held)
        if on_orphan is not None:
            on_orphan(orphan)

    return log_orphan


def _resumable(e: errors.BigUploadError) -> str:
    return f" (resume {e.manifest})" if e.resumable and e.manifest is not None else ""


def _started(event: events.UploadStarted) -> str:
    what = "a stream" if event.size is None else format_size(event.size)
    if event.parts is None:
        what += " of unknown size"
    else:
        what += f" in {counted(event.parts, 'part')} of {format_size(event.part_size)}"
    if event.resumed_parts:
        what += f", resumed with {counted(event.resumed_parts, 'part')} in the store"
    return f"upload begins: {what}" + (f"; manifest {event.manifest}" if event.manifest is not None else "")


def _saved(event: events.UploadCompleted) -> str:
    if event.bytes_copied is None:
        return ""
    return f"; sent {format_size(event.bytes_sent)}, {format_size(event.bytes_copied)} copied by the store"


_LINES: dict[type[Any], tuple[int, Callable[[Any], str]]] = {
    events.UploadStarted: (logging.INFO, _started),
    events.Hashing: (logging.INFO, lambda e: f"hashing {counted(e.parts, 'part')} again: {e.reason}"),
    events.Restarted: (logging.WARNING, lambda e: f"begins again from the first part: {e.reason}"),
    events.Warned: (logging.WARNING, lambda e: e.message),
    events.OutageStarted: (
        logging.WARNING,
        lambda e: f"waiting for {e.peer}, for {e.gives_up_in:.0f} s at most: {e.reason}",
    ),
    events.OutageContinues: (
        logging.INFO,
        lambda e: f"still waiting after {e.lasted:.0f} s, for {e.gives_up_in:.0f} s at most: {e.reason}",
    ),
    events.OutageEnded: (logging.INFO, lambda e: f"{e.peer} responds again after {e.lasted:.0f} s"),
    events.PartUploaded: (
        logging.DEBUG,
        lambda e: f"part {e.number}: recorded, {e.size} bytes, proved by {e.proof}, attempt {e.attempt}",
    ),
    events.Retrying: (
        logging.DEBUG,
        lambda e: (
            f"{'request' if e.part is None else f'part {e.part}'}: attempt {e.attempt} failed, "
            f"the next one in {e.delay:.1f} s: {e.reason}"
        ),
    ),
    events.Completing: (logging.INFO, lambda e: f"completing {counted(e.parts, 'part')}"),
    events.UploadCompleted: (logging.INFO, lambda e: f"complete: {e.url}, proved by {e.verified}{_saved(e)}"),
    events.UploadSkipped: (logging.INFO, lambda e: f"skipped, the object is the file already: {e.url}"),
}
"""The level and the text of an event. Progress is not a line: it comes several times a second."""
