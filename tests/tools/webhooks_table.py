"""Makes the table of events in docs/hooks.md from their declarations."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from bigupload.service.contract import ErrorDetail
from bigupload.service.webhooks.telling import BODIES
from tests.tools.tables import with_table

PAGE = Path(__file__).parents[2] / "docs" / "hooks.md"


def page() -> str:
    """Return the page with the events as they are now."""
    return with_table(PAGE.read_text(encoding="utf-8"), "| `type` | when | `data` |", _rows())


def _rows() -> Iterator[str]:
    for kind, body in BODIES.items():
        data = body.model_fields["data"].annotation
        assert data is not None
        assert issubclass(data, BaseModel)
        names = [f"`{field.alias}`" + _inside(field.annotation) for field in data.model_fields.values()]
        yield f"| `{kind}` | {' '.join((inspect.getdoc(body) or '').split())} | {', '.join(names)} |"


def _inside(annotation: object) -> str:
    return " with `code` and `message`" if annotation is ErrorDetail else ""
