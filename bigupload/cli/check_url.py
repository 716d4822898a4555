"""`bigupload check-url`: the media service's check of a direct URL, made from this machine without a service."""

from __future__ import annotations

import json

import click

from bigupload import errors
from bigupload.units import format_size


@click.command("check-url")
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="Print the service's response as one JSON object.")
@click.option(
    "--allow-private-media-hosts",
    is_flag=True,
    help="Also accept hosts of private networks.",
)
def check_url(url: str, as_json: bool, allow_private_media_hosts: bool) -> None:
    """Check whether URL can be used as a media item: public, with the bytes of a medium and the right Content-Type."""
    from bigupload.cli.running import run
    from bigupload.service.direct_url import DirectUrls

    async def checked() -> int:
        async with DirectUrls(allow_private=allow_private_media_hosts) as urls:
            check = await urls.check(url)
        if as_json:
            click.echo(json.dumps(check.to_json()))
        if check.rule is not None:
            raise errors.BigUploadError(f"not usable ({check.rule.code}): {check.message}")
        if not as_json and check.media is not None:
            size = "size unknown" if check.size is None else format_size(check.size)
            click.echo(f"usable: {check.media.content_type}, {size}")
        return errors.EXIT_OK

    raise SystemExit(run(checked))
