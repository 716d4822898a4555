"""`DeleteSource`: each file is deleted once it is in the store.

The order is what makes it safe: the proof; then the file's row in the receipt, if there is one; then the file is set
aside under another name, and only if it is still the file that was proved; then the store is asked for the object once
more; then the file is deleted. Of a deletion nothing else is recorded: what a killed call has set aside says by its
name what it was, gets its name back from the next call that deletes, and is then uploaded or known as any other file.

While the file is set aside, an object that *is* this file (of a mounted bucket, or in a directory that a store serves)
is not there, so the file gets its name back.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bigupload import errors
from bigupload.api.checks import checked_proof
from bigupload.api.steps import OurStep, Row, StepCall, Work
from bigupload.api.types import UploadSource
from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import Verified, replaced_by
from bigupload.core.remote_url import is_remote
from bigupload.engine.retrying import Retrier
from bigupload.engine.upload_run import UploadResult
from bigupload.events import UploadIdentity, identified
from bigupload.options import S3Options
from bigupload.sources.opening import is_path
from bigupload.sources.removal import FileRemoval, check_can_be_deleted, check_top, restore, restore_below
from bigupload.stores.s3.multipart import S3Store
from bigupload.stores.targets import LOCAL_BUCKET, connect, parse_s3_url, service_of
from bigupload.support.cancellation import run_shielded
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.files import shown

if TYPE_CHECKING:
    from bigupload.api.arguments import ProofName
    from bigupload.stores.service_client import ServiceStore

R = TypeVar("R")
_THREADS = 16
_ATTEMPTS = 3
_PATIENCE = 30.0
"""Seconds for which the store is asked while a file is set aside: then it gets its name back."""
_BEST_PROOFS = {
    "sha256": Verified.COMPOSITE_CHECKSUM,
    "md5": Verified.COMPOSITE_ETAG,
    "none": Verified.SIZE,
}
"""The best proof of a whole object that the checksums of its parts give, where it is not the best of all."""


class DeleteSource(OurStep):
    """A step that deletes each file once its object is proved, unless it has changed: `UploadResult.source_deleted`.

    The store is asked for the object once more, immediately before. A call that was killed is completed by the same
    call. A file that must stay fails by SourceNotDeleted.
    """

    deletes = True
    precedes_deletion = False

    def __init__(
        self, *, proved_by: Verified | ProofName = "full-object", empty_dirs: bool = False, links: bool = False
    ) -> None:
        """Say what is deleted.

        Args:
            proved_by: The least proof: "full-object", "composite-checksum", "composite-etag" or "size".
            empty_dirs: Also delete directories that become empty, below the named one.
            links: Also delete files with other hard links, and links (not their targets).

        Raises:
            UsageError: There is no such proof.
        """
        self.proved_by = checked_proof(proved_by)
        self.empty_dirs = empty_dirs
        self.links = links

    def check(self, options: Mapping[str, Any]) -> None:
        """Raise UsageError for options that do not fit."""
        checksum = options.get("checksum", "auto")
        best = _BEST_PROOFS.get(checksum, Verified.FULL_OBJECT)
        if not best.satisfies(self.proved_by):
            raise errors.UsageError(
                f"`checksum='{checksum}'` proves at most {best} of a file in parts, and `DeleteSource` wants "
                f"{self.proved_by}: leave the checksum out, or use `DeleteSource(proved_by='{best}')`"
            )
        refused = {
            "follow": "a growing file is not deleted",
            "size_only": "it compares no contents",
            "delete": "it would delete the objects of the files that are gone",
        }
        for name, reason in refused.items():
            if options.get(name):
                raise errors.UsageError(f"`{name}` can't be used with `DeleteSource`: {reason}: leave one of them out")

    def check_source(self, source: UploadSource) -> None:
        """Raise UsageError for a source that is not a file of this machine: nothing of it can be deleted."""
        if not is_path(source):
            what = "a URL" if is_remote(source) else type(source).__name__
            raise errors.UsageError(f"`DeleteSource` is for files of this machine, and this is {what}: leave it out")

    @contextlib.asynccontextmanager
    async def opened(self, call: StepCall) -> AsyncIterator[Work]:
        """Connect to nothing yet."""
        async with contextlib.aclosing(OpenDeleteSource(self, call)) as opened:
            yield opened


class OpenDeleteSource:
    """The deletions of one call."""

    def __init__(self, step: DeleteSource, call: StepCall) -> None:
        """Delete nothing yet."""
        self._step = step
        self._call = call
        self._service: str | None = call.options.get("service")
        self._s3: S3Options = call.options.get("s3") or S3Options()
        self._threads = asyncio.Semaphore(_THREADS)
        self._stores: dict[str, S3Store] = {}
        self._media: ServiceStore | None = None
        self._inodes: dict[tuple[int, int], str] = {}
        """Files with several hard links, by device and inode: each with the path that this call deletes."""
        self._forbidden: list[str] | None = None

    async def aclose(self) -> None:
        """Give the connections back. Idempotent."""
        while self._stores:
            await self._stores.popitem()[1].aclose()
        if self._media is not None:
            await self._media.aclose()

    # -- before a file is sent

    async def restore_below(self, *directories: str) -> None:
        """Give the files of directories that killed calls have set aside their names back.

        Raises:
            SourceNotDeleted: A directory has files of its own, none of which can be deleted.
        """
        for directory in directories:
            await self._thread(partial(check_top, directory))
            await self._thread(partial(restore_below, directory))

    async def begin(self, path: str) -> None:
        """Look at a file before it is sent. Raises SourceNotDeleted if it is known that it can't be deleted."""
        await self._thread(partial(self._check, path))

    def _check(self, path: str) -> None:
        """Blocking."""
        restore(path)
        try:
            status = Path(path).stat()
        except (OSError, ValueError):  # sending it says why
            return
        if self._forbidden is None:
            self._forbidden = [os.path.realpath(each) for each in self._own_directories()]
        real = os.path.realpath(path)
        if directory := next((each for each in self._forbidden if real.startswith(f"{each}{os.sep}")), None):
            raise errors.SourceNotDeleted(
                f"{errors.IT} can't be deleted: it is part of what bigupload itself keeps in {shown(directory)}",
                it=shown(path),
            )
        check_can_be_deleted(path, links=self._step.links)
        if status.st_nlink > 1:
            first = self._inodes.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                raise errors.SourceNotDeleted(
                    f"{errors.IT} is the same file as {shown(first)}, which this call deletes: delete this one by "
                    "another call",
                    it=shown(path),
                )

    def _own_directories(self) -> list[Path]:
        from bigupload.stores.local_store import default_data_dir

        directories = []
        for find in (default_data_dir, lambda: self._call.resources.state.directory):
            with contextlib.suppress(errors.BigUploadError):
                directories.append(find())
        return directories

    # -- after the proof

    async def __call__(self, row: Row) -> Row:
        """Delete a file whose object is proved. If it can't be deleted, it stays, and the row says why."""
        result, removal = row.proved, None
        try:
            if not result.verified.satisfies(self._step.proved_by):
                raise errors.SourceNotDeleted(
                    f"{errors.IT} is in the store and stays here: it is proved only by {result.verified} "
                    f"(`DeleteSource(proved_by='{result.verified}')` deletes it all the same)",
                    it=shown(row.path),
                )
            if row.fingerprint is None:
                raise errors.SourceNotDeleted(
                    f"{errors.IT} stays here: nobody knows how it was when it was uploaded", it=shown(row.path)
                )
            removal = FileRemoval(row.path, row.fingerprint, links=self._step.links)
            await self._delete(removal, row)
        except errors.BigUploadError as e:
            if removal is not None and removal.restored is not None:  # two renamings have changed its ctime alone
                row = dataclasses.replace(row, fingerprint=removal.restored, is_recorded=False)
            return dataclasses.replace(row, error=e)
        finally:
            if removal is not None:
                removal.close()
        return dataclasses.replace(row, result=dataclasses.replace(result, source_deleted=True))

    async def gone(self, path: str, result: UploadResult) -> UploadResult:
        """Return the result of a file that an earlier run has uploaded, and that is gone.

        Raises:
            ObjectMismatch: The store no longer has the object.
            StoreError: The store can't be asked.
        """
        await self._require_object(path, result, is_gone=True)
        return dataclasses.replace(result, source_deleted=True, skipped=True)

    async def _delete(self, removal: FileRemoval, row: Row) -> None:
        try:
            is_there = await self._whole(removal.set_aside)
            if is_there:
                await self._require_object(row.path, row.proved)
        except BaseException:
            await run_shielded(self._thread(removal.put_back))
            raise
        if is_there:
            await self._whole(removal.delete)
        if self._step.empty_dirs:
            await self._whole(partial(removal.remove_empty_directories, self._top(row)))

    def _top(self, row: Row) -> str:
        """The directory that was listed, which stays: what the key does not say of the path."""
        to = self._call.options.get("to") or f"s3://{LOCAL_BUCKET}/"
        prefix = parse_s3_url(to, "x")[1].removesuffix("x") if self._service is None else ""
        below = f"{os.sep}{row.proved.key.removeprefix(prefix).replace('/', os.sep)}"
        return row.path.removesuffix(below) if row.path.endswith(below) else str(Path(row.path).parent)

    async def _require_object(self, path: str, result: UploadResult, *, is_gone: bool = False) -> None:
        """Ask the store whether it has the object that was proved.

        Raises:
            ObjectMismatch: It has none, or another one.
            SourceNotDeleted: It does not say.
            StoreError: It can't be reached.
        """
        fate = f"{shown(path)} was {'deleted by an earlier call' if is_gone else 'not deleted'}"
        policy = self._call.resources.retry
        policy = dataclasses.replace(
            policy, attempts=min(policy.attempts, _ATTEMPTS), give_up_after=min(policy.give_up_after, _PATIENCE)
        )
        upload = UploadIdentity(source=path, target=result.url, id="", manifest=None)
        retrier = Retrier(policy=policy, emit=identified(upload, self._call.call.emit))
        try:
            if self._service is None:
                await self._require_in_bucket(result, retrier, fate)
            else:
                await self._require_in_service(self._service, result, retrier, fate)
        except errors.AccessDenied as e:
            if is_gone:
                raise
            right = "to look at the object once more (s3:GetObject)" if self._service is None else "to ask for the file"
            raise errors.SourceNotDeleted(
                f"{errors.IT} is in the store and stays here: to delete it, these credentials must be allowed "
                f"{right}: {e}",
                it=shown(path),
            ) from e

    async def _require_in_bucket(self, result: UploadResult, retrier: Retrier, fate: str) -> None:
        store = self._stores.get(result.bucket)
        if store is None:
            pool = self._call.resources.buckets
            store = self._stores[result.bucket] = await connect(result.bucket, "", self._s3, pool, creates_bucket=False)
        at = store.at(result.key)
        facts = await retrier.request(lambda: at.stat("", Algorithm.CRC64NVME))
        if facts is None:
            raise errors.ObjectNotFound(f"there is no object at {result.url} any more: {fate}")
        differs = replaced_by(
            facts,
            size=result.size,
            etag=result.etag,
            checksum=result.checksum,
            version_id=result.version_id,
            sha256=result.sha256,
        )
        if differs is not None:
            raise errors.ObjectMismatch(f"{result.url} is no longer the object that was proved ({differs}): {fate}")

    async def _require_in_service(self, url: str, result: UploadResult, retrier: Retrier, fate: str) -> None:
        if self._media is None:
            self._media = service_of(url, self._s3, api_key=self._call.options.get("api_key"))
        media = self._media
        found = await retrier.request(lambda: media.stored(result.url))
        if found is None:
            raise errors.ObjectNotFound(f"the media service does not have {result.url} any more: {fate}")
        if found.key != result.key or found.size not in (None, result.size):
            raise errors.ObjectMismatch(f"{result.url} is another file now: {fate}")

    async def _thread(self, function: Callable[[], R]) -> R:
        return await run_in_daemon_thread(function, self._threads)

    async def _whole(self, function: Callable[[], R]) -> R:
        """Call a function in a thread, and wait for its end, also if the caller is cancelled: the file is renamed."""
        return await run_shielded(self._thread(function))
