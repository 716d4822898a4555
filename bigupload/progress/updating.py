"""What an event changes of a row of the progress display."""

from __future__ import annotations

from bigupload import events
from bigupload.progress import job_progress
from bigupload.progress.job_progress import time_in
from bigupload.progress.row import RowState
from bigupload.units import counted, format_rate, format_size


def update_total(row: RowState, event: events.JobProgress, now: float) -> None:
    """What the progress of a job changes of the row that stands for all files."""
    row.meter.add(now, job_progress.moved_of(event))
    if not job_progress.has_share(event):  # there is no whole to show a share of
        rate = row.meter.rate(now)
        row.note = f"{job_progress.bytes_text(event)}  {format_rate(rate)}" if event.bytes_found else ""
        return
    row.size, row.note = event.bytes_found, ""
    row.acknowledged, row.in_flight = job_progress.done_of(event), event.bytes_in_flight
    row.missing = event.bytes_failed


def update(row: RowState, event: events.Event, now: float) -> None:
    """What an event changes of a row."""
    match event:
        case events.UploadStarted(size=size, resumed_bytes=resumed, parts=parts, resumed_parts=resumed_parts):
            row.size, row.acknowledged, row.in_flight, row.note = size, resumed, 0, ""
            row.parts = f"{resumed_parts}/{parts}"
            row.meter.restart()
            row.meter.add(now, resumed)
        case events.Progress():
            row.size, row.note = event.size, ""
            row.acknowledged, row.in_flight = event.bytes_uploaded, event.bytes_in_flight
            row.parts, row.retries = f"{event.parts_uploaded}/{event.parts}", event.retries
            row.meter.add(now, event.bytes_uploaded + event.bytes_in_flight)
            if event.size is None:  # there is no whole to show a share of
                rate = format_rate(row.meter.rate(now))
                row.note = f"{format_size(event.bytes_uploaded)}  {rate}  {counted(event.parts_uploaded, 'part')}"
        case events.ReadingBack(size=size, bytes_compared=done):
            if row.size is None:
                row.meter.add(now, done)
            row.size, row.acknowledged, row.note = size, done, ""
            row.meter.add(now, done)
        case events.Hashing():
            row.note = "hashing"
        case events.Restarted():
            row.acknowledged = row.in_flight = 0
            row.meter.restart()
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
