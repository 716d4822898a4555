"""The limits on the bytes of an owner's files, and on the bytes and files of an end user, by the store's list.

Each limit is a `Quota` of accounts: an owner's has its name, an end user's is `object_keys.account_of`. An account has
the sum of the store's list, which is read when it is needed and holds for a minute, and what was promised to uploads
since. A multipart upload is counted again at complete, which is then refused; what one PUT sends can't be refused any
more.

The accounts are in a *ledger*: in this process, or in Valkey for all replicas together (`access/shared`). Both do the
same few changes, so that all else is one algorithm. While Valkey is away, each replica goes on by the ledger in its
process, which notes what this replica promised meanwhile and before. Replicas without Valkey may together promise too
much within a minute.

No request waits for long for the list of an account with very many objects. One list of an account is read at a time,
in a task of its own. Until it is read, the last count holds, with what was promised since. Before the first count, the
part of the list that was read holds: an account may have up to twice its limit then. The count of a list that takes
long is kept in the bucket (`KeptCounts`), for a process that starts or a Valkey that forgets, which lack what was begun
since: the first create for an owner with 60,000 files takes 69 ms by it, and 7.4 s where it waits for the list
(docs/performance.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import hashlib
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bigupload import errors
from bigupload.core.retry_policy import Fault
from bigupload.records import dataclass
from bigupload.service.access.shared import EngineAwayError, SharedEngine
from bigupload.service.contract import URL_LIFETIME
from bigupload.service.media.object_keys import COUNTS_PREFIX
from bigupload.service.media_objects import MediaBucket
from bigupload.service.problems import Problem, Refused
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
PATIENCE = 2.0
"""Seconds for which a request waits for a list: then it goes on by what is known."""
_BEGINS_WITHIN = 60.0
"""Seconds from the promise until the store has an upload that is being created."""
_PARTLY = 1000
"""Objects after which the first list of an account tells how far it is."""
ASSUMED = 4_000_000
"""Bytes for which a PUT of unknown size counts until it is there: the published API is for files above 4 MB."""
_MOST_OWNERS = 10_000
"""The owners that are remembered. Of more, those that uploaded least recently are counted anew."""
_MOST_PROMISES = 50_000
"""Promises of one owner: each counts at least the limit's share of so many."""
_NOTED_PROMISES = 1000
"""The promises of one owner, made in Valkey, that a process notes for the time without it."""
_KEYS_AT_ONCE = 1000
"""The most keys in one change: while Valkey works on it, nobody else is answered."""

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

    def promised(self, size: int | None, limit: int) -> int:
        """Return the amount by which a promise counts."""
        return 1 if self is Unit.FILES else promised_bytes(size, limit)

    def written(self, *counts: int) -> list[str]:
        """Return counts as text."""
        if self is Unit.FILES:
            return [counted(count, "file") for count in counts]
        return [format_size(count) for count in counts]


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
    """Bytes, or 1 where files are counted."""
    made: float
    until: float
    """The time at which its URL or its upload ends."""
    ended: bool = False
    """Whether its upload was aborted or completed. Its object may be in the store: it counts up to the next list."""

    def is_over(self, now: float) -> bool:
        """Return whether only a list that begins now can show what came of it."""
        return self.ended or self.until <= now

    def is_worth_a_look(self, now: float) -> bool:
        """Return whether another process may have ended its upload, which the list of open uploads shows then."""
        return self.until - self.made > URL_LIFETIME and now - self.made >= _BEGINS_WITHIN


class _State(NamedTuple):
    """An account after a change."""

    now: float
    """The ledger's time in seconds."""
    stored: int
    """The amount in the store's list; before the first list is read, in the part of it that was read."""
    promised: int
    """The amount promised to all uploads; after `reserve`, to the others."""
    began: float | None
    """The time at which the list was begun; None: it was not read yet."""
    took: float
    """The seconds that it took."""
    changed: bool
    """Whether files or uploads have gone since, so that the next refusal needs another list."""
    has_room: bool = True
    """Whether there was room, after `reserve`."""
    promises: dict[str, _Promise] = {}  # noqa: RUF012
    """After `begin`, those of the account, by the key of the object."""


