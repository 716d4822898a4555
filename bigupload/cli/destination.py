"""The destination of a command: found once, before anything else looks at the options that name it.

The command line names it by the last argument, `--to`, `--service` or `--local`; the environment and the configuration
file may, too. What is nearest to the person counts.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from bigupload import errors
from bigupload.cli.options import NAME, joined, s3_options
from bigupload.cli.selection_options import TARGET_LAST, is_prefix, names_many, quoting_hint
from bigupload.cli.settings import COMMAND_LINE, choose, drop_weaker, strength
from bigupload.cli.wording import spelled
from bigupload.core.remote_url import foreign_scheme, is_remote, shown_url
from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.s3_parameters import PARAMETERS
from bigupload.units import one_line

F = TypeVar("F", bound=Callable[..., Any])

_OF_A_BUCKET = (
    "endpoint_url", "region", "profile", "no_sign_request", "if_none_match",
    *(name for name in PARAMETERS if name != "content_type"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where the objects of a command go, or are."""

    url: str | None
    """`s3://BUCKET/KEY`, or what keys begin with; None: the media service chooses them."""
    service: str | None = None
    """The media service's URL."""
    s3: S3Options

    @property
    def name(self) -> str:
        """The target as receipts have it."""
        return self.service or self.url or ""

    @property
    def options(self) -> dict[str, Any]:
        """The library's arguments for it."""
        return {"to": self.url, "service": self.service, "s3": self.s3}

    @property
    def many_files(self) -> bool:
        """Whether the target takes many files, each below it."""
        return self.url is None or is_prefix(self.url)

    def connecting(self) -> contextlib.AbstractContextManager[None]:
        """Begin to connect: what is still to be imported takes as long as a far store needs for that."""
        from bigupload.http import early
        from bigupload.stores.s3.access import address_ahead, split_bucket, translated

        own = self.s3.ca_bundle or self.s3.no_verify_ssl or "AWS_CA_BUNDLE" in os.environ
        with contextlib.suppress(errors.BigUploadError, ValueError):  # reported where it is read again
            bucket = split_bucket((self.url or "").partition("://")[2])[0]
            at = self.service or (None if self.s3.local else translated(lambda: address_ahead(bucket, self.s3)))
            if at is not None:
                return early.connecting(at, loads_certificates=not own)
        return contextlib.nullcontext()


def url_or_local(arguments: dict[str, Any], name: str = "url") -> str | None:
    """Return the argument that names an object or a bucket. Without it, `--local` means the local store's bucket."""
    drop_weaker(click.get_current_context(), arguments, "local", than=name)
    if arguments[name] is None and arguments["local"]:
        arguments[name] = _local_bucket()
    url: str | None = arguments[name]
    return url


def object_destination(arguments: dict[str, Any], missing: str = "", *, name: str = "url") -> Destination:
    """Take the destination of a command whose argument `name` is an object or a bucket that is there.

    Raises:
        UsageError: Nothing names it; `missing` is the message.
    """
    url = url_or_local(arguments, name)
    if url is None:
        raise click.UsageError(missing)
    return Destination(url=url, s3=_s3(arguments))


def directory_and_target(verb: str) -> Callable[[F], F]:
    """The arguments DIR and target, `--to` and `--local`. `verb`: what is done with the files, as in "Upload"."""

    return joined(
        click.argument("directory", metavar="DIR", type=NAME),
        click.argument("target", metavar="[s3://BUCKET/FOLDER/]", required=False, type=NAME),
        click.option(
            "--to",
            metavar="s3://BUCKET/FOLDER/",
            help="Where the objects go. May be the last argument instead.",
        ),
        click.option("--local", is_flag=True, help=f"{verb} into the local store, which is started if needed."),
    )


def directory_destination(directory: str, named: str | None, arguments: dict[str, Any]) -> Destination:
    """Take the destination of `sync` or `watch` out of the arguments.

    Raises:
        UsageError: No target is named, or two; or several directories; or the directory's name is empty.
    """
    ctx = click.get_current_context()
    if ctx.args:
        several = ": bigupload upload takes several" if ctx.info_name == "sync" else ""
        raise click.UsageError(
            f"{ctx.info_name} takes one directory and one target, and the command names {len(ctx.args) + 2}"
            f"{quoting_hint() or several}"
        )
    _choose(ctx, named, arguments)
    if arguments["to"] is None and not arguments["local"]:
        raise click.UsageError(
            f"name one target: bigupload {ctx.info_name} DIR s3://BUCKET/FOLDER/ (or --to s3://…, or --local)"
        )
    found = _made(arguments)
    if not directory:
        raise click.UsageError("the directory's name is empty: is a variable of the shell not set?")
    return found


def upload_destination(
    names: tuple[str, ...], arguments: dict[str, Any], *, has_list: bool
) -> tuple[tuple[str, ...], Destination]:
    """Take the destination of `upload` or `move` out of the arguments. Returns the sources' names, too.

    Args:
        names: The arguments: sources, and perhaps the target as the last one, as for `aws s3 cp` and others.
        arguments: The options.
        has_list: Whether `--files-from` names sources.

    Raises:
        UsageError: No target is named, or two, or one that contradicts its options; or no source.
    """
    ctx = click.get_current_context()
    sources, named = _split(ctx, names, arguments, has_list=has_list)
    _choose(ctx, named, arguments)
    drop_weaker(ctx, arguments, *_OF_A_BUCKET, "addressing", than="service")
    _check(sources, arguments, has_list=has_list)
    return sources, _made(arguments)


