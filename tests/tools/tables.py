"""Tables of the documentation that are made from declarations."""

from __future__ import annotations

import re
from collections.abc import Iterable


def with_table(text: str, header: str, rows: Iterable[str]) -> str:
    """Return a page with these rows in the one table below `header`, its first line."""
    table = "\n".join([header, re.sub(r"[^|]+", "---", header), *rows]) + "\n"
    text, count = re.subn(rf"{re.escape(header)}\n(?:\|.*\n)+", lambda _: table, text)
    assert count == 1
    return text
