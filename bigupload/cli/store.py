"""`bigupload store`: starts, stops, shows and removes the local store."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys

import click

from bigupload import errors
from bigupload.cli.reporting import STARTING_STORE
from bigupload.stores import local_store
from bigupload.stores.local_store import PROFILE, write_credentials
from bigupload.units import counted, format_size, printable


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
    """Delete the local store with all its objects, its credentials and the sample file. Stops it if it runs.

    What this machine knows of its uploads and jobs is forgotten. The media service's API keys and secrets stay: they
    are good for every bucket.
    """
    home = local_store.default_data_dir()
    if not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise click.UsageError(f"this deletes all objects in {printable(str(home))}: give --yes to do so")
        _ask(f"Delete the local store in {printable(str(home))}, with all its objects?")
    removed = local_store.remove()
    if removed is None:
        click.echo("there is no local store: nothing to remove", err=True)
        return
    stopped = "stopped and " if removed.stopped else ""
    click.echo(f"{stopped}removed {printable(str(home))}: {format_size(removed.freed_bytes)} freed", err=True)
    for path in removed.left:
        click.echo(f"left alone, not the local store's: {printable(str(path))}", err=True)
    _forget()
    _print_keys()


def _ask(question: str) -> None:
    """Ask whether to go on.

    Raises:
        BigUploadError: The answer is no, or the end of the input (Ctrl-D). Ctrl-C is click's Abort.
    """
    try:
        if click.confirm(question, err=True):
            return
    except click.Abort as e:
        click.echo(err=True)  # the next text has a line of its own
        if not isinstance(e.__context__, EOFError):
            raise
    raise errors.BigUploadError("nothing was removed")


def _print_keys() -> None:
    """Print that API keys stay, also those of `serve --local`: a key does not name its service."""
    from bigupload.service.access.keys import default_key_file

    if (path := default_key_file()).exists():
        click.echo(
            f"API keys stay, as the media service takes them for every bucket: {printable(str(path))} "
            "(bigupload keys list shows them, bigupload keys revoke revokes one)",
            err=True,
        )


def _forget() -> None:
    """Forget what this machine knows of the store's uploads: to resume one would start a new store.

    Manifests record that a store is local, not which one. So those of a store of one's own are forgotten only if its
    state directory is one of one's own, too.
    """
    if "BIGUPLOAD_LOCAL_STORE_DIR" in os.environ and "BIGUPLOAD_STATE_DIR" not in os.environ:
        return
    from bigupload.manifests.clean_up import forget_endpoint
    from bigupload.manifests.state_directory import state_dir
    from bigupload.stores.targets import LOCAL

    try:
        forgotten = forget_endpoint(state_dir(), LOCAL)
    except OSError as e:
        raise errors.ManifestError(f"can't forget the store's uploads in {state_dir()}: {e.strerror}") from e
    if forgotten.manifests or forgotten.others:
        uploads, jobs = counted(forgotten.manifests, "upload"), counted(forgotten.others, "job")
        click.echo(f"forgot {uploads} and {jobs} of the local store", err=True)


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
    keys = write_credentials(running.data_dir, running.access_key, running.secret_key, running.region)
    fields["credentials"] = keys
    if as_json:
        click.echo(json.dumps(fields, default=str))
    else:
        for name, value in fields.items():
            click.echo(f"{name:<12}  {printable(str(value))}")
        keys_are = f"AWS_SHARED_CREDENTIALS_FILE={shlex.quote(str(keys))}"
        command = (
            f"{keys_are} aws --profile {PROFILE} s3 ls --endpoint-url {running.endpoint_url} s3://{running.bucket}/"
        )
        click.echo(f"{'other tools':<12}  {printable(command)}")
