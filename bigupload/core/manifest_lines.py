"""A manifest's JSON lines: one record a line, and reading a whole journal back. Pure.

Fields and record types that this version does not know are skipped, so that an older version can read what a newer one
wrote. `schema/manifest.schema.json` describes the lines. A test compares the two.
"""

from __future__ import annotations

import dataclasses
import enum
import io
import json
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from bigupload.core.checksums import strong_etag
from bigupload.core.manifest import Header, Manifest, NewerVersionError, Record
from bigupload.errors import ManifestCorrupt
from bigupload.records import dataclass

RECORD_TYPES: dict[str, type[Any]] = {cls.type: cls for cls in typing.get_args(Record)}
"""The record classes by the `type` of their lines."""
_HINTS: dict[type[Any], dict[str, Any]] = {}
"""Each class's annotations, compiled once: compiling takes longer than everything else about a record."""
_NAMES: dict[type[Any], list[str]] = {}
"""Each class's fields, for the same reason."""

_PLAIN = frozenset({str, int, bool})
"""Types that JSON has. Most fields of a part's record are of one of them."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def encode(record: Record) -> bytes:
    """Write a record as one line, with the newline."""
    text = _ENCODER.encode({"type": record.type} | _fields(record))
    # A file name that is not UTF-8 is a str with lone surrogates. backslashreplace writes them as JSON's escapes.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _fields(record: Any) -> dict[str, Any]:
    """The fields that are not None. `dataclasses.asdict` would copy every value deeply, which is slower."""
    found = {name: getattr(record, name) for name in _names(type(record))}
    return {n: v if type(v) in _PLAIN else _plain(v) for n, v in found.items() if v is not None}


def _names(cls: type[Any]) -> list[str]:
    return _NAMES.get(cls) or _NAMES.setdefault(cls, [field.name for field in dataclasses.fields(cls)])


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return _fields(value) if dataclasses.is_dataclass(value) else value


def decode(line: bytes) -> Record | None:
    """Read the record of one line.

    Returns:
        The record, or None if this version does not know its type.

    Raises:
        ValueError: The line is not a record.
    """
    fields = json.loads(line)
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        raise ValueError("a record is an object with a type")
    cls = RECORD_TYPES.get(fields["type"])
    record: Record | None = None if cls is None else _build(cls, fields)
    return record


def _build(cls: type[Any], fields: Mapping[str, Any]) -> Any:
    """Make a dataclass of JSON fields, each checked against its annotation."""
    hints = _HINTS.get(cls) or _HINTS.setdefault(cls, typing.get_type_hints(cls))
    given = {}
    for f in dataclasses.fields(cls):
        if f.name in fields:
            given[f.name] = _convert(hints[f.name], fields[f.name], f.name)
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            if not _is_optional(hints[f.name]):
                raise ValueError(f"{cls.__name__} lacks {f.name}")
            given[f.name] = None
    return cls(**given)


def _is_optional(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) and types.NoneType in typing.get_args(hint)


def _convert(hint: Any, value: Any, name: str) -> Any:
    if _is_optional(hint):
        if value is None:
            return None
        hint = next(t for t in typing.get_args(hint) if t is not types.NoneType)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _build(typing.cast("type[Any]", hint), value)
    if isinstance(hint, type) and issubclass(hint, enum.StrEnum):
        return hint(value)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{name} is not a list")
        return tuple(_convert(typing.get_args(hint)[0], item, name) for item in value)
    expected = dict if typing.get_origin(hint) is not None else hint
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise ValueError(f"{name} is not a {expected.__name__}")
    if isinstance(value, str) and name != "path":  # will be sent as UTF-8; a path may be bytes that are not UTF-8
        value.encode()
    return strong_etag(value) if name == "etag" else value  # earlier versions recorded some as stores wrote them


@dataclass(frozen=True, slots=True)
class Replay:
    """The contents of a journal: the manifest of its good lines, their size in bytes, and the error after them."""

    manifest: Manifest
    good_bytes: int
    damage: str | None


def replay(data: bytes) -> Replay:
    """Read a journal.

    The journal ends at the first bad line (a torn write, or NULs after a power loss): neither that line nor the rest
    counts. The store still lists the parts whose records are lost by that.

    Raises:
        ManifestCorrupt: The first line cannot be read.
    """
    lines = list(io.BytesIO(data))  # splits at \n alone; splitlines would also split at \r
    manifest = _first(lines[:1])
    good = len(lines[0])
    for number, line in enumerate(lines[1:], 2):
        try:
            if not line.endswith(b"\n"):
                raise ValueError("torn")
            record = decode(line)
            if record is not None:
                manifest.apply(record)
        except (ValueError, RecursionError) as e:
            return Replay(manifest, good, f"line {number} can't be read ({type(e).__name__})")
        good += len(line)
    return Replay(manifest, good, None)


def _first(lines: Iterable[bytes]) -> Manifest:
    try:
        (line,) = lines
        header = decode(line) if line.endswith(b"\n") else None
        if isinstance(header, Header):
            return Manifest(header)
        reason = "its first line is not a manifest's"
    except NewerVersionError as e:
        reason = f"its first line can't be read: {e}"
    except (ValueError, RecursionError):
        reason = "its first line can't be read"
    raise ManifestCorrupt(f"{reason}; nothing was changed")
