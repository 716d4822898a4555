"""The files of a watched directory to upload now, to follow, or to wait for. Pure: times are passed in, in seconds.

A file that has not changed for `idle` has settled, and is uploaded as any file. One that still changes is followed if
it is larger than a part; else it is waited for. Of what was uploaded, only a hash of its fingerprint is kept.
"""

from __future__ import annotations

import heapq
import math

from bigupload.core.manifest import Fingerprint
from bigupload.core.part_plan import DEFAULT_PART_SIZE
from bigupload.records import dataclass

AT_ONCE = 4
"""Files that are uploaded at a time, and as many that are followed: the parts of one fill most links."""
_SMALL = 4
"""Files of at most a part that take the slot of one: each is a few round trips and a wait for the disk."""
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 900.0
"""Seconds between two attempts of an upload that failed: each pause is twice the last. A file that changed is tried at
once."""


@dataclass(frozen=True, slots=True)
class Begin:
    """An upload to begin."""

    key: str
    path: str
    fingerprint: Fingerprint
    """The file's fingerprint at the last look."""
    follow: bool
    """Whether the file still grows."""
    first: bool
    """Whether the file was there when the watch began."""


@dataclass(slots=True)
class _Unsettled:
    path: str
    fingerprint: Fingerprint
    changed_at: float
    listing: int
    first: bool
    is_open: bool = False
    """Whether its upload runs."""
    follow: bool = False
    to_settle: bool = False
    """Never followed: it was uploaded before, or was truncated or replaced while it was followed."""
    not_before: float = -math.inf
    """The time of the next try; infinite: when it has changed."""
    failures: int = 0
    first_tried: float = math.inf
    """The time at which its first upload began; infinite: it has not begun."""
    ready_at: float = math.inf
    """The time at which it is uploaded, unless it changes before."""


