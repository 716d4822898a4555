"""Sizes, rates and durations as people write and read them. Pure.

Amounts of data and rates are decimal (MB, MB/s), so that a reader can divide one by the other. Part sizes are binary
(MiB), as S3 states its limits.
"""

from __future__ import annotations

import os
import re

from bigupload.errors import UsageError
from bigupload.records import dataclass

_FACTORS = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12, "tb": 10**12,
    "ki": 2**10, "kib": 2**10, "mi": 2**20, "mib": 2**20, "gi": 2**30, "gib": 2**30, "ti": 2**40, "tib": 2**40,
}  # fmt: skip
_NUMBER = r"(?ia)\s*(\d{1,30}(?:\.\d{1,30})?)\s*([a-z]*)\s*"


def parse_size(text: str) -> int:
    """Bytes of "16MiB", "20 MB", "5g", "1048576". MiB is 2^20, MB and M are 10^6. Raises UsageError."""
    match = re.fullmatch(_NUMBER, text)
    factor = match and _FACTORS.get(match[2].lower())
    if match is None or factor is None:
        raise UsageError(f"not a size: {text!r} (write it like 16MiB or 20MB)")
    return round(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor


_LEAST_RATE = 1000
"""Bytes a second. Who writes less has left out the unit."""


def parse_rate(text: str) -> int:
    """Bytes per second of "20MB/s" ("/s" may be left out), at least 1,000. Raises UsageError."""
    try:
        rate = parse_size(re.sub(r"\s*/\s*s(ec)?\s*$", "", text, flags=re.IGNORECASE))
    except UsageError:
        raise UsageError(f"not a rate: {text!r} (write it like 20MB/s)") from None
    if rate < _LEAST_RATE:
        raise UsageError(
            f"{text.strip()!r} is {counted(rate, 'byte')} a second, and the least is 1 kB/s: write it like 20MB/s"
        )
    return rate


_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_duration(text: str) -> float:
    """Seconds of "2d", "36 h", "90min", "10m", "1.5w"; a number alone is refused. Raises UsageError."""
    match = re.fullmatch(_NUMBER, text)
    factor = match and _SECONDS.get(match[2].lower())
    if match is None or factor is None:
        raise UsageError(f"not a time: {text!r} (write it like 2d, 12h or 30min)")
    return float(match[1]) * factor


def split_command(text: str) -> list[str]:
    """The words of a command, split as a shell would do it, without one. Raises ValueError.

    On Windows a backslash separates the names of a path, as in C:\\tools\\done.exe, and escapes nothing.
    """
    import shlex  # one command in many has a command

    words = shlex.shlex(text, posix=True)
    words.whitespace_split, words.commenters = True, ""
    if os.sep == "\\":
        words.escape = ""
    return list(words)


def quoted(word: str) -> str:
    """A word of a command that is shown to be typed, as POSIX shells take it; on Windows as cmd does.

    cmd knows double quotes alone. Programs take a backslash before one for the escape of it.
    """
    if os.sep == "\\":
        if re.fullmatch(r"[\w+=:./\\~-]+", word, re.ASCII):
            return word
        return '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + found[2].replace('"', '\\"'), word) + '"'
    import shlex

    return shlex.quote(word)


def parse_command(text: str) -> tuple[str, ...]:
    """The words of a command, as of `split_command`. Raises UsageError."""
    try:
        words = split_command(text)
    except ValueError as e:
        raise UsageError(f"not a command: {str(e).lower()}") from None
    if not words:
        raise UsageError("the command is empty")
    return tuple(words)


def format_size(count: float) -> str:
    """An amount of data, decimal as rates are: "5.3 GB", "268.4 MB", "17 B"; whole numbers without a fraction."""
    number, unit = _scaled(count)
    return f"{number:.0f} {unit}" if number == int(number) else f"{number:.1f} {unit}"


def _scaled(count: float) -> tuple[float, str]:
    units = ["B", "kB", "MB", "GB", "TB"]
    while round(count, 1) >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return count, units[0]


def format_two_sizes(one: int, other: int) -> tuple[str, str]:
    """Two amounts for one sentence. Different numbers look different: exact bytes where rounding would hide that."""
    (first, unit), (second, other_unit) = _scaled(one), _scaled(other)
    if one != other and (round(first, 1), unit) == (round(second, 1), other_unit):
        return f"{one:,} bytes", f"{other:,} bytes"
    return format_size(one), format_size(other)


def format_part_size(count: int) -> str:
    """A part size, exactly, in the unit that makes the smallest number: "16 MiB", "5 GiB", "20 MB", "17 B"."""
    binary = _whole(count, 1024, ["B", "KiB", "MiB", "GiB", "TiB"])
    number, unit = min(binary, _whole(count, 1000, ["B", "kB", "MB", "GB", "TB"]))
    return f"{number} {unit}"


def _whole(count: int, step: int, units: list[str]) -> tuple[int, str]:
    """An amount in the largest unit in which it is a whole number."""
    while count and count % step == 0 and len(units) > 1:
        count //= step
        units.pop(0)
    return count, units[0]


def format_rate(bytes_per_second: float) -> str:
    """A rate, decimal as links are sold: "12.3 MB/s"."""
    for unit in ("B/s", "kB/s", "MB/s"):
        if round(bytes_per_second, 1) < 1000:
            return f"{bytes_per_second:.1f} {unit}"
        bytes_per_second /= 1000
    return f"{bytes_per_second:.2f} GB/s"


def format_seconds(seconds: float) -> str:
    """A duration: "42 s", "3:07 min", "2:05 h"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"


def format_clock(seconds: float) -> str:
    """A duration as clocks show it, for columns: "0:07", "12:34", "1:02:03"; of more than 99 hours, ">99 h"."""
    whole = round(seconds)
    if whole >= 360_000:
        return ">99 h"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def format_age(seconds: float) -> str:
    """Return an age, as coarse as ages are: "42 s", "17 min", "5 h", "12 d"."""
    for unit, length, most in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 172_800)):
        if seconds < most:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds // 86_400:.0f} d"


def format_span(seconds: float) -> str:
    """A length of time that may be very long, in one unit: "42 s", "17 min", "5 h", "12 d", "56 years"."""
    years = round(seconds / 31_557_600)
    return f"{years:,} years" if years >= 2 else format_age(seconds)


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 part", "1,203 parts"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


_LONGEST = 200


def escaped(path: str) -> str:
    """A path in which bytes that are not UTF-8, and control characters, are written as \\xff. So are spaces at its
    ends, which nobody would see."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if text.isprintable() and text == text.strip(" "):  # as nearly all are
        return text
    return re.sub(r"[\x00-\x1f\x7f]|^ | (?= *$)", lambda match: f"\\x{ord(match[0]):02x}", text)


def printable(text: str) -> str:
    """A text for a terminal: one line, without what a terminal would obey. Control characters (C0, C1) become spaces.

    What nobody would see, or what would show other text than there is, is written as \\ufeff: byte order marks,
    bidirectional overrides, spaces of no width or of another kind.
    """
    shown = text if text.isprintable() else "".join(map(_visible, text))
    return " ".join(shown.split())


def _visible(character: str) -> str:
    code = ord(character)
    if character.isprintable():
        return character
    if code < 0xA0 or character in "\u2028\u2029":  # control characters; ends of lines and paragraphs
        return " "
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def one_line(text: str) -> str:
    """A foreign text for a terminal: `printable`, and not endless."""
    clean = printable(text)
    return clean if len(clean) <= _LONGEST else clean[: _LONGEST - 1] + "…"


_ENTRY = r"\s*(\d{1,2}):(\d{2})\s*=(.+)"


@dataclass(frozen=True, slots=True)
class RateSchedule:
    """Rates by the time of day. The last one of a day holds until the first one of the next day."""

    entries: tuple[tuple[int, float | None], ...]
    """Seconds after midnight and the bytes per second from then on (None: no limit), in order of time."""

    def rate_at(self, second_of_day: float) -> float | None:
        """The limit at a time of the day, in bytes per second; None: no limit."""
        begun = [rate for start, rate in self.entries if start <= second_of_day]
        return begun[-1] if begun else self.entries[-1][1]


def parse_rate_limit(text: str) -> int | RateSchedule | None:
    """Read "20MB/s", "off", or a schedule like "08:00=2MB/s,20:00=off".

    Returns:
        Bytes per second, a schedule in local time, or None for no limit.

    Raises:
        UsageError: The value is not one of these, or names a time of the day twice.
    """
    if "=" not in text and ":" not in text:
        return _rate(text)
    entries: dict[int, float | None] = {}
    for entry in text.split(","):
        match = re.fullmatch(_ENTRY, entry, re.ASCII)  # compiled only now: few uploads need it
        if match is None or int(match[1]) > 23 or int(match[2]) > 59:
            raise UsageError(f"not a schedule: {text!r} (write it like 08:00=2MB/s,20:00=off)")
        start = int(match[1]) * 3600 + int(match[2]) * 60
        if start in entries:
            raise UsageError(f"{text!r} has two rates for {match[1]}:{match[2]}: leave one out")
        entries[start] = _rate(match[3])
    return RateSchedule(tuple(sorted(entries.items())))


def _rate(text: str) -> int | None:
    return None if text.strip().lower() == "off" else parse_rate(text)


def install_command(extra: str) -> str:
    """Return a command that installs an extra from where bigupload was installed.

    pip records a checkout or wheel in `direct_url.json` (PEP 610). For the name alone, it would look in an index.
    """
    import importlib.metadata  # only for a message that is shown before the program ends
    import json
    from urllib.parse import unquote, urlsplit

    try:
        found = json.loads(importlib.metadata.distribution("bigupload").read_text("direct_url.json") or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        found = {}
    url = urlsplit(found.get("url", ""))
    if url.scheme != "file":
        return f"pip install {quoted(f'bigupload[{extra}]')}"
    editable = "-e " if found.get("dir_info", {}).get("editable") else ""
    return f"pip install {editable}{quoted(f'{unquote(url.path)}[{extra}]')}"
