"""ASC Media Hash Lists: `upload --mhl` writes one, and `verify --mhl` compares a directory with those that it has."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigupload import errors
from bigupload.api.many_items import select_files
from bigupload.api.types import VerificationFailed
from bigupload.batch.tree import Omitted, Selection
from bigupload.cli.job_report import VerificationReport
from bigupload.core.checksums import Hasher
from bigupload.core.selection import selects
from bigupload.records import dataclass
from bigupload.support.cancellation import for_each
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.units import escaped
from bigupload.verification.file_digests import read_file
from bigupload.verification.media_hash_lists import (
    FOLDER,
    FORMATS,
    XXH128,
    HashedFile,
    History,
    ListedFile,
    check_writable,
    hex_digest,
    nested_histories,
    new_hasher_of,
    read_history,
    write_generation,
)

if TYPE_CHECKING:
    from bigupload.api.uploader import Uploader
    from bigupload.engine.upload_run import UploadResult

_OF_EACH = ("s3", "checksum", "require_proof")
"""The options that the hash lists themselves are uploaded with."""


async def open_hash_lists(
    directory: str, selection: Selection, to: str, uploader: Uploader, options: Mapping[str, Any]
) -> HashLists:
    """Read the hash lists that a directory has, and see that another can be written.

    Args:
        directory: The directory.
        selection: Which of its files are uploaded.
        to: Where they go.
        uploader: Uploads the hash lists, too.
        options: The options of the files.

    Raises:
        BigUploadError: Those that are there are damaged, or no other can be written. Nothing was sent.
    """
    root = Path(directory)

    def look() -> History | None:
        new_hasher_of(XXH128)
        check_writable(root)
        if nested := nested_histories(root):
            name = escaped(str(nested[0]))
            raise errors.UsageError(f"{name} has hash lists of its own: upload that directory by itself")
        return read_history(root)

    upload = partial(uploader.upload, **{name: options[name] for name in _OF_EACH if name in options})
    history = await run_in_daemon_thread(look)
    is_ignored = _ignoring((history or History(root)).ignored)
    return HashLists(root, history, selection, to, upload, is_ignored)


@dataclass(slots=True)
class HashLists:
    """The hash list of one upload of a directory."""

    _root: Path
    _history: History | None
    _selection: Selection
    _to: str
    _upload: Callable[..., Awaitable[UploadResult]]
    _is_ignored: Callable[[str], bool]
    _files: list[HashedFile] = field(default_factory=list)

    def add(self, result: UploadResult) -> None:
        """A file is in the store. Those of the hash lists themselves have no hash."""
        path = Path(os.path.relpath(result.path, self._root)).as_posix()
        if result.xxh128 is None or self._is_ignored(path):
            return
        modified = None
        with contextlib.suppress(OSError):
            modified = result.path.stat().st_mtime
        hashes = {XXH128: result.xxh128}
        self._files.append(HashedFile(path=path, size=result.size, modified=modified, hashes=hashes))

    async def write(self) -> list[str]:
        """Write the hash list, and upload it with the chain.

        Returns:
            The paths of files that differ from an earlier list.

        Raises:
            BigUploadError: It can't be written or uploaded.
        """
        files = [await self._with_first_format(file) for file in self._files]
        write = partial(write_generation, self._root, self._history, files, host=platform.node() or "unknown")
        written, failed = await run_in_daemon_thread(partial(write, ignored=self._selection.exclude))
        for path in written:
            to = f"{self._to.removesuffix('/')}/{FOLDER}/{path.name}"
            await self._upload(path, to=to)
        return list(failed)

    async def _with_first_format(self, file: HashedFile) -> HashedFile:
        """With a hash in a format that earlier lists have, if these have no XXH128: a new one must not stand alone."""
        known = self._history.hashes.get(file.path, {}) if self._history is not None else {}
        if not known or XXH128 in known:
            return file
        format_ = next(each for each in FORMATS if each in known)
        hasher = new_hasher_of(format_)
        await read_file(self._root / file.path, {format_: hasher}, asyncio.Semaphore(1))
        hashes = {**file.hashes, format_: hex_digest(format_, hasher)}
        return HashedFile(path=file.path, size=file.size, modified=file.modified, hashes=hashes)


def _ignoring(patterns: list[str]) -> Callable[[str], bool]:
    scope = Selection(exclude=patterns).scope()
    return lambda path: not selects(scope, path)


async def verify_hash_lists(directory: Path, arguments: Mapping[str, Any]) -> int:
    """Compare a directory's files with its hash lists, and print each result.

    Returns:
        The exit status.
    """
    roots = await run_in_daemon_thread(lambda: [directory, *nested_histories(directory)])
    histories: dict[str, History] = {}
    for root in roots:
        history = await run_in_daemon_thread(partial(read_history, root))
        if history is not None:
            histories[f"{Path(os.path.relpath(root, directory)).as_posix()}/".removeprefix("./")] = history
    if not histories:
        raise errors.UsageError(f"{escaped(str(directory / FOLDER))} is not there: no hash list of this directory")
    shown = f"{directory}{os.sep}{FOLDER}"
    ways = {format_: f"the {format_.upper()} of each file is that of the hash list" for format_ in FORMATS}
    sums = VerificationReport(shown, arguments, ways=ways)
    reading, listed = asyncio.Semaphore(os.cpu_count() or 1), set(_listed(histories))

    async def one(path: str) -> None:
        known = _known(histories, path)
        try:
            sums.add(await _compare(directory / path, known, reading))
        except errors.BigUploadError as e:
            sums.add(VerificationFailed(source=str(directory / path), key=path, error=e))

    await for_each(sorted(listed), one, at_once=os.cpu_count() or 1)
    async for found in select_files(f"{directory}{os.sep}"):
        path = found.key if not isinstance(found, Omitted) else ""
        if path and path not in listed and not _is_ignored(histories, path):
            error = errors.ObjectMismatch("no hash list has this file")
            sums.add(VerificationFailed(source=str(directory / path), key=path, error=error))
    return sums.finish()


def _listed(histories: Mapping[str, History]) -> Iterator[str]:
    """The paths of all files in the lists, each below the directory whose lists are nearest to it."""
    for top, history in histories.items():
        for path, known in history.hashes.items():
            if known and _top_of(histories, f"{top}{path}") == top:
                yield f"{top}{path}"


def _top_of(histories: Mapping[str, History], path: str) -> str:
    return max((top for top in histories if path.startswith(top)), key=len, default="")


def _known(histories: Mapping[str, History], path: str) -> Mapping[str, str]:
    top = _top_of(histories, path)
    return histories[top].hashes[path[len(top) :]]


def _is_ignored(histories: Mapping[str, History], path: str) -> bool:
    if path.startswith(f"{FOLDER}/") or f"/{FOLDER}/" in path:
        return True
    top = _top_of(histories, path)
    return top in histories and _ignoring(histories[top].ignored)(path[len(top) :])


async def _compare(path: Path, known: Mapping[str, str], reading: asyncio.Semaphore) -> ListedFile:
    format_ = next(each for each in FORMATS if each in known)
    hasher: Hasher = new_hasher_of(format_)
    if not path.exists():
        raise errors.SourceNotFound(f"{escaped(str(path))} is in the hash list, and not there")
    found = await read_file(path, {format_: hasher}, reading)
    value = hex_digest(format_, hasher)
    if value != known[format_]:
        name = escaped(str(path))
        raise errors.ObjectMismatch(f"{name} differs from the hash list: its {format_.upper()} is another one")
    return ListedFile(path=path.absolute(), size=found.size, checksum=f"{format_}:{value}", verified=format_)
