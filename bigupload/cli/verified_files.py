"""`bigupload verify` of a directory."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from bigupload.api.functions import verify_many
from bigupload.api.verify_many import VerificationFailed
from bigupload.cli import complain, standard_output
from bigupload.cli.checksum_file import writing_checksums
from bigupload.cli.job_report import failed_line
from bigupload.cli.listed_files import ListedFiles, shown_path
from bigupload.cli.reporting import worst
from bigupload.cli.selection_options import Chosen
from bigupload.stores.targets import parse_s3_url
from bigupload.units import counted, format_size

if TYPE_CHECKING:
    from bigupload.options import S3Options
    from bigupload.verification.by_checksum import Verification


async def verify_listed(path: str, chosen: Chosen, options: S3Options, arguments: dict[str, Any]) -> int:
    """Verify the files of a directory, and tell what is found of each.

    Args:
        path: The directory, or a pattern.
        chosen: Which of its files.
        options: How to reach the store.
        arguments: The command's.

    Returns:
        The exit status.
    """
    url, as_json, checksums = arguments["url"], arguments["as_json"], arguments["write_checksums"]
    listed = ListedFiles([path], chosen, url, arguments["progress"] == "none", "verify")
    await listed.open()
    sums = _Sums(as_json=as_json, is_quiet=listed.is_quiet)
    prefix = parse_s3_url(url, "x")[1].removesuffix("x")
    verdicts = verify_many(
        listed.found(),
        url,
        s3=options,
        part_size=arguments["part_size"],
        require_proof=arguments["require_proof"],
        sha256=checksums is not None,
    )
    with writing_checksums(checksums) as write:
        async with contextlib.aclosing(verdicts):
            async for found in verdicts:
                sums.add(found)
                if not isinstance(found, VerificationFailed):
                    write(found.sha256, found.key.removeprefix(prefix))
    return sums.finish()


class _Sums:
    """Tells what is found of each file, and of all."""

    def __init__(self, *, as_json: bool, is_quiet: bool) -> None:
        self._as_json = as_json
        self._is_quiet = is_quiet
        self._proofs: Counter[str] = Counter()
        self._codes: list[int] = []
        self._size = 0

    def add(self, found: Verification | VerificationFailed) -> None:
        """Count one file, and tell of it if it failed or all are told."""
        if isinstance(found, VerificationFailed):
            self._codes.append(found.error.exit_code)
            complain(found.error, shown_path(found.source), is_path=True)
            line = failed_line(found)
        else:
            self._proofs[found.verified] += 1
            self._size += found.size
            line = json.dumps(dataclasses.asdict(found), default=str)
        if self._as_json:
            click.echo(line)

    def finish(self) -> int:
        """Tell the sums. Returns the exit status."""
        count, status = self._proofs.total(), worst(self._codes)
        failed = f", {len(self._codes):,} failed" if self._codes else ""
        told = f"verified {counted(count, 'file')}, {format_size(self._size)}{failed}"
        with standard_output.writing(told):
            if self._as_json:
                sums = {"files": count, "size": self._size, "failed": len(self._codes), "exit_status": status}
                click.echo(json.dumps({**sums, "verified": self._proofs}))
                return status
            for proof, proved in sorted(self._proofs.items()):
                click.echo(f"{proof}: {counted(proved, 'file')}")
        if not self._is_quiet:
            click.echo(f"bigupload: {told}", err=True)
        return status
