"""A connection's bytes: lines and heads are looked at, all else is dropped at the least cost."""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Callable

_READ = 256 * 1024
_DROP = 4 << 20
_DROP_PACED = 64 * 1024
# Linux drops what would have been copied (tcp(7)), and waits in the kernel instead of here.
_FLAGS = (socket.MSG_TRUNC | socket.MSG_WAITALL) if sys.platform == "linux" else 0
_TEXT = 16 << 20
_SINK = bytearray(_DROP)  # what is dropped goes here, if anywhere: nobody reads it

Account = Callable[[int], None]


class Closed(ConnectionError):
    """The other side ended in the middle of something."""


class Wire:
    """One connection, used by one thread."""

    def __init__(self, connection: socket.socket, *, paced: bool) -> None:
        self._connection = connection
        self._ahead = b""
        self._at = 0
        plain = not isinstance(connection, ssl.SSLSocket)
        self._flags = _FLAGS if plain and not paced else 0
        self._block = _DROP_PACED if paced else _DROP

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

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
            got = self._drop_some(min(count, self._block))
            count -= got
            account(got)

    def drop_all(self, account: Account) -> None:
        """Until the other side ends."""
        self.drop(len(self._ahead) - self._at, account)
        try:
            while True:
                account(self._drop_some(self._block))
        except Closed:
            pass

    def _drop_some(self, most: int) -> int:
        got = self._connection.recv_into(_SINK, most, self._flags)
        if not got:
            raise Closed
        return got

    def _more(self) -> bool:
        """Keep what is not used up, and read on."""
        more = self._connection.recv(_READ)
        self._ahead = self._ahead[self._at :] + more
        self._at = 0
        return bool(more)
