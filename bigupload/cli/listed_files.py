"""`bigupload upload` of directories, patterns and lists of files, and what it would upload (`--dry-run`)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigupload import errors
from bigupload.batch.listing import CountedFiles, FileListing, FoundFiles, read_ahead
from bigupload.batch.tree import FileEntry, Found, Omitted
from bigupload.cli import complain, discard_output
from bigupload.cli.job_report import LeftOut, absolute, failed_json
from bigupload.cli.selection_options import Chosen, is_many, is_prefix, names_many
from bigupload.core.selection import split_glob
from bigupload.records import dataclass
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.systems import with_slashes
from bigupload.units import counted, escaped, format_size, printable, quoted

if TYPE_CHECKING:
    from bigupload.manifests.job_record import JobName

_LONGEST_JOB = 200


@dataclass(slots=True)
class ListedFiles:
    """Pass on the files that a call selects, and report those that it leaves out."""

    names: Sequence[str]
    chosen: Chosen
    to: str
    """The target: a prefix that ends in "/" or is a bucket, or the object of the one file."""
    is_quiet: bool
    """Whether to print failures only."""
    verb: str = "upload"
    """The verb for the files in messages."""
    deletes: bool = False
    """Whether each file is deleted once it is in the store. Then the job may be without any: moved files are gone."""
    _listing: FileListing = field(init=False)

    async def open(self) -> None:
        """Look at the sources.

        Raises:
            UsageError: A source can't be one, or two files have one key.
        """
        self._listing = await run_in_daemon_thread(self._open)
        await run_in_daemon_thread(self._listing.check)

    def found(self, *, readable: bool = False) -> CountedFiles:
        """Yield the files in the order of their keys, and failures. Omitted files are only reported.

        Args:
            readable: Whether those that this user may not read are failures already.

        Raises:
            UsageError: Two files have one key now, or nothing is selected (at the end).
        """
        counted = FoundFiles()
        return CountedFiles(self._found(counted, readable=readable), counted, self.directories)

    async def _found(self, counted: FoundFiles, *, readable: bool) -> AsyncGenerator[Found, None]:
        is_empty = True
        found = self._listing.found()
        left_out = LeftOut(quiet=self.is_quiet)
        async for item in read_ahead(_readable(found) if readable else found, counted):
            if isinstance(item, Omitted) and not item.is_failure:
                left_out.add(item.path, item.reason)
                continue
            is_empty = False
            yield item
        left_out.finish()
        if is_empty:
            self._report_empty()

    async def check_output(self, option: str, file: Path | None) -> None:
        """Raise UsageError if a file that is written meanwhile would be, or replace, a source or the list of them."""
        if file is None:
            return
        if (listed := self.chosen.files_from) is not None and os.path.realpath(listed) == os.path.realpath(file):
            raise errors.UsageError(f"{option} {file} would replace the list of --files-from: name another file")
        done = {"upload": "uploaded", "verify": "verified"}[self.verb]
        await run_in_daemon_thread(partial(self._listing.check_output, option, file, self.chosen.selection, done=done))

    async def check_deletable(self) -> None:
        """Raise SourceNotDeleted if no file of a source can be deleted."""
        from bigupload.sources.removal import check_top

        for directory in self.directories:
            await run_in_daemon_thread(partial(check_top, directory))

    @property
    def job(self) -> JobName:
        """The job's name, by which the same command continues it."""
        from bigupload.manifests.job_record import JobName

        sources = [f"{os.path.abspath(name)}{'/' * name.endswith('/')}" for name in self.names]  # noqa: PTH100 - keeps links
        words = [*sources, *self.chosen.words()]
        text = os.fsencode(" ".join(map(quoted, words))).decode(errors="backslashreplace")
        if len(text) > _LONGEST_JOB:
            text = f"{text[:_LONGEST_JOB]}… {sha256(text.encode()).hexdigest()[:16]}"
        command = "move" if self.deletes else "upload"
        if self.chosen.files_from != Path("-"):
            return JobName(text, command, words)
        typed = ["--files-from=-" if word.startswith("--files-from=") else word for word in words]
        return JobName(text, command, typed, os.path.abspath("."))  # noqa: PTH100 - the directory of its paths

    @property
    def top(self) -> str:
        """The base directory of displayed paths: the source, if a directory is the only source."""
        directories = self.directories
        return directories[0] if len(self.names) == len(directories) == 1 else "."

    @property
    def directories(self) -> list[str]:
        """The directories that are named, or that patterns begin with."""
        many = filter(names_many, self.names)
        return [name if os.path.isdir(name) else split_glob(with_slashes(name))[0] or "." for name in many]  # noqa: PTH112 - as names_many does

    def target(self, file: FileEntry) -> str:
        """The URL of the object that a file becomes."""
        if self.is_prefix:
            return f"{self.to.removesuffix('/')}/{file.key}"
        return self.to

    @property
    def is_prefix(self) -> bool:
        """Whether the target is what keys begin with, and not one object."""
        return is_many(self.names, self.chosen) or is_prefix(self.to)

    def _open(self) -> FileListing:
        from bigupload.stores.s3.access import split_bucket

        prefix = split_bucket(self.to.partition("://")[2])[1] if self.is_prefix else None
        return FileListing(
            self.names, self.chosen.selection, now=time.time(), prefix=prefix, files=self.chosen.read_list()
        )

    def _report_empty(self) -> None:
        what = printable(", ".join(self.names)) if self.names else f"the list {self.chosen.list_name}"
        text = f"nothing to {self.verb}: {what} has no file" + (
            " that the options select" if self.chosen.selects else ""
        )
        if not self.deletes and self.chosen.selection.newer_than is None:
            raise errors.UsageError(text)
        if not self.is_quiet:
            complain(errors.SourceError(text))


