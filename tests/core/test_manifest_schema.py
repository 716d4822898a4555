"""The manifest's JSON schema says what the records are."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
import typing
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.core.checksums import UPLOAD_ALGORITHMS
from bigupload.core.integrity import Verified
from bigupload.core.manifest import VERSION, SourceKind
from bigupload.core.manifest_lines import decode, encode
from tests.core.samples import QUICK, RECORDS, TYPES, part
from tests.tools.cases import each_case

SCHEMA: dict[str, Any] = json.loads(
    (importlib.resources.files("bigupload") / "schema/manifest.schema.json").read_bytes()
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
BY_TYPE: dict[str, dict[str, Any]] = {
    SCHEMA["$defs"][ref["$ref"].rpartition("/")[2]]["properties"]["type"]["const"]: SCHEMA["$defs"][
        ref["$ref"].rpartition("/")[2]
    ]
    for ref in SCHEMA["oneOf"]
}


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("cls", TYPES)
@QUICK
@given(data=st.data())
def test_every_record_validates(cls: type[Any], data: st.DataObject) -> None:
    assert list(VALIDATOR.iter_errors(json.loads(encode(data.draw(RECORDS[cls]))))) == []


@pytest.mark.parametrize("cls", TYPES)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_without_a_required_field_nothing_validates_nor_decodes(cls: type[Any], data: st.DataObject) -> None:
    fields = json.loads(encode(data.draw(RECORDS[cls])))
    for name in BY_TYPE[cls.type]["required"]:
        less = {key: value for key, value in fields.items() if key != name}
        assert not VALIDATOR.is_valid(less), name
        with pytest.raises(ValueError):
            decode(json.dumps(less).encode())


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    named: dict[str, Any] = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    return named


def assert_same_fields(cls: type[Any], schema: dict[str, Any]) -> None:
    """The schema and the dataclass name the same fields, call the same ones required, and so on inside."""
    tag = {"type"} if isinstance(getattr(cls, "type", None), str) else set()
    fields = {f.name: f for f in dataclasses.fields(cls)}
    assert set(schema["properties"]) == {*fields, *tag}, cls
    hints = typing.get_type_hints(cls)
    required = {
        name
        for name, f in fields.items()
        if f.default is f.default_factory is dataclasses.MISSING and type(None) not in typing.get_args(hints[name])
    }
    assert set(schema["required"]) == required | tag, cls
    for name in fields:
        assert resolved(schema["properties"][name]).get("description"), f"{cls.__name__}.{name} says nothing"
        inner, described = hints[name], resolved(schema["properties"][name])
        for choice in typing.get_args(inner):
            if typing.get_origin(choice) is tuple:
                inner, described = typing.get_args(choice)[0], resolved(described["items"])
        if dataclasses.is_dataclass(inner):
            assert_same_fields(typing.cast("type[Any]", inner), described)


def test_schema_and_dataclasses_have_the_same_fields() -> None:
    assert set(BY_TYPE) == {cls.type for cls in TYPES}
    assert len(SCHEMA["oneOf"]) == len(TYPES)
    for cls in TYPES:
        assert_same_fields(cls, BY_TYPE[cls.type])


def test_schema_and_enums_have_the_same_values() -> None:
    header_fields, part_fields = BY_TYPE["manifest"]["properties"], BY_TYPE["part"]["properties"]
    assert header_fields["version"]["enum"] == list(range(1, VERSION + 1))
    checksum = resolved(header_fields["checksum"])["properties"]
    assert checksum["algorithm"]["enum"] == list(UPLOAD_ALGORITHMS)
    assert set(BY_TYPE["completed"]["properties"]["verified"]["enum"]) == set(Verified)
    assert SCHEMA["$defs"]["source_identity"]["properties"]["kind"]["enum"] == [*SourceKind, None]
    assert set(part_fields["proof"]["enum"]) == set(typing.get_type_hints(type(part(1)))["proof"])


@each_case(
    "change",
    [{"number": 0}, {"number": "1"}, {"number": 10_001}, {"size": -1}, {"size": 1.5}, {"proof": "trust me"},
     {"etag": None},
     {"type": "parts"}],
)  # fmt: skip
def test_the_schema_refuses_wrong_values(change: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(json.loads(encode(part(1))) | change)


def test_the_schema_lets_unknown_fields_pass() -> None:
    assert VALIDATOR.is_valid(json.loads(encode(part(1))) | {"from_the_future": 1})
