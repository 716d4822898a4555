"""`bigupload store`: the local store's life."""

from __future__ import annotations

import dataclasses
import json
import sys

import click

from bigupload import errors
from bigupload.stores import local_store
from bigupload.units import format_size, printable


@click.group()
def store() -> None:
    """A real S3 store on this machine (SeaweedFS), for trying things out: 127.0.0.1 only."""


@store.command()
def start() -> None:
    """Start it, or find the one that runs; back when it is ready."""
    _show(local_store.start(), as_json=False)


@store.command()
def stop() -> None:
    """Stop it. What it holds stays."""
    click.echo("stopped" if local_store.stop() else "it was not running", err=True)


@store.command()
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
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(as_json: bool) -> None:
    """Show it, if it runs; exit status 1 if it does not."""
    running = local_store.running()
    if running is None:
        click.echo("not running: bigupload store start", err=True)
        raise SystemExit(errors.EXIT_FAILED)
    _show(running, as_json=as_json)


def _show(running: local_store.LocalStore, *, as_json: bool) -> None:
    """All but the secret: that is in a file which only the user can read."""
    fields = {k: v for k, v in dataclasses.asdict(running).items() if k != "secret_key"}
    if as_json:
        click.echo(json.dumps(fields, default=str))
    else:
        for name, value in fields.items():
            click.echo(f"{name:<12}  {printable(str(value))}")
