"""What can happen in the middle of an upload, at one of its requests, and what must become of the upload then. Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bigupload import errors
from bigupload.errors import EXIT_FAILED, EXIT_RESUMABLE

from .oracle import Either, Ending, Proved, Refused, all_of, is_ours, lost, undisturbed
from .process import Order
from .seen import Known, Seen

Request = Literal[
    "CreateMultipartUpload", "ListParts", "UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload"
]  # fmt: skip
What = Literal[
    "kill",
    "touch", "edit", "edit_quietly", "replace", "move", "truncate", "grow",
    "expire", "revoke", "late_once", "late", "second_upload", "second_resume", "second_abort",
]  # fmt: skip
"""`edit_quietly` leaves the mtime as it was; `replace` puts another file of the same size in the file's place; `expire`
is a lifecycle rule that ends all open uploads; `late`: URLs reach the store when they are too old, once or from now on;
`second_…`: another process wants the same manifest."""

CHANGES_SIZE = frozenset({"truncate", "grow"})
CHANGES_FILE = frozenset({"touch", "edit", "edit_quietly", "replace", "move"}) | CHANGES_SIZE


@dataclass(frozen=True)
class Disturbance:
    """Happens at the `number`-th such request: before the store does anything, or once it has `acted`."""

    request: Request
    number: int
    acted: bool
    what: What


def disturbed(base: Ending, seen: Seen, order: Order, manifest: Path, by: Disturbance) -> Ending:
    """The ending of an upload or resume that would have ended in `base`, given that `by` did happen."""
    if by.what in CHANGES_FILE:
        return _file_changed(base, by)
    if by.what not in ("expire", "revoke"):
        return base
    if by.request == "ListParts" and not by.acted:  # the first request that could have noticed
        return undisturbed(_after(seen, by), order, manifest)
    if not isinstance(base, Proved):
        return base
    run = _Run(base, seen, order, manifest)
    return run.expired(by) if by.what == "expire" else run.revoked(by)


def _after(seen: Seen, by: Disturbance) -> Seen:
    return dataclasses.replace(seen, open={}) if by.what == "expire" else dataclasses.replace(seen, keys="unknown")


def _file_changed(base: Ending, by: Disturbance) -> Ending:
    """Noticed after each part, and before complete goes out; what has gone out is the file as it was.

    A file that is moved is the same file. Where only the ctime shows a change, the file is hashed once more at the end.
    """
    if not isinstance(base, Proved) or by.request == "CompleteMultipartUpload" or by.what == "move":
        return base
    same_size = by.what not in CHANGES_SIZE
    refused = Refused(error=errors.SourceChanged, exit_code=EXIT_RESUMABLE if same_size else EXIT_FAILED)
    return Either(refused=refused) if by.what == "edit_quietly" else refused


class _Run:
    """One that would have been proved."""

    def __init__(self, base: Proved, seen: Seen, order: Order, manifest: Path) -> None:
        self._base, self._seen = base, seen
        known = seen.known(manifest)
        goes_on = isinstance(known, Known) and known.live and not order.anew
        # One whose earlier upload turns out to be complete is followed by a new one, under a new manifest.
        self._known = known if goes_on and isinstance(known, Known) and not self._follows(known) else None

    def _follows(self, known: Known) -> bool:
        return known.status == "completing" and is_ours(self._seen, known)

    def expired(self, by: Disturbance) -> Ending:
        match by.request, by.acted:
            case ("CreateMultipartUpload", False) | ("CompleteMultipartUpload", True):
                return self._base  # it was others that expired
        return self._lost() if self._is_last(by) else all_of(self._seen.file, self._base.part_size)

    def _lost(self) -> Ending:
        """Complete finds no upload. Where it was adopted, an object of the same bytes counts as its own."""
        seen, known = self._seen, self._known
        adopted = known is not None and known.token is None and known.upload_id in seen.open
        if adopted and seen.made is not None and seen.made.body == self._base.body:
            return self._base
        return lost(seen)

    def revoked(self, by: Disturbance) -> Ending:
        """The store says why it refuses: it knows no such key."""
        if by.request == "CompleteMultipartUpload" and by.acted:
            return self._base
        if by.request == "CreateMultipartUpload" and not by.acted:
            # Where there is no manifest yet, there is nothing that could be resumed.
            exit_code = EXIT_FAILED if self._known is None else EXIT_RESUMABLE
            return Refused(error=errors.CredentialsError, exit_code=exit_code)
        return Refused(error=errors.CredentialsError, exit_code=EXIT_RESUMABLE)

    def _is_last(self, by: Disturbance) -> bool:
        """Whether no part is sent after `by`. What may have been completed is listed once to look for it, and once more
        to go on."""
        match by.request:
            case "CompleteMultipartUpload":
                return True
            case "ListParts" if self._known is not None and self._known.status == "completing":
                return True
            case "UploadPart":
                return by.acted and by.number >= len(self._base.sent)
        return not self._base.sent
