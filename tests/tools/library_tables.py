"""Makes docs/errors-and-events.md from the library's classes."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from pathlib import Path

from bigupload import errors, events

PAGE = Path(__file__).parents[2] / "docs" / "errors-and-events.md"
_ERRORS = """\
# Errors and events of the library

## Errors

Each is a class of `bigupload`, and a `BigUploadError`. Catch the class that you can act on, or one above it.
`str(error)` is one line for a person. `error.manifest` is the path of the manifest that can be resumed, or None.
`error.exit_code` is the exit status of a command that ends with the error.

Where two statuses are named, the first is that of an error with a manifest: the same call resumes. With the second
there is nothing to resume yet.

`error.fails_others` says whether the other files of a job (`upload_many`, `sync`, `watch`) would fail, too: "no",
"now", "always", or "unless they go" for a store that may fail for one key alone. `upload_many` and `sync` end with an
error that fails the others, `watch` with one that always does.

| class | is a | exit status | meaning |
|---|---|---|---|
"""
_EVENTS = """
## Events

`on_event` gets these. Each is a frozen dataclass of `bigupload`, and has `upload`, a `bigupload.UploadIdentity`, beside
the fields below: see [events](library.md#events). The command prints the same with `--progress json`, one JSON object a
line, whose `event` says which it is. `bigupload/schema/events.schema.json` of the package is the JSON Schema of these
lines, and describes their fields.

| class | fields | meaning |
|---|---|---|
"""


def page() -> str:
    """Return the content of docs/errors-and-events.md."""
    return (
        _ERRORS
        + "".join(map(_error, errors.classes().values()))
        + _EVENTS
        + "".join(map(_event, typing.get_args(events.Event)))
    )


def _error(kind: type[errors.BigUploadError]) -> str:
    base = kind.__mro__[1].__name__
    above = "" if base == "Exception" else f"`{base}`"
    return f"| `{kind.__name__}` | {above} | {_statuses(kind)} | {_meaning(kind)} |\n"


def _statuses(kind: type[errors.BigUploadError]) -> str:
    more = {"same_size": True} if kind is errors.SourceChanged else {}
    with_manifest, without = (kind("", manifest=each, **more).exit_code for each in (Path("m"), None))
    return f"{with_manifest}" if with_manifest == without else f"{with_manifest} or {without}"


def _event(kind: type) -> str:
    names = [f"`{field.name}`" for field in dataclasses.fields(kind) if field.name != "upload"]
    return f"| `{kind.__name__}` | {', '.join(names)} | {_meaning(kind)} |\n"


def _meaning(kind: type) -> str:
    """The docstring as one line."""
    return re.sub(r"\s+", " ", inspect.getdoc(kind) or "").replace("|", "\\|")
