"""A proxy between a client and a real S3 server that counts what passes and breaks single exchanges on request.

`wire_faults` lists what can go wrong, `traffic` what is counted.
"""

from __future__ import annotations

from .proxy import FaultProxy
from .wire_faults import (
    Alter,
    BreakTls,
    Call,
    ErrorIn200,
    FlipBit,
    HalfResponse,
    HangUp,
    Junk,
    LostResponse,
    NetworkOutage,
    Ok,
    Refuse,
    Reset,
    Stall,
    Standing,
    Status,
    StoreFault,
    Trickle,
    TruncatedList,
    Whitespace,
    WrongEtag,
)

__all__ = [
    "Alter",
    "BreakTls",
    "Call",
    "ErrorIn200",
    "FaultProxy",
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
