"""The limits on the bytes of an owner's files, and on the bytes and files of an end user, by the store's list.

Each limit is a `Quota` of accounts: an owner's has its name, an end user's is `object_keys.account_of`. Each process
counts for itself: an account's list is read when it is needed and is a minute old, and what this process has promised
since is added. So replicas need nothing in common, and may together promise too much within a minute. A multipart
upload is counted again at complete, which is then refused; what one PUT sends can't be refused any more.

No request waits for long for the list of an account with very many objects (`counting`). Until the list is read, the
last count holds, with what was promised since. Before the first count, the part of the list that was read holds: an
account may have up to twice its limit then. A process that was restarted goes on by the last count that was kept,
without what was begun between that count and the restart, until it has read the list: its first create for an owner
with 60,000 files takes 69 ms, and 7.4 s where it waits for the list (docs/performance.md).

Replicas that share an engine count together (`SharedQuota`). The engine has one account for each owner: the bytes of
the store's list, when it was read, and what was promised since. Whoever finds the list too old reads it, for all
others, too. What this process promised is noted here all the same, for the time when the engine is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import field
from typing import TYPE_CHECKING, Any

from bigupload.records import dataclass
from bigupload.service.access.shared import EngineAwayError, SharedEngine
from bigupload.service.contract import URL_LIFETIME
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.counting import PATIENCE, Counts, KeptCount, KeptCounts, RunningCount
from bigupload.units import counted, format_size

if TYPE_CHECKING:
    from bigupload.service.media.object_keys import KeyTemplate

_FRESH_FOR = 60.0
"""For how many seconds a list counts."""
_FRESH_BEFORE_REFUSAL = 5.0
"""At most so old is the list by which a request is refused, in seconds: the owner may just have deleted something."""
_SHORT = 1.0
"""Seconds: a list that takes no longer may be read again at once, where the owner has just deleted something."""
_LEAST_REST = 19
"""A list counts for this many times as long as it took to read: an owner of many files must not keep the store busy."""
_BEGINS_WITHIN = 60.0
"""Seconds from the promise until the store has an upload that is being created."""
_PARTLY = 10_000
"""Objects after which a first count tells all replicas how far it is."""
ASSUMED = 4_000_000
"""Bytes for which a PUT of unknown size counts until it is there: the published API is for files above 4 MB."""
_MOST_OWNERS = 10_000
"""The owners that are remembered. Of more, those that uploaded least recently are counted anew."""

_FEW_PROMISES = 1000
"""So many promises of one owner are kept although they have ended."""
_MOST_PROMISES = 50_000
"""Promises of one owner, which are kept in memory."""

Sizes = Callable[[str], AsyncIterator[tuple[str, int]]]
"""Yields the key and the size in bytes of all of an owner's objects."""
OpenKeys = Callable[[str], AsyncIterator[str]]
"""Yields the keys of all of an owner's open multipart uploads."""


def list_is_good_for(took: float, *, refusing: bool = False, changed: bool = False) -> float:
    """Return for how many seconds a list counts.

    Args:
        took: Seconds that it took to read.
        refusing: Whether a request is about to be refused.
        changed: Whether the owner has deleted something since.
    """
    if not refusing:
        return max(_FRESH_FOR, _LEAST_REST * took)
    rest = 2 * took if took > _SHORT else 0.0  # list for at most half of the time
    return max(0.0 if changed else _FRESH_BEFORE_REFUSAL, rest)


class Unit(enum.StrEnum):
    """The units that a quota counts."""

    BYTES = "quota"
    FILES = "files"

    def of(self, size: int | None) -> int:
        """Return the amount that must be free for a file; `size` in bytes, None: unknown."""
        return 1 if self is Unit.FILES or size is None else size

    def stored(self, size: int) -> int:
        """Return the amount by which a stored file of `size` bytes counts."""
        return 1 if self is Unit.FILES else size

    def promised(self, size: int | None, limit: int) -> int:
        """Return the amount by which a promise counts."""
        return 1 if self is Unit.FILES else promised_bytes(size, limit)

    def written(self, *counts: int) -> list[str]:
        """Return counts as text."""
        if self is Unit.FILES:
            return [counted(count, "file") for count in counts]
        return [format_size(count) for count in counts]


