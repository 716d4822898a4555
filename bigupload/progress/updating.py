"""What an event changes of a row of the progress display."""

from __future__ import annotations

from bigupload import events
from bigupload.progress import job_progress
from bigupload.progress.job_progress import time_in
from bigupload.progress.row import RowState
from bigupload.units import counted, format_rate, format_size


def update_total(row: RowState, event: events.JobProgress) -> None:
    """What the progress of a job changes of the row that stands for all files."""
    _take_pace(row, event)
    if not job_progress.has_share(event):  # there is no whole to show a share of
        row.note = f"{job_progress.bytes_text(event)}  {format_rate(event.rate)}" if event.bytes_found else ""
        return
    row.size, row.note = event.bytes_found, ""
    row.acknowledged, row.in_flight = job_progress.done_of(event), event.bytes_in_flight


def _take_pace(row: RowState, event: events.Progress | events.JobProgress | events.ReadingBack) -> None:
    row.rate, row.seconds_left = event.rate, event.seconds_left
    row.hangs = job_progress.hanging(event)
    row.is_waiting = not isinstance(event, events.ReadingBack) and event.is_waiting


def update(row: RowState, event: events.Event) -> None:
    """What an event changes of a row."""
    match event:
        case events.UploadStarted(size=size, resumed_bytes=resumed, parts=parts, resumed_parts=resumed_parts):
            row.size, row.acknowledged, row.in_flight, row.note = size, resumed, 0, ""
            row.parts = f"{resumed_parts}/{parts}"
        case events.Progress():
            row.size, row.note = event.size, ""
            row.acknowledged, row.in_flight = event.bytes_uploaded, event.bytes_in_flight
            row.parts, row.retries = f"{event.parts_uploaded}/{event.parts}", event.retries
            _take_pace(row, event)
            if event.size is None:  # there is no whole to show a share of
                rate = format_rate(event.rate)
                row.note = f"{format_size(event.bytes_uploaded)}  {rate}  {counted(event.parts_uploaded, 'part')}"
        case events.ReadingBack(size=size, bytes_compared=done):
            row.size, row.acknowledged, row.note = size, done, ""
            _take_pace(row, event)
        case events.Hashing():
            row.note = "hashing"
        case events.Restarted():
            row.acknowledged = row.in_flight = 0
        case events.Completing():
            row.acknowledged, row.in_flight, row.note = row.size or 0, 0, "completing"
        case events.OutageStarted():
            row.outage = f"no connection since {time_in(0)}"
        case events.OutageEnded():
            row.outage = ""
        case events.UploadStopped():
            row.in_flight, row.note, row.outage = 0, "stopped", ""
        case events.UploadSkipped(verified=verified):
            row.note = f"skipped, proved: {verified}"
        case events.UploadCompleted(verified=verified):
            row.note = f"proved: {verified}"
        case _:
            pass
