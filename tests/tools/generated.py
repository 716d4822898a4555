"""The files that are made from declarations in the code: `python -m tests.tools.generated` writes what has changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.tools import (
    errors_page,
    event_schema,
    library_stub,
    library_tables,
    man_page,
    problem_tables,
    s3_tables,
    schemes_table,
    webhooks_table,
)

FILES: Mapping[Path, Callable[[], str]] = {
    library_stub.STUB: library_stub.stub,
    event_schema.FILE: event_schema.text,
    problem_tables.MODULE: problem_tables.module,
    man_page.PAGE: man_page.man_page,
    errors_page.PAGE: errors_page.page,
    library_tables.PAGE: library_tables.page,
    webhooks_table.PAGE: webhooks_table.page,
    schemes_table.PAGE: schemes_table.page,
    s3_tables.PAGE: s3_tables.page,
}
"""Each file, and what makes its content."""

if __name__ == "__main__":
    for path, made in FILES.items():
        if (text := made()) != path.read_text(encoding="utf-8"):
            path.write_text(text, encoding="utf-8")
            print(path)
