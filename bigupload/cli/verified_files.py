"""`bigupload verify` of a directory, and of a receipt: its objects, or a copy of its files."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from bigupload import errors
from bigupload.api.types import VerificationFailed
from bigupload.api.uploader import Uploader
from bigupload.cli import complain
from bigupload.cli.after_proof import WRITE_CHECKSUMS, checksum_list
from bigupload.cli.job_report import VerificationReport
from bigupload.cli.listed_files import ListedFiles
from bigupload.cli.selection_options import Chosen
from bigupload.core.integrity import Verified
from bigupload.stores.s3.bucket import BucketPool
from bigupload.stores.targets import LOCAL, parse_s3_url, reach
from bigupload.support.cancellation import for_each
from bigupload.units import escaped
from bigupload.verification.receipts import (
    ReadReceipt,
    ReceiptFile,
    ReceiptVerdict,
    read_receipt,
    verify_copy,
    verify_object,
)

if TYPE_CHECKING:
    from bigupload.options import S3Options


async def verify_listed(path: str, chosen: Chosen, options: S3Options, arguments: dict[str, Any]) -> int:
    """Verify the files of a directory, and print each result.

    Args:
        path: The directory, or a pattern.
        chosen: Which of its files.
        options: How to reach the store.
        arguments: The command's.

    Returns:
        The exit status.
    """
    url, checksums = arguments["url"], arguments["write_checksums"]
    listed = ListedFiles([path], chosen, url, arguments["progress"] == "none", "verify")
    await listed.open()
    await listed.check_output(WRITE_CHECKSUMS, checksums)
    sums = VerificationReport(url, arguments)
    _, prefix = parse_s3_url(url, "x")
    prefix = prefix.removesuffix("x")
    with checksum_list(checksums) as sha256s:
        async with Uploader() as uploader:
            verdicts = uploader.verify_many(
                listed.found(),
                url,
                s3=options,
                part_size=arguments["part_size"],
                require_proof=arguments["require_proof"],
                sha256=checksums is not None,
            )
            async with contextlib.aclosing(verdicts):
                async for found in verdicts:
                    sums.add(found)
                    if not isinstance(found, VerificationFailed):
                        sha256s.add(found.sha256, found.key.removeprefix(prefix))
        status, unwritten = sums.finish(), sha256s.end_verified()
        return status or unwritten


_Verify: TypeAlias = Callable[[ReceiptFile], Awaitable[ReceiptVerdict]]
_AT_ONCE = 16
_OF_OBJECTS = {
    "full-object": "the store's checksum of each whole object is the receipt's",
    "composite-checksum": "the store's checksum of each object's parts is the receipt's",
    "composite-etag": "each object's ETag is the receipt's",
    "size": "only the sizes were compared",
}
_OF_COPIES = {
    "full-object": "the checksum of each file is the receipt's",
    "composite-etag": "the MD5 of each file is the receipt's ETag",
    "size": _OF_OBJECTS["size"],
}


async def verify_receipt(path: Path | None, options: S3Options, arguments: dict[str, Any]) -> int:
    """Compare each file of a receipt, and print the results.

    Args:
        path: A copy of the receipt's file, or of the directory of its files; None: compare the objects.
        options: How to reach the store.
        arguments: The command's.

    Returns:
        The exit status.
    """
    name: Path = arguments["receipt"]
    receipt = read_receipt(name)
    if receipt.is_torn:
        torn = f"the last line of the receipt {escaped(str(name))} is torn, as by a crash: its file is left out"
        complain(errors.BigUploadError(torn), "warning")
    if not receipt.files:
        raise errors.UsageError(f"the receipt {escaped(str(name))} has no file: there is nothing to verify")
    require_proof = Verified(arguments["require_proof"])
    ways = _OF_OBJECTS if path is None else _OF_COPIES
    sums = VerificationReport(str(name), arguments, ways=ways)
    pool = BucketPool()
    try:
        if path is None:
            await _check_endpoint(receipt, options)
            verify: _Verify = functools.partial(verify_object, s3=options, require_proof=require_proof, pool=pool)
        else:
            verify = _copies(receipt, path, require_proof)
        await for_each(receipt.files, functools.partial(_one, verify, sums), at_once=_AT_ONCE)
    finally:
        await pool.aclose()
    return sums.finish()


async def _one(verify: _Verify, sums: VerificationReport, file: ReceiptFile) -> None:
    try:
        sums.add(await verify(file))
    except errors.CredentialsError:  # every other object would meet it, too
        raise
    except errors.BigUploadError as e:
        sums.add(VerificationFailed(source=file.source, key=file.key, error=e))


def _copies(receipt: ReadReceipt, path: Path, proof: Verified) -> _Verify:
    """Return a function that compares a file with its copy.

    Raises:
        UsageError: It is not known which file is which.
    """
    reading = asyncio.Semaphore(os.cpu_count() or 1)
    compare = functools.partial(verify_copy, require_proof=proof, reading=reading)
    if path.is_dir():
        return lambda file: compare(file, path / file.key.removeprefix(receipt.folder))
    if len(receipt.files) == 1:
        return lambda file: compare(file, path)
    count, name = f"{len(receipt.files):,}", escaped(str(path))
    raise errors.UsageError(f"the receipt is of {count} files, and {name} is not a directory: name the directory")


async def _check_endpoint(receipt: ReadReceipt, options: S3Options) -> None:
    """Raise UsageError if the receipt is of another store: no file may decide where credentials are used."""
    if receipt.endpoint == LOCAL or options.local:
        if receipt.endpoint != LOCAL:
            raise errors.UsageError("this receipt is not of the local store: leave out `local`")
        if not options.local:
            raise errors.UsageError("this receipt is of the local store: add `local`")
        return
    endpoint = (await reach(options)).endpoint_url
    if endpoint != receipt.endpoint:
        of = receipt.endpoint or "AWS"
        raise errors.UsageError(
            f"this receipt is of the store {of}, and the command asks {endpoint or 'AWS'}: if you trust it, name "
            "its store"
        )
