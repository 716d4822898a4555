"""`bigupload share`."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from bigupload import errors
from bigupload.cli.destination import object_destination
from bigupload.cli.options import connection_options, local_option, store_options, time_option


@click.command()
@click.argument("url", metavar="s3://BUCKET/KEY")
@local_option
@time_option(
    "--for",
    "lasts",
    default="7d",
    help="How long the link lasts, as in 12h or 7d, which is the most. Temporary credentials may end it sooner.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with the moment when the link ends.")
@connection_options
@store_options
def share(lasts: float, as_json: bool, **arguments: Any) -> None:
    """Print a link by which anyone can read the object s3://BUCKET/KEY, until it ends.

    The store is asked first whether the object is there, and whether these credentials may read it.
    """
    from bigupload.api.uploader import Uploader
    from bigupload.cli.after_proof import print_link_end
    from bigupload.cli.running import run

    at = object_destination(arguments)

    async def print_link() -> int:
        async with Uploader() as uploader:
            link = await uploader.share(at.name, s3=at.s3, lasts=lasts)
        click.echo(json.dumps(dataclasses.asdict(link)) if as_json else link.url)
        if not as_json:
            print_link_end(link)
        return errors.EXIT_OK

    raise SystemExit(run(print_link, stopped="nothing was changed"))
