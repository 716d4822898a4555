"""`bigupload serve`, and `check-url`: the service's check of a direct URL, made without a service."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigupload import errors
from bigupload.cli import complain, discard_output
from bigupload.cli.bucket import hook_options, policy_options, set_up_bucket, take_hooks, take_policy
from bigupload.cli.options import (
    connection_options,
    file_option,
    need_service,
    number_option,
    s3_options,
    size_option,
    time_option,
)
from bigupload.cli.settings import choose
from bigupload.cli.wording import spelled
from bigupload.units import format_size

if TYPE_CHECKING:
    from bigupload.options import S3Options
    from bigupload.service.access.keys import KeyFile
    from bigupload.service.uploads.posts import PostsApi


LOCAL_BUCKET = "bigupload-media"
_LOOPBACK = ("127.", "localhost", "::1")
_LEAST_QUOTA = 1000
"""Bytes. Of a smaller one, the unit was forgotten."""


@click.command(epilog="Ctrl-C stops the service after the requests in flight.")
@click.option(
    "--bucket", metavar="s3://BUCKET", help="The bucket of the media. Prepare it with bigupload bucket setup."
)
@click.option("--local", is_flag=True, help="Use the local store. Creates the bucket, its rules and a first API key.")
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="The address to listen on.")
@number_option("--port", type=click.IntRange(0, 65535), default=8080, help="The port to listen on. 0: any free port.")
@number_option("--workers", type=click.IntRange(1, 64), default=1, help="Number of processes that share the port.")
@click.option("--public-url", metavar="URL", help="The URL under which everyone can read the objects, as of a CDN.")
@click.option(
    "--client-endpoint-url",
    "signing_endpoint",
    metavar="URL",
    help="The store's endpoint for clients, if they need another one.",
)
@file_option("--keys", "key_file", help="The file of API keys. [default: $BIGUPLOAD_KEYS, else the user's own]")
@file_option(
    "--secret",
    "secret_file",
    help="The file with the secret that all replicas share. [default: $BIGUPLOAD_SECRET_FILE, else the user's own]",
)
@time_option(
    "--stop-delay",
    default="0s",
    help="How long to go on after a stop signal, while /readyz is 503, so that load balancers notice.",
)
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    multiple=True,
    metavar="CIDR",
    help="A load balancer, as in 10.0.0.0/8: its X-Forwarded-For or Forwarded has the client's address. Repeatable.",
)
@time_option(
    "--store-timeout",
    default="10s",
    help="How long a request waits for a store that does not respond, before the answer 503.",
)
@number_option(
    "--requests",
    "requests_a_second",
    type=click.FloatRange(0.1, 100_000),
    default=100,
    help="Requests per second and key.",
)
@number_option(
    "--open-uploads",
    "max_open_uploads",
    type=click.IntRange(1, 1000),
    default=1000,
    help="Open uploads per owner, without those of its end users.",
)
@number_option(
    "--user-open-uploads",
    "max_open_uploads_of_user",
    type=click.IntRange(1, 1000),
    default=50,
    help="Open uploads per end user of an owner.",
)
@size_option("--quota", help="Bytes of one owner's files, as in 50GB. [default: no limit]")
@size_option("--user-quota", help="Bytes of one end user's files. [default: no limit]")
@number_option("--user-files", type=click.IntRange(1), help="The number of one end user's files. [default: no limit]")
@click.option(
    "--shared",
    metavar="URL",
    help="The Valkey or Redis through which replicas share --requests and --quota, as in redis://host:6379/0.",
)
@click.option("--posts-url", metavar="URL", help="The posts API, to which POST /v1/posts is forwarded.")
@file_option("--posts-authorization", help="The file with the Authorization header for the posts API.")
@click.option(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    metavar="URL",
    help="An origin whose pages may call the API, as in https://app.example.com. Repeatable. '*': every origin.",
)
@click.option("--allow-private-media-hosts", is_flag=True, help="Accept URLs of private networks, to check.")
@click.option(
    "--sweep-every",
    type=click.FloatRange(0),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="Seconds between two sweeps of the bucket. 0: never.",
)
@hook_options
@policy_options
@connection_options
def serve(**arguments: Any) -> None:
    """Run the media service. Clients upload with an API key; the credentials stay with the service."""
    need_service()
    import asyncio

    from bigupload.cli.running import collect_garbage
    from bigupload.service.access.keys import KeyFile, default_key_file, default_secret_file, load_secret
    from bigupload.service.http.serving import ServeSettings
    from bigupload.service.http.serving import serve as run
    from bigupload.stores.targets import reach

    choose(click.get_current_context(), arguments, "bucket", "local")
    choose(click.get_current_context(), arguments, "endpoint_url", "local")
    if arguments["bucket"] is None and not arguments["local"]:
        raise click.UsageError("name a place for the media: --bucket s3://BUCKET, or --local")
    if arguments["posts_authorization"] is not None and arguments["posts_url"] is None:
        raise click.UsageError("--posts-authorization needs --posts-url")
    if not arguments["store_timeout"] > 0:
        raise click.UsageError("--store-timeout must be above 0")
    if not math.isfinite(arguments["sweep_every"]):
        raise click.UsageError("--sweep-every is a number of seconds")
    for name in ("quota", "user_quota"):
        if (size := arguments[name]) is not None and size < _LEAST_QUOTA:
            raise click.UsageError(f"{spelled(name)} of {format_size(size)} has no room for a file: write it like 50GB")
    local = arguments.pop("local")
    bucket = _bucket_name(arguments.pop("bucket"))
    _check_addresses(arguments)
    policy, hooks = take_policy(arguments), take_hooks(arguments)
    posts_api = _posts_api(arguments.pop("posts_url"), arguments.pop("posts_authorization"))
    s3 = asyncio.run(reach(s3_options(arguments, local=local)))
    keys = KeyFile(arguments.pop("key_file") or default_key_file())
    secret = load_secret(arguments.pop("secret_file") or default_secret_file(), create=True)
    if local:
        asyncio.run(_set_up(bucket, s3, policy))
        keys.ensure()
        if not arguments["host"].startswith(_LOOPBACK):
            complain(errors.BigUploadError("the URLs of the local store work on this machine only"), "warning")
    settings = ServeSettings(
        bucket=bucket, s3=s3, keys=keys.path, secrets=tuple(secret), posts_api=posts_api, policy=policy,
        **hooks, **arguments,
    )  # fmt: skip

    collect_garbage()
    run(settings, on_ready=lambda url: _announce(f"serving  {url}/", keys if local else None))


def _bucket_name(url: str | None) -> str:
    if url is None:
        return LOCAL_BUCKET
    name = url.removeprefix("s3://").rstrip("/")
    if not name or "/" in name:
        raise click.UsageError(f"not a bucket: {url!r} (write it like s3://my-media)")
    return name


def _check_addresses(arguments: Mapping[str, Any]) -> None:
    """Raise UsageError for one that can't be, before the store is reached."""
    from bigupload.service.access.callers import CrossOrigin
    from bigupload.service.access.shared import check_shared_url
    from bigupload.service.call import TrustedProxies

    urls = {"--client-endpoint-url": "signing_endpoint", "--public-url": "public_url", "--posts-url": "posts_url"}
    for option, name in urls.items():
        _check_url(option, arguments[name])
    CrossOrigin(arguments["cors_origins"])
    TrustedProxies(arguments["trusted_proxies"])
    if arguments["shared"] is not None:
        check_shared_url(arguments["shared"])


