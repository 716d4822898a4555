"""ASC Media Hash Lists, version 2: the history of a directory's files, as film people keep it beside them.

The directory `ascmhl` has a hash list for each generation (each time that the files were hashed), and a chain with the
C4 of each list. What is read here may come from anyone: nothing outside the directory is opened, and no document type
of XML is accepted. https://theasc.com/society/ascmitc/asc-media-hash-list-asc-mhl
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from bigupload import __version__, errors
from bigupload.core.checksums import Hasher
from bigupload.records import dataclass
from bigupload.support.files import reason_of
from bigupload.support.output_file import naming, output_file
from bigupload.units import escaped, install_command

FOLDER = "ascmhl"
CHAIN = "ascmhl_chain.xml"
IGNORED = (".DS_Store", "ascmhl", "ascmhl/")
"""Names that are in no list, as in the reference implementation."""
XXH128 = "xxh128"
FORMATS = (XXH128, "xxh3", "xxh64", "xxh32", "md5", "sha1", "c4")
"""The formats, the fastest first. Of a file that is listed with several, the hash of the first one is compared."""
_OF_XXHASH = {XXH128: "xxh3_128", "xxh3": "xxh3_64", "xxh64": "xxh64", "xxh32": "xxh32"}
_C4 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_C4_DIGITS = 88
_NAME = re.compile(r"(\d{4,9})(?:_.*)?\.mhl", re.DOTALL)
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_OUTPUT = "hash lists into"
"""What messages say of the files that are written."""
_MOST_BYTES = 1 << 30
"""The size of one hash list: some millions of files."""


def hex_digest(format_: str, hasher: Hasher) -> str:
    """Return a digest as hash lists have it."""
    digest = hasher.digest()
    if format_ != "c4":
        return digest.hex()
    number, text = int.from_bytes(digest, "big"), ""
    while number:
        number, rest = divmod(number, 58)
        text = _C4[rest] + text
    return f"c4{text.rjust(_C4_DIGITS, _C4[0])}"


def new_hasher_of(format_: str) -> Hasher:
    """Make a hasher for a format. Raises UsageError if its package is missing."""
    if format_ in _OF_XXHASH:
        try:
            import xxhash
        except ImportError:
            raise errors.UsageError(f"{format_.upper()} needs the package xxhash: {install_command('mhl')}") from None
        hasher: Hasher = getattr(xxhash, _OF_XXHASH[format_])()
        return hasher
    return hashlib.new("sha512" if format_ == "c4" else format_, usedforsecurity=False)


@dataclass(slots=True)
class History:
    """The history of a directory, from its hash lists."""

    root: Path
    generations: list[tuple[str, str]] = field(default_factory=list)
    """The name of each hash list and its C4, as the chain has them."""
    latest: int = 0
    """The number of the latest generation."""
    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    """By path: the first hash in each format."""
    ignored: list[str] = field(default_factory=lambda: [*IGNORED])
    """Patterns as in `.gitignore`, of files that the lists leave out."""


def read_history(root: Path) -> History | None:
    """Read the hash lists of a directory. Blocking.

    Args:
        root: The directory.

    Returns:
        The history. None: there is none.

    Raises:
        SourceError: A list can't be read, is missing, or differs from the chain.
    """
    folder = root / FOLDER
    if not folder.is_dir():
        return None
    history = History(root)
    for element in _elements(_content(folder / CHAIN), folder / CHAIN, "hashlist"):
        name, c4 = _text(element, "path"), _text(element, "c4")
        number = _NAME.fullmatch(name)
        if number is None or "/" in name or not c4:
            raise errors.SourceError(f"{_shown(folder / CHAIN)} has an entry that is not a hash list: {name!r}")
        content = _content(folder / name)
        if _c4_of(content) != c4:
            raise errors.SourceError(f"{_shown(folder / name)} differs from the chain: it was changed since")
        history.generations.append((name, c4))
        _add_generation(history, content, folder / name)
    numbers = (_NAME.fullmatch(each.name) for each in folder.iterdir())
    history.latest = max((int(number[1]) for number in numbers if number is not None), default=0)
    return history


def nested_histories(root: Path) -> list[Path]:
    """Find directories below one that have hash lists of their own. Blocking."""
    found = []
    for top, names, _ in os.walk(root):
        if Path(top) != root and FOLDER in names:
            found.append(Path(top))
        names[:] = [name for name in names if name != FOLDER]
    return found


def _add_generation(history: History, content: bytes, path: Path) -> None:
    for element in _elements(content, path, "hash", "pattern"):
        if _tag(element) == "pattern":
            if element.text and element.text not in history.ignored:
                history.ignored.append(element.text)
            continue
        name, before = _text(element, "path"), _text(element, "previousPath")
        if not name or name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise errors.SourceError(
                f"{errors.IT} has a path that is not below its directory: {name!r}", it=_shown(path)
            )
        if before and before != name:
            history.hashes[name] = {**history.hashes.pop(before, {}), **history.hashes.get(name, {})}
        known = history.hashes.setdefault(name, {})
        for child in element:
            if _tag(child) in FORMATS and child.get("action") != "failed" and child.text:
                known.setdefault(_tag(child), child.text.strip())


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise errors.SourceError(f"{errors.IT} is too large for a hash list", it=_shown(path))
        return path.read_bytes()
    except OSError as e:
        raise errors.SourceError(f"can't read {errors.IT}: {reason_of(e)}", it=_shown(path)) from e


def _elements(content: bytes, path: Path, *tags: str) -> Iterator[Any]:
    """Yield the elements of these names, and forget each: a list may have millions."""
    from io import BytesIO
    from xml.etree import ElementTree

    if b"<!DOCTYPE" in content or b"\0" in content:  # in no encoding: entities can fill the memory
        raise errors.SourceError(
            f"{errors.IT} is not a hash list: it has a document type, or is not UTF-8", it=_shown(path)
        )
    try:
        for _, element in ElementTree.iterparse(BytesIO(content)):  # noqa: S314 - what would hurt is refused above
            if _tag(element) in tags:
                yield element
                element.clear()
    except ElementTree.ParseError as e:
        raise errors.SourceError(f"{errors.IT} is not a hash list: {e}", it=_shown(path)) from None


def _tag(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _text(element: Any, name: str) -> str:
    return next((child.text or "" for child in element if _tag(child) == name), "")


def _c4_of(content: bytes) -> str:
    hasher = new_hasher_of("c4")
    hasher.update(content)
    return hex_digest("c4", hasher)


def _shown(path: Path) -> str:
    return escaped(str(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class HashedFile:
    """A file for a new generation."""

    path: str
    """Relative to the directory, with slashes."""
    size: int
    modified: float | None
    """Seconds since 1970; None: not known."""
    hashes: Mapping[str, str]
    """By format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """A file that matches a hash list."""

    path: Path
    size: int
    checksum: str
    """The hash that was compared, "<format>:<value>"."""
    verified: str
    """Its format."""


