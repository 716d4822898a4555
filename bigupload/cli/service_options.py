"""The options of a media service that several commands share: those of its policy, and those of its hooks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigupload import errors
from bigupload.cli.options import DURATION, PATH, SIZE, completed_by, joined
from bigupload.units import parse_duration

if TYPE_CHECKING:
    from bigupload.service.policy import MediaTypes

before_finish_option = click.option(
    "--before-finish",
    metavar="COMMAND|URL",
    help="Checks each file in the store before it counts, as a virus scanner. Refused files are deleted.",
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
FOREVER = "forever"


policy_options = joined(
    click.option("--max-size", type=SIZE, metavar="SIZE", help="The largest file. [default: the bucket's, or 5GB]"),
    click.option(
        "--types",
        metavar="FILE|any",
        shell_complete=completed_by("files"),
        help="Accept the types in a file like mime.types, or any. [default: the bucket's, or the published list]",
    ),
    click.option(
        "--keep", metavar="TIME|forever", help="When files are deleted, as in 30d. [default: the bucket's, or 7d]"
    ),
    click.option(
        "--key-template",
        metavar="TEMPLATE",
        help="The shape of keys. [default: the bucket's, or media/{owner}/{random}.{extension}]",
    ),
)
"""The options of a bucket's policy."""


def take_policy(arguments: dict[str, Any]) -> dict[str, Any]:
    """Take the options out of a command's arguments. Returns the fields of `Policy` that were named.

    Raises:
        UsageError: A value can't be.
    """
    from bigupload.service.object_keys import KeyTemplate
    from bigupload.service.policy import PUBLISHED_POLICY

    size, types, keep, template = (arguments.pop(name) for name in ("max_size", "types", "keep", "key_template"))
    found: dict[str, Any] = {}
    if size is not None:
        found["max_file_size"] = size
    if types is not None:
        found["types"] = _types(types)
    if keep is not None:
        found["keep"] = _keep(keep)
    if template is not None:
        found["keys"] = KeyTemplate(template)
    PUBLISHED_POLICY.replaced(found)  # raises UsageError
    return found


def _types(text: str) -> MediaTypes:
    from bigupload.service.policy import ANY_TYPES, PUBLISHED_TYPES, read_types

    for known in (ANY_TYPES, PUBLISHED_TYPES):
        if text == known.name:
            return known
    try:
        return read_types(Path(text).read_text(encoding="utf-8-sig"), where=text)
    except (OSError, UnicodeDecodeError) as e:
        why = getattr(e, "strerror", None) or "not UTF-8"
        write = f"{ANY_TYPES.name}, {PUBLISHED_TYPES.name} or the name of a file with types"
        raise errors.UsageError(f"can't read the types in {text}: {why} (write {write})") from e


def _keep(text: str) -> int | None:
    if text.strip().lower() == FOREVER:
        return None
    try:
        return round(parse_duration(text))
    except errors.UsageError:
        raise errors.UsageError(f"--keep is a time or forever, and not {text!r}: write it like 30d") from None


hook_options = joined(
    click.option(
        "--before-create", metavar="COMMAND|URL", help="Asked before an upload begins. It may refuse with a reason."
    ),
    before_finish_option,
    hook_timeout_option,
    click.option(
        "--webhook-url",
        "webhook_urls",
        multiple=True,
        metavar="URL",
        help="Gets an event for each file that is completed, refused or expired. Repeatable.",
    ),
    click.option("--webhook-uploads", is_flag=True, help="Send events of uploads that begin or are aborted, too."),
    webhook_secret_option,
)
"""The options of `serve`."""


def take_hooks(arguments: dict[str, Any]) -> dict[str, Any]:
    """Take the options out of a command's arguments. Returns the fields of `ServiceConfig` that they are.

    Raises:
        UsageError: A hook can't be.
        ServiceError: There is no secret to sign with, or it can't be read.
    """
    from bigupload.service.hooks import check_hook, is_url
    from bigupload.service.webhooks.sending import check_webhook_url, default_webhook_secret_file, load_webhook_secrets

    file = arguments.pop("webhook_secret_file")
    found = {name: arguments.pop(name, None) for name in ("before_create", "before_finish", "hook_timeout")}
    if not found["hook_timeout"] > 0:
        raise errors.UsageError("--hook-timeout must be above 0")
    hooks = {name: found[name] for name in ("before_create", "before_finish")}
    found["webhook_urls"] = tuple(arguments.pop("webhook_urls", ()))
    found["webhook_uploads"] = arguments.pop("webhook_uploads", False)
    for url in found["webhook_urls"]:
        check_webhook_url(url)
    signs = found["webhook_urls"] or any(hook is not None and is_url(hook) for hook in hooks.values())
    if file is not None or signs:
        found["webhook_secrets"] = load_webhook_secrets(file or default_webhook_secret_file(), create=True)
    for name, hook in hooks.items():
        check_hook(name, hook, found.get("webhook_secrets", ()))
    return found
