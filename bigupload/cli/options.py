"""Options that several commands share, and the types of their values; those of S3 are made from `s3_parameters`."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bigupload import errors
from bigupload.cli import complain
from bigupload.cli.settings import COMMAND_LINE, choose, strength
from bigupload.cli.wording import for_command_line, spelled
from bigupload.core.checksums import UPLOAD_ALGORITHMS
from bigupload.core.remote_url import foreign_scheme, is_remote
from bigupload.errors import UsageError
from bigupload.s3_parameters import ADDRESS, KEY_BYTES, OBJECT, PARAMETERS, REQUEST, Parameter, normalized
from bigupload.units import parse_command, parse_duration, parse_rate_limit, parse_size

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from bigupload.options import S3Options

    _AnyType = click.ParamType[Any]
    _TextType = click.ParamType[str]
else:
    _AnyType = _TextType = click.ParamType  # generic in newer versions only

F = TypeVar("F", bound=Callable[..., Any])

ON_DONE = "--on-done"
_MOST_KEY_FILE = 4096
"""Bytes that are read of a key's file: more than any key, so that a wrong file is noticed."""


class _Parsed(_AnyType):
    """A type of value that a function reads. A UsageError of the function becomes click's error."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except errors.UsageError as e:
            self.fail(str(e), param, ctx)


def _parse_pair(text: str) -> tuple[str, str]:
    key, equals, content = text.partition("=")
    if not key or not equals:
        raise errors.UsageError(f"not KEY=VALUE: {text!r}")
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


PAIR = _Parsed("key=value", _parse_pair)
_CUSTOMER_KEY = _CustomerKey()


def completed_by(name: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]:
    """Have shells complete a parameter by a function of `completion`, which is imported then."""

    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        from bigupload.cli import completion

        found: list[CompletionItem[str]] = getattr(completion, name)(ctx, incomplete)
        return found

    return complete


class LibraryOption(click.Option):
    """An option of the library. Its help is put into the words of commands when it is shown, which it seldom is."""

    def __init__(self, *names: Any, text: Callable[[], str], **attributes: Any) -> None:
        """Make the option.

        Args:
            names: As click takes them.
            text: Returns its description in the library.
            attributes: As click takes them.
        """
        self._text = text
        self._help: str | None = None
        super().__init__(*names, **attributes)

    def _shown(self) -> str:
        if self._help is None:
            self._help = for_command_line(self._text())
        return self._help

    def _replace(self, text: str | None) -> None:
        self._help = text

    help = property(_shown, _replace)  # click has an attribute there


def _option(name: str, row: Parameter) -> Callable[[F], F]:
    option: Any = functools.partial(click.option, spelled(name), name, cls=LibraryOption, text=lambda: row.help)
    if row.metavar == "KEY=VALUE":
        made = option(type=PAIR, multiple=True, metavar=row.metavar)
    elif row.choices:
        made = option(type=click.Choice(row.choices))
    elif row.metavar is None:
        made = option(is_flag=True)
    elif name == "sse_customer_key":
        made = option(type=_CUSTOMER_KEY, metavar=row.metavar, shell_complete=completed_by("files"))
    else:
        made = option(metavar=row.metavar)
    decorate: Callable[[F], F] = made
    return decorate


def joined(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Options as one, in this order."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _options(table: Mapping[str, Parameter]) -> Callable[[F], F]:
    return joined(*(_option(name, row) for name, row in table.items()))


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


PROOFS = ("full-object", "composite-checksum", "composite-etag", "size")
CHECKSUMS = ("auto", *(algorithm.value for algorithm in UPLOAD_ALGORITHMS))


def _parse_concurrency(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 256:
        raise errors.UsageError(f"{text!r} is neither auto nor a number from 1 to 256")
    return int(text)


SIZE = _Parsed("size", parse_size)
RATE = _Parsed("rate", parse_rate_limit)
DURATION = _Parsed("time", parse_duration)
COMMAND = _Parsed("command", parse_command)
CONCURRENCY = _Parsed("n|auto", _parse_concurrency)


def local_path(name: str) -> Path:
    """A path of this machine. Raises UsageError for a URL, without repeating it: its query may be a secret."""
    if (is_remote(name) or foreign_scheme(name) is not None) and not os.path.lexists(name):
        raise errors.UsageError(f"{name.partition('://')[0]}://… is a URL, and this takes a path: upload reads URLs")
    return Path(name)


class _LocalPath(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str):
            if not value:
                self.fail("the name is empty: is a variable of the shell not set?", param, ctx)
            try:
                local_path(value)
            except errors.UsageError as e:
                self.fail(str(e), param, ctx)
        return super().convert(value, param, ctx)


PATH = _LocalPath(path_type=Path)
file_option = functools.partial(click.option, type=PATH, metavar="FILE")
number_option = functools.partial(click.option, metavar="N", show_default=True)
size_option = functools.partial(click.option, type=SIZE, metavar="SIZE")
time_option = functools.partial(click.option, type=DURATION, metavar="TIME", show_default=True)
PATH_OR_URL = _Parsed("path", lambda text: text if is_remote(text) else local_path(text))


class _Name(_TextType):
    """A file or a target, as it is: as a path, "s3://bucket" would lose a slash. Shells complete files."""

    name = "path"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


NAME = _Name()


def checksum_option(checksums: Sequence[str]) -> Callable[[F], F]:
    """Return the option for checksums."""
    return click.option(
        "--checksum",
        type=click.Choice(checksums),
        default="auto",
        help="The checksum of each part. auto: CRC64NVME if the store has it.",
    )


_BY_TYPE: Mapping[str, Mapping[str, Any]] = {
    "bool": {"is_flag": True},
    "float | str | None": {"type": DURATION, "metavar": "TIME"},
    "int | str | None": {"type": SIZE, "metavar": "SIZE"},
}
"""By the type of an option in the library: the option of a command."""


class DerivedOption(LibraryOption):
    """An option that the library declares: its documentation there is all that there is."""

    group = "Resume and safety"
    """Its group in `--help`, if `help` does not name it."""


def library_options(declared: str) -> Callable[[F], F]:
    """Add the flags, times and sizes of a class of `api.arguments`, unless the command declares them itself.

    A flag that is True by default is left out: its option has another name.
    """

    def decorate(function: F) -> F:
        from bigupload.api import arguments

        options = getattr(arguments, declared)
        own = {name for param in getattr(function, "__click_params__", ()) for name in param.opts}
        for name, hint in options.__annotations__.items():
            kind = _BY_TYPE.get(hint.__forward_arg__)
            if kind is not None and not arguments.default_of(options, name) and (option := spelled(name)) not in own:
                text = functools.partial(_summary, options, name)
                function = click.option(option, cls=DerivedOption, text=text, **kind)(function)
        return function

    return decorate


def _summary(options: type, name: str) -> str:
    """The first sentence of the library's documentation. Values are texts here, and None is the default."""
    from bigupload.api import signatures

    text = re.sub(r', in (?:seconds|bytes) or like "(\w+)"', r", as in \1", signatures.summary(options, name))
    return re.sub(r"; None: (.+)\.$", r". [default: \1]", text)


