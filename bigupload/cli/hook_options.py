"""The options of the operator's hooks, shared by `serve` and `bucket sweep`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from bigupload import errors
from bigupload.cli.options import DURATION, PATH

F = TypeVar("F", bound=Callable[..., Any])

before_finish_option = click.option(
    "--before-finish",
    metavar="COMMAND|URL",
    help="Asked before a file in the store counts, as a virus scanner. What it refuses is deleted.",
)
hook_timeout_option = click.option(
    "--hook-timeout",
    type=DURATION,
    default="60s",
    show_default=True,
    metavar="TIME",
    help="How long a hook may take. After that, clients get 503 and try again.",
)
webhook_secret_option = click.option(
    "--webhook-secret-file",
    type=PATH,
    metavar="FILE",
    help="The secrets that sign requests to your URLs. [default: $BIGUPLOAD_WEBHOOK_SECRET_FILE, else the user's own]",
)


def hook_options(function: F) -> F:
    """Add the options of `serve`."""
    before_create = click.option(
        "--before-create", metavar="COMMAND|URL", help="Asked before an upload begins. It may refuse with a reason."
    )
    urls = click.option(
        "--webhook-url",
        "webhook_urls",
        multiple=True,
        metavar="URL",
        help="Told what became of files: completed, refused, expired. Repeatable.",
    )
    for option in (webhook_secret_option, urls, hook_timeout_option, before_finish_option, before_create):
        function = option(function)
    return function


def take_hooks(arguments: dict[str, Any]) -> dict[str, Any]:
    """Take the options out of a command's arguments. Returns the fields of `ServiceConfig` that they are.

    Raises:
        UsageError: A hook can't be.
        ServiceError: There is no secret to sign with, or it can't be read.
    """
    from bigupload.service.hooks.naming import check_hook, is_url
    from bigupload.service.webhooks.sending import check_webhook_url
    from bigupload.service.webhooks.signing import default_webhook_secret_file, load_webhook_secrets

    file = arguments.pop("webhook_secret_file")
    found = {name: arguments.pop(name, None) for name in ("before_create", "before_finish", "hook_timeout")}
    if not found["hook_timeout"] > 0:
        raise errors.UsageError("--hook-timeout must be above 0")
    hooks = {name: found[name] for name in ("before_create", "before_finish")}
    found["webhook_urls"] = tuple(arguments.pop("webhook_urls", ()))
    for url in found["webhook_urls"]:
        check_webhook_url(url)
    signs = found["webhook_urls"] or any(hook is not None and is_url(hook) for hook in hooks.values())
    if file is not None or signs:
        found["webhook_secrets"] = load_webhook_secrets(file or default_webhook_secret_file(), create=True)
    for name, hook in hooks.items():
        check_hook(name, hook, found.get("webhook_secrets", ()))
    return found
