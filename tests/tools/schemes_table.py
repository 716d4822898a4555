"""Makes the table of URLs in docs/remote.md from their declarations."""

from __future__ import annotations

from pathlib import Path

from bigupload.core.remote_url import SCHEMES
from tests.tools.tables import with_table

PAGE = Path(__file__).parents[2] / "docs" / "remote.md"


def page() -> str:
    """Return the page with the schemes as they are now."""
    rows = (f"| `{name}://` | {scheme.names} |" for name, scheme in SCHEMES.items())
    return with_table(PAGE.read_text(), "| a URL begins with | it names |", rows)
