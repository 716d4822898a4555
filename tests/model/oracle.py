"""What must come of an action, from what there is to see before it. Pure, and written from the design alone.

`undisturbed` says how an action ends that nothing interferes with; `disturbed` what becomes of that when something
happens at one of its requests. Every ending is one of three: proved, resumable, refused, and with which error.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from bigupload import errors
from bigupload.errors import EXIT_FAILED, EXIT_RESUMABLE, EXIT_USAGE, BigUploadError
from tests.integration.support import LIMITS

from .process import Order
from .seen import File, Known, Seen, Unreadable


@dataclass(frozen=True, kw_only=True)
class Proved:
    """The object is there, and has these bytes; `sent` are the parts that go out, `resumed` how many were there."""

    body: bytes
    sent: frozenset[int]
    resumed: int
    part_size: int
    completes: bool = True
    """Whether a complete goes out: not where an earlier one turns out to have worked."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """For abort and gc: the uploads that are aborted, and for gc, that are listed."""

    given_up: frozenset[str]
    listed: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Resumable and refused endings alike: which error, and the command's exit status for it."""

    error: type[BigUploadError]
    exit_code: int
    untouched: bool = False
    """Whether no manifest may differ by a byte, nor the store in anything."""


@dataclass(frozen=True, kw_only=True)
class Either:
    """Which part was hashed last decides: `refused`, or the object is the file as it is at the end."""

    refused: Refused


Ending = Proved | Done | Refused | Either

_KEYS: dict[str, tuple[type[BigUploadError], ...]] = {
    "none": (errors.CredentialsError,),
    "unknown": (errors.CredentialsError, errors.AccessDenied),
    "expired": (errors.CredentialsError, errors.ObjectNotShown),  # 400, of HEAD too
    "wrong": (errors.AccessDenied,),
}
"""What a call is refused with, when the store can say why, and when it cannot: HEAD has no body."""


def undisturbed(seen: Seen, order: Order, manifest: Path) -> Ending:
    """`manifest` is the action's own, whether it exists or not."""
    match order.action:
        case "upload":
            return _upload(seen, order, manifest)
        case "resume":
            return _resume(seen, order, manifest)
        case "abort":
            return _abort(seen, manifest)
        case "adopt":
            return _adopt(seen, order, manifest)
        case "gc":
            return _gc(seen, order)


def _upload(seen: Seen, order: Order, manifest: Path) -> Ending:
    assert order.part_size is not None
    if order.source != seen.file.path:
        return Refused(error=errors.SourceNotFound, exit_code=EXIT_FAILED, untouched=True)
    match seen.known(manifest):
        case Unreadable(empty=False):
            return Refused(error=errors.ManifestCorrupt, exit_code=EXIT_FAILED, untouched=True)
        case Known(live=True) as known if not order.anew:
            return _go_on(seen, known, follow=order.part_size)
    return _fresh(seen, order.part_size)


def _fresh(seen: Seen, part_size: int) -> Ending:
    """No manifest yet, or one that is set aside: where there is nothing to resume, bad credentials are final."""
    if seen.keys != "valid":
        return Refused(error=_KEYS[seen.keys][0], exit_code=EXIT_FAILED)
    return all_of(seen.file, part_size)


def all_of(file: File, part_size: int) -> Proved:
    return Proved(body=file.body, sent=frozenset(slices(file.body, part_size)), resumed=0, part_size=part_size)


def _go_on(seen: Seen, known: Known, *, follow: int | None) -> Ending:
    """`follow`: the part size of the upload that follows one that turns out to be complete, of a file that is other."""
    if known.status == "completing":
        if seen.keys != "valid":  # HEAD comes first, but a 403 of it does not count: the list may be allowed
            return Refused(error=_KEYS[seen.keys][-1 if seen.keys == "expired" else 0], exit_code=EXIT_RESUMABLE)
        if is_ours(seen, known):
            if follow is not None and seen.file.body != seen.versions[known.fingerprint]:
                return _fresh(seen, follow)
            body = seen.versions[known.fingerprint]
            return Proved(
                body=body, sent=frozenset(), resumed=len(known.parts), part_size=known.part_size, completes=False
            )
        if known.upload_id not in seen.open:
            return lost(seen)
    if len(seen.file.body) != known.fingerprint.size:
        return Refused(
            error=errors.SourceChanged, exit_code=EXIT_FAILED, untouched=known.status == "uploading" and not known.torn
        )
    if seen.keys != "valid":
        return Refused(error=_KEYS[seen.keys][0], exit_code=EXIT_RESUMABLE)
    return _send_the_rest(seen, known.upload_id, known.part_size)


def _send_the_rest(seen: Seen, upload_id: str, part_size: int) -> Proved:
    """Nothing is sent that the store has: where the upload is open, only what is not the file's there."""
    there = seen.open.get(upload_id)
    everything = all_of(seen.file, part_size)
    if there is None:
        return everything
    kept = {n for n, body in slices(seen.file.body, part_size).items() if n in there and there[n][1] == body}
    return dataclasses.replace(everything, sent=everything.sent - kept, resumed=len(kept))


