"""Bytes that a program writes, as an async reader: a stream that is pushed instead of pulled.

Small writes are collected. A large one is read from the writer's own memory, which waits meanwhile: so no more than two
blocks are here, whoever is slower.
"""

from __future__ import annotations

import asyncio

from bigupload.core.part_plan import MIB

BLOCK = MIB
"""Bytes that are collected from small writes."""


class PushedBytes:
    """An async reader whose bytes are written by `push`. It ends only by `finish`.

    Used in one event loop, with one reader and any number of writers.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self.position = 0
        """Bytes that were written until now."""
        self._collected = bytearray()
        self._given: bytes | bytearray | memoryview | None = None
        """What the reader has or gets; None once it is used up."""
        self._is_taken = False
        """Whether the reader has it."""
        self._finished = False
        self._stopped = False
        self._broken = False
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    async def read(self, _: int, /) -> bytes | bytearray | memoryview:
        """Wait for the next bytes. What was returned before is used up, and may be changed by its owner.

        Returns:
            Any number of bytes; none after `finish`.
        """
        if self._is_taken:
            self._given, self._is_taken = None, False
            self._changed.set()
        while self._given is None:
            if self._finished:
                return b""
            await self._change()
        self._is_taken = True
        return self._given

    async def push(self, data: memoryview) -> bool:
        """Write bytes, and wait until they were read or collected. Writes are whole, in the order of the calls.

        Args:
            data: The bytes, which must not change before it returns.

        Returns:
            Whether they were written. They are not once nobody reads any more, nor after a write that was cancelled
            when a part of its bytes had gone.
        """
        async with self._turn:
            if len(self._collected) + len(data) < BLOCK:
                if self._is_readable:
                    self._collected += data
            elif await self._give_collected():
                if len(data) < BLOCK:
                    self._collected += data
                else:
                    await self._give(data)
            if self._is_readable:
                self.position += len(data)
            return self._is_readable

    async def finish(self) -> bool:
        """End the stream here. The reader gets what is left, and then the end.

        Returns:
            Whether it ended: it does not once nobody reads any more, nor after a write that was cancelled half-way.
        """
        async with self._turn:
            if await self._give_collected():
                self._finished = True
                self._changed.set()
            return self._finished

    def stop(self) -> None:
        """Nobody reads any more: what waits, and every later write, returns False."""
        self._stopped = True
        self._changed.set()

    @property
    def _is_readable(self) -> bool:
        return not (self._stopped or self._broken or self._finished)

    async def _give_collected(self) -> bool:
        """Give the reader what was collected. Returns whether somebody reads."""
        while self._given is not None and self._is_readable:
            await self._change()
        if self._collected and self._is_readable:
            self._given, self._collected = self._collected, bytearray()
            self._changed.set()
        return self._is_readable

    async def _give(self, data: memoryview) -> None:
        """Give the reader bytes that are not ours, and wait until it has used them up."""
        await self._used_up()
        if not self._is_readable:
            return
        self._given = data
        self._changed.set()
        try:
            await self._used_up()
        except BaseException:
            if self._is_taken:
                self._broken = True  # nobody knows how many of them were read
            elif self._given is data:
                self._given = None
            raise

    async def _used_up(self) -> None:
        while self._given is not None and self._is_readable:
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
