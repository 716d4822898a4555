"""Say what is wrong with a field of a request: the validator's own texts are for programmers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WORDS = {
    "missing": "the field is missing",
    "extra_forbidden": "there is no such field",
    "string_type": "the field must be a text",
    "bool_type": "the field must be true or false",
    "int_type": "the field must be a whole number",
    "int_parsing": "the field must be a whole number",
    "list_type": "the field must be a list",
    "dict_type": "the field must be an object",
    "model_type": "the field must be an object",
    "string_too_short": "the field must have {min_length:,} characters or more",
    "string_too_long": "the field must have {max_length:,} characters at most",
    "too_short": "the list must have {min_length:,} entries or more",
    "too_long": "there must be {max_length:,} entries at most",
    "greater_than_equal": "the number must be {ge:,} or more",
    "less_than_equal": "the number must be {le:,} at most",
    "literal_error": "the field must be {expected}",
    "string_pattern_mismatch": "the field is not written as it must be: the API's description shows how",
}
"""By the validator's type of error: https://docs.pydantic.dev/latest/errors/validation_errors/"""
_EMPTY_FILE = "the file is empty"


def words_for(error: Mapping[str, Any]) -> str:
    """Return one line for one of pydantic's `errors()`, which must have its context."""
    kind, context = error["type"], error.get("ctx") or {}
    if kind == "value_error":  # a validator of the contract's own
        return str(context["error"])
    if kind == "greater_than_equal" and error["loc"] == ("size",):
        return _EMPTY_FILE
    words = _WORDS.get(kind)
    return "the field is wrong" if words is None else words.format_map(context)
