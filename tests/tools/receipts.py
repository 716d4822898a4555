"""Receipts as tests read them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from aiofiles.threadpool.binary import AsyncFileIO

import bigupload

SCHEMA: dict[str, Any] = json.loads((Path(bigupload.__file__).parent / "schema" / "receipt.schema.json").read_text())
_VALID = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a receipt, which may lack its end."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [row for line in lines[1:] if line.endswith(b"\n") and "source" in (row := json.loads(line))]


def document_of(text: str) -> dict[str, Any]:
    """A whole receipt: the fields of its head, `files`, and those of its last line. Each line must fit the schema."""
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        _VALID.validate(line)
    return {**lines[0], "files": [line for line in lines[1:] if "source" in line], **lines[-1]}


def read(path: Path) -> dict[str, Any]:
    """A whole receipt in a file."""
    return document_of(path.read_text())


class FullDisk:
    """The disk of receipts, which takes `room` bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = 0.0
        self._write = AsyncFileIO.write
        monkeypatch.setattr(AsyncFileIO, "write", lambda file, text: self._written(file, text))

    async def _written(self, file: AsyncFileIO, text: memoryview) -> int:
        text = text[: int(min(len(text), self.room))]
        if not text:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(text)
        return await self._write(file, text)