connection_options = joined(
    click.option("--endpoint-url", metavar="URL", help="The S3 store. [default: the AWS settings', else AWS]"),
    click.option("--region", metavar="R", help="The bucket's region."),
    click.option(
        "--profile",
        metavar="P",
        shell_complete=completed_by("profiles"),
        help="The profile of the AWS configuration.",
    ),
    click.option(
        "--addressing",
        type=click.Choice(["auto", "path", "virtual"]),
        default="auto",
        help="Whether URLs have the bucket in the path or in the host name.",
    ),
    file_option("--ca-bundle", help="Trust these certificates, not the system's."),
    click.option("--no-verify-ssl", is_flag=True, help="Do not check the store's certificate. Unsafe on any network."),
    click.option("--no-sign-request", is_flag=True, help="Send no credentials, to a store that wants none."),
)
"""The options for the connection to a store."""

pace_options = joined(
    click.option(
        "--concurrency",
        type=CONCURRENCY,
        default="auto",
        metavar="N|auto",
        help="Parts in flight. [default: auto, which adapts to path and store]",
    ),
    click.option(
        "--limit-rate",
        type=RATE,
        metavar="RATE",
        help="Bytes per second for all files together, like 20MB/s, or by the local time: 08:00=2MB/s,20:00=off.",
    ),
    click.option(
        "--congestion-control",
        default="auto",
        metavar="auto|system|NAME",
        help="TCP congestion control. auto: BBR on long paths. system: as the machine has it. NAME: of the kernel.",
    ),
    time_option(
        "--give-up-after",
        default="15min",
        help="Stop (resumable) if nothing connects to the store or media service for so long, as in 2h. If it has not "
        "responded once since the start, the command stops within seconds, unless this machine has begun an upload "
        "through the same media service before.",
    ),
    time_option(
        "--response-timeout",
        default="5min",
        help="Send a part again if all of it was sent and no response has come for so long. The time while the store "
        "responds to parts that were sent before it does not count.",
    ),
    click.option(
        "--hedge/--no-hedge",
        default=True,
        help="Send a straggler (a part far behind the others) a second time. Switched off for the rest of the upload "
        "if the store refuses a part that was sent twice. [default: on]",
    ),
    click.option(
        "--dask",
        metavar="ADDRESS|local:N",
        help="Let the workers of a Dask cluster hash and send the parts: tcp://SCHEDULER:8786, or N workers here.",
    ),
)
"""The options for the pace of uploads."""

