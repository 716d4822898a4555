"""The options that S3 has for an object, for each request and for its address, made from `bigupload.s3_parameters`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bigupload.cli.settings import COMMAND_LINE, strength
from bigupload.cli.wording import for_command_line, spelled
from bigupload.errors import UsageError
from bigupload.s3_parameters import ADDRESS, KEY_BYTES, OBJECT, PARAMETERS, REQUEST, Parameter, normalized

if TYPE_CHECKING:
    _AnyType = click.ParamType[Any]
else:
    _AnyType = click.ParamType  # generic in newer versions only

F = TypeVar("F", bound=Callable[..., Any])

_MOST_KEY_FILE = 4096
"""Bytes that are read of a key's file: more than any key, so that a wrong file is noticed."""


class _Pair(_AnyType):
    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        key, equals, content = value.partition("=")
        if not key or not equals:
            self.fail(f"not KEY=VALUE: {value!r}", param, ctx)
        return key, content


class _CustomerKey(_AnyType):
    """The file of a key for SSE-C; in the environment and the configuration file also the key itself, in base64.

    No message repeats the value: it may be a key.
    """

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        path = Path(value).expanduser()
        try:
            if not path.exists():
                return self._in_base64(value, param, ctx)
            with path.open("rb") as file:
                content = file.read(_MOST_KEY_FILE)
        except (OSError, ValueError) as e:
            self.fail(f"can't read the key's file: {getattr(e, 'strerror', None) or type(e).__name__}", param, ctx)
        try:
            return normalized("sse_customer_key", content if len(content) == KEY_BYTES else content.strip())
        except UsageError:
            self.fail("the file has no key: 32 bytes, or those in base64, are needed", param, ctx)

    def _in_base64(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            key = normalized("sse_customer_key", value.strip())
        except UsageError:
            self.fail("there is no such file", param, ctx)
        if ctx is not None and param is not None and strength(ctx, param.name or "") == COMMAND_LINE:
            name = "BIGUPLOAD_SSE_CUSTOMER_KEY"
            self.fail(f"other users can read command lines: put the key into a file, or into {name}", param, ctx)
        return key


PAIR = _Pair()
_CUSTOMER_KEY = _CustomerKey()


def _option(name: str, row: Parameter) -> Callable[[F], F]:
    option, text = spelled(name), for_command_line(row.help)
    if row.metavar == "KEY=VALUE":
        return click.option(option, name, type=PAIR, multiple=True, metavar=row.metavar, help=text)
    if row.choices:
        return click.option(option, name, type=click.Choice(row.choices), help=text)
    if row.metavar is None:
        return click.option(option, name, is_flag=True, help=text)
    kind = _CUSTOMER_KEY if name == "sse_customer_key" else None
    return click.option(option, name, type=kind, metavar=row.metavar, help=text)


def _options(table: Mapping[str, Parameter]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for name, row in reversed(list(table.items())):
            function = _option(name, row)(function)
        return function

    return decorate


object_options = _options(OBJECT)
"""Options of the object."""
store_options = _options({**REQUEST, **ADDRESS})
"""Options of every request, and of AWS's addresses."""
customer_key_option = _options({"sse_customer_key": REQUEST["sse_customer_key"]})
"""For the commands that take everything else from a manifest."""


def take(arguments: dict[str, Any]) -> dict[str, Any]:
    """Take these options out of a command's arguments, as far as it has them. Returns fields of S3Options."""
    taken = {name: arguments.pop(name) for name in PARAMETERS if name in arguments}
    return {name: dict(value) if isinstance(value, tuple) else value for name, value in taken.items()}
