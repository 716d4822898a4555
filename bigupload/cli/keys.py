"""`bigupload keys`: the API keys of the media service."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

import click

from bigupload import errors
from bigupload.cli import CLOSED, discard_output, print_line
from bigupload.cli.options import PATH, file_option, need_service
from bigupload.service.access import keys as service_keys
from bigupload.service.access.keys import KeyFile, check_owner, default_key_file, default_secret_file, load_secret
from bigupload.units import one_line

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
    print_line(f"bigupload: key {key.id} of {key.owner}: shown only once, so keep it now")


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


_SECRET = file_option(
    "--secret",
    "secret_file",
    help="The file with the service's secret. [default: $BIGUPLOAD_SECRET_FILE, else the user's own]",
)


@keys.command("signing-key")
@click.option("--owner", required=True, metavar="NAME", help="The owner of the uploads.")
@_SECRET
def print_signing_key(owner: str, secret_file: Path | None) -> None:
    """Print the key with which an app's backend makes upload tokens of an owner by itself.

    It is valid as long as the last line of the service's secret file: revoking API keys does not end it.
    """
    check_owner(owner)
    path = secret_file or default_secret_file()
    is_new = not os.path.lexists(path)
    click.echo(service_keys.token_signing_key(load_secret(path, create=True)[-1], owner))
    if is_new:
        click.echo(f"bigupload: made the secret file {path}: bigupload serve must use the same (--secret)", err=True)


@keys.group()
def secret() -> None:
    """The service's secret: replace it in three steps. It signs handles, tokens and receipts.

    Each secret is named by the id of its receipt key. Restart all replicas after each step.
    """


@secret.command("list")
@_SECRET
@click.option("--jwks", is_flag=True, help="Print the public keys of receipts, as the service publishes them.")
def list_secrets(secret_file: Path | None, jwks: bool) -> None:
    """List the ids of the secrets: the last one signs, all are accepted."""
    _, secrets = _secrets(secret_file)
    from bigupload.service.access.handles import key_id, published

    if jwks:
        click.echo(published(secrets).model_dump_json())
        return
    for number, each in enumerate(secrets, 1):
        click.echo(f"{key_id(each)}  {'signs' if number == len(secrets) else 'accepted'}")


@secret.command("add")
@_SECRET
def add_secret(secret_file: Path | None) -> None:
    """Step 1: add a secret that is accepted and signs nothing yet. Print its id."""
    path, _ = _secrets(secret_file)
    from bigupload.service.access.handles import key_id

    kid = key_id(service_keys.add_secret(path))
    click.echo(kid)
    restart = f"restart all replicas, then run: bigupload keys secret sign {kid}"
    click.echo(f"bigupload: the secret is accepted, and signs nothing yet: {restart}", err=True)


@secret.command("sign")
@click.argument("kid", metavar="ID")
@_SECRET
def sign_with_secret(kid: str, secret_file: Path | None) -> None:
    """Step 2: sign with another secret from now on."""
    path, secrets = _secrets(secret_file)
    service_keys.sign_with(path, _named(kid, secrets, path))
    then = "restart all replicas; after 7 days, remove the others by bigupload keys secret remove ID"
    click.echo(f"bigupload: the secret {kid} signs: {then}", err=True)


@secret.command("remove")
@click.argument("kid", metavar="ID")
@_SECRET
@click.option("--force", is_flag=True, help="Also before 7 days are over: end what it signed now.")
def remove_secret(kid: str, secret_file: Path | None, force: bool) -> None:
    """Step 3: remove a secret. What it signed ends: uploads, tokens, receipts, and signing keys of backends."""
    import time

    path, secrets = _secrets(secret_file)
    from bigupload.service.access.handles import LIFETIME

    found = _named(kid, secrets, path)
    if found == secrets[-1]:
        raise errors.UsageError(f"the secret {kid} signs: first sign with another one")
    left = LIFETIME - (time.time() - path.stat().st_mtime)
    if left > 0 and not force:
        raise errors.UsageError(
            f"{path} was changed less than 7 days ago, and what the secret {kid} signed may still be in use: wait for "
            f"{left / 86_400:.1f} days, or add --force"
        )
    service_keys.remove_secret(path, found)
    click.echo(f"bigupload: the secret {kid} is removed: restart all replicas", err=True)


def _secrets(path: Path | None) -> tuple[Path, list[str]]:
    """Return the secret file and what it holds."""
    need_service()
    path = path or default_secret_file()
    return path, load_secret(path, create=False)


def _named(kid: str, secrets: Sequence[str], path: Path) -> str:
    from bigupload.service.access.handles import key_id

    for each in secrets:
        if key_id(each) == kid:
            return each
    raise errors.UsageError(f"{path} has no secret with the id {kid}: bigupload keys secret list shows the ids")


def _open(path: Path | None) -> KeyFile:
    return KeyFile(default_key_file() if path is None else path)


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
