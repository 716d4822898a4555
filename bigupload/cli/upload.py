"""`bigupload upload`."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigupload import errors, events
from bigupload.cli import complain
from bigupload.cli.options import (
    CHECKSUMS,
    NAME,
    PATH,
    SIZE,
    connection_options,
    follow_options,
    on_change_option,
    outcome_options,
    pace,
    pace_options,
    s3_options,
)
from bigupload.cli.s3_options import object_options, store_options
from bigupload.cli.settings import COMMAND_LINE, choose, drop_weaker, strength
from bigupload.cli.standard_input import (
    STANDARD_INPUT,
    check_standard_input,
    label_of,
    open_standard_input,
    stream_options,
)
from bigupload.cli.wording import spelled
from bigupload.s3_parameters import PARAMETERS
from bigupload.units import format_size

if TYPE_CHECKING:
    from bigupload.api.uploader import Uploader
    from bigupload.cli.reporting import Reporter

_FILES_AT_ONCE = 4
_SAMPLE_SIZE = 250_000_000


@click.command(epilog="After any stop, the same command (without --no-resume) resumes the upload.")
@click.argument("names", metavar="PATH... [s3://BUCKET/KEY]", nargs=-1, type=NAME)
@click.option(
    "--to",
    metavar="s3://BUCKET/KEY",
    help="The object. s3://BUCKET/FOLDER/ keeps the files' names. May be the last argument instead.",
)
@click.option(
    "--service", metavar="URL", help="Upload through this media service, with the API key in BIGUPLOAD_API_KEY."
)
@click.option(
    "--local",
    is_flag=True,
    help="Upload into the local store, which is started if needed. Without PATH: a sample file.",
)
@click.option(
    "--part-size", type=SIZE, metavar="SIZE", help="The size of each part, as in 16MiB. [default: by the file's size]"
)
@click.option(
    "--checksum",
    type=click.Choice(CHECKSUMS),
    default="auto",
    help="The checksum of each part. auto: CRC64NVME if the store has it.",
)
@object_options
@click.option("--if-none-match", is_flag=True, help="Fail if the object exists.")
@click.option("--manifest", type=PATH, metavar="PATH", help="Keep the upload's manifest in this file.")
@click.option("--no-resume", is_flag=True, help="Start a new upload, even if an unfinished one could be resumed.")
@click.option(
    "--skip-existing", is_flag=True, help="Upload nothing if the object equals the file already, by its checksum."
)
@click.option("--verify-source", is_flag=True, help="Hash the file again before completing.")
@on_change_option
@follow_options
@stream_options
@pace_options
@connection_options
@store_options
@outcome_options
def upload(names: tuple[str, ...], **arguments: Any) -> None:
    """Upload files to an S3 bucket or a media service, in parts and in parallel, and prove the objects.

    If an upload of the same file to the same key was interrupted, it is resumed. PATH may be -, which is standard
    input: to resume that, run the same command with the same bytes again.
    """
    from bigupload.cli.running import run

    names = _take_target(names, arguments)
    files = [Path(name) if name != "./-" else Path.cwd() / "-" for name in dict.fromkeys(names)]
    _drop_what_is_overruled(click.get_current_context(), arguments)
    _check(files, arguments, names)
    stopped = "the same command without --no-resume resumes" if arguments["no_resume"] else "the same command resumes"
    raise SystemExit(run(lambda: _upload_all(files or [_sample()], arguments), stopped=stopped))


_OF_A_BUCKET = (
    "endpoint_url", "region", "profile", "no_sign_request", "if_none_match",
    *(name for name in PARAMETERS if name != "content_type"),
)  # fmt: skip


def _take_target(names: tuple[str, ...], arguments: dict[str, Any]) -> tuple[str, ...]:
    """Split off the target, which may be the last name, as for `aws s3 cp` and others. Returns the files' names."""
    *files, last = names or ("",)
    if any(_is_s3(name) for name in files):
        raise click.UsageError("the target comes last: bigupload upload PATH... s3://BUCKET/KEY")
    if not _is_s3(last):
        return names
    if strength(click.get_current_context(), "to") == COMMAND_LINE:
        raise click.UsageError(f"name one target: --to {arguments['to']}, or {last}")
    arguments["target"] = last
    return tuple(files)


def _is_s3(name: str) -> bool:
    return name[:5].lower() == "s3://"


def _drop_what_is_overruled(ctx: click.Context, arguments: dict[str, Any]) -> None:
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


