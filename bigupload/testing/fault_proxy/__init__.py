"""A proxy between a client and a real S3 server that counts what passes and breaks single exchanges on request.

`bigupload.testing.faults` lists what can go wrong, and `Traffic` of `proxy` what is counted.
"""

from __future__ import annotations

from .proxy import FaultProxy as FaultProxy
