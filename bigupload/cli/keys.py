"""`bigupload keys`: the API keys of the media service."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bigupload import errors
from bigupload.cli import CLOSED, discard_output
from bigupload.cli.options import PATH
from bigupload.units import one_line

if TYPE_CHECKING:
    from bigupload.service.keys import KeyFile

_FILE = click.option("--keys", "path", type=PATH, help="The key file. [default: $BIGUPLOAD_KEYS, else the user's own]")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per key.")


@click.group()
def keys() -> None:
    """The API keys of the media service. A running service notices every change."""


@keys.command()
@click.option("--owner", required=True, metavar="NAME", help="The owner of the uploads: a-z, 0-9, - and _.")
@_FILE
@_JSON
def create(owner: str, path: Path | None, as_json: bool) -> None:
    """Create a key and print it. It is not shown again.

    KEY=$(bigupload keys create --owner NAME)
    """
    if "stdout" in CLOSED:
        raise errors.BigUploadError("no key was created: standard output is closed, and only that shows it")
    file = _open(path)
    key, plain = file.create(owner)
    fields = {name: value for name, value in dataclasses.asdict(key).items() if name != "revoked_at"}
    try:
        click.echo(json.dumps({**fields, "key": plain}) if as_json else plain)
    except OSError as e:
        file.revoke(key.id)  # nobody has it
        discard_output()
        raise errors.BigUploadError(f"the key can't be printed ({e.strerror}), and was revoked: create another") from e
    with contextlib.suppress(OSError):
        click.echo(f"bigupload: key {key.id} of {key.owner}: shown only once, so keep it now", err=True)


@keys.command("list")
@_FILE
@_JSON
def list_keys(path: Path | None, as_json: bool) -> None:
    """List the keys: ids, owners and dates. The keys themselves are not stored."""
    file = _open(path)
    found = file.list()
    if as_json:
        for key in found:
            click.echo(json.dumps(dataclasses.asdict(key)))
    elif found:
        rows = [(key.id, key.owner, one_line(key.created_at), one_line(key.revoked_at or "-")) for key in found]
        _table([("id", "owner", "created", "revoked"), *rows])
    else:
        click.echo(
            f"bigupload: there are no keys in {file.path}: create one with bigupload keys create --owner NAME", err=True
        )


@keys.command()
@click.argument("id_or_key", metavar="ID")
@_FILE
def revoke(id_or_key: str, path: Path | None) -> None:
    """Revoke a key: the service refuses the next request with it. ID is the key's id, or the key."""
    file = _open(path)
    before = {key.id for key in file.list() if key.revoked_at is not None}
    key = file.revoke(id_or_key)
    already = "was already revoked" if key.id in before else "revoked"
    click.echo(f"bigupload: key {key.id} of {key.owner}: {already} at {key.revoked_at}", err=True)


@keys.command("signing-key")
@click.option("--owner", required=True, metavar="NAME", help="The owner of the uploads.")
@click.option(
    "--secret",
    "secret_file",
    type=PATH,
    metavar="FILE",
    help="The file with the service's secret. [default: $BIGUPLOAD_SECRET_FILE, else the user's own]",
)
def print_signing_key(owner: str, secret_file: Path | None) -> None:
    """Print the key with which an app's backend makes upload tokens of an owner by itself.

    It is valid as long as the last line of the service's secret file: revoking API keys does not end it.
    """
    from bigupload.service.keys import check_owner, default_secret_file, load_secret, token_signing_key

    check_owner(owner)
    click.echo(token_signing_key(load_secret(secret_file or default_secret_file(), create=False)[-1], owner))


def _open(path: Path | None) -> KeyFile:
    from bigupload.service.keys import KeyFile, default_key_file

    return KeyFile(default_key_file() if path is None else path)


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
