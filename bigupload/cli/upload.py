"""`bigupload upload`: its target, its sources (also standard input), and contradictions between options."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from bigupload import errors, events
from bigupload.cli import complain
from bigupload.cli.after_proof import (
    RECEIPT,
    WRITE_CHECKSUMS,
    AfterProof,
    Wishes,
    after_options,
    after_proof,
    name_below,
    take_steps,
    take_wishes,
)
from bigupload.cli.options import (
    CHECKSUMS,
    NAME,
    PATH,
    check_deletes,
    checksum_option,
    connection_options,
    delete_options,
    follow_options,
    joined,
    library_options,
    object_options,
    on_change_option,
    outcome_options,
    pace,
    pace_options,
    s3_options,
    store_options,
)
from bigupload.cli.selection_options import (
    TARGET_LAST,
    Chosen,
    CommandWithRules,
    check_many,
    dry_run_option,
    is_better_a_job,
    names_many,
    quoting_hint,
    selection_options,
    take_selection,
)
from bigupload.cli.settings import COMMAND_LINE, LOG_FILE, choose, drop_weaker, strength
from bigupload.cli.wording import spelled
from bigupload.core.remote_url import foreign_scheme, is_remote, path_of, shown_url
from bigupload.s3_parameters import ADDRESS, PARAMETERS
from bigupload.units import escaped, format_size, one_line

if TYPE_CHECKING:
    from bigupload.api.uploader import Uploader
    from bigupload.cli.listed_files import ListedFiles
    from bigupload.cli.narration import Reporter
    from bigupload.cli.running import KeptParts
    from bigupload.engine.upload_run import UploadResult

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


def _target_hint(names: Sequence[str]) -> str:
    """Advice for a target without "s3://"."""
    from bigupload.stores.targets import meant_by

    last = names[-1] if len(names) > 1 else ""
    if not os.path.lexists(last) and (meant := meant_by(last)) is not None:
        return f"; {last!r} is not a target: write {one_line(meant)}"
    is_target = re.fullmatch(r"[a-z0-9][a-z0-9.-]{2,62}/.*", last) is not None and not os.path.lexists(last)
    return f"; if {one_line(last)} is the target, write s3://{one_line(last)}" if is_target else ""


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
    from bigupload.stores.targets import meant_by, parse_s3_url

    to, service, local = arguments["to"], arguments["service"], arguments["local"]
    if "" in names:
        raise click.UsageError("a file name is empty: is a variable of the shell not set?")
    if to is not None and not to.strip():
        raise click.UsageError("the target is empty: is a variable of the shell not set?")
    if to is not None and meant_by(to) is not None:
        parse_s3_url(to, "")  # else other errors would speak of its end
    if to is None and service is None and not (local and names and is_remote(names[-1])):
        _check_url(names)
    if (to is not None or local) + (service is not None) != 1:
        what = "one target" if has_source else "a file and one target"
        command = click.get_current_context().info_name
        raise click.UsageError(
            f"name {what}: bigupload {command} PATH... s3://BUCKET/KEY (or --to s3://…, --service URL, or --local)"
            f"{_target_hint(names)}"
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
    _check_standard_input(files, arguments)
    _check_urls([file for file in files if isinstance(file, str)])
    if len(files) > 1:
        if to is not None and _is_s3(to) and not to.endswith("/") and split_bucket(to[len("s3://") :])[1]:
            raise click.UsageError(
                f"{len(files)} files can't become one object: end the target with a slash, as in {to}/"
            )
        if arguments["manifest"] is not None:
            raise click.UsageError("--manifest is for one file: leave it out, or upload one file at a time")
        names = Counter(_label_of(file, arguments).name for file in files)
        twice = [name for name, count in names.items() if count > 1]
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
    from bigupload.stores.targets import meant_by

    last = names[-1] if names else ""
    if re.match(r"[a-z][a-z0-9+.-]+:/", last, re.IGNORECASE) and not os.path.lexists(last):
        secret = "@" in last or "?" in last
        shown = shown_url(last) if is_remote(last) else f"{last.partition(':')[0]}://…" if secret else last
        like = meant_by(shown) or "s3://bucket/key, or use --service URL"
        raise click.UsageError(f"not a target: {shown!r} (write it like {like})")


def _check_bare_target(names: Sequence[str]) -> None:
    """Raise UsageError if the last name is not a file, and was probably meant as a target."""
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


_STANDARD_INPUT = Path("-")
_PIPE_BYTES = 1024 * 1024
"""The largest pipe that Linux allows any user. Its default is 64 KiB: each read would wake the writer for little."""
_FILES_AT_ONCE = 4
_SAMPLE_SIZE = 250_000_000


all_options = joined(
    click.argument("names", metavar="PATH... [s3://BUCKET/KEY]", nargs=-1, type=NAME),
    click.option(
        "--to",
        metavar="s3://BUCKET/KEY",
        help="The object. s3://BUCKET/FOLDER/ keeps the files' names. May be the last argument instead.",
    ),
    click.option(
        "--service", metavar="URL", help="Upload through this media service, with the API key in BIGUPLOAD_API_KEY."
    ),
    click.option(
        "--local",
        is_flag=True,
        help="Upload into the local store, which is started if needed. Without PATH: a sample file.",
    ),
    library_options("UploadOptions"),
    checksum_option(CHECKSUMS),
    object_options,
    click.option("--if-none-match", is_flag=True, help="Fail if the object exists."),
    click.option("--manifest", type=PATH, metavar="PATH", help="Keep the upload's manifest in this file."),
    click.option("--no-resume", is_flag=True, help="Start a new upload, even if an unfinished one could be resumed."),
    on_change_option(None),
    after_options,
    delete_options,
    follow_options,
    click.option(
        "--name", metavar="NAME", help="The name of the file, of a URL, or of standard input (-), for the object."
    ),
    click.option(
        "--end-marker",
        metavar="TEXT",
        help="The text at the end of standard input; it is not uploaded. Without it, nothing is completed.",
    ),
    click.option(
        "--temp-dir",
        type=PATH,
        metavar="DIR",
        help="Where parts of standard input wait that memory does not hold. [default: the system's]",
    ),
    selection_options,
    dry_run_option,
    pace_options,
    connection_options,
    store_options,
    outcome_options,
)
"""The options of `upload` and of `move`."""


@click.command(
    cls=CommandWithRules, epilog="After any stop, the same command (without --no-resume) resumes the upload."
)
@all_options
def upload(names: tuple[str, ...], **arguments: Any) -> None:
    """Upload files and directories to an S3 bucket or a media service, in parallel, and prove the objects.

    If an upload of the same file to the same key was interrupted, it is resumed. Of a directory, all files are
    uploaded: their paths in it are their keys below the target. PATH may be a URL, such as https://HOST/FILE or
    s3://BUCKET/KEY: it is read through this machine, unless the store can copy it. With - for PATH, standard input is
    uploaded. To resume that, run the same command with the same bytes again.
    """
    upload_named(names, arguments)


def upload_named(names: tuple[str, ...], arguments: dict[str, Any]) -> None:
    """Do what `upload` does, or `move`."""
    from bigupload.cli.running import KeptParts, run

    names = take_target(names, arguments)
    files = [source_named(name) for name in dict.fromkeys(names)]
    ctx = click.get_current_context()
    drop_what_is_overruled(ctx, arguments)
    check_deletes(arguments)
    if arguments["delete_source"]:
        _check_deletable(files)
    chosen, kept, wishes = take_selection(ctx, arguments), KeptParts(), take_wishes(arguments)
    wishes.check_not_dry(dry_run=chosen.dry_run)
    stopped = "the same command without --no-resume resumes" if arguments["no_resume"] else "the same command resumes"
    check_target(bool(files) or chosen.files_from is not None, arguments, names)
    with contextlib.nullcontext() if chosen.dry_run else _connecting(arguments):
        if chosen.is_for(names) or is_better_a_job(names, arguments):
            check_many(names, chosen, arguments)
            wishes.check_mhl(names, chosen, arguments["service"])
            stopped = "nothing was sent" if chosen.dry_run else stopped
            command = partial(_upload_listed, names, chosen, arguments, wishes, kept)
        else:
            check_files(files, arguments)
            wishes.check_mhl(names, chosen, arguments["service"])
            command = partial(_upload_all, files or [_sample()], arguments, wishes, kept)
        raise SystemExit(run(command, stopped=stopped, kept=kept))


def _connecting(arguments: dict[str, Any]) -> contextlib.AbstractContextManager[None]:
    """Begin to connect to the store: what is still to be imported takes as long as a far store needs for that."""
    from bigupload.http import early
    from bigupload.options import S3Options
    from bigupload.stores.s3.access import address_ahead, split_bucket, translated

    to, url = arguments["to"], arguments["service"]
    if arguments["local"] or arguments["dask"]:
        return contextlib.nullcontext()
    own = arguments["ca_bundle"] or arguments["no_verify_ssl"] or "AWS_CA_BUNDLE" in os.environ
    with contextlib.suppress(errors.BigUploadError, ValueError):  # reported where it is read again
        if url is None:
            of_address = ("endpoint_url", "region", "profile", "addressing", *ADDRESS)
            options = S3Options(**{name: arguments[name] for name in of_address})
            bucket = split_bucket(to[len("s3://") :])[0]
            url = translated(lambda: address_ahead(bucket, options))
        if url is not None:
            return early.connecting(url, loads_certificates=not own)
    return contextlib.nullcontext()


def _sample() -> Path:
    """A file of random bytes to try with, made once. It lies with the local store, and is removed with it."""
    from bigupload.stores.local_store import sample_path

    path = sample_path()
    if _is_piped():
        click.echo("note: standard input is not read. To upload it, name it: bigupload upload - --local", err=True)
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


def _check_outputs(source: str, arguments: dict[str, Any], wishes: Wishes) -> None:
    """Raise UsageError if what is written beside the upload of a file would be the file, or replace it."""
    from bigupload.batch.tree import Selection, check_not_among_sources

    meta = click.get_current_context().meta
    for option, file in ((WRITE_CHECKSUMS, arguments["write_checksums"]), (LOG_FILE, meta.get(LOG_FILE))):
        if file is not None:
            check_not_among_sources(option, file, source, Selection())
    wishes.check_sources(source, Selection())


async def _upload_all(files: Sequence[Path | str], arguments: dict[str, Any], wishes: Wishes, kept: KeptParts) -> int:
    from bigupload.cli.reporting import waits_for, worst

    codes: list[int] = []
    at_once = asyncio.Semaphore(_FILES_AT_ONCE)
    for file in map(str, filter(lambda file: isinstance(file, Path), files)):
        _check_outputs(file, arguments, wishes)
    local, as_json = arguments["local"], arguments["as_json"]
    async with _uploading(arguments, wishes) as uploading:
        reporter = uploading.reporter

        async def one(path: Path | str) -> None:
            label = _label_of(path, arguments)
            async with at_once:
                reporter.begin(label, await waits_for(local=local))
                try:
                    codes.append(await _upload_one(uploading, path, as_json, kept))
                finally:
                    reporter.end(label)

        if len(files) == 1:  # in no task of its own: one PUT does without anyio
            await one(files[0])
        else:
            import anyio

            async with anyio.create_task_group() as tasks:
                for path in files:
                    tasks.start_soon(one, path)
        uploading.after.ended(worst(codes), failed=sum(map(bool, codes)))
    return uploading.after.exit_status


async def _check_listed(listed: ListedFiles, arguments: dict[str, Any], wishes: Wishes) -> None:
    """As `_check_outputs`, of many files; and that what is to be deleted can be."""
    for option, output in ((WRITE_CHECKSUMS, arguments["write_checksums"]), (RECEIPT, wishes.receipt)):
        await listed.check_output(option, output)
    if arguments["delete_source"]:
        await listed.check_deletable()


async def _upload_listed(
    names: Sequence[str], chosen: Chosen, arguments: dict[str, Any], wishes: Wishes, kept: KeptParts
) -> int:
    from bigupload.api.arguments import UploadManyOptions
    from bigupload.batch.job import UploadFailed
    from bigupload.batch.tree import Omitted
    from bigupload.cli.job_report import JobReport
    from bigupload.cli.listed_files import ListedFiles, dry_run
    from bigupload.cli.reporting import mode_of, waits_for
    from bigupload.stores.targets import LOCAL_BUCKET

    mode, as_json, service = arguments["progress"], arguments["as_json"], arguments["service"]
    listed = ListedFiles(names, chosen, arguments["to"] or f"s3://{LOCAL_BUCKET}/", mode == "none")
    listed.may_be_empty = arguments["delete_source"]  # moved files are gone
    await listed.open()
    if chosen.dry_run:
        return await dry_run(listed, as_json=as_json, service=service)
    if not listed.is_prefix:
        async for file in listed.found():  # the one file
            if isinstance(file, Omitted):
                raise errors.SourceError(f"{errors.IT}: {file.reason}", it=escaped(file.path))
            return await _upload_all([Path(file.path)], arguments, wishes, kept)
        return errors.EXIT_OK
    note = await waits_for(local=arguments["local"])
    await _check_listed(listed, arguments, wishes)
    name_of = name_below(listed.top)
    async with _uploading(arguments, wishes, job=True) as uploading:
        if wishes.mhl:
            from bigupload.cli.hash_lists import open_hash_lists

            hash_lists = await open_hash_lists(
                names[0], chosen.selection, listed.to, uploading.uploader, uploading.options
            )
            uploading.after.list_hashes(hash_lists)
        given = uploading.options.items()
        options = {name: value for name, value in given if name in UploadManyOptions.__annotations__}
        options["to"] = None if service else listed.to
        report = JobReport(uploading.reporter, as_json=as_json, sums=chosen.is_for(names), mode=mode_of(mode))
        report.begin(note)

        def on_event(event: events.Event) -> None:
            kept.on_event(event)
            report.on_event(event)

        outcomes = uploading.uploader.upload_many(listed.found(), job=listed.job, on_event=on_event, **options)
        with report.running():
            async with contextlib.aclosing(outcomes):
                async for outcome in outcomes:
                    kept.on_outcome(outcome)
                    report.on_outcome(outcome)
                    if not isinstance(outcome, UploadFailed):
                        uploading.add(outcome, name_of(outcome.path))
        uploading.after.ended(report.finish(), failed=report.failed)
    return uploading.after.exit_status


class _Uploading(NamedTuple):
    """Shared by several uploads."""

    uploader: Uploader
    reporter: Reporter
    options: dict[str, Any]
    after: AfterProof
    mode: str
    """The value of `--progress`."""

    def add(self, result: UploadResult, name: str) -> None:
        """A file is in the store. `name` is what `sha256sum -c` shall open."""
        self.after.checksums.add(result.sha256, name)
        self.after.add(result)


@contextlib.asynccontextmanager
async def _uploading(arguments: dict[str, Any], wishes: Wishes, *, job: bool = False) -> AsyncIterator[_Uploading]:
    """Begin several uploads, and do at the end what is to follow. `job` is that of `reporting`."""
    from bigupload.api.uploader import Uploader
    from bigupload.cli.reporting import reporting
    from bigupload.stores.targets import LOCAL_BUCKET

    s3 = s3_options(arguments, local=arguments.pop("local"), if_none_match=arguments.pop("if_none_match"))
    arguments["resume"] = not arguments.pop("no_resume")
    if arguments["idle"] is None:
        del arguments["idle"]
    del arguments["as_json"]
    mode, checksums = arguments.pop("progress"), arguments.pop("write_checksums")
    to, service = arguments["to"], arguments["service"]
    target, reached = service or to or f"s3://{LOCAL_BUCKET}/", None if service else s3
    async with (
        Uploader(**pace(arguments), temp_dir=arguments.pop("temp_dir")) as uploader,
        after_proof(wishes, target=target, s3=reached, mode=mode, checksums=checksums) as after,
    ):
        with reporting(mode, job=job) as reporter:
            digests = [*(["sha256"] if checksums is not None else []), *(["xxh128"] if wishes.mhl else [])]
            steps = take_steps(arguments, *digests, receipt=after.receipt)
            options = {**arguments, "s3": s3, "then": steps}
            yield _Uploading(uploader, reporter, options, after, mode)


async def _upload_one(uploading: _Uploading, path: Path | str, as_json: bool, kept: KeptParts) -> int:
    from bigupload.cli.reporting import result_line

    completed: list[events.Event] = []
    options, reporter = uploading.options, uploading.reporter
    label = _label_of(path, options)
    named = shown_url(path) if isinstance(path, str) else escaped(str(label))

    def on_event(event: events.Event) -> None:
        if isinstance(event, events.UploadCompleted):
            completed.append(event)
        kept.on_event(event)
        reporter.on_event(label, event)

    try:
        source = _open_standard_input() if path == _STANDARD_INPUT else path
        result = await uploading.uploader.upload(source, on_event=on_event, **options)
    except asyncio.CancelledError:
        if completed:  # stopped too late: the upload is done
            complain(errors.BigUploadError("the object is complete and proved"), named)
        raise
    except errors.BigUploadError as e:
        complain(_with_kept(e, kept), named)
        if as_json:
            from bigupload.cli.job_report import absolute, failed_json

            where = str(label) if path == _STANDARD_INPUT else absolute(named if isinstance(path, str) else str(path))
            reporter.on_failure(failed_json(where, _key_of(label, options), e))
        return e.exit_code
    kept.on_outcome(result)
    uploading.add(result, str(path))
    reporter.on_result(result_line(result, as_json=as_json))
    if not as_json and uploading.mode != "none":
        _tell_deletion(result, named)
    return errors.EXIT_OK


def _tell_deletion(result: UploadResult, named: str) -> None:
    from bigupload.cli.narration import say

    if result.source_deleted:
        say(f"bigupload: {named}: deleted here")


def _with_kept(error: errors.BigUploadError, kept: KeptParts) -> errors.BigUploadError:
    """The end of a cluster, or of reading a file, with what is in the store: nothing of that is lost."""
    parts = str(kept).removesuffix("; ")
    told = f"{error} ({parts})" if parts else str(error)
    if isinstance(error, errors.ClusterUnreachable) and parts:
        return errors.ClusterUnreachable(told, it=error.it)
    if isinstance(error, errors.SourceUnreadable) and error.manifest is not None:  # a file server restarts, perhaps
        told += ": make the same call again when it can be read"
        return errors.SourceUnreadable(told, manifest=error.manifest, it=error.it)
    return error


def _key_of(label: Path, options: dict[str, Any]) -> str:
    """The key that a source would have had; empty where a media service chooses it, or the target can't be one."""
    from bigupload.stores.targets import parse_s3_url

    with contextlib.suppress(errors.BigUploadError):
        if options["service"] is None:
            return parse_s3_url(options["to"] or "s3://bucket/", label.name)[1]
    return ""


