"""A connection's bytes: lines and heads are looked at, all else is dropped at the least cost."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Protocol

_READ = 256 * 1024
_DROP = 4 << 20
_DROP_FINELY = 16 * 1024
# Linux drops what would have been copied (tcp(7)), and waits in the kernel instead of here.
_FLAGS = (socket.MSG_TRUNC | socket.MSG_WAITALL) if sys.platform == "linux" else 0
_TEXT = 16 << 20
_SINK = bytearray(_DROP)  # what is dropped goes here, if anywhere: nobody reads it

Account = Callable[[int], None]


class Closed(ConnectionError):
    """The other side ended in the middle of something."""


class Channel(Protocol):
    """Bytes, however they travel."""

    def sendall(self, data: bytes) -> None: ...

    def recv(self, most: int) -> bytes: ...

    def drop(self, most: int) -> int:
        """Receive at most `most` bytes, which must be still to come, and forget them. 0 at the end."""

    def finish(self) -> None:
        """Nothing more will be sent."""


class PlainChannel:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.sendall = connection.sendall
        self.recv = connection.recv

    def drop(self, most: int) -> int:
        return self._connection.recv_into(_SINK, most, _FLAGS)

    def finish(self) -> None:
        self._connection.shutdown(socket.SHUT_WR)


class Wire:
    """One connection, used by one thread."""

    def __init__(self, channel: Channel, *, finely: bool) -> None:
        """`finely`: tell the account of each 16 KiB, which takes more time."""
        self._channel = channel
        self._ahead = b""
        self._at = 0
        self._block = _DROP_FINELY if finely else _DROP
        self.send = channel.sendall
        self.finish = channel.finish

    def head(self) -> bytes | None:
        """A request's head without the empty line that ends it; None where the other side has ended."""
        while (end := self._ahead.find(b"\r\n\r\n", self._at)) < 0:
            if not self._more():
                return None
        head = self._ahead[self._at : end]
        self._at = end + 4
        return head

    def line(self) -> bytes:
        while (end := self._ahead.find(b"\r\n", self._at)) < 0:
            if not self._more():
                raise Closed
        line = self._ahead[self._at : end]
        self._at = end + 2
        return line

    def some(self, most: int) -> bytes:
        """At least one byte and at most `most`."""
        if self._at == len(self._ahead) and not self._more():
            raise Closed
        data = self._ahead[self._at : self._at + most]
        self._at += len(data)
        return data

    def exactly(self, count: int) -> bytes:
        """For texts, which are looked at."""
        if count > _TEXT:
            raise Closed
        made = b""
        while len(made) < count:
            made += self.some(count - len(made))
        return made

    def drop(self, count: int, account: Account) -> None:
        """Drop exactly `count` bytes, telling `account` of each stretch as it went."""
        if waiting := min(count, len(self._ahead) - self._at):
            self._at += waiting
            count -= waiting
            account(waiting)
        while count:
            got = self._channel.drop(min(count, self._block))
            if not got:
                raise Closed
            count -= got
            account(got)

    def drop_all(self, account: Account) -> None:
        """Until the other side ends."""
        self.drop(len(self._ahead) - self._at, account)
        while got := len(self._channel.recv(_READ)):
            account(got)

    def _more(self) -> bool:
        """Keep what is not used up, and read on."""
        more = self._channel.recv(_READ)
        self._ahead = self._ahead[self._at :] + more
        self._at = 0
        return bool(more)
