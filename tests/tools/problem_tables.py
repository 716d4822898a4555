"""Makes the browser client's tables of error responses from the library's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from bigupload.core.retry_policy import _BY_CODE, _BY_STATUS, FaultKind

MODULE = Path(__file__).parents[2] / "bigupload/service/browser/client/problem.js"
KINDS = {
    FaultKind.BUSY: "busy",
    FaultKind.SERVER: "busy",
    FaultKind.CONFLICT: "busy",
    FaultKind.CORRUPTED: "damaged",
    FaultKind.REFUSED: "expired",
    FaultKind.GONE: "gone",
    FaultKind.INVALID_PART: "part",
    FaultKind.SKEWED: "final",
    FaultKind.EXISTS: "final",
    FaultKind.UNSUPPORTED: "final",
    FaultKind.FINAL: "final",
}
"""What the client calls each kind of an error response."""


def module() -> str:
    """Return the client's module with the tables as they are now. It says itself what every other status is."""
    others = {status: KINDS[kind] for status, kind in _BY_STATUS.items()}
    others = {status: kind for status, kind in others.items() if kind != ("busy" if status // 100 == 5 else "final")}
    text = _with_table(MODULE.read_text(), "BY_CODE", ((code, KINDS[kind]) for code, kind in _BY_CODE.items()))
    return _with_table(text, "BY_STATUS", others.items())


def _with_table(text: str, name: str, rows: Iterable[tuple[object, str]]) -> str:
    table = "".join(f'  {key}: "{kind}",\n' for key, kind in rows)
    text, count = re.subn(rf"(?<=const {name} = {{\n)[^}}]*(?=}};)", lambda _: table, text)
    assert count == 1
    return text