def _check_url(option: str, url: str | None) -> None:
    from urllib.parse import urlsplit

    if url is not None:
        try:
            parts = urlsplit(url)
            sound = parts.scheme in ("http", "https") and parts.hostname and not parts.username and parts.port != 0
        except ValueError:  # brackets, a port over 65535
            sound = False
        if not sound:
            raise click.UsageError(f"{option} is not a URL: write it like https://host.example")
        if parts.query or parts.fragment:
            raise click.UsageError(f"{option} must not have a query: write it like https://host.example")


async def _set_up(name: str, s3: S3Options, policy: Mapping[str, Any]) -> None:
    from bigupload.stores.s3.bucket import S3Bucket

    async with contextlib.aclosing(S3Bucket(name, s3)) as bucket:
        await set_up_bucket(bucket, policy)


def _announce(serving: str, keys: KeyFile | None) -> None:
    """Print the address, with a first key if `keys` has no usable one.

    Only now: a key made by a start that fails would never be shown.
    """
    if keys is None or any(key.revoked_at is None for key in keys.list()):
        earlier = "\nAPI key  one that was made earlier (a new one by bigupload keys create)" if keys else ""
        with contextlib.suppress(OSError):  # nobody reads it: no reason not to serve
            _print(serving + earlier)
        return
    made, plain = keys.create("local")
    try:
        _print(f"{serving}\nAPI key  {plain}   (shown this once; more by bigupload keys create)")
    except OSError as e:
        keys.revoke(made.id)  # nobody has it
        raise errors.BigUploadError(f"the first key can't be printed ({e.strerror}), and was revoked") from e


def _print(text: str) -> None:
    try:
        click.echo(text)
    except OSError:
        discard_output()
        raise


def _posts_api(url: str | None, authorization: Path | None) -> PostsApi | None:
    from bigupload.service.uploads.posts import PostsApi

    if url is None:
        return None
    if authorization is None:
        return PostsApi(url=url)
    try:
        value = authorization.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise errors.ServiceError(f"can't read {authorization}: {getattr(e, 'strerror', 'not UTF-8')}") from e
    if not value or not value.isprintable():
        raise errors.ServiceError(f"{authorization} must hold one line: the Authorization header's value")
    return PostsApi(url=url, authorization=value)


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
    from bigupload.service.media.direct_url import DirectUrls

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