class _Ledger(Protocol):
    """The accounts of one limit."""

    async def ask(self, owner: str, change: str, *arguments: Any) -> _State:
        """Change an account in one step.

        Args:
            owner: Whose account.
            change: "look": nothing. "reserve": promise room to a key, in place of its earlier promise, if there is.
                "release": take back the promises to keys. "ended": note that the account needs a list before a
                refusal, and that the uploads of these keys have ended. "begin": a list begins. "so_far": what is known
                before the first list is read. "counted": what is in the list that was begun at a time.
            arguments: As of the method of `_Account` of that name.

        Raises:
            EngineAwayError: Valkey is away.
        """


@dataclass(slots=True)
class _Account:
    """One owner's account in this process. Each change is a method; `now` is the time."""

    stored: int = 0
    promised: int = 0
    began: float | None = None
    took: float = 0.0
    changed: bool = False
    promises: dict[str, _Promise] = field(default_factory=dict)

    def state(self, now: float) -> _State:
        return _State(now, self.stored, self.promised, self.began, self.took, self.changed)

    look = state

    def reserve(
        self, now: float, key: str, wanted: int, promised: int, limit: float, lifetime: float = URL_LIFETIME
    ) -> _State:
        earlier = self.promises.get(key)
        others = self.promised - (0 if earlier is None else earlier.size)
        has_room = self.stored + others + wanted <= limit
        if has_room:
            self.release(now, key)
            self.promises[key] = _Promise(promised, now, now + lifetime)
            self.promised += promised
        return self.state(now)._replace(promised=others, has_room=has_room)

    def release(self, now: float, *keys: str) -> _State:
        for key in keys:
            if (promise := self.promises.pop(key, None)) is not None:
                self.promised -= promise.size
        return self.state(now)

    def ended(self, now: float, *keys: str) -> _State:
        self.changed = True
        for key in keys:
            if key in self.promises:
                self.promises[key].ended = True
        return self.state(now)

    def begin(self, now: float) -> _State:
        self.changed = False
        return self.state(now)._replace(promises=dict(self.promises))

    def so_far(self, now: float, stored: int) -> _State:
        if self.began is None:
            self.stored = stored
        return self.state(now)

    def counted(self, now: float, stored: int, began: float) -> _State:
        self.stored, self.began, self.took = stored, began, now - began
        return self.state(now)


class _OwnLedger:
    """The accounts in this process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    async def ask(self, owner: str, change: str, *arguments: Any) -> _State:
        return self.do(owner, change, *arguments)

    def do(self, owner: str, change: str, *arguments: Any) -> _State:
        """As `ask`, at once."""
        account = self._accounts.pop(owner, None) or _Account()
        self._accounts[owner] = account  # the most recent is the last
        if len(self._accounts) > _MOST_OWNERS:
            del self._accounts[next(iter(self._accounts))]
        state: _State = getattr(account, change)(self._clock(), *arguments)
        return state

    def note(self, owner: str, *reservation: Any) -> None:
        """Note a promise that was made elsewhere. The oldest are forgotten: no list of this process ends them."""
        self.do(owner, "reserve", *reservation)
        promises = self._accounts[owner].promises
        if len(promises) > _NOTED_PROMISES:
            self.do(owner, "release", next(iter(promises)))

    def holds(self, owner: str, key: str) -> bool:
        account = self._accounts.get(owner)
        promise = None if account is None else account.promises.get(key)
        return promise is not None and not promise.is_over(self._clock())


# KEYS: the account (stored, promised, began, took, changed); "SIZE MADE UNTIL", and " ENDED" for those that have, of
# each promise, by the key of its object. An earlier version wrote no UNTIL: its URLs hold for as long as URL_LIFETIME.
# `begin` adds the promises up, too: an engine that is short of memory may have dropped some. An account is kept for
# eight days after its last use: longer than an upload may be open.
_CHANGES = """
local account, promises, room, rows = KEYS[1], KEYS[2], 1, {}
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local function value(name)
  return tonumber(redis.call('HGET', account, name) or 0)
end
local function size_of(key)
  return tonumber(string.match(redis.call('HGET', promises, key) or '0', '^%d+'))
end
local function take_back(key)
  redis.call('HINCRBY', account, 'promised', -size_of(key))
  redis.call('HDEL', promises, key)
