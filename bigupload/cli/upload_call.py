"""The call of `bigupload upload`: its target, its sources, and contradictions between options."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bigupload.cli.selection_options import TARGET_LAST, names_many, quoting_hint
from bigupload.cli.settings import COMMAND_LINE, choose, drop_weaker, strength
from bigupload.cli.standard_input import check_standard_input, label_of
from bigupload.cli.wording import spelled
from bigupload.core.remote_url import foreign_scheme, is_remote, shown_url
from bigupload.s3_parameters import PARAMETERS

_OF_A_BUCKET = (
    "endpoint_url", "region", "profile", "no_sign_request", "if_none_match",
    *(name for name in PARAMETERS if name != "content_type"),
)  # fmt: skip


def take_target(names: tuple[str, ...], arguments: dict[str, Any]) -> tuple[str, ...]:
    """Split off the target, which may be the last name, as for `aws s3 cp` and others. Returns the files' names."""
    *files, last = names or ("",)
    ctx = click.get_current_context()
    elsewhere = [name for name in ("to", "service") if strength(ctx, name) == COMMAND_LINE]
    if not _is_s3(last):
        if any(_is_s3(name) for name in files) and not elsewhere and not arguments["local"]:
            raise click.UsageError(f"{TARGET_LAST}{quoting_hint()}")
        return names
    if elsewhere and all(is_remote(name) for name in names):  # as `upload s3://FROM/KEY --to s3://BUCKET/`
        return names
    if "to" in elsewhere:
        raise click.UsageError(f"name one target: --to {arguments['to']}, or {last}")
    named = files or arguments["files_from"] is not None
    if not named and strength(ctx, "local") == COMMAND_LINE:  # else a sample file would replace the object
        raise click.UsageError(
            f"is {last} the source or the target? Name both: bigupload upload {last} --to s3://BUCKET/KEY --local"
        )
    arguments["target"] = last
    return tuple(files)


def source_named(name: str) -> Path | str:
    """A file, or a URL, which a path would take a slash from; also one that can't be read, for the error."""
    if is_remote(name) or (foreign_scheme(name) is not None and not os.path.lexists(name)):
        return name
    return Path(name) if name != "./-" else Path.cwd() / "-"


def _is_s3(name: str) -> bool:
    return name[:5].lower() == "s3://"


def drop_what_is_overruled(ctx: click.Context, arguments: dict[str, Any]) -> None:
    """The target of the command line beats one of the environment or the file, with all that is said about that."""
    if "target" in arguments:  # an argument: nothing is nearer to the person
        arguments["to"] = arguments.pop("target")
        if strength(ctx, "service") < COMMAND_LINE:
            arguments["service"] = None
        if strength(ctx, "local") < COMMAND_LINE:
            arguments["local"] = False
    else:
        choose(ctx, arguments, "to", "service", "local")
    drop_weaker(ctx, arguments, *_OF_A_BUCKET, "addressing", than="service")
    choose(ctx, arguments, "endpoint_url", "local")
    if arguments["sse"] == "AES256":
        drop_weaker(ctx, arguments, "sse_kms_key_id", than="sse")


def check_target(has_source: bool, arguments: dict[str, Any], names: Sequence[str]) -> None:
    """Raise UsageError for a call that names no target, or two, or one that contradicts its options."""
    to, service, local = arguments["to"], arguments["service"], arguments["local"]
    if "" in names:
        raise click.UsageError("a file name is empty: is a variable of the shell not set?")
    if to is None and service is None and not (local and names and is_remote(names[-1])):
        _check_url(names)
    if (to is not None or local) + (service is not None) != 1:
        what = "one target" if has_source else "a file and one target"
        raise click.UsageError(
            f"name {what}: bigupload upload PATH... s3://BUCKET/KEY (or --to s3://…, --service URL, or --local)"
        )
    if service is not None:
        _check_service(arguments)
    if to is None:
        _check_bare_target(names)
    if not has_source and not local:
        raise click.UsageError("name at least one file: bigupload upload PATH... s3://BUCKET/KEY")
    if local and arguments["endpoint_url"] is not None:
        raise click.UsageError("--local has its own endpoint: leave out --endpoint-url")


def check_files(files: Sequence[Path | str], arguments: dict[str, Any]) -> None:
    """Raise UsageError for files and options that contradict each other."""
    from bigupload.stores.s3.access import split_bucket

    to, service = arguments["to"], arguments["service"]
    check_standard_input(files, arguments)
    _check_urls([file for file in files if isinstance(file, str)])
    if len(files) > 1:
        if to is not None and _is_s3(to) and not to.endswith("/") and split_bucket(to[len("s3://") :])[1]:
            raise click.UsageError(
                f"{len(files)} files can't become one object: end the target with a slash, as in {to}/"
            )
        if arguments["manifest"] is not None:
            raise click.UsageError("--manifest is for one file: leave it out, or upload one file at a time")
        twice = [name for name, count in Counter(label_of(file, arguments).name for file in files).items() if count > 1]
        if twice and service is None:
            raise click.UsageError(
                f"several files are named {twice[0]} and would become one object: upload them to different folders"
            )


def _check_urls(urls: Sequence[str]) -> None:
    """Raise UsageError for a source that can't be one, before another is sent."""
    from bigupload.api.sources import refuse_foreign
    from bigupload.core.remote_url import parse_remote
    from bigupload.stores.s3.access import split_bucket

    for url in urls:
        refuse_foreign(url)
        if not is_remote(url):
            continue
        parsed = parse_remote(url)
        if parsed.scheme == "s3" and (not split_bucket(url[len("s3://") :])[1] or url.endswith("/")):
            raise click.UsageError(
                f"{shown_url(url)} names no object to read; a target comes last: bigupload upload PATH... s3://BUCKET/KEY"
            )


def _check_url(names: Sequence[str]) -> None:
    """Raise UsageError if the last name was meant as a target, but is not written as one."""
    last = names[-1] if names else ""
    if re.match(r"[a-z][a-z0-9+.-]+:/", last, re.IGNORECASE) and not os.path.lexists(last):
        secret = "@" in last or "?" in last
        shown = shown_url(last) if is_remote(last) else f"{last.partition(':')[0]}://…" if secret else last
        raise click.UsageError(f"not a target: {shown!r} (write it like s3://bucket/key, or use --service URL)")


def _check_bare_target(names: Sequence[str]) -> None:
    """Raise UsageError if the last name is no file, and was probably meant as a target."""
    last = names[-1] if len(names) > 1 else ""
    if "/" not in last or os.path.lexists(last) or names_many(last) or foreign_scheme(last) is not None:
        return
    if not is_remote(last) and (last.endswith("/") or any(map(names_many, names))):
        raise click.UsageError(f"no such file: {last}. A target begins with s3://")


def _check_service(arguments: dict[str, Any]) -> None:
    """Raise UsageError for options of a bucket: the service decides those."""
    foreign = [name for name in _OF_A_BUCKET if arguments[name]]
    if arguments["addressing"] != "auto":
        foreign.append("addressing")
    if foreign:
        named = ", ".join(map(spelled, foreign))
        raise click.UsageError(f"the media service decides these: leave out {named}")