class SettlingFiles:
    """The files of a directory that are not uploaded yet."""

    def __init__(self, *, idle: float, follow_from: int = DEFAULT_PART_SIZE, at_once: int = AT_ONCE) -> None:
        """Know no file yet.

        Args:
            idle: Seconds without a change after which a file has settled.
            follow_from: Bytes. A larger file that changes is followed.
            at_once: Files that are uploaded at a time, and that are followed at a time. Of files that are not larger
                than `follow_from`, four times as many are uploaded at a time.
        """
        self._idle = idle
        self._follow_from = follow_from
        self._most_open = at_once * _SMALL
        self._files: dict[str, _Unsettled] = {}
        self._done: dict[str, int] = {}
        self._done_before: dict[str, int] = {}
        """As `_done`, of files that the listing that is under way has not come to."""
        self._ready: list[tuple[float, int, str]] = []
        """A heap of the times when files are ready, each with a number for the order. Those that changed since are
        skipped."""
        self._count = 0
        self._growing: dict[str, None] = {}
        """Files that may be followed, in the order in which they were found."""
        self._open = {False: 0, True: 0}
        """The quarters of slots that are taken, by files that are followed or not."""
        self._listing = 0
        self._held_until = -math.inf
        self._held = 0
        self._failing: set[str] = set()
        """Files that failed as all would, since an upload last succeeded."""
        self._last_upload = -math.inf
        """The time at which an upload last succeeded."""
        self.last_change = -math.inf
        """The time at which a file was last seen to be new or changed, or was uploaded."""

    # -- the directory

    def begin_listing(self) -> None:
        """Begin a listing: `found` gets each file again."""
        self._listing += 1
        self._done_before, self._done = self._done | self._done_before, {}

    def end_listing(self) -> None:
        """Forget the files that `found` did not get since `begin_listing`: they are gone."""
        self._done_before = {}
        for key in [key for key, file in self._files.items() if file.listing != self._listing and not file.is_open]:
            del self._files[key]

    def found(self, key: str, path: str, fingerprint: Fingerprint, now: float, *, quiet_for: float = 0.0) -> None:
        """A file is there.

        Args:
            key: Its name in the directory.
            path: Its path.
            fingerprint: Its metadata.
            now: The time.
            quiet_for: For how many seconds it is known not to have changed, if it was not seen before.
        """
        file = self._files.get(key)
        if file is None:
            done = self._done_before.pop(key, self._done.get(key))
            if done == hash(fingerprint):
                self._done[key] = done
                return
            self._done.pop(key, None)
            file = _Unsettled(path, fingerprint, now - quiet_for, self._listing, first=self._listing == 1)
            file.to_settle = done is not None
            self._files[key] = file
            self._wait(key, file)
            self.last_change = now
            return
        file.listing = self._listing
        if fingerprint != file.fingerprint and not file.is_open:
            self._restart(key, file, fingerprint, now)

    def _restart(self, key: str, file: _Unsettled, fingerprint: Fingerprint, now: float) -> None:
        file.fingerprint, file.changed_at, file.not_before, file.failures = fingerprint, now, -math.inf, 0
        file.first_tried = math.inf
        self._wait(key, file)
        self.last_change = now

    def _wait(self, key: str, file: _Unsettled) -> None:
        """Let a file wait until it is ready."""
        file.ready_at = max(file.changed_at + self._idle, file.not_before)
        if file.ready_at < math.inf:
            self._count += 1
            heapq.heappush(self._ready, (file.ready_at, self._count, key))
        if file.fingerprint.size > self._follow_from and not file.to_settle:
            self._growing[key] = None
        else:
            self._growing.pop(key, None)

    def _close(self, key: str) -> _Unsettled:
        """The upload of a file has ended."""
        file = self._files[key]
        file.is_open = False
        self._open[file.follow] -= self._takes(file)
        return file

    def _takes(self, file: _Unsettled) -> int:
        """The quarters of a slot that a file's upload takes."""
        return _SMALL if file.fingerprint.size > self._follow_from else 1

    # -- decisions

    def begin(self, now: float) -> list[Begin]:
        """Return the uploads to begin now. Each is open until one of the methods below is called for it."""
        if now < self._held_until:
            return []
        begun = []
        while self._ready and self._ready[0][0] <= now:
            time, _, key = self._ready[0]
            if self._is_waiting(key, time):
                if self._open[False] + self._takes(self._files[key]) > self._most_open:
                    break
                begun.append(self._begin(key, now, follow=False))
            heapq.heappop(self._ready)
        for key in list(self._growing) if self._open[True] < self._most_open else ():
            file = self._files.get(key)
            if file is None or file.is_open or file.ready_at <= now:  # deleted; or it is among those that are ready
                del self._growing[key]
            elif now >= file.not_before and self._open[True] < self._most_open:
                begun.append(self._begin(key, now, follow=True))
        return begun

    def _is_waiting(self, key: str, ready_at: float) -> bool:
        file = self._files.get(key)
        return file is not None and not file.is_open and file.ready_at == ready_at

    def _begin(self, key: str, now: float, *, follow: bool) -> Begin:
        file = self._files[key]
        file.is_open, file.follow, file.first_tried = True, follow, min(file.first_tried, now)
        self._open[follow] += self._takes(file)
        self._growing.pop(key, None)
        return Begin(key, file.path, file.fingerprint, follow, file.first)

    def next_time(self, now: float) -> float:
        """The time at which `begin` may return more although `found` got nothing meanwhile; infinite if never."""
        while self._ready and not self._is_waiting(self._ready[0][2], self._ready[0][0]):
            heapq.heappop(self._ready)
        if not self._ready:
            return math.inf
        time = max(self._ready[0][0], self._held_until)
        return time if time > now else math.inf  # it waits for another one to end

    def is_open(self, key: str) -> bool:
        """Whether a file's upload runs."""
        return key in self._files and self._files[key].is_open

    @property
    def has_open(self) -> bool:
        """Whether an upload runs."""
        return any(self._open.values())

    @property
    def is_busy(self) -> bool:
        """Whether a file is being uploaded, or waits for its first attempt."""
        return any(file.is_open or not file.failures for file in self._files.values())

    # -- outcomes of uploads

    def uploaded(self, key: str, fingerprint: Fingerprint, now: float) -> None:
        """The object is the file as it was with a fingerprint."""
        self._close(key)
        del self._files[key]
        self._done[key] = hash(fingerprint)
        self._held, self._held_until = 0, -math.inf
        self._failing.clear()
        self.last_change = self._last_upload = now

    def changed(self, key: str, fingerprint: Fingerprint, now: float) -> None:
        """The file is not what it was when its upload began: it is uploaded when it has settled."""
        file = self._close(key)
        file.to_settle = True
        self._restart(key, file, fingerprint, now)

    def vanished(self, key: str) -> None:
        """The file is not there any more."""
        self._close(key)
        del self._files[key]

    def others_uploaded(self, key: str) -> bool:
        """Whether an upload has succeeded since that of a file was first tried."""
        return self._last_upload >= self._files[key].first_tried

    def failed(self, key: str, now: float, *, again: bool, concerns_all: bool = False) -> float | None:
        """The upload failed.

        Args:
            key: The file.
            now: The time.
            again: Whether another attempt may succeed although the file is the same.
            concerns_all: Whether all uploads fail for the same reason now: none begins during the pause. Pauses for all
                do not grow while a single file fails: others that come later may succeed.

        Returns:
            Seconds until the next attempt; None: when the file has changed.
        """
        file = self._close(key)
        file.failures += 1
        if not again:
            file.not_before = math.inf
            self._wait(key, file)
            return None
        file.not_before = now + _pause(file.failures - 1)
        if concerns_all:
            self._failing.add(key)
            is_alone = len(self._failing) == 1
            if now >= self._held_until:  # else it was begun before the pause
                self._held_until = now + (FIRST_PAUSE if is_alone else _pause(self._held))
                self._held += not is_alone or not self._held
            if not is_alone:
                file.not_before = self._held_until
        self._wait(key, file)
        return file.not_before - now


def _pause(failures: int) -> float:
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures, 10))