end
local others = value('promised')
local changes = {}
function changes.look() end
function changes.reserve(key, wanted, promised, limit, lifetime)
  others = others - size_of(key)
  if value('stored') + others + tonumber(wanted) > tonumber(limit) then
    room = 0
    return
  end
  take_back(key)
  redis.call('HINCRBY', account, 'promised', promised)
  redis.call('HSET', promises, key, string.format('%s %d %d', promised, math.floor(now), now + lifetime))
end
function changes.release(...)
  for _, key in ipairs({...}) do take_back(key) end
end
function changes.ended(...)
  redis.call('HSET', account, 'changed', '1')
  for _, key in ipairs({...}) do
    local promise = redis.call('HGET', promises, key)
    if promise then redis.call('HSET', promises, key, promise .. ' ENDED') end
  end
end
function changes.begin()
  rows, others = redis.call('HGETALL', promises), 0
  for i = 2, #rows, 2 do
    others = others + tonumber(string.match(rows[i], '^%d+'))
  end
  redis.call('HDEL', account, 'changed')
  redis.call('HSET', account, 'promised', string.format('%.0f', others))
end
function changes.so_far(stored)
  if value('began') == 0 then redis.call('HSET', account, 'stored', stored) end
end
function changes.counted(stored, began)
  if value('began') < tonumber(began) then
    redis.call('HSET', account, 'stored', stored, 'began', began, 'took', now - began)
  end
end
changes[ARGV[1]](unpack(ARGV, 2))
redis.call('EXPIRE', account, 691200)
redis.call('EXPIRE', promises, 691200)
local seconds = string.format('%.6f %.6f %.6f', now, value('began'), value('took'))
return {seconds, value('stored'), others, value('changed'), room, rows}
"""


class _SharedLedger:
    """The accounts in Valkey, by one script."""

    def __init__(self, engine: SharedEngine, unit: Unit) -> None:
        self._engine = engine
        self._unit = unit
        self._script = engine.client.register_script(_CHANGES)

    async def ask(self, owner: str, change: str, *arguments: Any) -> _State:
        account = f"{self._engine.prefix}:{self._unit}:{{{owner}}}"  # one place in a cluster
        keys, texts = [account, f"{account}:promises"], [change, *map(str, arguments)]
        found = await self._engine.ask(lambda: self._script(keys=keys, args=texts))
        now, began, took = map(float, _text(found[0]).split())
        (*rows,) = map(_text, found[5])
        promises = {key: _parsed(row) for key, row in zip(rows[::2], rows[1::2], strict=True)}
        return _State(now, found[1], found[2], began or None, took, bool(found[3]), bool(found[4]), promises)


def _parsed(row: str) -> _Promise:
    size, made, *more = row.split()
    until = float(more[0]) if more else float(made) + URL_LIFETIME
    return _Promise(int(size), float(made), until, ended=len(more) > 1)


def _text(answer: bytes | str) -> str:
    """A URL may ask the client for texts (`?decode_responses=true`)."""
    return answer.decode() if isinstance(answer, bytes) else answer


class KeptCount(NamedTuple):
    """A finished count."""

    stored: int
    took: float
    """Seconds."""


class KeptCounts:
    """The counts of accounts with many objects, as notes in the bucket, for processes that start later."""

    def __init__(self, objects: MediaBucket) -> None:
        """`objects`: the bucket."""
        self._objects = objects

    async def read(self, account: str, unit: str) -> KeptCount | None:
        """Return the last count of `unit`; None: there is none, or the store can't be asked."""
        try:
            note = await self._objects.note(_note_of(account, unit))
            return None if note is None else KeptCount(int(note["stored"]), float(note["took"]))
        except (Fault, errors.BigUploadError, KeyError, ValueError):
            return None

    async def keep(self, account: str, unit: str, count: KeptCount) -> None:
        """Keep a count. If the store refuses, the next process counts without it."""
        with contextlib.suppress(Fault, errors.BigUploadError):
            note = {"stored": str(count.stored), "took": f"{count.took:.3f}"}
            await self._objects.put_note(_note_of(account, unit), note)


def _note_of(account: str, unit: str) -> str:
    return f"{COUNTS_PREFIX}{hashlib.sha256(f'{unit}/{account}'.encode()).hexdigest()[:40]}"


