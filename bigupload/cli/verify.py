"""`bigupload verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bigupload import errors
from bigupload.cli._options import PATH, PROOFS, connection_options, s3_options


@click.command()
@click.argument("path", type=PATH)
@click.argument("url", metavar="s3://BUCKET/KEY")
@click.option("--local", is_flag=True, help="In the local store.")
@click.option("--require-proof", type=click.Choice(PROOFS), default="composite-etag", help="Fail with less than this.")
@connection_options
def verify(path: Path, url: str, **arguments: Any) -> None:
    """Prove that the object at URL is the file PATH, by the checksum that the store holds of it."""
    from bigupload.cli._running import run
    from bigupload.proof import Verified
    from bigupload.verifying import verify as verify_object

    async def proved() -> int:
        verified = await verify_object(path, url, s3=s3_options(arguments, local=arguments["local"]))
        if not verified.satisfies(Verified(arguments["require_proof"])):
            raise errors.ProofTooWeak(
                f"not proved ({verified} only): the store holds no checksum that the file's bytes make"
            )
        click.echo(verified)
        return errors.EXIT_OK

    raise SystemExit(run(proved))