def _check(files: Sequence[Path], arguments: dict[str, Any], names: Sequence[str]) -> None:
    """Raise UsageError for a call that contradicts itself."""
    from bigupload.stores.s3.access_points import split

    to, service, local = arguments["to"], arguments["service"], arguments["local"]
    if "" in names:
        raise click.UsageError("a file name is empty: is a variable of the shell not set?")
    _check_url(names)
    if (to is not None or local) + (service is not None) != 1:
        what = "one target" if files else "a file and one target"
        raise click.UsageError(
            f"name {what}: bigupload upload PATH... s3://BUCKET/KEY (or --to s3://…, --service URL, or --local)"
        )
    if service is not None:
        _check_service(arguments)
    if not files and not local:
        raise click.UsageError("name at least one file: bigupload upload PATH... s3://BUCKET/KEY")
    check_standard_input(files, arguments)
    if local and arguments["endpoint_url"] is not None:
        raise click.UsageError("--local has its own endpoint: leave out --endpoint-url")
    if len(files) > 1:
        if to is not None and _is_s3(to) and not to.endswith("/") and split(to[len("s3://") :])[1]:
            raise click.UsageError(
                f"{len(files)} files can't become one object: end the target with a slash, as in {to}/"
            )
        if arguments["manifest"] is not None:
            raise click.UsageError("--manifest is for one file: leave it out, or upload one file at a time")
        twice = [name for name, count in Counter(path.name for path in files).items() if count > 1]
        if twice and service is None:
            raise click.UsageError(
                f"several files are named {twice[0]} and would become one object: upload them to different folders"
            )


def _check_url(names: Sequence[str]) -> None:
    """Raise UsageError if the last name was meant as a target, but is not written as one."""
    last = names[-1] if names else ""
    if re.match(r"[a-z][a-z0-9+.-]+:/", last, re.IGNORECASE) and not os.path.lexists(last):
        raise click.UsageError(f"not a target: {last!r} (write it like s3://bucket/key, or use --service URL)")


def _check_service(arguments: dict[str, Any]) -> None:
    """Raise UsageError for options of a bucket: the service decides those."""
    foreign = [name for name in _OF_A_BUCKET if arguments[name]]
    if arguments["addressing"] != "auto":
        foreign.append("addressing")
    if foreign:
        named = ", ".join(map(spelled, foreign))
        raise click.UsageError(f"the media service decides these: leave out {named}")


def _sample() -> Path:
    """A file of random bytes to try with, made once. It lies with the local store, and is removed with it."""
    from bigupload.stores.local_store import sample_path

    path = sample_path()
    try:
        if not path.exists():
            click.echo(f"making a sample file of {format_size(_SAMPLE_SIZE)}: {path}", err=True)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                for _ in range(_SAMPLE_SIZE // 1_000_000):
                    file.write(os.urandom(1_000_000))
            partial.replace(path)
    except OSError as e:
        raise errors.SourceUnreadable(f"can't make a sample file ({e.strerror}): name a file of your own") from e
    return path


async def _upload_all(files: Sequence[Path], arguments: dict[str, Any]) -> int:
    import anyio

    from bigupload.api.uploader import Uploader
    from bigupload.cli.reporting import reporting, waits_for, worst

    local = arguments.pop("local")
    options = s3_options(arguments, local=local, if_none_match=arguments.pop("if_none_match"))
    arguments["resume"] = not arguments.pop("no_resume")
    if arguments["idle"] is None:
        del arguments["idle"]
    as_json, mode = arguments.pop("as_json"), arguments.pop("progress")
    codes: list[int] = []
    at_once = anyio.CapacityLimiter(_FILES_AT_ONCE)
    async with Uploader(**pace(arguments), temp_dir=arguments.pop("temp_dir")) as uploader:
        with reporting(mode) as reporter:

            async def one(path: Path) -> None:
                label = label_of(path, arguments)
                async with at_once:
                    reporter.begin(label, await waits_for(local=local))
                    try:
                        codes.append(await _upload_one(uploader, path, reporter, as_json, {**arguments, "s3": options}))
                    finally:
                        reporter.end(label)

            async with anyio.create_task_group() as tasks:
                for path in files:
                    tasks.start_soon(one, path)
    return worst(codes)


async def _upload_one(
    uploader: Uploader, path: Path, reporter: Reporter, as_json: bool, arguments: dict[str, Any]
) -> int:
    from bigupload.cli.reporting import result_line

    completed: list[events.Event] = []
    label = label_of(path, arguments)

    def on_event(event: events.Event) -> None:
        if isinstance(event, events.UploadCompleted):
            completed.append(event)
        reporter.on_event(label, event)

    try:
        source = open_standard_input() if path == STANDARD_INPUT else path
        result = await uploader.upload(source, on_event=on_event, **arguments)
    except asyncio.CancelledError:
        if completed:  # stopped too late: the upload is done
            complain(errors.BigUploadError("the object is complete and proved"), str(label))
        raise
    except errors.BigUploadError as e:
        complain(e, str(label), is_path=True)
        return e.exit_code
    reporter.on_result(result_line(result, as_json=as_json))
    return errors.EXIT_OK
