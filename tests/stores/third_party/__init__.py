"""Stores of other people, each started from a package: one module a store, and what is tried with all of them.

A store's module says how it is installed, how it is started, and what is known to fail with it. Nothing here is part of
the default test command: `python -m tests.stores`, or `python -m pytest -m stores tests/stores/third_party`.
"""

from __future__ import annotations

from .launching import Store
from .localstack import LOCALSTACK
from .ministack import MINISTACK
from .nanio import NANIO
from .rclone import RCLONE
from .s3rver import S3RVER
from .swift import SWIFT

STORES: tuple[Store, ...] = (LOCALSTACK, SWIFT, RCLONE, NANIO, S3RVER, MINISTACK)
