"""How many bytes an owner's files may have, counted for all replicas together.

The engine has one account for each owner: the bytes of the store's list, when it was read, and what was promised since.
Whoever finds the list too old reads it, for all others, too. Every method that asks the engine raises EngineAwayError
while it is away: the caller counts by itself then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from bigupload.service.contract import URL_LIFETIME
from bigupload.service.quota import OpenKeys, Sizes, list_is_good_for, promised_bytes
from bigupload.service.shared import EngineAwayError
from bigupload.service.shared.engine import SharedEngine

_KEYS_AT_ONCE = 1000
"""The most keys that one script works on: while it runs, nobody else is answered."""
_MOST_LOCKS = 10_000
_KEPT_FOR = 8 * 86_400
"""Seconds after the last use for which an account is kept: longer than an upload may be open."""

# KEYS: the account (stored, began, took, changed, promised); "SIZE MADE" of each promise, by the key of its object;
# when each promise ends; the keys of uploads that were aborted since the list was read.
_STATE = """
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local account = redis.call('HMGET', KEYS[1], 'began', 'took', 'changed')
return {tostring(now), account[1] or '', account[2] or '0', account[3] or ''}
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
local now = tonumber(redis.call('TIME')[1])
local key, wanted, counted, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 1000)) do
  take_back(gone)
end
local promise = redis.call('HGET', KEYS[2], key)
local before = promise and tonumber(string.match(promise, '^%d+')) or 0
local account = redis.call('HMGET', KEYS[1], 'stored', 'promised')
local used = tonumber(account[1] or 0) + tonumber(account[2] or 0) - before
if used + wanted > limit then
  return used
end
redis.call('HINCRBY', KEYS[1], 'promised', counted - before)
redis.call('HSET', KEYS[2], key, string.format('%.0f %d', counted, now))
redis.call('ZADD', KEYS[3], now + tonumber(ARGV[5]), key)
redis.call('SREM', KEYS[4], key)
for _, name in ipairs(KEYS) do
  redis.call('EXPIRE', name, ARGV[6])
end
return -1
"""
)
_RELEASE = _TAKE_BACK + "for _, key in ipairs(ARGV) do take_back(key) end"
_ABORTED = """
redis.call('HSET', KEYS[1], 'changed', '1')
if #ARGV > 0 and redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then
  redis.call('SADD', KEYS[4], ARGV[1])
end
redis.call('EXPIRE', KEYS[1], 691200)
redis.call('EXPIRE', KEYS[4], 691200)
"""
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


class SharedQuota:
    """The accounts of all owners, in the engine."""

    def __init__(self, engine: SharedEngine, sizes: Sizes, open_keys: OpenKeys, *, limit: int) -> None:
        """Make it.

        Args:
            engine: Has the accounts.
            sizes: Lists an owner's objects.
            open_keys: Lists an owner's open multipart uploads.
            limit: Bytes of one owner.
        """
        self._engine = engine
        self._sizes = sizes
        self._open_keys = open_keys
        self._limit = limit
        self._counting: dict[str, asyncio.Lock] = {}
        self._changing: set[asyncio.Task[None]] = set()
        register = engine.client.register_script
        self._state, self._reserve, self._release = register(_STATE), register(_RESERVE), register(_RELEASE)
        self._aborted, self._begin, self._counted = register(_ABORTED), register(_BEGIN), register(_COUNTED)

    async def reserve(self, owner: str, key: str, size: int | None, *, lifetime: int) -> int | None:
        """Promise room for a file for `lifetime` seconds; None if there is. Else returns the bytes that are used."""
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

    def aborted(self, owner: str, key: str) -> None:
        """Take a promise back once the next list was read: the upload may have been complete."""
        self._change(self._run(self._aborted, owner, [key]))

    def changed(self, owner: str) -> None:
        """Read the list again before a request is refused, whoever gets that."""
        self._change(self._run(self._aborted, owner, []))

    def _change(self, work: Coroutine[Any, Any, object]) -> None:
        async def quietly() -> None:
            with contextlib.suppress(EngineAwayError):
                await work

        task = asyncio.create_task(quietly())
        self._changing.add(task)
        task.add_done_callback(self._changing.discard)

    async def _ask_for(self, owner: str, key: str, size: int | None, lifetime: int) -> int | None:
        wanted, counted = 1 if size is None else size, promised_bytes(size, self._limit)
        used = int(await self._run(self._reserve, owner, [key, wanted, counted, self._limit, lifetime, _KEPT_FOR]))
        return None if used < 0 else used

    async def _count(self, owner: str, *, refusing: bool) -> None:
        """Read the owner's list, unless somebody did so a short time ago."""
        if len(self._counting) > _MOST_LOCKS:
            self._counting = {name: lock for name, lock in self._counting.items() if lock.locked()}
        async with self._counting.setdefault(owner, asyncio.Lock()):  # one list for all who wait here
            now, began, took, changed = map(_text, await self._run(self._state, owner, []))
            good_for = list_is_good_for(float(took), refusing=refusing, changed=bool(changed))
            if began and float(now) - float(began) < good_for:
                return
            promises, aborted = await self._run(self._begin, owner, [])
            texts = list(map(_text, promises))
            made = {key: int(promise.split()[1]) for key, promise in zip(texts[::2], texts[1::2], strict=True)}
            gone = {key for key, when in made.items() if float(now) - when >= URL_LIFETIME}
            if gone:  # first, because an upload that completes meanwhile is in the list then
                gone -= {key async for key in self._open_keys(owner)}
            stored = 0
            async for key, size in self._sizes(owner):
                stored += size
                if key in made:
                    gone.add(key)
            after = _text((await self._run(self._state, owner, []))[0])
            await self._run(self._counted, owner, [stored, now, float(after) - float(now), _KEPT_FOR])
            await self._withdraw(owner, [*gone, *map(_text, aborted)])

    async def _withdraw(self, owner: str, keys: list[str]) -> None:
        for first in range(0, len(keys), _KEYS_AT_ONCE):
            await self._run(self._release, owner, keys[first : first + _KEYS_AT_ONCE])

    async def _run(self, script: Any, owner: str, arguments: list[Any]) -> Any:
        return await self._engine.ask(lambda: script(keys=self._keys(owner), args=arguments))

    def _keys(self, owner: str) -> list[str]:
        """One place in a cluster: what a script changes must be together."""
        return [f"{self._engine.prefix}:quota:{{{owner}}}{part}" for part in ("", ":promises", ":ends", ":aborted")]


def _text(answer: bytes | str) -> str:
    """A URL may ask the client for texts (`?decode_responses=true`)."""
    return answer.decode() if isinstance(answer, bytes) else answer
