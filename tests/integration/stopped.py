"""An upload that stopped on its way: six parts, of which the store has some, and what happens to its file meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

from .support import PART, World

PARTS = 6
SIZE = (PARTS - 1) * PART + 100


def the_file(world: World) -> Path:
    return world.directory / "file.bin"


def lines(world: World) -> list[bytes]:
    return world.manifest_path.read_bytes().splitlines(keepends=True)


def edit(path: Path, part: int) -> None:
    with path.open("r+b") as file:
        file.seek((part - 1) * PART + 7)
        file.write(b"edited")


def touch(path: Path) -> None:
    os.utime(path, (1, 1))