def is_ours(seen: Seen, known: Known) -> bool:
    """Whether the object is what this upload made. An adopted upload has no token: by its bytes."""
    if seen.made is None:
        return False
    if known.token is None:
        return seen.made.body == seen.versions[known.fingerprint]
    return seen.made.upload_id == known.upload_id


def lost(seen: Seen) -> Refused:
    """Complete may have worked, the upload is gone, and what is under the key is not its object."""
    error = errors.UploadGone if seen.made is None else errors.TargetReplaced
    return Refused(error=error, exit_code=EXIT_FAILED)


def _existing(seen: Seen, manifest: Path) -> Known | Refused:
    match seen.known(manifest):
        case None:
            return Refused(error=errors.ManifestNotFound, exit_code=EXIT_FAILED, untouched=True)
        case Unreadable():
            return Refused(error=errors.ManifestCorrupt, exit_code=EXIT_FAILED, untouched=True)
        case known:
            return known


def _resume(seen: Seen, order: Order, manifest: Path) -> Ending:
    known = _existing(seen, manifest)
    if isinstance(known, Refused):
        return known
    if known.status == "completed":
        body = seen.versions[known.fingerprint]
        count = len(slices(body, known.part_size))
        return Proved(body=body, sent=frozenset(), resumed=count, part_size=known.part_size, completes=False)
    if known.status == "aborted":
        return Refused(error=errors.UploadGone, exit_code=EXIT_FAILED, untouched=not known.torn)
    if (order.source or known.path) != seen.file.path:
        return Refused(error=errors.SourceNotFound, exit_code=EXIT_FAILED, untouched=not known.torn)
    return _go_on(seen, known, follow=None)


def _abort(seen: Seen, manifest: Path) -> Ending:
    known = _existing(seen, manifest)
    if isinstance(known, Refused):
        return known
    if known.status == "completed":
        return Refused(error=errors.UsageError, exit_code=EXIT_USAGE, untouched=True)
    if seen.keys != "valid":  # of a complete one, the object is looked at first
        error = _KEYS[seen.keys][-1 if known.status == "completing" else 0]
        return Refused(error=error, exit_code=EXIT_RESUMABLE if known.live else EXIT_FAILED)
    # Of an adopted upload the bytes alone tell, and they may be another's: not where it is open still.
    is_open = known.token is None and known.upload_id in seen.open
    if known.status == "completing" and is_ours(seen, known) and not is_open:
        return Refused(error=errors.UsageError, exit_code=EXIT_USAGE, untouched=not known.torn)
    return Done(given_up=frozenset({known.upload_id} & set(seen.open)))


def _adopt(seen: Seen, order: Order, manifest: Path) -> Ending:
    if order.source != seen.file.path:
        return Refused(error=errors.SourceNotFound, exit_code=EXIT_FAILED, untouched=True)
    match seen.known(manifest):
        case Unreadable(empty=False):
            return Refused(error=errors.ManifestCorrupt, exit_code=EXIT_FAILED, untouched=True)
        case Known(live=True, torn=torn):
            return Refused(error=errors.ManifestMismatch, exit_code=EXIT_FAILED, untouched=not torn)
    if seen.keys != "valid":
        return Refused(error=_KEYS[seen.keys][0], exit_code=EXIT_FAILED)
    found = [upload_id for upload_id in seen.open if order.upload_id in (None, upload_id)]
    if not found:
        return Refused(error=errors.UploadGone, exit_code=EXIT_FAILED)
    if len(found) > 1:
        return Refused(error=errors.UsageError, exit_code=EXIT_USAGE)
    (upload_id,) = found
    sizes = {n: row.size for n, (row, _) in seen.open[upload_id].items()}
    return _send_the_rest(seen, upload_id, part_size_of(sizes, len(seen.file.body)))


def part_size_of(sizes: dict[int, int], size: int) -> int:
    """The size that an open upload's parts were cut by: the largest's, if all of them fit it; else the automatic."""
    if sizes:
        largest = max(1, *sizes.values())
        of_plan = {n: len(part) for n, part in slices(bytes(size), largest).items()}
        allowed = len(of_plan) == 1 or largest >= LIMITS.min_part_size
        if allowed and all(of_plan.get(n) == given for n, given in sizes.items()):
            return largest
    granules = -(-size // LIMITS.granule) * LIMITS.granule  # LIMITS call one part enough
    return min(max(granules, LIMITS.min_part_size), LIMITS.default_part_size)


def _gc(seen: Seen, order: Order) -> Ending:
    unreadable = any(isinstance(each, Unreadable) for each in seen.manifests.values())
    if unreadable and not order.dry_run:  # it may own anything
        return Refused(error=errors.ManifestCorrupt, exit_code=EXIT_FAILED, untouched=True)
    if seen.keys != "valid":
        return Refused(error=_KEYS[seen.keys][0], exit_code=EXIT_FAILED, untouched=True)
    listed = frozenset(seen.orphans() if order.older_than < LONG else ())
    return Done(given_up=frozenset() if order.dry_run else listed, listed=listed)


LONG = 3600.0
"""Seconds that no upload of the model lives."""


def slices(body: bytes, part_size: int) -> dict[int, bytes]:
    """The parts by number; an empty file is one empty part."""
    count = max(1, -(-len(body) // part_size))
    return {n + 1: body[n * part_size : (n + 1) * part_size] for n in range(count)}
