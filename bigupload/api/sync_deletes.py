"""Delete the objects that have no file any more."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from bigupload import errors
from bigupload.api.types import SyncStep
from bigupload.batch.inventory import Inventory, ListedObject
from bigupload.core.retry_policy import Fault, FaultKind, classify
from bigupload.core.selection import Scope, selects
from bigupload.engine.retrying import Retrier
from bigupload.records import dataclass
from bigupload.stores.s3.objects import S3Objects
from bigupload.support.cancellation import for_each
from bigupload.support.daemon_threads import run_in_daemon_thread

_SINGLE_AT_ONCE = 16
"""Requests in flight, where each object needs one of its own."""
_NOT_IN_BATCHES = frozenset({FaultKind.UNSUPPORTED, FaultKind.FINAL})
"""The store has no such request; or XML can't hold one of the keys."""
_DENIED = "AccessDenied"
_AWAY = (None, "NoSuchKey")
_AWAY_OR_REPLACED = frozenset({FaultKind.GONE, FaultKind.EXISTS})


@dataclass(frozen=True, slots=True)
class Leftovers:
    """The objects that have no file."""

    directory: str
    """The directory of the files."""
    prefix: str
    """The prefix of all keys; empty, or with a slash at its end."""
    scope: Scope
    """The files that are synced. Other objects stay."""
    follow_symlinks: bool = False
    """False: symbolic links were left out, and with them all that they may lead to."""

    def of(self, listed: Sequence[ListedObject]) -> list[ListedObject]:
        """Return the objects that may be deleted. Blocking: the directory is asked for each."""
        return [each for each in listed if self._may_go(each.key[len(self.prefix) :])]

    def _may_go(self, key: str) -> bool:
        names = key.split("/")
        if not {"", ".", ".."}.isdisjoint(names):  # no file has such a key, so no sync has made the object
            return False
        return selects(self.scope, key) and is_gone(f"{self.directory}/{key}") and not self._is_below_link(names)

    def _is_below_link(self, names: Sequence[str]) -> bool:
        """Whether a link that was left out is on the way to a file: what it leads to may be away for a while."""
        above = ("/".join((self.directory, *names[:count])) for count in range(1, len(names)))
        return not self.follow_symlinks and any(map(os.path.islink, above))


def is_gone(path: str) -> bool:
    """Whether no file is at a path, for certain: a path that can't be looked at may be a file. Blocking.

    A link and a special file count as files: they were left out, and are not gone. A directory does not.
    """
    if "\0" in path:
        return True
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as e:
        return e.errno == errno.ENAMETOOLONG
    except ValueError:  # this system's file names can't hold it
        return False


@dataclass(frozen=True, slots=True, eq=False)
class SyncDeletes:
    """The deletions of one sync."""

    objects: S3Objects
    retrier: Retrier
    url: Callable[[str], str]
    """Returns the URL of a key."""
    report: Callable[[SyncStep], None]
    """Called with the outcome for each object."""
    check: Callable[[], Awaitable[None]]
    """Called before objects are deleted. Raises if none may be."""

    async def delete(self, inventory: Inventory, leftovers: Leftovers, *, dry_run: bool) -> None:
        """Delete the objects that no file was met for, or with `dry_run` only report them.

        Raises:
            BigUploadError: What `check` raised; or what would befall every other request, too.
        """
        threads = asyncio.Semaphore(1)
        for page in inventory.not_met():
            gone = await run_in_daemon_thread(partial(leftovers.of, page), threads)
            await self.check()
            if dry_run:
                for each in gone:
                    self.report(self._step(each))
            elif gone:
                await self._delete_page(gone)

    async def _delete_page(self, listed: Sequence[ListedObject]) -> None:
        wanted = {each.key: each.etag for each in listed}
        refused: dict[str, str] | None
        try:
            refused = await self.retrier.request(
                lambda: self.objects.delete_many([*wanted.items()]), expected=_NOT_IN_BATCHES
            )
        except Fault:
            refused = None
        except errors.AccessDenied as e:
            for each in listed:
                self.report(self._step(each, error=e))
            return
        if refused is None or not refused.keys() <= wanted.keys():  # of which keys it speaks is not known
            await for_each(listed, self._delete_one, at_once=_SINGLE_AT_ONCE)
            return
        again = []
        for each in listed:
            code = refused.get(each.key)
            if code in _AWAY:
                self.report(self._step(each, done=True))
            elif code == "PreconditionFailed":
                self.report(self._step(each, error=self._replaced(each)))
            elif (kind := classify(403 if code == _DENIED else 400, code)).is_retried or kind is FaultKind.UNSUPPORTED:
                again.append(each)
            else:
                fault = Fault(kind, f"the store does not delete {self.url(each.key)} ({code})", code=code)
                self.report(self._step(each, error=fault.public()))
        await for_each(again, self._delete_one, at_once=_SINGLE_AT_ONCE)

    async def _delete_one(self, listed: ListedObject) -> None:
        try:
            await self.retrier.request(
                lambda: self.objects.delete(listed.key, etag=listed.etag), expected=_AWAY_OR_REPLACED
            )
        except Fault as fault:
            gone = fault.kind is FaultKind.GONE
            self.report(self._step(listed, done=gone, error=None if gone else self._replaced(listed)))
        except (errors.StoreUnreachable, errors.CredentialsError, errors.ClockSkewed, errors.BucketNotFound):
            raise
        except errors.BigUploadError as e:
            self.report(self._step(listed, error=e))
        else:
            self.report(self._step(listed, done=True))

    def _replaced(self, listed: ListedObject) -> errors.BigUploadError:
        return errors.TargetReplaced(
            f"{self.url(listed.key)} was replaced since it was listed, and is left. If it has no file: make the same "
            "call again"
        )

    def _step(
        self, listed: ListedObject, *, done: bool = False, error: errors.BigUploadError | None = None
    ) -> SyncStep:
        return SyncStep(
            action="delete", key=listed.key, url=self.url(listed.key), size=listed.size, done=done, error=error
        )