def check_writable(root: Path) -> None:
    """Raise BigUploadError if no hash lists can be written into a directory. It leaves no trace."""
    import tempfile

    if (root / FOLDER).exists() and not (root / FOLDER).is_dir():
        raise errors.BigUploadError(f"can't write hash lists into {_shown(root)}: {FOLDER} is a file there")
    folder = root / FOLDER if (root / FOLDER).is_dir() else root
    with naming(_OUTPUT, root), tempfile.TemporaryFile(dir=folder):
        pass


def write_generation(
    root: Path,
    history: History | None,
    files: Sequence[HashedFile],
    *,
    host: str,
    ignored: Sequence[str],
) -> tuple[list[Path], list[str]]:
    """Write a hash list, and name it in the chain. Blocking.

    Args:
        root: The directory.
        history: The earlier lists.
        files: All files.
        host: This machine's name.
        ignored: Patterns of files that are left out, as in `.gitignore`.

    Returns:
        The files that were written, and the paths of files that are not what an earlier list says.

    Raises:
        BigUploadError: They can't be written.
    """
    history = history or History(root)
    moment, folder = datetime.now(UTC), root / FOLDER
    number = history.latest + 1
    stem = _NO_XML.sub("_", root.resolve().name) or "root"
    name = f"{number:04}_{stem}_{moment:%Y-%m-%d_%H%M%SZ}.mhl"
    patterns = list(dict.fromkeys([*history.ignored, *ignored]))
    failed: list[str] = []
    content = "".join(_hash_list(history, files, patterns, moment, host, failed))
    generations = [*history.generations, (name, _c4_of(content.encode()))]
    with naming(_OUTPUT, folder):
        folder.mkdir(exist_ok=True)
    for path, text in ((folder / name, content), (folder / CHAIN, "".join(_chain(generations)))):
        with output_file(path, _OUTPUT) as file:
            file.write(text)
            file.finish()
    return [folder / name, folder / CHAIN], failed


def _hash_list(
    history: History,
    files: Sequence[HashedFile],
    patterns: Sequence[str],
    moment: datetime,
    host: str,
    failed: list[str],
) -> Iterator[str]:
    date = moment.isoformat(timespec="seconds")
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<hashlist version="2.0" xmlns="urn:ASC:MHL:v2.0">\n'
    yield f"  <creatorinfo>\n    <creationdate>{date}</creationdate>\n    <hostname>{_xml(host)}</hostname>\n"
    yield f"    <tool version={quoteattr(__version__)}>bigupload</tool>\n  </creatorinfo>\n"
    yield "  <processinfo>\n    <process>in-place</process>\n    <ignore>\n"
    yield from (f"      <pattern>{_xml(pattern)}</pattern>\n" for pattern in patterns)
    yield "    </ignore>\n  </processinfo>\n  <hashes>\n"
    for file in sorted(files, key=lambda file: file.path):
        known = history.hashes.get(file.path, {})
        modified = ""
        if file.modified is not None:
            modified = (
                f' lastmodificationdate="{datetime.fromtimestamp(file.modified, UTC).isoformat(timespec="seconds")}"'
            )
        yield f'    <hash>\n      <path size="{file.size}"{modified}>{_xml(file.path)}</path>\n'
        actions = []
        for format_, value in sorted(file.hashes.items()):
            action = "original" if not known else "verified" if known.get(format_, value) == value else "failed"
            actions.append(action)
            yield f'      <{format_} action="{action}" hashdate="{date}">{value}</{format_}>\n'
        if "failed" in actions:
            failed.append(file.path)
        yield "    </hash>\n"
    yield "  </hashes>\n</hashlist>\n"


def _chain(generations: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<ascmhldirectory xmlns="urn:ASC:MHL:DIRECTORY:v2.0">\n'
    for number, (name, c4) in enumerate(generations, 1):
        found = _NAME.fullmatch(name)
        sequence = int(found[1]) if found is not None else number
        yield f'  <hashlist sequencenr="{sequence}">\n    <path>{_xml(name)}</path>\n    <c4>{c4}</c4>\n  </hashlist>\n'
    yield "</ascmhldirectory>\n"


def _xml(text: str) -> str:
    """Raises BigUploadError for what no document of XML can hold."""
    if _NO_XML.search(text):
        raise errors.BigUploadError(f"a hash list can't hold the name {text!r}: rename the file")
    return escape(text, {"\r": "&#13;"})
