"""What the tests of sources share."""

from __future__ import annotations

from pathlib import Path

DATA = bytes(range(256)) * 40
"""The content of the file `path`."""


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")
