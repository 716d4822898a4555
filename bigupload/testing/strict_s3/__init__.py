"""A strict fake of AWS S3, for tests: it checks what AWS checks, and fails on request. See `StrictS3`.

`bigupload.testing.faults` lists what can go wrong.
"""

from __future__ import annotations

from .contents import Knobs as Knobs
from .exchange import Exchange as Exchange
from .exchange import Record as Record
from .exchange import StoreResponse as StoreResponse
from .model import StoredObject as StoredObject
from .server import StrictS3 as StrictS3
from .sigv4 import IssuedCredentials as IssuedCredentials
from .wire import S3Error as S3Error
