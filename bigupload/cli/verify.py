"""`bigupload verify`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigupload import errors
from bigupload.cli import writing_results
from bigupload.cli.destination import url_or_local
from bigupload.cli.options import (
    NAME,
    PATH,
    PROOFS,
    SIZE,
    connection_options,
    local_option,
    local_path,
    progress_option,
    s3_options,
    store_options,
)
from bigupload.cli.selection_options import (
    CommandWithRules,
    check_verify_many,
    is_prefix,
    names_many,
    selection_options,
    take_selection,
)
from bigupload.cli.settings import COMMAND_LINE, strength
from bigupload.cli.wording import for_command_line, spelled
from bigupload.units import escaped, format_size, one_line

if TYPE_CHECKING:
    from bigupload.options import S3Options


@click.command(cls=CommandWithRules)
@click.argument("path", type=NAME, required=False)
@click.argument("url", metavar="s3://BUCKET/KEY", required=False)
@local_option
@click.option("--download", is_flag=True, help="Download the object and compare every byte.")
@click.option(
    "--require-proof",
    type=click.Choice(PROOFS),
    default="composite-etag",
    show_default=True,
    help="Fail if the proof is weaker than this. The first is the strongest.",
)
@click.option(
    "--part-size", type=SIZE, metavar="SIZE", help="The size of the object's parts, if the store does not report it."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, of many files one for each and the sums.")
@click.option(
    "--write-checksums",
    type=PATH,
    metavar="FILE",
    help="Write the SHA-256 of each file that is proved, as sha256sum -c reads it.",
)
@click.option(
    "--receipt",
    type=PATH,
    metavar="FILE",
    help="Without PATH: prove that the objects are still what this receipt of an upload says. With PATH and no object: "
    "prove that a copy is.",
)
@click.option(
    "--mhl",
    is_flag=True,
    help="Compare the files of the directory PATH with its ASC Media Hash Lists, without an object.",
)
@selection_options
@progress_option
@connection_options
@store_options
def verify(path: str | None, **arguments: Any) -> None:
    """Prove that the object s3://BUCKET/KEY equals the file PATH.

    The proof compares the checksums that the store holds with the file's, whichever tool uploaded it. --download
    compares the bytes. If PATH is a directory, each of its files is compared with the object below s3://BUCKET/PREFIX/.
    With --local and no URL, the object is where upload --local puts it.
    """
    from bigupload.cli.running import run

    if arguments["mhl"]:
        raise SystemExit(_against_hash_lists(path, arguments))
    if arguments["receipt"] is not None:
        raise SystemExit(_against_receipt(path, arguments))
    if path is None:
        raise click.UsageError("Missing argument 'PATH'.")
    if path.lower().startswith("s3://") and not (arguments["url"] or "").lower().startswith("s3://"):
        raise click.UsageError("the file comes first, then the object: bigupload verify FILE s3://BUCKET/KEY")
    if url_or_local(arguments) is None:
        raise click.UsageError("Missing argument 's3://BUCKET/KEY'.")
    if arguments["download"] and arguments["part_size"] is not None:
        raise errors.UsageError("--download compares bytes and not parts: leave out --part-size")
    if arguments["download"] and arguments["write_checksums"] is not None:
        raise errors.UsageError("--write-checksums is for a verification without --download: leave one out")
    if arguments["part_size"] == 0:
        raise errors.UsageError("a part size is at least 1 byte")
    file, ctx = local_path(path), click.get_current_context()
    chosen = take_selection(ctx, arguments)
    if names_many(path) or chosen.is_asked:  # a configuration file's options for many files do not apply to one
        if arguments["download"]:
            raise click.UsageError("--download is for one file: leave it out, or verify one file at a time")
        check_verify_many([path], chosen, arguments["url"])
        from bigupload.cli.verified_files import verify_listed

        options = s3_options(arguments, local=arguments["local"])
        stopped = "the same command starts again"
        raise SystemExit(run(lambda: verify_listed(path, chosen, options, arguments), stopped=stopped))
    url, options = _object_of(file, arguments["url"]), s3_options(arguments, local=arguments["local"])
    way = _read_back if arguments["download"] else _by_checksums
    raise SystemExit(run(lambda: way(file, url, options, arguments)))


_FOR_OTHERS = frozenset({
    "download", "part_size", "write_checksums", "include", "exclude", "exclude_from", "min_size", "max_size",
    "newer_than", "follow_symlinks", "files_from", "null",
})  # fmt: skip
"""Options that a receipt or a hash list leaves nothing to."""


def _against_hash_lists(path: str | None, arguments: dict[str, Any]) -> int:
    from bigupload.cli.running import run

    if path is None or arguments["url"] is not None or arguments["receipt"] is not None:
        raise click.UsageError("--mhl compares a directory with its own hash lists: name the directory alone")
    _refuse_others("--mhl", arguments)
    from bigupload.cli.hash_lists import verify_hash_lists

    directory = local_path(path)
    return run(lambda: verify_hash_lists(directory, arguments), stopped="the same command starts again")


def _refuse_others(option: str, arguments: dict[str, Any]) -> None:
    ctx = click.get_current_context()
    if others := [name for name in arguments if name in _FOR_OTHERS and strength(ctx, name) == COMMAND_LINE]:
        raise click.UsageError(f"{option} names the files to compare: leave out {', '.join(map(spelled, others))}")


def _against_receipt(path: str | None, arguments: dict[str, Any]) -> int:
    from bigupload.cli.running import run

    if arguments["url"] is not None or (path or "").lower().startswith("s3://"):
        raise click.UsageError("the receipt names the objects: leave out the s3:// URL")
    _refuse_others("--receipt", arguments)
    from bigupload.cli.verified_files import verify_receipt

    options = s3_options(arguments, local=arguments["local"])
    copy = None if path is None else local_path(path)
    return run(lambda: verify_receipt(copy, options, arguments), stopped="the same command starts again")


def _object_of(file: Path, url: str) -> str:
    """The object of a file below a folder, or a bucket, as `upload` names it; or the one that is named."""
    from bigupload.stores.targets import parse_s3_url

    if not url.lower().startswith("s3://") or not is_prefix(url):
        return url
    parse_s3_url(url, file.name)  # the error names the invalid file name
    return f"{url.removesuffix('/')}/{file.name}"


async def _by_checksums(path: Path, url: str, options: S3Options, arguments: dict[str, Any]) -> int:
    from bigupload.batch.tree import Selection, check_not_among_sources
    from bigupload.cli.after_proof import WRITE_CHECKSUMS, checksum_list
    from bigupload.core.integrity import Verified
    from bigupload.verification.by_checksum import verify as verify_object

    required, checksums = Verified(arguments["require_proof"]), arguments["write_checksums"]
    if checksums is not None:
        check_not_among_sources(WRITE_CHECKSUMS, checksums, str(path), Selection(), done="verified")
    with checksum_list(checksums) as sha256s:
        with _printing_failure(path, url, arguments):
            found = await verify_object(
                path,
                url,
                s3=options,
                part_size=arguments["part_size"],
                require_proof=required,
                sha256=checksums is not None,
            )
        sha256s.add(found.sha256, str(path))
        _show(path, found, found.verified, arguments)
        return sha256s.end_verified()


async def _read_back(path: Path, url: str, options: S3Options, arguments: dict[str, Any]) -> int:
    from bigupload.api.uploader import Uploader
    from bigupload.cli.reporting import reporting, waits_for

    with _printing_failure(path, url, arguments), reporting(arguments["progress"]) as reporter:
        reporter.begin(path, await waits_for(local=arguments["local"]))
        async with Uploader() as uploader:
            found = await uploader.read_back(
                path, url, s3=options, on_event=lambda event: reporter.on_event(path, event)
            )
    _show(path, found, found.verified, arguments)
    return errors.EXIT_OK


@contextlib.contextmanager
def _printing_failure(path: Path, url: str, arguments: dict[str, Any]) -> Iterator[None]:
    """With `--json`, print an object for a failure, too: a program that reads it needs no other way to hear of one."""
    try:
        yield
    except errors.BigUploadError as e:
        if arguments["as_json"]:
            from bigupload.cli.job_report import absolute, failed_json

            with writing_results(for_command_line(str(e))):
                click.echo(failed_json(absolute(str(path)), url.partition("://")[2].partition("/")[2], e))
        raise


def _show(path: Path, found: Any, verified: str, arguments: dict[str, Any]) -> None:
    with writing_results(f"the object is the file (proved: {verified})"):
        click.echo(json.dumps(dataclasses.asdict(found), default=str) if arguments["as_json"] else verified)
    if not arguments["as_json"] and arguments["progress"] not in ("none", "json"):
        click.echo(f"bigupload: {_sentence(path, found, verified)}", err=True)


def _sentence(path: Path, found: Any, verified: str) -> str:
    """Describe the comparison, and its proof."""
    checksum = (getattr(found, "checksum", None) or "checksum").partition(":")[0].upper()
    proof = {
        "full-object": f"the store's {checksum} of the whole object is the file's",
        "composite-checksum": f"the store's {checksum} of the parts is that of the file's parts",
        "composite-etag": "the object's ETag is made of the MD5s of the file's parts",
        "read-back": "every byte was downloaded and compared",
    }.get(verified, "only the sizes were compared")
    name, url = one_line(escaped(str(path))), one_line(f"s3://{found.bucket}/{found.key}")
    return f"{url} is {name} ({format_size(found.size)}): {proof}"
