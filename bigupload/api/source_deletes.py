"""`delete_source`: the files of one call, deleted once they are in the store. Single uploads, jobs, syncs and watches
call `finish` for each file whose upload is proved.

The order is what makes it safe: the proof; then a row in the `MoveRecord`, on disk; then the file's row in the receipt,
if there is one; then the file is set aside under another name, and only if it is still the file that was proved; then
the store is asked for the object once more; then the file is deleted, and the row says so.

While the file is set aside, an object that *is* this file (of a mounted bucket, or in a directory that a store serves)
is not there, so the file gets its name back.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from os.path import lexists
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bigupload import errors
from bigupload.api.calls import OpenCall
from bigupload.api.checks import checked_keep_for, checked_proof
from bigupload.api.many_items import job_target, result_of_record
from bigupload.api.receipts import Written
from bigupload.api.resources import UploaderResources
from bigupload.api.sources import wanted_digests
from bigupload.api.types import UploadSource
from bigupload.batch.job import Job, UploadFailed, results_while
from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import replaced_by
from bigupload.core.manifest import Fingerprint
from bigupload.core.remote_url import is_remote
from bigupload.engine.retrying import Retrier
from bigupload.engine.upload_run import UploadResult
from bigupload.events import UploadIdentity, identified
from bigupload.manifests.move_record import Move, MoveState
from bigupload.options import S3Options
from bigupload.sources.file import fingerprint_of
from bigupload.sources.opening import is_path
from bigupload.sources.removal import FileRemoval, check_can_be_deleted, check_top
from bigupload.stores.s3.multipart import S3Store
from bigupload.stores.targets import LOCAL_BUCKET, connect, key_of_file, parse_s3_url, service_of
from bigupload.support.cancellation import run_shielded
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.missing_files import shown

if TYPE_CHECKING:
    from bigupload.stores.service_client import ServiceStore

R = TypeVar("R")
_THREADS = 16
_ATTEMPTS = 3
_PATIENCE = 30.0
"""Seconds for which the store is asked while a file is set aside: then it gets its name back."""


def check_source(source: UploadSource) -> None:
    """Raise UsageError for a source that is not a file of this machine: nothing of it can be deleted."""
    if not is_path(source):
        what = "a URL" if is_remote(source) else type(source).__name__
        raise errors.UsageError(f"`delete_source` is for files of this machine, and this is {what}: leave it out")


class SourceDeletes:
    """The deletions of one call."""

    def __init__(
        self, resources: UploaderResources, call: OpenCall, options: Mapping[str, Any], *, job: str | None = None
    ) -> None:
        """Delete nothing yet.

        Args:
            resources: The Uploader's resources.
            call: The call.
            options: The caller's, which `checks.checked_deletes` has checked.
            job: The id of the call's job: a call that continues it reports what earlier ones have deleted.
        """
        self._job = job
        self._resources = resources
        self._call = call
        self._required = checked_proof(options.get("delete_if_proved", "full-object"))
        self._empty_dirs: bool = options.get("delete_empty_dirs", False)
        self._digests = wanted_digests(options)
        self._links: bool = options.get("delete_links", False)
        self.keep_for = checked_keep_for(options.get("keep_for"))
        """Seconds."""
        self._service: str | None = options.get("service")
        self._to: str = options.get("to") or f"s3://{LOCAL_BUCKET}/"
        self._s3: S3Options = options.get("s3") or S3Options()
        self._threads = asyncio.Semaphore(_THREADS)
        self._at: str | None = None
        self._stores: dict[str, S3Store] = {}
        self._media: ServiceStore | None = None
        self._api_key: str | None = options.get("api_key")
        self._inodes: dict[tuple[int, int], str] = {}
        """Files with several hard links, by device and inode: each with the path that this call deletes."""
        self._leftover: set[str] = set()
        """Paths of files that an earlier call, or this one, could not delete."""
        self._forbidden: list[str] | None = None
        self._moves = resources.state.moves()
        self.receipt: Written | None = None
        """Has each file before it is deleted."""

    async def aclose(self) -> None:
        """Give the connections back. Idempotent."""
        while self._stores:
            await self._stores.popitem()[1].aclose()
        if self._media is not None:
            await self._media.aclose()

    # -- one upload

    async def upload(
        self,
        source: UploadSource,
        name: str | None,
        upload: Callable[[bool], Awaitable[tuple[UploadResult, Fingerprint]]],
    ) -> tuple[UploadResult, Fingerprint]:
        """Upload one file, unless it was proved before, and delete it.

        Args:
            source: Its path.
            name: Its name in the target; None: its own.
            upload: Uploads it. True: unless its manifest says that this file was uploaded.
        """
        path = os.path.abspath(os.fspath(source))  # type: ignore[arg-type]  # noqa: PTH100 - as FileSource; a path
        name = name or Path(path).name
        async with contextlib.aclosing(self):
            key = name if self._service is not None else key_of_file(self._to, path, name)[1]
            target = await self.target_of(key)
            await self.recover(target)
            result = await self.begin(path, target)
            if result is not None and result.source_deleted:
                return result, Fingerprint(result.size, 0, 0, 0)
            if result is not None:
                fingerprint = await self._thread(lambda: fingerprint_of(Path(path).stat()))
                if any(getattr(result, name) is None for name in self._digests):  # the call that sent it wanted none
                    from bigupload.verification.file_digests import with_digests

                    reading = self._resources.reading
                    result = await with_digests(result, reading, fingerprint, whole=None, **self._digests)
                try:
                    return await self.finish(result, path, fingerprint, target, target), fingerprint
                except errors.ObjectMismatch:  # since a moment ago
                    pass
            result, fingerprint = await upload(True)
            try:
                return await self.finish(result, path, fingerprint, target, target), fingerprint
            except errors.ObjectMismatch:
                if not result.skipped:
                    raise
            result, fingerprint = await upload(False)
            return await self.finish(result, path, fingerprint, target, target), fingerprint

    # -- the steps of each file

    async def target_of(self, key: str) -> str:
        """Return the object's name in the record, with its endpoint."""
        if self._service is not None:
            return f"{self._service}#{key}"
        if self._at is None:
            self._at = await job_target("", self._s3)
        return f"s3://{parse_s3_url(self._to, 'key')[0]}/{key}{self._at}"

    async def recover(self, base: str) -> list[Move]:
        """Complete what killed calls with the same target began.

        Returns:
            The files that are deleted now and are not of this call's job, for `earlier`.

        Raises:
            StoreError: The store can't be asked.
            ManifestError: The record can't be read or written.
        """
        done = []
        for move in await self._moves.of_base(base, MoveState.DELETING):
            try:
                result = dataclasses.replace(_result(move, self._moves.path), source_deleted=True)
                await self._bring_to_receipt(result, move.path)
                await self._delete(move)
                if self._job is None or move.job != self._job:
                    done.append(dataclasses.replace(move, state=MoveState.DELETED))
            except errors.SourceNotDeleted:  # another process is at it, or it is said when the file's turn comes
                self._leftover.add(move.path)
            except (errors.SourceChanged, errors.ObjectMismatch):
                await self._moves.forget(move)
        if self._job is not None:
            await self._moves.set_apart(self._job)
        return done

    async def earlier(self, recovered: Iterable[Move]) -> AsyncGenerator[UploadResult | UploadFailed, None]:
        """The files that earlier calls have deleted, as far as this one has not met them: those of its job.

        An object that the store no longer has is a failure, and no later call reports it.

        Args:
            recovered: More of them, which `recover` returned.

        Raises:
            StoreError: The store can't be asked.
        """
        async with contextlib.aclosing(self), contextlib.aclosing(self._moved_earlier(recovered)) as moves:
            job = Job(moves, self._ask_again, at_once=lambda: self._resources.shared.limit)
            async with contextlib.aclosing(results_while(job, job.run())) as asked:
                async for move, error in asked:
                    if error is None:
                        yield _result(move, self._moves.path)
                    else:
                        yield UploadFailed(source=move.path, key=move.key, error=error)
                        await self._moves.forget(move)

    async def _moved_earlier(self, recovered: Iterable[Move]) -> AsyncGenerator[Move, None]:
        for move in recovered:
            yield move
        if self._job is not None:
            async with contextlib.aclosing(self._moves.earlier(self._job)) as moves:
                async for move in moves:
                    yield move

    async def _ask_again(self, move: Move) -> tuple[Move, errors.ObjectMismatch | None]:
        try:
            await self._require_object(move)
        except errors.ObjectMismatch as e:
            return move, e
        return move, None

    async def reported(self) -> None:
        """The job has nothing left to do, and what was deleted is reported."""
        if self._job is not None:
            await self._moves.reported(self._job)

    async def begin(self, path: str, target: str) -> UploadResult | None:
        """Look at a file before it is sent.

        Returns:
            What is known of it, if it need not be sent: its result, `source_deleted` if an earlier call deleted it.
            None: send it.

        Raises:
            SourceNotDeleted: It is known that it can't be deleted.
        """
        fingerprint = await self._thread(partial(self._check, path))
        known = await self._moves.find(path, target) if fingerprint is None or self._is_expected(path) else None
        if known is None or not known.verified.satisfies(self._required):
            return None
        if fingerprint is None:
            return await self._met(known) if known.state is MoveState.DELETED else None
        if known.state is MoveState.DELETED or known.fingerprint != fingerprint:
            return None
        try:
            await self._require_object(known)
        except errors.ObjectMismatch:
            await self._moves.forget(known)
            return None
        return _result(known, self._moves.path)

    async def moved(self, path: str, base: str) -> UploadResult | None:
        """The result of a file that is not there, if an earlier call with the same target has deleted it."""
        known = await self._moves.find_deleted(path, base) if not await self._thread(lambda: lexists(path)) else None
        return None if known is None else await self._met(known)

    async def _met(self, known: Move) -> UploadResult:
        """The result of a file that an earlier call has deleted. `earlier` does not return it any more.

        Raises:
            ObjectMismatch: The store no longer has the object.
            StoreError: The store can't be asked.
        """
        await self._require_object(known)
        if self._job is not None:
            await self._moves.met(known, self._job)
        return _result(known, self._moves.path)

    def _is_expected(self, path: str) -> bool:
        """Whether there may be a row of a file that is there."""
        return self.keep_for > 0 or path in self._leftover

    async def finish(
        self, result: UploadResult, path: str, fingerprint: Fingerprint | None, target: str, base: str
    ) -> UploadResult:
        """Delete a file whose object is proved, or record that it is to be deleted later.

        Args:
            result: Of its upload, or that it was in the store already.
            path: Its absolute path.
            fingerprint: The file's when it was uploaded, or proved to be in the store.
            target: As `target_of` returns it.
            base: The target of the whole call, for `recover`.

        Returns:
            The result, which says what became of the file.

        Raises:
            SourceChanged: The file has changed since. It stays.
            SourceNotDeleted: It can't be deleted.
            ObjectMismatch: The store no longer has the object.
        """
        move = self._checked_move(result, path, fingerprint, target, base)
        if self.keep_for:
            now, move = move.proved, await self._since_its_proof(move)
            if now < move.proved + self.keep_for:
                await self._bring_to_receipt(result, path)
                until = datetime.datetime.fromtimestamp(move.proved + self.keep_for, datetime.UTC)
                return dataclasses.replace(result, source_kept_until=until.isoformat(timespec="seconds"))
        await self._moves.write(move)  # before the receipt: a file that is in it is never sent again after a kill
        try:
            await self._bring_to_receipt(result, path)
        except errors.SourceNotDeleted:
            await self._moves.write(dataclasses.replace(move, state=MoveState.KEPT))
            raise
        try:
            await self._delete(move)
        except (errors.SourceChanged, errors.ObjectMismatch):
            await self._moves.forget(move)
            raise
        except (errors.SourceNotDeleted, errors.StoreError):
            self._leftover.add(path)  # the next try need not send it
            raise
        return dataclasses.replace(result, source_deleted=True)

    async def _bring_to_receipt(self, result: UploadResult, path: str) -> None:
        """Bring a file to the receipt, because nothing else may be left of it. Raises SourceNotDeleted."""
        try:
            if self.receipt is not None:
                await self.receipt.bring_to_disk(result)
        except errors.OutputUnwritable as e:
            raise errors.SourceNotDeleted(f"{shown(path)} is in the store and stays here: {e}", in_use=True) from e

    def _checked_move(
        self, result: UploadResult, path: str, fingerprint: Fingerprint | None, target: str, base: str
    ) -> Move:
        """The record of a deletion that may begin. Raises SourceNotDeleted unless enough is proved."""
        if not result.verified.satisfies(self._required):
            raise errors.SourceNotDeleted(
                f"{shown(path)} is in the store and stays here: it is proved only by {result.verified} "
                f"(`delete_if_proved='{result.verified}'` deletes it all the same)"
            )
        if fingerprint is None:
            raise errors.SourceNotDeleted(f"{shown(path)} stays here: nobody knows how it was when it was uploaded")
        return Move(
            path=path,
            target=target,
            base=base,
            fingerprint=fingerprint,
            bucket=result.bucket,
            key=result.key,
            url=result.url,
            etag=result.etag,
            checksum=result.checksum,
            verified=result.verified,
            version_id=result.version_id,
            proved=self._resources.state.wall_clock(),
            state=MoveState.DELETING,
            sha256=result.sha256,
            xxh128=result.xxh128,
            job=self._job,
        )

    async def _since_its_proof(self, move: Move) -> Move:
        """The same with the time of the first proof, which is recorded now if it was not before."""
        known = await self._moves.find(move.path, move.target)
        if known is not None and (known.fingerprint, known.etag) == (move.fingerprint, move.etag):
            return dataclasses.replace(move, proved=known.proved)
        await self._moves.write(dataclasses.replace(move, state=MoveState.KEPT))
        return move

    async def kept(self, base: str) -> list[Move]:
        """The files that stay for a while, of the calls with one target."""
        return await self._moves.of_base(base, MoveState.KEPT)

    async def delete_kept(self, move: Move) -> UploadResult:
        """Delete a file that has stayed for long enough. Raises what `finish` raises."""
        result = _result(move, self._moves.path)
        return await self.finish(result, move.path, move.fingerprint, move.target, move.base)

    # -- one deletion

    async def _delete(self, move: Move) -> None:
        """Delete a file that the record names for deletion."""
        removal = FileRemoval(move.path, move.fingerprint, links=self._links)
        try:
            if await self._whole(removal.set_aside):
                try:
                    await self._require_object(move)
                except BaseException:
                    await run_shielded(self._put_back(removal, move))
                    raise
                await self._whole(removal.delete)
            if self._empty_dirs:
                await self._whole(partial(removal.remove_empty_directories, self._top(move)))
            await self._moves.write(dataclasses.replace(move, state=MoveState.DELETED))
        finally:
            removal.close()

    async def _put_back(self, removal: FileRemoval, move: Move) -> None:
        await self._thread(removal.put_back)
        if removal.restored is not None:  # the renaming has changed its ctime, and nothing else
            await self._moves.write(dataclasses.replace(move, fingerprint=removal.restored))

    def _top(self, move: Move) -> str:
        """The directory that was listed, which stays: what the key does not say of the path."""
        prefix = parse_s3_url(self._to, "x")[1].removesuffix("x") if self._service is None else ""
        below = f"{os.sep}{move.key.removeprefix(prefix).replace('/', os.sep)}"
        return move.path.removesuffix(below) if move.path.endswith(below) else str(Path(move.path).parent)

    async def _require_object(self, move: Move) -> None:
        """Ask the store whether it has the object that was proved.

        Raises:
            ObjectMismatch: It has none, or another one.
            SourceNotDeleted: It does not say.
            StoreError: It can't be reached.
        """
        is_deleted = move.state is MoveState.DELETED
        fate = f"{shown(move.path)} was {'deleted by an earlier call' if is_deleted else 'not deleted'}"
        policy = self._resources.retry
        policy = dataclasses.replace(
            policy, attempts=min(policy.attempts, _ATTEMPTS), give_up_after=min(policy.give_up_after, _PATIENCE)
        )
        upload = UploadIdentity(source=move.path, target=move.url, id="", manifest=None)
        retrier = Retrier(policy=policy, emit=identified(upload, self._call.emit))
        if self._service is not None:
            await self._require_file(move, self._service, retrier, fate)
            return
        store = self._stores.get(move.bucket)
        if store is None:
            store = self._stores[move.bucket] = await connect(
                move.bucket, "", self._s3, self._resources.buckets, creates_bucket=False
            )
        try:
            facts = await retrier.request(lambda: store.at(move.key).stat("", Algorithm.CRC64NVME))
        except errors.AccessDenied as e:
            if is_deleted:
                raise
            raise errors.SourceNotDeleted(
                f"{shown(move.path)} is in the store and stays here: to delete it, these credentials must be allowed "
                f"to look at the object once more (s3:GetObject): {e}"
            ) from e
        if facts is None:
            raise errors.ObjectNotFound(f"there is no object at {move.url} any more: {fate}")
        differs = replaced_by(
            facts,
            size=move.fingerprint.size,
            etag=move.etag,
            checksum=move.checksum,
            version_id=move.version_id,
            sha256=move.sha256,
        )
        if differs is not None:
            raise errors.ObjectMismatch(f"{move.url} is no longer the object that was proved ({differs}): {fate}")

    async def _require_file(self, move: Move, url: str, retrier: Retrier, fate: str) -> None:
        """Ask the media service whether it has the file. Raises what `_require_object` raises."""
        if self._media is None:
            self._media = service_of(url, self._s3, api_key=self._api_key)
        media = self._media
        try:
            found = await retrier.request(lambda: media.stored(move.url))
        except errors.AccessDenied as e:
            if move.state is MoveState.DELETED:
                raise
            raise errors.SourceNotDeleted(
                f"{shown(move.path)} is uploaded and stays here: to delete it, the service must say that it has it: {e}"
            ) from e
        if found is None:
            raise errors.ObjectNotFound(f"the media service does not have {move.url} any more: {fate}")
        if found.key != move.key or found.size not in (None, move.fingerprint.size):
            raise errors.ObjectMismatch(f"{move.url} is another file now: {fate}")

    # -- before anything is sent

    def _check(self, path: str) -> Fingerprint | None:
        """The file's fingerprint; None if it is not there. Blocking. Raises SourceNotDeleted."""
        try:
            status = Path(path).stat()
        except (OSError, ValueError):
            return None
        if self._forbidden is None:
            self._forbidden = [os.path.realpath(place) for place in self._own_places()]
        real = os.path.realpath(path)
        if place := next((place for place in self._forbidden if real.startswith(f"{place}{os.sep}")), None):
            raise errors.SourceNotDeleted(
                f"{shown(path)} can't be deleted: it is part of what bigupload itself keeps in {shown(place)}"
            )
        check_can_be_deleted(path, links=self._links)
        if status.st_nlink > 1:
            first = self._inodes.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                raise errors.SourceNotDeleted(
                    f"{shown(path)} is the same file as {shown(first)}, which this call deletes: delete this one by "
                    "another call"
                )
        return fingerprint_of(status)

    def _own_places(self) -> list[Path]:
        from bigupload.stores.local_store import default_data_dir

        places = []
        for find in (default_data_dir, lambda: self._resources.state.directory):
            with contextlib.suppress(errors.BigUploadError):
                places.append(find())
        return places

    async def check_top(self, directory: str) -> None:
        """Raise SourceNotDeleted if a directory has files of its own, none of which can be deleted."""
        await self._thread(partial(check_top, directory))

    async def _thread(self, function: Callable[[], R]) -> R:
        return await run_in_daemon_thread(function, self._threads)

    async def _whole(self, function: Callable[[], R]) -> R:
        """Call a function in a thread, and wait for its end, also if the caller is cancelled: the file is renamed."""
        return await run_shielded(self._thread(function))


def _result(move: Move, record: Path) -> UploadResult:
    """The result of a file that an earlier call uploaded."""
    known = result_of_record(move, record, bucket=move.bucket, key=move.key, url=move.url)
    return dataclasses.replace(
        known, sha256=move.sha256, xxh128=move.xxh128, source_deleted=move.state is MoveState.DELETED
    )
