"""Temporary directories that live longer than one test and are removed all the same.

pytest removes the `tmp_path` of a test that passed, but keeps what `tmp_path_factory` made until a later run. Where
stores keep their data in it, that is gigabytes.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def session_directory(factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """A new directory whose name begins with `name`; removed at the end, with all that is in it."""
    directory = factory.mktemp(name)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
