"""The faults of `FaultProxy` for one exchange, beside what StrictS3 can do (`bigupload.testing.faults`)."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from bigupload.testing.faults import (
    Call,
    ErrorIn200,
    FlipBit,
    LostResponse,
    Ok,
    Reset,
    Stall,
    Status,
    StoreFault,
    Whitespace,
    WrongEtag,
)

__all__ = [
    "Alter",
    "BreakTls",
    "Call",
    "ErrorIn200",
    "FlipBit",
    "HalfResponse",
    "HangUp",
    "Junk",
    "LostResponse",
    "NetworkOutage",
    "Ok",
    "Refuse",
    "Reset",
    "Stall",
    "Standing",
    "Status",
    "StoreFault",
    "Trickle",
    "TruncatedList",
    "Whitespace",
    "WrongEtag",
]


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
    """Respond with 200 and a page that is no store's, as captive portals do; with `act`, do what was asked before."""

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
    """What a store is like for as long as it is there."""

    SILENT = "no checksum in any response"
    OPAQUE_ETAGS = "no ETag of a part is its MD5"
    REFUSES_CHECKSUMS = "a create that declares a checksum is refused"
    LIES_ABOUT_PARTS = "another checksum than the part's is echoed"
    LIES_ABOUT_WHOLE = "another checksum than the object's is reported"
