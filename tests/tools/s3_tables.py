"""Makes the tables of S3's options in docs/settings.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from bigupload.cli.wording import for_command_line, spelled
from bigupload.s3_parameters import ADDRESS, OBJECT, REQUEST, Parameter
from tests.tools.tables import with_table

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
_TABLES = {"| option | what it sets |": OBJECT, "| option | what it does |": {**REQUEST, **ADDRESS}}


_FEW = 3


def page() -> str:
    """Return the page with the tables as the options are now."""
    text = PAGE.read_text()
    for header, options in _TABLES.items():
        text = with_table(text, header, _rows(options))
    return text


def _rows(options: Mapping[str, Parameter]) -> Iterator[str]:
    for name, row in options.items():
        choices = row.choices if len(row.choices) < _FEW else (name.upper(),)
        values = "` or `".join(choices) or row.metavar or ""
        text = re.sub(r"--[a-z-]+[a-z]", r"`\g<0>`", for_command_line(row.help))
        yield f"| `{spelled(name)} {values}".rstrip() + f"` | {text} |"