class _RunningList:
    """A list that is being read, for all who wait for it."""

    def __init__(self, patience: float) -> None:
        """Nobody waits for longer than `patience` seconds."""
        self.may_go_on = asyncio.Event()
        """Set when nobody waits any more."""
        self.is_done = False
        self.has_earlier = False
        """Whether an earlier count holds until this one is done."""
        self.error: Exception | None = None
        self.timer = asyncio.get_running_loop().call_later(patience, self.may_go_on.set)


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
        self._unit = unit
        self._kept = kept
        self._patience = patience
        self._own = _OwnLedger(clock)
        self._shared = None if engine is None else _SharedLedger(engine, unit)
        self._running: dict[tuple[_Ledger, str], _RunningList] = {}
        self._failed: dict[tuple[_Ledger, str], Exception] = {}
        """The error of an account's last list, if no earlier count holds."""
        self._tasks: set[asyncio.Task[None]] = set()
        """Reads lists."""
        self._telling: set[asyncio.Task[None]] = set()
        """Tells Valkey what has changed."""

    async def aclose(self) -> None:
        """End the lists that are being read, and let Valkey know what has changed. Idempotent."""
        for task in self._tasks:
            task.cancel()
        if tasks := self._tasks | self._telling:
            await asyncio.wait(tasks)

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
        wanted, promised = self._unit.of(size), self._unit.promised(size, self._limit)
        state = None
        if self._shared is not None:
            with contextlib.suppress(EngineAwayError):
                if self._telling:
                    await asyncio.wait(set(self._telling))
                state = await self._reserve(self._shared, owner, key, wanted, promised, self._limit, lifetime)
        if state is None:
            state = await self._reserve(self._own, owner, key, wanted, promised, self._limit, lifetime)
        elif state.has_room:
            self._own.note(owner, key, wanted, promised, math.inf, lifetime)
        if not state.has_room:
            raise Refused(Problem.QUOTA_EXCEEDED, self._why(owner, state, size))

    async def _reserve(self, ledger: _Ledger, owner: str, *reservation: Any) -> _State:
        await self._count(ledger, owner, refusing=False)
        state = await ledger.ask(owner, "reserve", *reservation)
        if not state.has_room:
            await self._count(ledger, owner, refusing=True)
            state = await ledger.ask(owner, "reserve", *reservation)
        return state

    def _why(self, owner: str, used: _State, size: int | None) -> str:
        """Say what takes the room, and what frees it: who stored nothing can delete nothing."""
        assert self._limit is not None
        is_counting = any(account == owner for _, account in self._running)
        stored, promised, most = self._unit.written(used.stored, used.promised, self._limit)
        takes = [f"your files take {stored}"] if used.stored or not used.promised else []
        takes += [f"uploads that are not complete take {promised}"] if used.promised else []
        wanted = f", and this one has {format_size(size)}" if size is not None and self._unit is Unit.BYTES else ""
        does = ["delete files"] if used.stored or not used.promised else []
        does += ["complete or abort uploads"] if used.promised else []
        again = " (your files are being counted again: try again later if you have just deleted some)"
        return f"{' and '.join(takes)} of {most}{wanted}: {', or '.join(does)}{again if is_counting else ''}"

    def release(self, owner: str, key: str) -> None:
        """Take a promise back: there is no such object."""
        self._tell(owner, "release", key)

    def ended(self, owner: str, key: str) -> None:
        """Take a promise back once a list shows what the upload has left: it was aborted or completed."""
        self._tell(owner, "ended", key)

    def changed(self, owner: str) -> None:
        """Read the list again before a request is refused: the owner has deleted something."""
        self._tell(owner, "ended")

    def _tell(self, owner: str, change: str, *keys: str) -> None:
        """Note a change, and let Valkey know in the background. The next `reserve` of this process waits for that."""
        if self._limit is None:
            return
        self._own.do(owner, change, *keys)
        if self._shared is not None:
            _started(self._telling, self._quietly(self._shared.ask(owner, change, *keys)))

    @staticmethod
    async def _quietly(asking: Coroutine[Any, Any, _State]) -> None:
        with contextlib.suppress(EngineAwayError):
            await asking

    def holds(self, owner: str, key: str) -> bool:
        """Return whether this process has promised room for the file."""
        return self._own.holds(owner, key)

    async def _count(self, ledger: _Ledger, owner: str, *, refusing: bool) -> None:
        """Have the owner's list read, unless that was begun a short time ago.

        Raises:
            Fault: The list failed; or it is still read, the one before it failed, and no earlier count holds.
            BigUploadError: The same.
            EngineAwayError: The same.
        """
        is_ours = False
        while not is_ours:
            state = await ledger.ask(owner, "look")
            good_for = list_is_good_for(state.took, refusing=refusing, changed=state.changed)
            if state.began is not None and state.now - state.began < good_for:
                return
            account = ledger, owner
            running = self._running.get(account)
            is_ours = running is None
            if running is None:
                running = self._running[account] = _RunningList(self._patience)
                _started(self._tasks, self._run(account, running))
            await running.may_go_on.wait()
            if running.error is not None:
                raise running.error
            if not running.is_done:  # that takes long
                if not running.has_earlier and (failed := self._failed.get(account)) is not None:
                    raise failed
                return

    async def _run(self, account: tuple[_Ledger, str], running: _RunningList) -> None:
        try:
            await self._list(*account, running)
            running.is_done = True
            self._failed.pop(account, None)
        except Exception as e:  # raised to each request that waits
            running.error = e
            if not running.has_earlier:
                if len(self._failed) >= _MOST_OWNERS:
                    self._failed.clear()
                self._failed[account] = e
        finally:
            del self._running[account]
            running.timer.cancel()
            running.may_go_on.set()

    async def _list(self, ledger: _Ledger, owner: str, running: _RunningList) -> None:
        """Read the owner's list."""
        begun = await ledger.ask(owner, "begin")
        took = begun.took if begun.began is not None else None
        if took is None and self._kept is not None and (kept := await self._kept.read(owner, self._unit)) is not None:
            took = kept.took
            await ledger.ask(owner, "so_far", kept.stored)
        running.has_earlier = took is not None
        if took is not None and took > self._patience:
            running.may_go_on.set()
        gone = {key for key, promise in begun.promises.items() if promise.is_over(begun.now)}
        old = {key for key, promise in begun.promises.items() if promise.is_worth_a_look(begun.now)}
        if old:  # first, because an upload that completes meanwhile is in the list then
            gone |= old - {key async for key in self._open_keys(owner)}
        stored = rows = 0
        async for key, size in self._sizes(owner):
            stored += 1 if self._unit is Unit.FILES else size
            rows += 1
            if key in begun.promises:
                gone.add(key)
            if not running.has_earlier and rows % _PARTLY == 0:
                await ledger.ask(owner, "so_far", stored)
        spent = (await ledger.ask(owner, "counted", stored, begun.now)).now - begun.now
        keys = list(gone)
        for first in range(0, len(keys), _KEYS_AT_ONCE):
            await ledger.ask(owner, "release", *keys[first : first + _KEYS_AT_ONCE])
        if self._kept is not None and 2 * spent > self._patience:
            await self._kept.keep(owner, self._unit, KeptCount(stored, spent))