local_option = click.option(
    "--local", is_flag=True, help="The bucket is in the local store, which is started if needed."
)
"""For the commands that take a bucket or an object that is there."""


progress_option = click.option(
    "--progress",
    type=click.Choice(["auto", "bar", "plain", "json", "none"]),
    default="auto",
    help="bar: on a terminal; plain: a line every few seconds; json: one event per line; none: warnings only. auto: "
    "bar or plain.",
)

outcome_options = joined(
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object per file."),
    progress_option,
    click.option(
        "--require-proof",
        type=click.Choice(PROOFS),
        default="size",
        show_default=True,
        help="Fail if the proof is weaker than this. The first is the strongest.",
    ),
)
"""Options of the output, and of the proof that is enough."""

transfer_options = joined(pace_options, connection_options, store_options, outcome_options)
"""Options of all commands that upload."""


def on_change_option(default: str | None) -> Callable[[F], F]:
    """Add `--on-change`, whose default differs between the commands. None: it depends on `--delete-source`."""
    return click.option(
        "--on-change",
        type=click.Choice(["raise", "restart"]),
        default=default,
        show_default=default is not None,
        help="What to do if the file changes, or has another size than when its unfinished upload began. restart: "
        "upload it as it is now, and abort an unfinished upload of another size. raise: fail."
        + (" [default: raise; with --delete-source: restart]" if default is None else ""),
    )


follow_options = joined(
    click.option(
        "--follow",
        is_flag=True,
        help="Upload a file that is still being written: each part as soon as it is complete. When nothing was written "
        "for --idle, send again what was rewritten, and complete.",
    ),
    time_option(
        "--idle", help="With --follow: a file to which nothing is written for so long has ended. [default: 10s]"
    ),
)


_SERVICE_PACKAGES = (
    *("aiohttp", "cryptography", "itsdangerous", "jwt", "limits", "prometheus_client", "pydantic", "redis"),
    "standardwebhooks",
)


def need_service() -> None:
    """Raise UsageError if the packages of the extra `service` are missing."""
    if any(importlib.util.find_spec(name) is None for name in _SERVICE_PACKAGES):
        from bigupload.units import install_command

        raise errors.UsageError(f"the media service is not installed: {install_command('service')}")


def pace(arguments: dict[str, Any]) -> dict[str, Any]:
    """Take the pace options out of a command's arguments. Returns arguments for `Uploader`."""
    from bigupload.core.retry_policy import RetryPolicy

    retry = RetryPolicy(
        give_up_after=arguments.pop("give_up_after"), response_timeout=arguments.pop("response_timeout")
    )
    names = ("concurrency", "limit_rate", "congestion_control", "hedge", "dask")
    if arguments["dask"] is not None:
        from bigupload.cluster._compat import quiet, require_dask

        require_dask()
        quiet()
    return {"retry": retry, **{name: arguments.pop(name) for name in names}}


def s3_options(arguments: dict[str, Any], **more: Any) -> S3Options:
    """Take the options of connection, requests and object out of a command's arguments. `more`: further fields."""
    from bigupload.options import S3Options

    names = ("endpoint_url", "region", "profile", "addressing", "ca_bundle", "no_verify_ssl", "no_sign_request")
    ctx = click.get_current_context()
    if more.get("local") and strength(ctx, "endpoint_url") < strength(ctx, "local"):
        arguments["endpoint_url"] = None  # a default that was set for other stores
    choose(ctx, arguments, "ca_bundle", "no_verify_ssl")
    options = S3Options(**{name: arguments.pop(name) for name in names}, **take(arguments), **more)
    if options.ca_bundle is not None:
        from bigupload.http.origins import context_of

        context_of(options.ca_bundle)  # refused also where nothing is encrypted
    if options.no_verify_ssl:
        complain(
            errors.BigUploadError(
                "--no-verify-ssl: the store's certificate is not checked, so anyone on the way can read and change "
                "everything. To trust a certificate of your own, use --ca-bundle FILE"
            ),
            "warning",
        )
    return options
