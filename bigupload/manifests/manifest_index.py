"""The index of manifests outside the state directory: which ones this user began, and their paths.

An entry is a file in the state directory, named by the hash of its manifest's first line. It holds the manifest's
absolute path and a newline. An entry of an old version is empty: it shows only who began the manifest. An entry only
ever protects: `gc` spares an upload whose manifest is in the index, and nothing is aborted or deleted because of one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from bigupload import errors
from bigupload.manifests.state_directory import MANIFEST_INDEX
from bigupload.records import dataclass
from bigupload.support.daemon_threads import hanging
from bigupload.support.files import create_private, is_private_file, sync_directory
from bigupload.support.systems import open_binary, sync_to_disk

_NAME = r"[0-9a-f]{64}"
_ID_LENGTH = 32
"""As that of `manifest_id`."""
_MAX_NOTE = 64 * 1024
"""Bytes. No path is longer."""
_MAX_FIRST_LINE = 1 << 20
_GONE = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True, slots=True)
class IndexedManifest:
    """A manifest outside the state directory that this user began."""

    path: Path
    id: str
    """The id that `resume` and `abort` take: its `own_id`."""
    hangs: bool = False
    """Whether its file system hangs, so that nobody may look at it: who tries may never return."""


def entry_of(index: Path, first_line: bytes) -> Path:
    """Return the path of the entry of a manifest.

    The first line has a random token, so nobody can guess the name who has not seen the manifest.
    """
    return index / _hash(first_line)


def own_id(first_line: bytes) -> str:
    """Return the id of a manifest whose name is not its id: it is outside the state directory, or was set aside."""
    return _hash(first_line)[:_ID_LENGTH]


def _hash(first_line: bytes) -> str:
    return hashlib.sha256(first_line).hexdigest()


def write_entry(index: Path, first_line: bytes, manifest: Path) -> None:
    """Add a manifest that this user began, with its path. Blocking.

    The entry is written to another file which is then renamed: a process that is killed leaves a whole entry or none.

    Raises:
        OSError: It can't be written.
    """
    index.mkdir(mode=0o700, parents=True, exist_ok=True)
    entry = entry_of(index, first_line)
    fresh = entry.with_name(f"{entry.name}.new")
    fd = create_private(fresh)
    try:
        os.write(fd, _content(manifest))
        sync_to_disk(fd)
    finally:
        os.close(fd)
    fresh.replace(entry)
    sync_directory(index)


def update_entry(index: Path, first_line: bytes, manifest: Path) -> None:
    """Record the new path of a moved manifest in its entry; likewise that of an earlier version. Blocking.

    A manifest without an entry gets none: it may have come from elsewhere.

    Raises:
        OSError: There is no entry, or it can't be written.
    """
    entry = entry_of(index, first_line)
    if is_private_file(entry.lstat()) and entry.read_bytes() != _content(manifest):
        write_entry(index, first_line, manifest)


def delete_entry(index: Path, first_line: bytes, _: Path) -> None:
    """Delete the entry of a completed upload: it is never resumed, so that nobody asks who began it. Blocking.

    Raises:
        OSError: There is no entry, or it can't be deleted.
    """
    entry_of(index, first_line).unlink()


def _content(manifest: Path) -> bytes:
    return os.fsencode(manifest.parent.resolve() / manifest.name) + b"\n"


def indexed_manifests(directory: Path) -> list[IndexedManifest]:
    """Return the manifests in the index of a state directory, the least recently written first. Blocking.

    Left out are those that are gone, and what lies in the state directory itself. Whether the others can be read, or
    are finished, is for the caller to find out, except for those that hang.

    Raises:
        ManifestError: The index can't be read, so that nobody knows which manifests it has.
    """
    found: dict[Path, IndexedManifest] = {}
    times: dict[Path, int] = {}
    try:
        inside = directory.resolve()
        named = [
            (entry, path) for entry in _entries(directory / MANIFEST_INDEX) if (path := _named_by(entry)) is not None
        ]
        outside = [(entry, path) for entry, path in named if path.parent != inside]
        hung = hanging(path for _, path in outside)
        for entry, path in outside:
            if path in hung:
                found[path], times[path] = IndexedManifest(path, entry.name[:_ID_LENGTH], hangs=True), 0
                continue
            try:
                status = path.lstat()
                if not stat.S_ISREG(status.st_mode):  # whatever it is, it is not a manifest
                    continue
                times[path] = status.st_mtime_ns
            except _GONE:
                continue
            except OSError:  # it is there, perhaps, and can't be read now
                times[path] = 0
            if path not in found or manifest_of_entry(entry) is not None:  # another upload may have begun there since
                found[path] = IndexedManifest(path, entry.name[:_ID_LENGTH])
    except OSError as e:
        raise errors.ManifestError(
            f"can't read the index of manifests in {directory / MANIFEST_INDEX}: {e.strerror}; make its files "
            "readable, or delete those that are not yours"
        ) from e
    return sorted(found.values(), key=lambda each: times[each.path])


def manifest_of_entry(entry: Path) -> Path | None:
    """Return the manifest that an entry names; None: it is not there any more, or something else is. Blocking.

    Raises:
        OSError: The entry can't be read, or the manifest's file system hangs.
    """
    path = _named_by(entry)
    if path is None:
        return None
    if hanging([path]):
        raise TimeoutError(errno.ETIMEDOUT, "its file system hangs", str(path))
    try:
        fd = open_binary(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0), links=False)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            line = os.read(fd, _MAX_FIRST_LINE).partition(b"\n")[0] + b"\n"
        finally:
            os.close(fd)
    except _GONE:
        return None
    except OSError as e:
        return None if e.errno == errno.ELOOP else path  # a link is not a manifest; anything else may pass
    return path if entry_of(entry.parent, line) == entry else None


def _entries(index: Path) -> Iterator[Path]:
    try:
        with os.scandir(index) as entries:
            yield from [Path(entry.path) for entry in entries if re.fullmatch(_NAME, entry.name)]
    except _GONE:
        return


def _named_by(entry: Path) -> Path | None:
    """The path in an entry; None: it has none, is gone, or is not this user's."""
    try:
        status = entry.lstat()
        if not is_private_file(status) or status.st_size > _MAX_NOTE:
            return None
        content = entry.read_bytes()
    except FileNotFoundError:  # its upload completed in the meantime
        return None
    path = Path(os.fsdecode(content.removesuffix(b"\n")))
    return path if content.endswith(b"\n") and b"\0" not in content and path.is_absolute() else None
