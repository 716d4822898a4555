"""What there is to see between two actions: the file, the manifests, the store, the caller's keys. No I/O but reading.

Manifests are parsed here and not by the library, so that an error in the library's parser cannot hide from the model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bigupload.testing.strict_s3 import StrictS3

SUFFIX = ".manifest.jsonl"


class Print(NamedTuple):
    """A fingerprint."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Print:
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class Row(NamedTuple):
    """A part, as a manifest or the store has it."""

    size: int
    etag: str


@dataclass(frozen=True, kw_only=True)
class Known:
    """A manifest that can be read."""

    status: Literal["uploading", "completing", "completed", "aborted"]
    upload_id: str
    token: str | None
    part_size: int
    path: Path
    """The file's, as last recorded."""
    fingerprint: Print
    parts: dict[int, Row]
    torn: bool
    prints: dict[str, Print]
    """By upload id: of the file as it was when that upload was last gone on with."""

    @property
    def live(self) -> bool:
        return self.status in ("uploading", "completing")


@dataclass(frozen=True)
class Unreadable:
    """A manifest whose first line is not one; `empty` where there is no line at all."""

    empty: bool


@dataclass(frozen=True)
class File:
    """The one file, wherever it is now."""

    path: Path
    fingerprint: Print
    body: bytes


@dataclass(frozen=True)
class Made:
    """The object under the key."""

    upload_id: str
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Seen:
    file: File
    manifests: dict[Path, Known | Unreadable]
    """Those that the library would look at; what it has set aside is not among them."""
    aside: list[Known]
    open: dict[str, dict[int, tuple[Row, bytes]]]
    """The store's open uploads, oldest first."""
    made: Made | None
    keys: str
    """What is the matter with them: "valid", "none", "unknown", "wrong", "expired"."""
    versions: dict[Print, bytes] = field(repr=False)
    """The file as it was with each fingerprint that it ever had."""

    def known(self, manifest: Path) -> Known | Unreadable | None:
        return self.manifests.get(manifest)

    def owned(self) -> set[str]:
        """The open uploads that a manifest can resume. A torn manifest may have lost any upload of the key."""
        known = [each for each in self.manifests.values() if isinstance(each, Known)]
        if any(each.torn for each in known):
            return set(self.open)
        return {each.upload_id for each in known if each.live} & set(self.open)

    def orphans(self) -> set[str]:
        return set(self.open) - self.owned()


def look(directory: Path) -> tuple[dict[Path, Known | Unreadable], list[Known]]:
    """The manifests of a directory, and those that were set aside."""
    manifests: dict[Path, Known | Unreadable] = {}
    aside = []
    for path in sorted(directory.iterdir()):
        if path.name.endswith(SUFFIX):
            manifests[path] = parse(path.read_bytes())
        elif path.name.rpartition(".")[2].isdecimal():
            known = parse(path.read_bytes())
            if isinstance(known, Known):
                aside.append(known)
    return manifests, aside


def open_uploads(s3: StrictS3) -> dict[str, dict[int, tuple[Row, bytes]]]:
    found = sorted(s3.uploads.values(), key=lambda upload: upload.initiated)
    return {
        upload.id: {n: (Row(part.size, part.etag), b"".join(part.chunks())) for n, part in upload.parts.items()}
        for upload in found
    }


def made(s3: StrictS3, bucket: str, key: str) -> Made | None:
    found = s3.objects[bucket].get(key)
    return None if found is None else Made(found.upload_id or "", found.body)


def parse(data: bytes) -> Known | Unreadable:
    """A manifest, by the rules that its schema and ARCHITECTURE.md give."""
    lines = data.split(b"\n")
    torn = lines.pop() != b""
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:
            torn = True
            break
    if not records or records[0].get("type") != "manifest":
        return Unreadable(empty=not data)
    return _fold(records, torn=torn)


def _fold(records: list[dict[str, Any]], *, torn: bool) -> Known:
    first = records[0]
    source, upload_id, token = first["source"], first["upload_id"], first.get("token")
    status, parts = "uploading", dict[int, Row]()
    prints = {upload_id: _print(source)}
    for record in records[1:]:
        match record["type"]:
            case "part":
                parts[record["number"]] = Row(record["size"], record["etag"])
            case "part_dropped":
                parts.pop(record["number"], None)
                status = "uploading"
            case "source":
                source = record["source"]
            case "restart":
                upload_id, token, status = record["upload_id"], record["token"], "uploading"
                parts = {}
            case "completing" | "completed" | "aborted" as kind:
                status = kind
            case other:
                raise AssertionError(f"a record of type {other}")
        prints[upload_id] = _print(source)
    return Known(
        status=status,
        upload_id=upload_id,
        token=token,
        part_size=first["plan"]["part_size"],
        path=Path(source["path"]),
        fingerprint=_print(source),
        parts=parts,
        torn=torn,
        prints=prints,
    )


def _print(source: dict[str, Any]) -> Print:
    return Print(*(source[name] for name in Print._fields))
