"""A strict fake of AWS S3, for tests: it checks what AWS checks, and fails on request. See `StrictS3`."""

from __future__ import annotations

from bigupload.testing.faults import (
    Call,
    Conflict,
    CutResponse,
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

from .contents import Knobs
from .exchange import Record
from .model import StoredObject
from .server import StrictS3
from .sigv4 import IssuedCredentials
from .wire import S3Error

__all__ = [
    "Call",
    "Conflict",
    "CutResponse",
    "ErrorIn200",
    "FlipBit",
    "IssuedCredentials",
    "Knobs",
    "LostResponse",
    "Ok",
    "Record",
    "Reset",
    "S3Error",
    "Stall",
    "Status",
    "StoreFault",
    "StoredObject",
    "StrictS3",
    "Whitespace",
    "WrongEtag",
]