def _readable(found: Iterator[Found]) -> Iterator[Found]:
    for item in found:
        if isinstance(item, FileEntry) and not os.access(item.path, os.R_OK):
            yield Omitted(item.path, "can't read it: Permission denied", is_failure=True)
        else:
            yield item


async def dry_run(listed: ListedFiles, *, as_json: bool, service: str | None) -> int:
    """Print what would be uploaded: a line a file on standard output, and the sum on standard error.

    Args:
        listed: The files.
        as_json: Whether each line is a JSON object, and the sum the last one of them.
        service: The media service that they would go to, which names the objects.

    Returns:
        The exit status.
    """
    count = size = failed = 0
    status = errors.EXIT_OK
    async for file in listed.found(readable=True):
        if isinstance(file, Omitted):
            status, failed = errors.EXIT_FAILED, failed + 1
            error = errors.SourceError(f"{errors.IT}: {file.reason}", it=escaped(file.path))
            complain(error, escaped(file.path))
            if as_json:
                _print(failed_json(absolute(file.path), "", error))
            continue
        count, size = count + 1, size + file.size
        target = service or listed.target(file)
        if as_json:
            _print(json.dumps({"would": "upload", "source": file.path, "url": target, "size": file.size}))
        else:
            _print(f"{format_size(file.size):>10}  {printable(escaped(file.path if service else target))}")
    if as_json:
        _print(json.dumps({"files": count, "size": size, "failed": failed, "exit_status": status}))
    _print("", end="", flush=True)
    if count and not as_json and not listed.is_quiet:
        sums = f"{counted(count, 'file')}, {format_size(size)}" + (f", {failed:,} failed" if failed else "")
        click.echo(f"bigupload: would upload {sums}; nothing was sent", err=True)
    return status


def _print(line: str, **how: Any) -> None:
    """Write to standard output. The last call flushes: of 100,000 lines, each would cost a system call."""
    try:
        print(line, **how)  # noqa: T201 - does nothing where there is no standard output
    except OSError as e:
        discard_output()
        raise errors.BigUploadError(f"can't write the list ({e.strerror}): nothing was sent") from None
