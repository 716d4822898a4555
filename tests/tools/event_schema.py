"""Makes the JSON Schema of the events that `--progress json` prints."""

from __future__ import annotations

import ast
import inspect
import json
import typing
from pathlib import Path
from typing import Any

from bigupload import events

FILE = Path(events.__file__).parent / "schema" / "events.schema.json"
_OF_A_LINE = {"path": {"type": "string", "description": "The file, as the command line named it."}}


def event_schema() -> dict[str, Any]:
    """Return the schema of one line: the fields of an event, and the event's name as `event`."""
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema
    from pydantic_core.core_schema import WithDefaultSchema

    class SchemaOfLines(GenerateJsonSchema):
        """Without titles, which repeat the names, and without defaults: a line has all fields."""

        def default_schema(self, schema: WithDefaultSchema) -> dict[str, Any]:
            return self.generate_inner(schema["schema"])

        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    kinds = [*typing.get_args(events.Event)]
    definitions: dict[str, Any] = {}
    for kind in kinds:
        schema = TypeAdapter(kind).json_schema(mode="serialization", schema_generator=SchemaOfLines)
        definitions |= schema.pop("$defs", {})
        definitions[kind.__name__] = schema
        schema["properties"] = {"event": {"const": kind.__name__}} | schema["properties"] | _OF_A_LINE
    for name, schema in definitions.items():
        schema.pop("title", None)
        if "properties" in schema:
            schema["required"] = list(schema["properties"])
        for field, text in _descriptions(name).items():
            schema["properties"][field]["description"] = text
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://bigupload.invalid/schema/events.schema.json",
        "title": "An event of an upload",
        "description": "One line of what `--progress json` prints on standard error. Sizes are bytes, times seconds. "
        "Readers skip events and fields that they do not know.",
        "oneOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in kinds],
        "$defs": dict(sorted(definitions.items())),
    }


def _descriptions(name: str) -> dict[str, str]:
    """Return the docstrings of a class's own fields, which Python itself does not keep."""
    found: dict[str, str] = {}
    of_class = getattr(events, name, None)
    if of_class is None or of_class.__module__ != events.__name__:
        return found
    [defined] = ast.parse(inspect.getsource(of_class)).body
    assert isinstance(defined, ast.ClassDef)
    for field, after in zip(defined.body, defined.body[1:], strict=False):
        match field, after:
            case ast.AnnAssign(target=ast.Name(id=field_name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[field_name] = " ".join(text.split())
    return found


def text() -> str:
    """Return the file's content."""
    return json.dumps(event_schema(), indent=2) + "\n"
