"""The options that make a media service's policy, shared by `serve` and `bucket setup`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bigupload import errors
from bigupload.cli.options import SIZE
from bigupload.units import parse_duration

if TYPE_CHECKING:
    from bigupload.service.accepted_types import MediaTypes

F = TypeVar("F", bound=Callable[..., Any])
FOREVER = "forever"


def policy_options(function: F) -> F:
    """Add the options."""
    options = (
        click.option("--max-size", type=SIZE, metavar="SIZE", help="The largest file. [default: the bucket's, or 5GB]"),
        click.option(
            "--types",
            metavar="FILE|any",
            help="Accept the types in a file like mime.types, or any. [default: the bucket's, or the published list]",
        ),
        click.option(
            "--keep", metavar="TIME|forever", help="When files are deleted, as in 30d. [default: the bucket's, or 7d]"
        ),
        click.option(
            "--key-template",
            metavar="TEMPLATE",
            help="The shape of keys. [default: the bucket's, or media/{owner}/{random}.{extension}]",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def take_policy(arguments: dict[str, Any]) -> dict[str, Any]:
    """Take the options out of a command's arguments. Returns the fields of `Policy` that were named.

    Raises:
        UsageError: A value can't be.
    """
    from bigupload.service.object_keys import KeyTemplate
    from bigupload.service.policy import PUBLISHED_POLICY

    size, types, keep, template = (arguments.pop(name) for name in ("max_size", "types", "keep", "key_template"))
    found: dict[str, Any] = {}
    if size is not None:
        found["max_file_size"] = size
    if types is not None:
        found["types"] = _types(types)
    if keep is not None:
        found["keep"] = _keep(keep)
    if template is not None:
        found["keys"] = KeyTemplate(template)
    PUBLISHED_POLICY.replaced(found)  # raises UsageError
    return found


def _types(text: str) -> MediaTypes:
    from bigupload.service.accepted_types import ANY_TYPES, PUBLISHED_TYPES, read_types

    for known in (ANY_TYPES, PUBLISHED_TYPES):
        if text == known.name:
            return known
    try:
        return read_types(Path(text).read_text(encoding="utf-8-sig"), where=text)
    except (OSError, UnicodeDecodeError) as e:
        raise errors.UsageError(f"can't read the types in {text}: {getattr(e, 'strerror', None) or 'not UTF-8'}") from e


def _keep(text: str) -> int | None:
    if text.strip().lower() == FOREVER:
        return None
    try:
        return round(parse_duration(text))
    except errors.UsageError:
        raise errors.UsageError(f"--keep is a time or forever, and not {text!r}: write it like 30d") from None
