"""The faults of StrictS3 and of FaultProxy, one request at a time: the responses that `script` of both takes.

Below `Call` are those of FaultProxy alone, which do not change the store's response but the exchange.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


class StoreFault:
    """One request's fate."""


@dataclass(frozen=True)
class Ok(StoreFault):
    """Nothing goes wrong: leaves a gap in a script."""


@dataclass(frozen=True)
class Status(StoreFault):
    """Respond with this error and do nothing.

    `read_body=False` responds before a byte of the body is read and closes the connection at once: a client that is
    still sending meets EPIPE or ECONNRESET, with the response in its receive buffer. `code=""` sends no body, as some
    stores and most balancers do.
    """

    status: int
    code: str = ""
    message: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    read_body: bool = True


@dataclass(frozen=True)
class Reset(StoreFault):
    """Read `after_bytes` of the body, then reset the connection (RST). Nothing is done, nothing is sent back."""

    after_bytes: int = 0


@dataclass(frozen=True)
class Stall(StoreFault):
    """Read `after_bytes` of the body, then stop reading until `release()`; then continue normally.

    The kernel's socket buffers still take some: megabytes on loopback.
    """

    after_bytes: int = 0


@dataclass(frozen=True)
class LostResponse(StoreFault):
    """Do what was asked, then reset the connection without a response."""


@dataclass(frozen=True)
class CutResponse(StoreFault):
    """Do the request, send this many bytes of the object, then close the connection."""

    after_bytes: int = 0


@dataclass(frozen=True)
class ErrorIn200(StoreFault):
    """Respond with 200, white space, then an `<Error>`. With `act=True` the request was carried out all the same."""

    code: str = "InternalError"
    message: str | None = None
    whitespace: int = 16
    act: bool = False


@dataclass(frozen=True)
class Whitespace(StoreFault):
    """Respond with 200 and white space first, as complete does on big objects, then the true response. `pace`: seconds
    between two spaces; the strict fake knows none."""

    count: int = 64
    pace: float = 0.0


@dataclass(frozen=True)
class WrongEtag(StoreFault):
    """Do what was asked, and respond with an ETag that isn't the stored one."""

    etag: str = '"00000000000000000000000000000bad"'


@dataclass(frozen=True)
class FlipBit(StoreFault):
    """One bit of the body changes: on the wire (before the store verifies it) or on the store's disk (after)."""

    at: int = 0
    stored: bool = False


@dataclass(frozen=True)
class Conflict(StoreFault):
    """409 ConditionalRequestConflict, from now on for every complete of this upload: its parts are of no use."""


@dataclass(frozen=True)
class Call(StoreFault):
    """Call this (in a thread of the server's, with the StrictS3) before going on as usual; with `acted`, once all was
    done that was asked, and before the response."""

    function: Callable[[Any], object]
    acted: bool = False


@dataclass(frozen=True)
class Refuse(Status):
    """Respond with this body and do nothing."""

    body: bytes = b""


@dataclass(frozen=True)
class Alter(StoreFault):
    """Pass the request on with another body: what `change` makes of it."""

    change: Callable[[bytes], bytes]


@dataclass(frozen=True)
class Trickle(StoreFault):
    """The first bytes of the body pass in this many small pieces, one a turn of the loop, and the rest as usual."""

    pieces: int = 20
    size: int = 100


@dataclass(frozen=True)
class HalfResponse(StoreFault):
    """Do the request, then reset the connection after this many bytes of the response."""

    size: int = 40


@dataclass(frozen=True)
class HangUp(StoreFault):
    """All is well, and the connection is then closed without a word of it: the next request on it finds it dead."""

    reset: bool = False


@dataclass(frozen=True)
class Junk(StoreFault):
    """Respond with 200 and a page that is not from a store, as portals do; with `act`, do what was asked before."""

    act: bool = False
    body: bytes = b"<html><body>Welcome to the hotel</body></html>"


@dataclass(frozen=True)
class TruncatedList(StoreFault):
    """ListParts lists this many parts only. `honest`: it also says that there are more, and where they begin."""

    rows: int = 1
    honest: bool = False


@dataclass(frozen=True)
class NetworkOutage(StoreFault):
    """Every connection is reset, and new ones are refused until `restore()`."""


@dataclass(frozen=True)
class BreakTls(StoreFault):
    """For `on_connect`: read this many bytes of the client's first flight, then reset, or close as if at the end."""

    after_bytes: int = 32
    reset: bool = True


class Standing(enum.Enum):
    """The faults that a store has for as long as it runs."""

    SILENT = "no checksum in any response"
    OPAQUE_ETAGS = "no ETag of a part is its MD5"
    REFUSES_CHECKSUMS = "a create that declares a checksum is refused"
    LIES_ABOUT_PARTS = "another checksum than the part's is echoed"
    LIES_ABOUT_WHOLE = "another checksum than the object's is reported"
