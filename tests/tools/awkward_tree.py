"""A tree of files with the names that go wrong somewhere: in URLs, signatures, XML, shells, or on another system."""

from __future__ import annotations

import hashlib
import random
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

MIB = 1 << 20

AWKWARD = (
    # what URLs, their queries and their signatures are made of
    "a b", " begin", "end ", "a+b", "100%", "%41", "%2e%2e", "%00", "a%2Fb", "#", "x#y?z", "?acl", "a&b=c", "=", ";v=1",
    "soap?versionId=1", "x&uploadId=2&partNumber=1", "@:,$", "http:", "~tilde*()!", "^`{|}", "[a]", "*",
    # what XML is made of, and what it may hold if it is written in another way
    "&amp;", "<>\"'", "]]>", "<!DOCTYPE x>", "new\nline", "\nfirst", "last\n", "tab\tinside", "cr\rinside", "last\r",
    # what shells, programs and file systems read in a way of their own
    "-rf", "--delete", "$HOME", "$(id)", "!x", "~", ".hidden", "..like", "...", ". .", "dot.", "back\\slash", "..\\up",
    "C:", "nul", "CON.txt", "'", '"', "name.tar.gz", "Case", "case", "CASE",
    # Unicode
    unicodedata.normalize("NFC", "Ångström é"), unicodedata.normalize("NFD", "Ångström é"),
    "\u1e9b\u0323", "\ufb01", "\u0130\u0131",
    "\U0001f3ac film", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "日本語", "שלום", "\u202etxt.exe", "\u200b",
    "\u00a0", "\u2028", "\u0085", "\x7f", "\ufeff", "\ufffd", "\U0010fffd",
    # lengths
    "x", "l" * 245, "é" * 120,
)  # fmt: skip
"""Names of files and directories. None can't be a key, and each stays one with a number behind it."""


FOR_SEAWEEDFS = tuple(name for name in AWKWARD if "\\" not in name)
"""Those that SeaweedFS holds: it takes a backslash for a slash."""


def paths(files: int, names: Sequence[str], prefix: str) -> Iterator[str]:
    """The relative paths of so many files: each name as that of a file and of a directory, and the longest keys.

    With twice as many files as names, each name is one of both. With as many as its square, each is in each directory.
    """
    longest = "/".join(["k" * 200] * 6)[: 1024 - len(prefix.encode())]
    yield from (longest, f"{longest[:-3]}é0")
    for number in range(files - 2):
        turn, which = divmod(number, len(names))
        depth, further = divmod(turn - 1, len(names))
        above = f"{names[(which + further) % len(names)]}.d/{'deeper/' * depth}" if turn else ""
        yield above + names[which]


def write(path: Path, size: int, seed: int) -> str:
    """Write so many bytes, which the seed decides. Returns their SHA-256."""
    digest, source = hashlib.sha256(), random.Random(seed)
    with path.open("wb") as file:
        for offset in range(0, size, MIB):
            block = source.randbytes(min(MIB, size - offset))
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def grow(
    root: Path,
    files: int,
    *,
    names: Sequence[str] = AWKWARD,
    prefix: str,
    most: int,
    large: Sequence[int] = (),
    seed: int = 0,
) -> dict[str, str]:
    """Make a tree.

    Args:
        root: Where. It need not exist.
        files: How many files.
        names: What they and their directories are called.
        prefix: What their keys get in front. The longest keys have 1,024 bytes together with it.
        most: The size of the largest of the small files, in bytes. Many are much smaller, and some empty.
        large: The sizes of other files, which lie among them.
        seed: Decides sizes and bytes.

    Returns:
        Each path below the root, with the SHA-256 of its file.
    """
    chosen = random.Random(seed)
    places = dict(zip(chosen.sample(range(files), len(large)), large, strict=True))
    made: dict[str, str] = {}
    for number, name in enumerate(paths(files, names, prefix)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        made[name] = write(path, places.get(number, int(most * chosen.random() ** 4)), seed + number)
    assert len(made) == files
    return made
