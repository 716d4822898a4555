"""`bigupload store`: starts, stops, shows and removes the local store."""

from __future__ import annotations

import dataclasses
import json
import sys

import click

from bigupload import errors
from bigupload.cli.reporting import STARTING_STORE
from bigupload.stores import local_store
from bigupload.units import format_size, printable


@click.group()
def store() -> None:
    """The local store: a real S3 store (SeaweedFS) on this machine, to try things. It listens on 127.0.0.1 only."""


@store.command()
def start() -> None:
    """Start the local store and wait until it is ready. If it runs already, show it."""
    if local_store.running() is None:
        click.echo(f"{STARTING_STORE} (a few seconds)", err=True)
    _show(local_store.start(), as_json=False)


@store.command()
def stop() -> None:
    """Stop the local store. Its objects stay."""
    click.echo("stopped" if local_store.stop() else "the local store was not running", err=True)


@store.command(short_help="Stop and delete the local store.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(yes: bool) -> None:
    """Delete the local store with all its objects, its credentials and the sample file. Stops it if it runs."""
    home = local_store.default_data_dir()
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(f"this deletes all objects in {printable(str(home))}: give --yes to do so")
        click.confirm(f"Delete the local store in {printable(str(home))}, with all its objects?", abort=True, err=True)
    removed = local_store.remove()
    if removed is None:
        click.echo("there is no local store: nothing to remove", err=True)
        return
    stopped = "stopped and " if removed.stopped else ""
    click.echo(f"{stopped}removed {printable(str(home))}: {format_size(removed.freed_bytes)} freed", err=True)
    for path in removed.left:
        click.echo(f"left alone, not the local store's: {printable(str(path))}", err=True)


@store.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(as_json: bool) -> None:
    """Show the local store. Exit status 1 if it does not run."""
    running = local_store.running()
    if running is None:
        click.echo("the local store is not running: start it with bigupload store start", err=True)
        raise SystemExit(errors.EXIT_FAILED)
    _show(running, as_json=as_json)


def _show(running: local_store.LocalStore, *, as_json: bool) -> None:
    """Print everything but the secret key, which is in a file that only the user can read."""
    fields = {k: v for k, v in dataclasses.asdict(running).items() if k != "secret_key"}
    if as_json:
        click.echo(json.dumps(fields, default=str))
    else:
        for name, value in fields.items():
            click.echo(f"{name:<12}  {printable(str(value))}")
