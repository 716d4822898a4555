"""What `bigupload sync` tells while it runs, and at its end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bigupload import errors
from bigupload.api.sync_types import SyncStep
from bigupload.batch.entries import Omitted
from bigupload.cli import complain
from bigupload.cli.job_report import JobReport, LeftOut
from bigupload.units import format_size, printable

if TYPE_CHECKING:
    from bigupload.api.sync_types import SyncOutcome, SyncResult
    from bigupload.cli.reporting import Reporter
    from bigupload.engine.upload_run import UploadResult


class SyncReport(JobReport):
    """Counts what becomes of the files and objects. What was there already is told only with `--json`."""

    def __init__(self, reporter: Reporter, *, as_json: bool, mode: str, dry_run: bool) -> None:
        """Begin to measure the time.

        Args:
            reporter: Shows what happens, and prints results as they come.
            as_json: Whether a result is a JSON object.
            mode: How progress is shown, as `mode_of` returns it.
            dry_run: Whether everything is only what would be done.
        """
        super().__init__(reporter, as_json=as_json, sums=True, mode=mode)
        self._dry_run = dry_run
        self._left_out = LeftOut(quiet=mode == "none")
        self.deleted = 0
        self._not_deleted: str | None = None

    def on_sync(self, outcome: SyncOutcome) -> None:
        """A file or an object is done, has failed, or is left out."""
        if isinstance(outcome, Omitted):
            self._left_out.add(outcome.path, outcome.reason)
        elif isinstance(outcome, SyncStep):
            self._on_step(outcome)
        else:
            self.on_outcome(outcome)

    def _on_step(self, step: SyncStep) -> None:
        if step.error is not None:
            self.fail(step.url, step.key, step.error, printable(step.url), is_path=False)
            return
        if step.action == "upload":
            self.files += 1
            self.size += step.size
        else:
            self.deleted += 1
        if self._is_told(None):
            self._print(self._line(step))

    def _line(self, step: SyncStep) -> str:
        if self._as_json:
            fields = {"source": step.source} if step.source is not None else {}
            verb = "would" if self._dry_run else "did"
            return json.dumps({verb: step.action, **fields, "url": step.url, "size": step.size})
        if self._dry_run:
            return f"{step.action}  {format_size(step.size):>10}  {printable(step.url)}"
        return f"deleted {printable(step.url)}"

    def _is_told(self, result: UploadResult | None) -> bool:
        if self._dry_run and not self._as_json:  # what it is for
            return result is None
        return (self._as_json or result is None or not result.skipped) and super()._is_told(result)

    def end(self, result: SyncResult) -> int:
        """Tell the sum. Returns the exit status."""
        self._left_out.finish()
        self._not_deleted = result.not_deleted
        if result.not_deleted is not None:
            complain(errors.BigUploadError(f"nothing was deleted: {result.not_deleted}"))
        return self.finish()

    def _total(self) -> dict[str, Any]:
        total = super()._total()
        return {**total, "deleted": self.deleted, "not_deleted": self._not_deleted}

    def _sum(self, seconds: float) -> str:
        if self._dry_run:
            return f"would upload {self._counts()}; nothing was changed"
        return super()._sum(seconds)

    def _deleted(self) -> str:
        if not self.deleted:
            return ""
        return f", would delete {self.deleted:,}" if self._dry_run else f", {self.deleted:,} deleted"