def _started(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


@dataclass(frozen=True, kw_only=True)
class UploadLimits:
    """The limits of each owner and each end user."""

    max_open_uploads: int = 1000
    """The most open uploads of one owner. Those that are for an end user do not count."""
    quota: int | None = None
    """The most bytes of one owner's objects; None: any number."""
    max_open_uploads_of_user: int = 50
    """The most open uploads of one end user of an owner."""
    user_quota: int | None = None
    """The most bytes of one end user's objects; None: any number."""
    user_files: int | None = None
    """The most files of one end user; None: any number."""


NO_QUOTA = UploadLimits()


class Quotas:
    """All quotas that a file counts in. Its key says whose it is."""

    def __init__(
        self,
        sizes: Sizes,
        open_keys: OpenKeys,
        *,
        limits: UploadLimits,
        keys: KeyTemplate,
        clock: Callable[[], float],
        engine: SharedEngine | None,
        kept: KeptCounts,
    ) -> None:
        """Make them; the arguments are the limits, the shape of the keys, and those of `Quota`."""
        self._keys = keys
        make = functools.partial(Quota, sizes, open_keys, clock=clock, engine=engine, kept=kept)
        self._of_owner = make(limit=limits.quota)
        self._of_user = [make(limit=limits.user_quota)] if limits.user_quota is not None else []
        self._of_user += [make(limit=limits.user_files, unit=Unit.FILES)] if limits.user_files is not None else []

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