def _split(
    ctx: click.Context, names: tuple[str, ...], arguments: dict[str, Any], *, has_list: bool
) -> tuple[tuple[str, ...], str | None]:
    """Split off the target, which may be the last name."""
    *sources, last = names or ("",)
    elsewhere = any(strength(ctx, name) == COMMAND_LINE for name in ("to", "service"))
    if not _is_s3(last):
        if any(map(_is_s3, sources)) and not elsewhere and not arguments["local"]:
            raise click.UsageError(f"{TARGET_LAST}{quoting_hint()}")
        return names, None
    if elsewhere and all(map(is_remote, names)):  # as `upload s3://FROM/KEY --to s3://BUCKET/`
        return names, None
    if not sources and not has_list and strength(ctx, "local") == COMMAND_LINE:
        # else a sample file would replace the object
        raise click.UsageError(
            f"is {last} the source or the target? Name both: bigupload upload {last} --to s3://BUCKET/KEY --local"
        )
    return tuple(sources), last


def _choose(ctx: click.Context, named: str | None, arguments: dict[str, Any]) -> None:
    """Keep what is nearest to the person: the target of the command line beats one of the environment or the file."""
    if named is not None:
        if strength(ctx, "to") == COMMAND_LINE:
            raise click.UsageError(f"name one target: --to {arguments['to']}, or {named}")
        arguments["to"] = named
        for name, nothing in (("service", None), ("local", False)):
            if name in arguments and strength(ctx, name) < COMMAND_LINE:
                arguments[name] = nothing
    else:
        choose(ctx, arguments, *(name for name in ("to", "service", "local") if name in arguments))
    choose(ctx, arguments, "endpoint_url", "local")


def _check(names: Sequence[str], arguments: dict[str, Any], *, has_list: bool) -> None:
    from bigupload.stores.targets import meant_by, parse_s3_url

    to, service, local = arguments["to"], arguments["service"], arguments["local"]
    last = names[-1] if names else ""
    if "" in names:
        raise click.UsageError("a file name is empty: is a variable of the shell not set?")
    if to is not None and not to.strip():
        raise click.UsageError("the target is empty: is a variable of the shell not set?")
    if to is not None and meant_by(to) is not None:
        parse_s3_url(to, "")  # else other errors would speak of its end
    if to is None and service is None and not (local and is_remote(last)):
        _refuse_url(last)
    if (to is not None or local) + (service is not None) != 1:
        what = "one target" if names or has_list else "a file and one target"
        raise click.UsageError(
            f"name {what}: bigupload {click.get_current_context().info_name} PATH... s3://BUCKET/KEY (or --to s3://…, "
            f"--service URL, or --local){_target_hint(names)}"
        )
    if service is not None:
        foreign = [name for name in _OF_A_BUCKET if arguments[name]]
        foreign += ["addressing"] if arguments["addressing"] != "auto" else []
        if foreign:
            named = ", ".join(map(spelled, foreign))
            raise click.UsageError(f"the media service decides these: leave out {named}")
    if to is None and len(names) > 1 and "/" in last and not (names_many(last) or os.path.lexists(last)):
        is_path = foreign_scheme(last) is None and not is_remote(last)
        if is_path and (last.endswith("/") or any(map(names_many, names))):
            raise click.UsageError(f"no such file: {last}. A target begins with s3://")
    if not (names or has_list or local):
        raise click.UsageError("name at least one file: bigupload upload PATH... s3://BUCKET/KEY")


def _target_hint(names: Sequence[str]) -> str:
    """Advice for a target without "s3://"."""
    from bigupload.stores.targets import meant_by

    last = names[-1] if len(names) > 1 else ""
    if os.path.lexists(last):
        return ""
    if (meant := meant_by(last)) is not None:
        return f"; {last!r} is not a target: write {one_line(meant)}"
    is_target = re.fullmatch(r"[a-z0-9][a-z0-9.-]{2,62}/.*", last) is not None
    return f"; if {one_line(last)} is the target, write s3://{one_line(last)}" if is_target else ""


def _refuse_url(last: str) -> None:
    """Raise UsageError if the last name was meant as a target, but is not written as one."""
    from bigupload.stores.targets import meant_by

    if re.match(r"[a-z][a-z0-9+.-]+:/", last, re.IGNORECASE) and not os.path.lexists(last):
        secret = "@" in last or "?" in last
        shown = shown_url(last) if is_remote(last) else f"{last.partition(':')[0]}://…" if secret else last
        like = meant_by(shown) or "s3://bucket/key, or use --service URL"
        raise click.UsageError(f"not a target: {shown!r} (write it like {like})")


def _made(arguments: dict[str, Any]) -> Destination:
    """Take the options out of the arguments, as far as the command has them."""
    to, service = arguments.pop("to"), arguments.pop("service", None)
    if arguments["local"] and arguments["endpoint_url"] is not None:
        raise click.UsageError("--local has its own endpoint: leave out --endpoint-url")
    url = to if to is not None or service is not None else _local_bucket()
    return Destination(url=url, service=service, s3=_s3(arguments))


def _s3(arguments: dict[str, Any]) -> S3Options:
    more = {name: arguments.pop(name) for name in ("local", "if_none_match") if name in arguments}
    if arguments.get("sse") == "AES256":
        drop_weaker(click.get_current_context(), arguments, "sse_kms_key_id", than="sse")
    return s3_options(arguments, **more)


def _local_bucket() -> str:
    from bigupload.stores.targets import LOCAL_BUCKET

    return f"s3://{LOCAL_BUCKET}/"


def _is_s3(name: str) -> bool:
    return name[:5].lower() == "s3://"
