"""The events' JSON Schema says what `--progress json` prints."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload import events
from bigupload.cli.reporting import event_line
from tests.tools import event_schema

SCHEMA: dict[str, Any] = json.loads(event_schema.FILE.read_bytes())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
st.register_type_strategy(Path, st.text("ab/ü", min_size=1).map(Path))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", typing.get_args(events.Event))
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_a_line_is_as_the_schema_says(kind: type[Any], data: st.DataObject) -> None:
    line = event_line(Path("film.mov"), data.draw(st.builds(kind, upload=st.builds(events.UploadIdentity))))
    fields = json.loads(line)
    VALIDATOR.validate(fields)
    own = jsonschema.Draft202012Validator({**SCHEMA, "oneOf": [{"$ref": f"#/$defs/{kind.__name__}"}]})
    for name in set(fields) - {"event"}:
        assert not own.is_valid({**fields, name: [{}]}), name
    del fields["event"]
    assert not VALIDATOR.is_valid(fields)


def test_every_field_of_an_event_is_described_as_its_docstring_says() -> None:
    described = SCHEMA["$defs"]["OutageEnded"]["properties"]["lasted"]
    assert described == {"type": "number", "description": "Seconds that the outage lasted."}
