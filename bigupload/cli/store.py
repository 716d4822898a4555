"""`bigupload store`: the local store's life."""

from __future__ import annotations

import dataclasses
import json

import click

from bigupload import errors
from bigupload.stores import local_store
from bigupload.units import printable


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
@click.option("--json", "as_json", is_flag=True)
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