@dataclass(frozen=True, slots=True)
class Used:
    """The use of a limit."""

    stored: int
    promised: int
    """By uploads that were begun: their files are not in the list."""


def promised_bytes(size: int | None, limit: int) -> int:
    """Return the bytes for which a promise counts. Small ones count more: many could fill the memory.

    Args:
        size: Bytes of the file; None: unknown.
        limit: The owner's quota in bytes.
    """
    return max(ASSUMED if size is None else size, limit // _MOST_PROMISES)


@dataclass(slots=True)
class _Promise:
    """Room for a file that is not in the list."""

    size: int
    """Bytes."""
    made: float
    until: float
    """The time at which its URL or its upload ends."""
    ended: float | None = None
    """The time of its upload's abort or completion. Its object may be in the store: it counts up to the next list."""

    def is_worth_a_look(self, now: float) -> bool:
        """Return whether another process may have ended its upload, which the list of open uploads shows then."""
        return self.until - self.made > URL_LIFETIME and now - self.made >= _BEGINS_WITHIN


@dataclass(slots=True)
class _Account:
    """The cached sizes of one owner."""

    stored: int = 0
    """Bytes in the store's list; before the first count is done, in the part of it that was read."""
    counted: bool = False
    """Whether the whole list was counted, by this process or by an earlier one."""
    began: float = float("-inf")
    took: float = 0.0
    """The time at which this process began the list, and the seconds that it took."""
    changed: bool = False
    """Whether files or uploads have gone since, so that the next refusal needs another list."""
    promised: dict[str, _Promise] = field(default_factory=dict)
    """By key. One that has ended counts until a list shows what came of it: a list may be older than a URL is valid."""
    in_promises: int = 0
    """The sum of their sizes. There may be 50,000 of them, too many to add up for each request."""
    tidied: int = 0
    """The number that there was when `forget_ended` was last called."""

    def promise(self, key: str, promise: _Promise) -> None:
        """Promise room. An earlier promise for the same key counts no more."""
        self.withdraw(key)
        self.promised[key] = promise
        self.in_promises += promise.size

    def withdraw(self, key: str) -> None:
        """Take a promise back, if there is one."""
        earlier = self.promised.pop(key, None)
        self.in_promises -= 0 if earlier is None else earlier.size

    def forget_ended(self, now: float) -> None:
        """Forget promises that have ended, now and then."""
        if len(self.promised) < max(_FEW_PROMISES, 2 * self.tidied):
            return
        for key, promise in list(self.promised.items()):
            if promise.until <= now:
                self.withdraw(key)
        self.tidied = len(self.promised)


class Quota:
    """One limit of every account."""

    def __init__(
        self,
        sizes: Sizes,
        open_keys: OpenKeys,
        *,
        limit: int | None,
        clock: Callable[[], float],
        unit: Unit = Unit.BYTES,
        kept: KeptCounts | None = None,
        engine: SharedEngine | None = None,
        patience: float = PATIENCE,
    ) -> None:
        """Make it.

        Args:
            sizes: Lists an owner's objects.
            open_keys: Lists an owner's open multipart uploads.
            limit: Bytes (or files) of one account; None: there is no quota, and nothing is counted.
            clock: The time, in seconds.
            unit: What is counted.
            kept: Keeps the counts for a restart; None: nothing is kept.
            engine: Through it, replicas count together; None: this process counts by itself.
            patience: Seconds for which a request waits for a list.
        """
        self._sizes = sizes
        self._open_keys = open_keys
        self._limit = limit
        self._clock = clock
        self._unit = unit
        self._kept = kept
        self._together: SharedQuota | None = None
        if engine is not None and limit is not None:
            self._together = SharedQuota(engine, sizes, open_keys, limit=limit, unit=unit, kept=kept, patience=patience)
        self._counts = Counts(patience)
        self._accounts: dict[str, _Account] = {}

    async def aclose(self) -> None:
        """End the counts that are under way. Idempotent."""
        await self._counts.aclose()
        if self._together is not None:
            await self._together.aclose()

    async def reserve(self, owner: str, key: str, size: int | None, *, lifetime: int = URL_LIFETIME) -> None:
        """Promise room for a file. Reserving again for the same key counts it once.

        Args:
            owner: Whose file it is.
            key: Its key.
            size: Bytes; None: unknown, and then it needs to find room for one byte only.
            lifetime: Seconds within which it must be there. Parts of an open upload occupy the store for longer than
                a URL is valid.

        Raises:
            Refused: QUOTA_EXCEEDED.
            Fault: The store can't be asked.
            BigUploadError: The store refuses to list.
        """
        if self._limit is None:
            return
        account = self._account(owner)
        used = await self._used_if_full(owner, account, key, size, lifetime)
        if used is not None:
            raise Refused(Problem.QUOTA_EXCEEDED, self._why(owner, used, size))
        now = self._clock()
        if self._together is not None:  # no list of this process ends them
            account.forget_ended(now)
        account.promise(key, _Promise(self._unit.promised(size, self._limit), now, now + lifetime))

    def _why(self, owner: str, used: Used, size: int | None) -> str:
        """Say what takes the room, and what frees it: who stored nothing can delete nothing."""
        assert self._limit is not None
        is_counting = self._counts.is_running(owner) or (self._together is not None and self._together.counts(owner))
        stored, promised, most = self._unit.written(used.stored, used.promised, self._limit)
        takes = [f"your files take {stored}"] if used.stored or not used.promised else []
        takes += [f"uploads that are not complete take {promised}"] if used.promised else []
        wanted = f", and this one has {format_size(size)}" if size is not None and self._unit is Unit.BYTES else ""
        does = ["delete files"] if used.stored or not used.promised else []
        does += ["complete or abort uploads"] if used.promised else []
        again = " (your files are being counted again: try again later if you have just deleted some)"
        return f"{' and '.join(takes)} of {most}{wanted}: {', or '.join(does)}{again if is_counting else ''}"

    async def _used_if_full(
        self, owner: str, account: _Account, key: str, size: int | None, lifetime: int
    ) -> Used | None:
        """Return the use of the quota if there is no room; else None."""
        if self._together is not None:
            with contextlib.suppress(EngineAwayError):
                return await self._together.reserve(owner, key, size, lifetime=lifetime)
        await self._count(owner, account, not_older=list_is_good_for(account.took))
        if self._over(account, key, size):
            good_for = list_is_good_for(account.took, refusing=True, changed=account.changed)
            await self._count(owner, account, not_older=good_for)
        return self._used(account, key) if self._over(account, key, size) else None

    def release(self, owner: str, key: str) -> None:
        """Take a promise back: there is no such object."""
        if self._together is not None:
            self._together.release(owner, key)
        if (account := self._accounts.get(owner)) is not None:
            account.withdraw(key)

    def ended(self, owner: str, key: str) -> None:
        """Take a promise back once a list shows what the upload has left: it was aborted or completed."""
        self._note_change(owner)
        if self._together is not None:
            self._together.ended(owner, key)
        if (account := self._accounts.get(owner)) is not None and key in account.promised:
            account.promised[key].ended = self._clock()

    def changed(self, owner: str) -> None:
        """Read the list again before a request is refused: the owner has deleted something."""
        if self._together is not None:
            self._together.changed(owner)
        self._note_change(owner)

    def _note_change(self, owner: str) -> None:
        if (account := self._accounts.get(owner)) is not None:
            account.changed = True

    def holds(self, owner: str, key: str) -> bool:
        """Return whether this process has promised room for the file."""
        account = self._accounts.get(owner)
        promise = None if account is None else account.promised.get(key)
        return promise is not None and promise.ended is None and promise.until > self._clock()

    def _account(self, owner: str) -> _Account:
        account = self._accounts.pop(owner, None) or _Account()
        self._accounts[owner] = account  # the most recent is the last
        if len(self._accounts) > _MOST_OWNERS:
            del self._accounts[next(iter(self._accounts))]
        return account

    def _over(self, account: _Account, key: str, size: int | None) -> bool:
        assert self._limit is not None
        used = self._used(account, key)
        return used.stored + used.promised + self._unit.of(size) > self._limit

    def _used(self, account: _Account, key: str) -> Used:
        mine = account.promised.get(key)
        return Used(account.stored, account.in_promises - (0 if mine is None else mine.size))

    async def _count(self, owner: str, account: _Account, *, not_older: float) -> None:
        """Have the owner's list read, unless that was begun within the last `not_older` seconds."""
        while self._clock() - account.began >= not_older:
            if not await self._counts.join(owner, functools.partial(self._list, owner, account)):
                break

    async def _list(self, owner: str, account: _Account, running: RunningCount) -> None:
        """Read the owner's list."""
        began = self._clock()
        account.changed = False
        if not account.counted and self._kept is not None:
            kept = await self._kept.read(owner, self._unit)
            if kept is not None:
                account.stored, account.took, account.counted = kept.stored, kept.took, True
        if account.counted:
            running.earlier_holds(account.took)
        old = {key for key, promise in account.promised.items() if promise.is_worth_a_look(began)}
        if old:  # first, because an upload that completes meanwhile is in the list then
            old -= {key async for key in self._open_keys(owner)}
        stored, seen = 0, set()
        async for key, size in self._sizes(owner):
            stored += self._unit.stored(size)
            if key in account.promised:
                seen.add(key)
            if not account.counted:
                account.stored = stored
        account.stored, account.counted = stored, True
        account.began, account.took = began, self._clock() - began
        gone = seen | old
        for key, promise in list(account.promised.items()):
            if key in gone or promise.until <= began or (promise.ended is not None and promise.ended <= began):
                account.withdraw(key)
        if self._kept is not None and self._counts.is_kept(account.took):
            await self._kept.keep(owner, self._unit, KeptCount(stored, account.took))


_KEYS_AT_ONCE = 1000
"""The most keys that one script works on: while it runs, nobody else is answered."""
_KEPT_FOR = 8 * 86_400
"""Seconds after the last use for which an account is kept: longer than an upload may be open."""

# KEYS: the account (stored, began, took, changed, promised); "SIZE MADE" of each promise, by the key of its object;
# when each promise ends; the keys of uploads that ended since the list was read.
_STATE = """
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local account = redis.call('HMGET', KEYS[1], 'began', 'took', 'changed')
return {string.format('%.6f', now), account[1] or '', account[2] or '0', account[3] or ''}
"""
_TAKE_BACK = """
local function take_back(key)
  local promise = redis.call('HGET', KEYS[2], key)
  if promise then
    redis.call('HINCRBY', KEYS[1], 'promised', -tonumber(string.match(promise, '^%d+')))
    redis.call('HDEL', KEYS[2], key)
  end
  redis.call('ZREM', KEYS[3], key)
  redis.call('SREM', KEYS[4], key)
end
"""
_RESERVE = (
    _TAKE_BACK
    + """
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local key, wanted, counted, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local began = redis.call('HGET', KEYS[1], 'began') or '0'
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', began, 'LIMIT', 0, 1000)) do
  take_back(gone)
end
local promise = redis.call('HGET', KEYS[2], key)
local before = promise and tonumber(string.match(promise, '^%d+')) or 0
local account = redis.call('HMGET', KEYS[1], 'stored', 'promised')
local stored, promised = tonumber(account[1] or 0), tonumber(account[2] or 0) - before
if stored + promised + wanted > limit then
  return {stored, promised}
end
redis.call('HINCRBY', KEYS[1], 'promised', counted - before)
redis.call('HSET', KEYS[2], key, string.format('%.0f %d', counted, math.floor(now)))
redis.call('ZADD', KEYS[3], string.format('%.6f', now + tonumber(ARGV[5])), key)
redis.call('SREM', KEYS[4], key)
for _, name in ipairs(KEYS) do
  redis.call('EXPIRE', name, ARGV[6])
end
return {}
"""
)
_RELEASE = _TAKE_BACK + "for _, key in ipairs(ARGV) do take_back(key) end"
_ENDED = """
redis.call('HSET', KEYS[1], 'changed', '1')
if #ARGV > 0 and redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then
  redis.call('SADD', KEYS[4], ARGV[1])
end
redis.call('EXPIRE', KEYS[1], 691200)
redis.call('EXPIRE', KEYS[4], 691200)
"""
_SO_FAR = """
if not redis.call('HGET', KEYS[1], 'began') then
  redis.call('HSET', KEYS[1], 'stored', ARGV[1])
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
"""
"""Sets what is known before the first count is done."""
_BEGIN = """
local promises, promised = redis.call('HGETALL', KEYS[2]), 0
for i = 2, #promises, 2 do
  promised = promised + tonumber(string.match(promises[i], '^%d+'))
end
redis.call('HDEL', KEYS[1], 'changed')
redis.call('HSET', KEYS[1], 'promised', promised)
return {promises, redis.call('SMEMBERS', KEYS[4])}
"""
"""Adds the promises up, too: an engine that is short of memory may have dropped some."""
_COUNTED = """
if tonumber(redis.call('HGET', KEYS[1], 'began') or 0) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'stored', ARGV[1], 'began', ARGV[2], 'took', ARGV[3])
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
"""


class Quotas:
    """All quotas that a file counts in. Its key says whose it is."""

    def __init__(
        self,
        sizes: Sizes,
        open_keys: OpenKeys,
        *,
        owner_bytes: int | None,
        user_bytes: int | None,
        user_files: int | None,
        keys: KeyTemplate,
        clock: Callable[[], float],
        engine: SharedEngine | None,
        kept: KeptCounts,
    ) -> None:
        """Make them; the arguments are the limits, the shape of the keys, and those of `Quota`."""
        self._keys = keys
        make = functools.partial(Quota, sizes, open_keys, clock=clock, engine=engine, kept=kept)
        self._of_owner = make(limit=owner_bytes)
        self._of_user = [make(limit=user_bytes)] if user_bytes is not None else []
        self._of_user += [make(limit=user_files, unit=Unit.FILES)] if user_files is not None else []

    async def aclose(self) -> None:
        """As `Quota.aclose`."""
        for quota in (self._of_owner, *self._of_user):
            await quota.aclose()

    def _of(self, key: str) -> list[tuple[Quota, str]]:
        owner, account = self._keys.owner_of(key), self._keys.account_of(key)
        if owner is None or account is None:
            return []
        return [(self._of_owner, owner), *((quota, account) for quota in self._of_user if account != owner)]

    async def reserve(self, key: str, size: int | None, *, lifetime: int = URL_LIFETIME) -> None:
        """Promise room for a file in each of its quotas, or in none. As `Quota.reserve`."""
        async with contextlib.AsyncExitStack() as undo:
            for quota, account in self._of(key):
                await quota.reserve(account, key, size, lifetime=lifetime)
                undo.callback(quota.release, account, key)
            undo.pop_all()

    def release(self, key: str) -> None:
        """As `Quota.release`."""
        for quota, account in self._of(key):
            quota.release(account, key)

    def ended(self, key: str) -> None:
        """As `Quota.ended`."""
        for quota, account in self._of(key):
            quota.ended(account, key)

    def changed(self, key: str) -> None:
        """As `Quota.changed`, for all accounts in which the file counted."""
        for quota, account in self._of(key):
            quota.changed(account)

    def holds(self, key: str) -> bool:
        """Return whether this process has promised room for the file in each of its quotas."""
        return all(quota.holds(account, key) for quota, account in self._of(key))


class SharedQuota:
    """One limit's accounts, in the engine.

    Every method that asks the engine raises EngineAwayError while it is away.
    """

    def __init__(
        self,
        engine: SharedEngine,
        sizes: Sizes,
        open_keys: OpenKeys,
        *,
        limit: int,
        unit: Unit,
        kept: KeptCounts | None,
        patience: float,
    ) -> None:
        """Make it.

        Args:
            engine: Has the accounts.
            sizes: Lists an owner's objects.
            open_keys: Lists an owner's open multipart uploads.
            limit: Bytes (or files) of one account.
            unit: What is counted.
            kept: Keeps the counts for an engine that forgets; None: nothing is kept.
            patience: Seconds for which a request waits for a list.
        """
        self._engine = engine
        self._sizes = sizes
        self._open_keys = open_keys
        self._limit = limit
        self._unit = unit
        self._kept = kept
        self._counts = Counts(patience)
        self._changing: set[asyncio.Task[None]] = set()
        register = engine.client.register_script
        self._state, self._reserve, self._release = register(_STATE), register(_RESERVE), register(_RELEASE)
        self._ended, self._begin, self._counted = register(_ENDED), register(_BEGIN), register(_COUNTED)
        self._so_far = register(_SO_FAR)

    async def aclose(self) -> None:
        """End the counts that are under way. Idempotent."""
        await self._counts.aclose()

    def counts(self, owner: str) -> bool:
        """Return whether this process reads the owner's list."""
        return self._counts.is_running(owner)

    async def reserve(self, owner: str, key: str, size: int | None, *, lifetime: int) -> Used | None:
        """Promise room for a file for `lifetime` seconds; None if there is. Else returns what is used."""
        if self._changing:
            await asyncio.wait(set(self._changing))
        await self._count(owner, refusing=False)
        used = await self._ask_for(owner, key, size, lifetime)
        if used is not None:
            await self._count(owner, refusing=True)
            used = await self._ask_for(owner, key, size, lifetime)
        return used

    def release(self, owner: str, key: str) -> None:
        """Take a promise back, in the background. The next `reserve` of this process waits for that."""
        self._change(self._withdraw(owner, [key]))

    def ended(self, owner: str, key: str) -> None:
        """Take a promise back once the next list was read: the upload may have been complete."""
        self._change(self._run(self._ended, owner, [key]))

    def changed(self, owner: str) -> None:
        """Read the list again before a request is refused, whoever gets that."""
        self._change(self._run(self._ended, owner, []))

    def _change(self, work: Coroutine[Any, Any, object]) -> None:
        async def quietly() -> None:
            with contextlib.suppress(EngineAwayError):
                await work

        task = asyncio.create_task(quietly())
        self._changing.add(task)
        task.add_done_callback(self._changing.discard)

    async def _ask_for(self, owner: str, key: str, size: int | None, lifetime: int) -> Used | None:
        wanted, promised = self._unit.of(size), self._unit.promised(size, self._limit)
        used = await self._run(self._reserve, owner, [key, wanted, promised, self._limit, lifetime, _KEPT_FOR])
        return Used(*map(int, used)) if used else None

    async def _count(self, owner: str, *, refusing: bool) -> None:
        """Have the owner's list read, unless somebody did so a short time ago."""
        while True:
            now, began, took, changed = map(_text, await self._run(self._state, owner, []))
            good_for = list_is_good_for(float(took), refusing=refusing, changed=bool(changed))
            if began and float(now) - float(began) < good_for:
                return
            if not await self._counts.join(owner, functools.partial(self._list, owner)):
                return

    async def _list(self, owner: str, running: RunningCount) -> None:
        """Read the owner's list."""
        now, began, took, _ = map(_text, await self._run(self._state, owner, []))
        kept = None if began or self._kept is None else await self._kept.read(owner, self._unit)
        if kept is not None:
            await self._run(self._so_far, owner, [kept.stored, _KEPT_FOR])
        if began or kept is not None:
            running.earlier_holds(float(took) if kept is None else kept.took)
        promises, ended = await self._run(self._begin, owner, [])
        texts = list(map(_text, promises))
        made = {key: int(promise.split()[1]) for key, promise in zip(texts[::2], texts[1::2], strict=True)}
        gone = {key for key, when in made.items() if float(now) - when >= URL_LIFETIME}
        if gone:  # first, because an upload that completes meanwhile is in the list then
            gone -= {key async for key in self._open_keys(owner)}
        stored = rows = 0
        async for key, size in self._sizes(owner):
            stored += self._unit.stored(size)
            if key in made:
                gone.add(key)
            rows += 1
            if not running.has_earlier and rows % _PARTLY == 0:
                await self._run(self._so_far, owner, [stored, _KEPT_FOR])
        spent = float(_text((await self._run(self._state, owner, []))[0])) - float(now)
        await self._run(self._counted, owner, [stored, now, spent, _KEPT_FOR])
        await self._withdraw(owner, [*gone, *map(_text, ended)])
        if self._kept is not None and self._counts.is_kept(spent):
            await self._kept.keep(owner, self._unit, KeptCount(stored, spent))

    async def _withdraw(self, owner: str, keys: list[str]) -> None:
        for first in range(0, len(keys), _KEYS_AT_ONCE):
            await self._run(self._release, owner, keys[first : first + _KEYS_AT_ONCE])

    async def _run(self, script: Any, owner: str, arguments: list[Any]) -> Any:
        return await self._engine.ask(lambda: script(keys=self._keys(owner), args=arguments))

    def _keys(self, owner: str) -> list[str]:
        """One place in a cluster: what a script changes must be together."""
        return [
            f"{self._engine.prefix}:{self._unit}:{{{owner}}}{part}" for part in ("", ":promises", ":ends", ":aborted")
        ]


def _text(answer: bytes | str) -> str:
    """A URL may ask the client for texts (`?decode_responses=true`)."""
    return answer.decode() if isinstance(answer, bytes) else answer
