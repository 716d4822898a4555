"""What a job tells of files that failed, or that are left out, when they are many."""

from __future__ import annotations

import re
from dataclasses import field
from pathlib import Path

from bigupload import errors
from bigupload.cli import complain
from bigupload.cli.wording import for_command_line
from bigupload.records import dataclass
from bigupload.units import counted, escaped, one_line, printable

_MOST = 20
"""Failures that are told at the end, if they have few reasons: nobody reads a longer list."""
_MOST_REASONS = 10
_LEAST = 2
"""Failures that are told of each reason."""
_FEW = 5
"""Names that are told while the command runs, for what is no failure."""


@dataclass(slots=True)
class _Befallen:
    """The files that failed for one reason."""

    count: int = 0
    first: list[str] = field(default_factory=list)


class Failures:
    """Keeps the first failures of each reason for a table, and the number of the others."""

    def __init__(self) -> None:
        """Begin with none."""
        self.count = 0
        self._reasons: dict[str, _Befallen] = {}
        self._others = 0
        """Those with still other reasons."""

    def add(self, path: str, error: errors.BigUploadError, *, url: str = "") -> None:
        """A file, or an object, has failed.

        Args:
            path: The file.
            error: Why.
            url: The object, as the error names it. The names of objects keep no failures apart.
        """
        self.count += 1
        reason = _reason(path, error)
        if url:
            reason = reason.replace(f" at {printable(url)}", "").replace(printable(url), "the object")
            if type(error) is errors.ObjectMismatch:  # each differs in its own way
                path, reason = f"{path}: {reason}", "the object is not the file"
        if reason not in self._reasons and len(self._reasons) == _MOST_REASONS:
            self._others += 1
            return
        befallen = self._reasons.setdefault(reason, _Befallen())
        befallen.count += 1
        if befallen.count <= _MOST:
            befallen.first.append(one_line(escaped(path)))

    def table(self) -> list[str]:
        """The lines of the table: each reason, and below it whom it befell."""
        if not self.count:
            return []
        most = _MOST if self.count <= _MOST else max(_LEAST, _MOST // len(self._reasons))
        lines = [f"failed: {self.count:,}"]
        for reason, befallen in self._reasons.items():
            lines.append(f"  {reason}")
            lines += [f"    {path}" for path in befallen.first[:most]]
            if befallen.count > most:
                lines.append(f"    … and {befallen.count - most:,} more")
        if self._others:
            lines.append(f"  … and {self._others:,} more for other reasons")
        if self.count > most:
            lines.append("  With --json, standard output names each of them.")
        return lines


def _reason(path: str, error: errors.BigUploadError) -> str:
    """What an error says, without the path that stands above it."""
    message = printable(for_command_line(str(error)))
    for name in (escaped(path), path, str(Path(path).absolute())):
        at = re.escape(printable(name)) + (" ?" if name.endswith(" ") else "")
        message = re.sub(rf"^{at}(: | )", lambda m: "" if m[1] == ": " else "it ", message)
        message = re.sub(rf": {at}$", "", message)
        message = re.sub(rf"(?<![\w/]){at}(?![\w/])", "it", message)
    return message


class LeftOut:
    """Tells the first files that are left out for good reason, and counts the others."""

    def __init__(self, *, quiet: bool) -> None:
        """Begin with none.

        Args:
            quiet: Whether to tell nothing.
        """
        self._quiet = quiet
        self._count = 0

    def add(self, path: str, reason: str) -> None:
        """One is left out."""
        self._count += 1
        if not self._quiet and self._count <= _FEW:
            complain(errors.SourceError(f"left out: {reason}"), escaped(path))

    def finish(self) -> None:
        """Tell how many the others are."""
        if not self._quiet and self._count > _FEW:
            complain(errors.SourceError(f"left out in the same way: {counted(self._count - _FEW, 'more name')}"))