def _check_deletable(sources: Sequence[Path | str]) -> None:
    """Raise UsageError for sources that can't be deleted."""
    for source in sources:
        if isinstance(source, str):
            raise click.UsageError(
                "a URL can't be deleted here: move and --delete-source are for files of this machine"
            )
        if source == _STANDARD_INPUT:
            raise click.UsageError(
                "standard input can't be deleted: move and --delete-source are for files of this machine"
            )


def _check_standard_input(files: Sequence[Path | str], arguments: dict[str, Any]) -> None:
    """Raise UsageError for what can't be done with standard input, or with several files."""
    if len(files) > 1:
        for name in ("name", "expected_size", "end_marker"):
            if arguments[name] is not None:
                raise click.UsageError(f"--{name.replace('_', '-')} is for one file: upload one at a time")
    if _STANDARD_INPUT in files:
        to = arguments["to"] or ""
        needs_name = to.endswith("/") or not to[len("s3://") :].partition("/")[2]
        if needs_name and arguments["name"] is None:
            raise click.UsageError("standard input has no name: give one with --name, or name the object in the target")


def _label_of(path: Path | str, arguments: dict[str, Any]) -> Path:
    """Return a source's name in messages; the file name of a URL."""
    if isinstance(path, str):
        return Path(arguments["name"] or path_of(shown_url(path)))
    if path != _STANDARD_INPUT:
        return path
    return Path(arguments["name"] or (arguments["to"] or "").rpartition("/")[2] or "standard input")


def _is_piped() -> bool:
    """Whether standard input is a pipe, which may hold what a person meant to upload."""
    try:
        return stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode)
    except (AttributeError, OSError, ValueError):  # there is none, or it is closed
        return False


def _open_standard_input() -> io.FileIO:
    """Standard input without a buffer of Python's: its lock would keep a process that ends from ending.

    Raises:
        SourceUnreadable: It is closed.
    """
    try:
        if sys.stdin is None:  # it was closed when Python started: its number may be another file's by now
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        file = io.FileIO(0, closefd=False)
        with contextlib.suppress(ImportError, OSError, AttributeError):  # no pipe, or another system than Linux
            import fcntl

            fcntl.fcntl(0, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError as e:
        raise errors.SourceUnreadable(f"can't read standard input: {e.strerror}") from None
    return file
