"""How a body is framed, and how much of it there is without that.

A length, HTTP's chunks, S3's aws-chunked (signed or not, with trailers or not) inside of either.
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from .wire import Account, Closed, Wire


class _Body(Protocol):
    def line(self) -> bytes: ...

    def drop(self, count: int, account: Account) -> None: ...

    def drop_rest(self, account: Account) -> None: ...


class _Length:
    def __init__(self, wire: Wire, size: int) -> None:
        self._wire = wire
        self._left = size

    def line(self) -> bytes:
        line = self._wire.line()
        self._left -= len(line) + 2
        return line

    def drop(self, count: int, account: Account) -> None:
        self._left -= count
        if self._left < 0:
            raise Closed
        self._wire.drop(count, account)

    def drop_rest(self, account: Account) -> None:
        self.drop(self._left, account)


class _Chunks:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._left = 0
        self._ended = False

    def _ready(self) -> int:
        """What is left of this chunk, or else of the next; 0 at the end."""
        if not self._left and not self._ended:
            self._left = int(self._wire.line().split(b";")[0], 16)
            if not self._left:
                self._ended = True
                while self._wire.line():
                    pass
        return self._left

    def _took(self, count: int) -> None:
        self._left -= count
        if not self._left:
            self._wire.line()

    def line(self) -> bytes:
        made = b""
        while not made.endswith(b"\r\n"):
            if not self._ready():
                raise Closed
            made += self._wire.some(1)
            self._took(1)
        return made[:-2]

    def drop(self, count: int, account: Account) -> None:
        while count:
            taken = min(count, self._ready())
            if not taken:
                raise Closed
            self._wire.drop(taken, account)
            self._took(taken)
            count -= taken

    def drop_rest(self, account: Account) -> None:
        while self._ready():
            self.drop(self._left, account)


def drop_body(wire: Wire, headers: Mapping[str, str], account: Account) -> None:
    """Receive and drop. `account` is told of the bytes that are the object's."""
    body: _Body
    if "chunked" in headers.get("transfer-encoding", ""):
        body = _Chunks(wire)
    else:
        body = _Length(wire, int(headers.get("content-length", 0)))
    if (
        "aws-chunked" in headers.get("content-encoding", "")
        or headers.get("x-amz-content-sha256", "")[:9] == "STREAMING"
    ):
        while size := int(body.line().split(b";")[0], 16):
            body.drop(size, account)
            body.line()
        body.drop_rest(lambda _: None)  # trailers
    else:
        body.drop_rest(account)


def read_body(wire: Wire, headers: Mapping[str, str]) -> bytes:
    """A request that is no PUT: small, and plain."""
    if "chunked" not in headers.get("transfer-encoding", ""):
        return wire.exactly(int(headers.get("content-length", 0)))
    made = b""
    while size := int(wire.line().split(b";")[0], 16):
        made += wire.exactly(size)
        wire.line()
    while wire.line():
        pass
    return made
