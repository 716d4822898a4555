"""The file systems that are mounted below a directory, and whether one is away whose files were synced once. Blocking.

A directory on which nothing is mounted any more looks as if its files had been deleted. A mount point is on another
device than the directory above it. Numbers of devices are not compared with those of earlier days: they change with a
start of the machine, and a stick gets the number of the one before it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

from bigupload.batch.tree import FileEntry, Found

_MOST_KNOWN = 1000
"""Directories whose devices are remembered: the files of each come together."""
_OF_EXT = "lost+found"
"""The directory that an empty file system has, if it is one of ext2 to ext4."""


def why_away(*, was_mounted: bool, is_mounted: bool, is_empty: bool) -> str | None:
    """Return why the files of a directory may only be out of sight; None: what is gone from it was deleted.

    Args:
        was_mounted: Whether it was a mount point when its files were synced.
        is_mounted: Whether it is one now.
        is_empty: Whether nothing is in it.
    """
    if was_mounted and not is_mounted:
        return "was a file system of its own when its files were synced, and is none now"
    if is_mounted and is_empty:
        return "is an empty file system, and had files when it was synced"
    return None


class MountPoints:
    """The mount points of one directory: itself, "", and those below it, by the beginnings of their keys, as "a/b/"."""

    def __init__(self, directory: str, recorded: Collection[str]) -> None:
        """Look at nothing yet.

        Args:
            directory: Its path.
            recorded: Its mount points whose files were synced.
        """
        self.found: set[str] = set()
        """Those that have a file now."""
        self.merged: set[str] = set()
        """Recorded ones that have a file now and are mount points no more."""
        self._directory = directory
        self._recorded = frozenset(recorded)
        self._devices: dict[str, int | None] = {}
        self._away: dict[str, tuple[str, str] | None] = {}

    def noting(self, files: Iterator[Found]) -> Iterator[Found]:
        """Hand files on, and look at each directory that has one."""
        last = None
        for each in files:
            if isinstance(each, FileEntry) and (folder := _folder(each.key)) != last:
                last = folder
                for above in _above(folder):
                    if self._is_mounted(above):
                        self.found.add(above)
                    elif above in self._recorded:
                        self.merged.add(above)
            yield each

    def look_again(self) -> None:
        """Let `away` look at the directories of now, not at what an earlier look found: one may be unmounted since."""
        self._devices.clear()
        self._away.clear()

    def away(self, key: str) -> tuple[str, str] | None:
        """Return the topmost directory above a file that may be away, with the reason; None: there is none."""
        folder = _folder(key)
        if folder not in self._away:
            if len(self._away) >= _MOST_KNOWN:
                self._away.clear()
            whys = ((above, self._why_away(above)) for above in _above(folder))
            self._away[folder] = next(((above, why) for above, why in whys if why is not None), None)
        return self._away[folder]

    def _why_away(self, folder: str) -> str | None:
        is_mounted = self._is_mounted(folder)
        return why_away(
            was_mounted=folder in self._recorded or folder in self.found,
            is_mounted=is_mounted,
            is_empty=is_mounted and _is_empty(f"{self._directory}/{folder}"),
        )

    def _is_mounted(self, folder: str) -> bool:
        device, above = self._device(folder), self._device(_folder(folder[:-1]) if folder else "../")
        return None not in (device, above) and device != above

    def _device(self, folder: str) -> int | None:
        if folder not in self._devices:
            if len(self._devices) >= _MOST_KNOWN:
                self._devices.clear()
            try:
                self._devices[folder] = os.stat(f"{self._directory}/{folder}").st_dev
            except OSError:
                self._devices[folder] = None
        return self._devices[folder]


def _folder(key: str) -> str:
    return key[: key.rfind("/") + 1]


def _above(folder: str) -> Iterator[str]:
    """The directories on the way to one, and itself, from the top down."""
    yield ""
    at = folder.find("/")
    while at >= 0:
        yield folder[: at + 1]
        at = folder.find("/", at + 1)


def _is_empty(directory: str) -> bool:
    try:
        with os.scandir(directory) as entries:
            return all(entry.name == _OF_EXT for entry in entries)
    except OSError:
        return False
