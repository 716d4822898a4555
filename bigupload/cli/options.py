"""Options that several commands share, and their types."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bigupload import errors
from bigupload.cli import complain
from bigupload.cli.settings import strength
from bigupload.support.rate_schedule import parse_rate_limit
from bigupload.units import parse_duration, parse_size

if TYPE_CHECKING:
    from bigupload.options import S3Options

F = TypeVar("F", bound=Callable[..., Any])

PROOFS = ("full-object", "composite-checksum", "composite-etag", "size")
CHECKSUMS = ("auto", "crc64nvme", "crc32c", "sha256", "md5", "none")


class _Parsed(click.ParamType[Any]):
    """A type that one of our parsers reads."""

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
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise errors.UsageError(f"not KEY=VALUE: {text!r}")
    return key, value


def _parse_concurrency(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 256:
        raise errors.UsageError(f"{text!r} is neither auto nor a number from 1 to 256")
    return int(text)


SIZE = _Parsed("size", parse_size)
RATE = _Parsed("rate", parse_rate_limit)
DURATION = _Parsed("time", parse_duration)
PAIR = _Parsed("key=value", _parse_pair)
CONCURRENCY = _Parsed("n|auto", _parse_concurrency)
PATH = click.Path(path_type=Path)
TEXT = click.UNPROCESSED
"""A name as it is: as a path, "s3://bucket" would lose a slash."""


def _all(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


connection_options = _all(
    click.option("--endpoint-url", metavar="URL", help="Any S3 store; without it AWS, or what the AWS settings name."),
    click.option("--region", metavar="R", help="The bucket's region."),
    click.option("--profile", metavar="P", help="A profile of the AWS configuration."),
    click.option(
        "--addressing",
        type=click.Choice(["auto", "path", "virtual"]),
        default="auto",
        help="Bucket in the path or in the host name.",
    ),
    click.option("--ca-bundle", type=PATH, metavar="FILE", help="Trust these certificates instead of the system's."),
    click.option("--no-verify-ssl", is_flag=True, help="Do not check the store's certificate. Unsafe on any network."),
    click.option("--no-sign-request", is_flag=True, help="Send no credentials, to a store that wants none."),
)
"""How to reach a store."""

pace_options = _all(
    click.option("--concurrency", type=CONCURRENCY, default="auto", metavar="N|auto", help="Parts sent at once."),
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
        help="TCP's: by the path (BBR on long ones), the machine's own, or one that its kernel offers.",
    ),
    click.option(
        "--give-up-after",
        type=DURATION,
        default="15min",
        show_default=True,
        metavar="TIME",
        help="How long to wait while nothing connects to the store, like 2h.",
    ),
    click.option(
        "--hedge/--no-hedge",
        default=True,
        help="Send a part that lags far behind the others a second time. Stops by itself where the store refuses that.",
    ),
)
"""How fast."""

progress_option = click.option(
    "--progress",
    type=click.Choice(["auto", "bar", "plain", "json", "none"]),
    default="auto",
    help="auto: a bar on a terminal, else a line now and then; json: one event a line.",
)

outcome_options = _all(
    click.option("--json", "as_json", is_flag=True, help="The result as one JSON object a file."),
    progress_option,
    click.option("--require-proof", type=click.Choice(PROOFS), default="size", help="Fail with less than this proof."),
)
"""What to tell, and when to be content."""


def need_service() -> None:
    """Raises UsageError where the packages of the extra are missing."""
    needed = ("pydantic", "itsdangerous", "prometheus_client")
    if any(importlib.util.find_spec(name) is None for name in needed):
        raise errors.UsageError("the media service is not installed: pip install 'bigupload[service]'")


def pace(arguments: dict[str, Any]) -> dict[str, Any]:
    """Takes the pace options out of a command's arguments, for `Uploader`."""
    from bigupload.core.retry_policy import RetryPolicy

    retry = RetryPolicy(give_up_after=arguments.pop("give_up_after"))
    names = ("concurrency", "limit_rate", "congestion_control", "hedge")
    return {"retry": retry, **{name: arguments.pop(name) for name in names}}


def s3_options(arguments: dict[str, Any], **more: Any) -> S3Options:
    """Takes the connection options out of a command's arguments."""
    from bigupload.options import S3Options

    names = ("endpoint_url", "region", "profile", "addressing", "ca_bundle", "no_verify_ssl", "no_sign_request")
    ctx = click.get_current_context()
    if more.get("local") and strength(ctx, "endpoint_url") < strength(ctx, "local"):
        arguments["endpoint_url"] = None  # a default that was set for other stores
    if arguments["no_verify_ssl"]:
        complain(
            errors.BigUploadError(
                "--no-verify-ssl: nobody checks that this is your store. Who is on the way can read and change "
                "everything; --ca-bundle FILE trusts a certificate of your own instead"
            ),
            "warning",
        )
    return S3Options(**{name: arguments.pop(name) for name in names}, **more)
