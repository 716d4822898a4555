"""`bigupload webhooks`: try the receivers of the media service's events, and have events sent again."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigupload import errors
from bigupload.cli.bucket import bucket_argument, reached, take_bucket, webhook_secret_option
from bigupload.cli.options import connection_options, local_option, need_service, time_option
from bigupload.cli.running import run

if TYPE_CHECKING:
    from bigupload.service.webhooks.telling import Note, Notes

_LONGEST = 7 * 24 * 3600.0
"""Seconds for which delivered events are kept."""


@click.group()
def webhooks() -> None:
    """The webhooks of the media service: signed requests that notify your programs of each file's outcome."""


@webhooks.command()
@webhook_secret_option
def secret(webhook_secret_file: Path | None) -> None:
    """Print the secret by which receivers verify events. Makes one if there is none."""
    need_service()
    from bigupload.service.webhooks.hooks import default_webhook_secret_file, load_webhook_secrets

    click.echo(load_webhook_secrets(webhook_secret_file or default_webhook_secret_file(), create=True)[-1])


@webhooks.command()
@click.option("--webhook-url", "webhook_urls", multiple=True, required=True, metavar="URL", help="A receiver.")
@webhook_secret_option
def test(webhook_urls: tuple[str, ...], webhook_secret_file: Path | None) -> None:
    """Send each receiver a signed event of the type webhook.test, and print its answer.

    Exit status 1 if one of them did not answer with 2xx.
    """
    need_service()
    from bigupload.service.webhooks import hooks
    from bigupload.service.webhooks.telling import event

    for url in webhook_urls:
        hooks.check_webhook_url(url)
    secrets = hooks.load_webhook_secrets(webhook_secret_file or hooks.default_webhook_secret_file(), create=False)

    async def send_all() -> int:
        status = errors.EXIT_OK
        for url in webhook_urls:
            now, began = time.time(), time.monotonic()
            what = event("webhook.test", f"{now!r} {url}", {"message": "bigupload webhooks test"}, now)
            async with hooks.connections() as http:
                sent = await hooks.send(http, url, what.id, what.body, signer=hooks.Signer(secrets), now=now)
            milliseconds = (time.monotonic() - began) * 1000
            click.echo(f"{hooks.host_of(url)}: {sent.result}: {sent.said} ({milliseconds:.0f} ms)")
            if sent.result != "delivered":
                status = errors.EXIT_FAILED
        return status

    raise SystemExit(run(send_all))


@webhooks.command()
@bucket_argument
@local_option
@time_option(
    "--since", help="Send again all events of the given last hours or days, as in 6h; to the hour, 7d at most."
)
@click.option("--id", "ids", multiple=True, metavar="ID", help="Send again the event with this webhook-id. Repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per event.")
@connection_options
def replay(since: float | None, ids: tuple[str, ...], as_json: bool, **arguments: Any) -> None:
    """Have events sent again, with the ids that they had. A running service with --webhook-url delivers them.

    Events are kept for 7 days after their delivery, or after it was given up.
    """
    if (since is None) == (not ids):
        raise click.UsageError("name the events: --since TIME, or --id ID")
    need_service()
    name, options = take_bucket(arguments)

    async def replay_all() -> int:
        from bigupload.service.webhooks.telling import Notes

        async with reached(name, options) as bucket:
            notes = Notes(bucket, time.time)
            found = await _replay(notes, time.time() - min(since or _LONGEST, _LONGEST), set(ids), as_json=as_json)
        missing = sorted(set(ids) - found)
        if missing:
            raise errors.UsageError(f"there is no event {missing[0]}: events are kept for 7 days")
        if not as_json:
            click.echo(f"bigupload: {len(found)} events wait to be sent again", err=True)
        return errors.EXIT_OK

    raise SystemExit(run(replay_all))


async def _replay(notes: Notes, since: float, ids: set[str], *, as_json: bool) -> set[str]:
    from bigupload.service.webhooks.telling import Note

    found = set[str]()
    async for note in notes.done_since(since):
        event = note.event
        if event is None or event.id in found or (ids and event.id not in ids):
            continue
        found.add(event.id)
        await notes.add(Note(name=event.id, since=notes.clock(), event=event))
        click.echo(_line(note, as_json=as_json))
    return found


def _line(note: Note, *, as_json: bool) -> str:
    assert note.event is not None
    key = json.loads(note.event.body)["data"].get("key", "")
    ended = sorted({delivery.ended for delivery in note.deliveries.values() if delivery.ended is not None})
    if as_json:
        return json.dumps({"id": note.event.id, "type": note.event.type, "key": key, "before": ended})
    return f"{note.event.id}  {note.event.type:<15}  {', '.join(ended):<9}  {key}"
