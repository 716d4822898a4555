"""The help of a command: examples, and the options in groups. `--help` shows the usual ones, `--help-all` every one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

FEW = 14
"""A command with no more options shows them in one list."""
MANY = 25
"""A command with more options has `--help-all`."""
_GROUPS = {
    "Target": "to* service* local* bucket* upload_id adopt*",
    "Input": "source* follow* idle name* expected_size end_marker allow_empty temp_dir poll until_idle* all_names",
    "Which files": (
        "include* exclude* exclude_from min_size max_size newer_than* follow_symlinks files_from* null "
        "dry_run* older_than* since ids"
    ),
    "Resume and safety": (
        "no_resume* manifest skip_existing* size_only delete* delta if_none_match* verify_source on_change "
        "write_checksums delete_source* delete_if_proved delete_empty_dirs delete_links "
        "require_proof* trust complete_within yes download* state keep* clean only_unfinished"
    ),
    "After the proof": "share* receipt* mhl* sha256 on_done* on_done_timeout",
    "Object": (
        "content_type* content_language content_encoding content_disposition cache_control expires metadata* "
        "tags storage_class* website_redirect part_size checksum"
    ),
    "Access and encryption": (
        "acl* grant_full_control grant_read grant_read_acp grant_write_acp sse* sse_kms_key_id "
        "sse_customer_key object_lock_mode object_lock_retain_until object_lock_legal_hold"
    ),
    "Speed": "concurrency* limit_rate* give_up_after response_timeout hedge congestion_control dask",
    "Store": (
        "endpoint_url* region* profile* addressing ca_bundle no_verify_ssl no_sign_request "
        "expected_bucket_owner request_payer accelerate dual_stack fips"
    ),
    "Output": "progress* as_json* json_summary verbose* quiet* log_file log_level color config",
}
"""Option names of the commands that upload, in the order of display. If a command has many,
`--help` shows those with a star. An option that is not here ends the group of the one that its command declares before
it."""
_GROUPS_OF_THE_SERVICE = {
    "Service": (
        "bucket* local* host* port* workers public_url* signing_endpoint stop_delay trusted_proxies "
        "store_timeout sweep_every shared"
    ),
    "What clients may do": (
        "max_size types* keep* key_template no_public_read origins cors_origins* max_open_uploads "
        "max_open_uploads_of_user quota* user_quota user_files requests_a_second allow_private_media_hosts posts_url "
        "posts_authorization"
    ),
    "Keys, hooks and webhooks": (
        "key_file* secret_file before_create before_finish* hook_timeout webhook_urls* webhook_uploads "
        "webhook_secret_file tell_webhooks since ids dry_run*"
    ),
    "Store": _GROUPS["Store"],
    "Output": _GROUPS["Output"],
}
"""The same of the media service's commands."""
_SERVICE = ("serve", "bucket", "keys", "webhooks")
EXAMPLES = {
    "upload": (
        ("bigupload upload film.mov s3://bucket/films/", "to s3://bucket/films/film.mov; the same again resumes"),
        ("bigupload upload photos/ s3://bucket/photos/ --exclude '*.tmp'", "a directory"),
        ("pg_dump app | bigupload upload - s3://bucket/app.sql --checksum sha256", "standard input"),
    ),
    "move": (
        ("bigupload move film.mov s3://bucket/films/", "one file; the same again completes it after any stop"),
        ("bigupload move /media/card/DCIM s3://bucket/card/ --delete-empty-dirs", "a directory"),
        ("bigupload move old/ s3://bucket/old/ --receipt old.json", "what was moved is in the receipt"),
    ),
    "sync": (
        ("bigupload sync photos/ s3://bucket/photos/", "send what is not there yet"),
        ("bigupload sync photos/ s3://bucket/photos/ --delete --dry-run", "show what would be sent and deleted"),
        ("bigupload sync photos/ s3://bucket/photos/ --limit-rate 08:00=2MB/s,20:00=off", "slowly by day"),
    ),
    "watch": (
        ("bigupload watch recordings/ s3://bucket/recordings/", "until Ctrl-C"),
        ("bigupload watch card/ s3://bucket/card/ --until-idle 5min", "until nothing has come for five minutes"),
        ("bigupload watch in/ s3://bucket/in/ --include '*.mxf'", "only some files"),
    ),
    "resume": (
        ("bigupload resume", "every unfinished upload of a file"),
        ("bigupload resume 375c068f", "one of them: bigupload status shows the ids"),
        ("bigupload resume --source film.mov --adopt s3://bucket/film.mov", "an upload that another program began"),
    ),
    "status": (
        ("bigupload status", "what this machine knows"),
        ("bigupload status --unfinished", "what can be resumed"),
    ),
    "abort": (
        ("bigupload abort 375c068f", "the store deletes its parts"),
        ("bigupload abort film.manifest.json", "by its manifest"),
        ("bigupload abort /mnt/old/film.manifest.json --trust", "by a manifest that another machine wrote"),
    ),
    "gc": (
        ("bigupload gc s3://bucket/ --dry-run", "show the orphaned uploads"),
        ("bigupload gc s3://bucket/ --older-than 7d", "abort those that have been idle for a week"),
        ("bigupload gc s3://bucket/ --state /mnt/old/manifests", "spare the uploads of manifests that were moved"),
    ),
    "check-url": (("bigupload check-url https://example.com/film.mp4", "whether it can be a media item"),),
    "share": (("bigupload share s3://bucket/film.mov --for 12h", "a link that lasts for half a day"),),
    "verify": (
        ("bigupload verify film.mov s3://bucket/film.mov", "by the checksums that the store has"),
        ("bigupload verify photos/ s3://bucket/photos/", "each file of a directory"),
        ("bigupload verify film.mov s3://bucket/film.mov --download", "by comparing all bytes"),
    ),
    "serve": (
        ("bigupload serve --local", "try it: a bucket and a key in the local store"),
        ("bigupload serve --bucket s3://media", "a bucket that `bigupload bucket setup` has prepared"),
        ("bigupload serve --bucket s3://media --webhook-url https://app.example.com/hook", "with events"),
    ),
    "keys create": (
        ("KEY=$(bigupload keys create --owner studio)", "the key is printed once"),
        ("KEY=$(bigupload keys create --owner studio --keys /etc/bigupload/keys)", "in the key file of a service"),
    ),
    "keys list": (("bigupload keys list", "each key's id, owner and dates"),),
    "keys revoke": (("bigupload keys revoke 8984d09f", "bigupload keys list shows the ids"),),
    "keys signing-key": (
        ("KEY=$(bigupload keys signing-key --owner studio)", "for a backend that makes upload tokens by itself"),
    ),
    "keys secret list": (
        ("bigupload keys secret list", "the ids, and which one signs"),
        ("bigupload keys secret list --jwks", "the public keys by which receipts are verified"),
    ),
    "keys secret add": (("bigupload keys secret add", "then restart all replicas"),),
    "keys secret sign": (
        ("bigupload keys secret sign 5d1f0c7e93b84a26a0e4f7c2d86b1935", "the id that keys secret add printed"),
    ),
    "keys secret remove": (
        ("bigupload keys secret remove 5d1f0c7e93b84a26a0e4f7c2d86b1935", "the old one, a week later"),
        ("bigupload keys secret remove 5d1f0c7e93b84a26a0e4f7c2d86b1935 --force", "at once: it has leaked"),
    ),
    "bucket setup": (
        ("bigupload bucket setup s3://media --keep 30d", "files are deleted after 30 days"),
        ("bigupload bucket setup s3://media --max-size 20GB --types any", "larger files, of every type"),
        (
            "bigupload bucket setup s3://media --no-public-read --origin https://app.example.com",
            "private, for one page",
        ),
    ),
    "bucket sweep": (
        ("bigupload bucket sweep s3://media --dry-run", "show what would be deleted"),
        ("bigupload bucket sweep s3://media", "delete it, where no service does"),
        ("bigupload bucket sweep s3://media --before-finish /opt/scan", "with the same check of each file as serve"),
    ),
    "webhooks secret": (("bigupload webhooks secret", "give it to the receivers"),),
    "webhooks test": (("bigupload webhooks test --webhook-url https://app.example.com/hook", "one signed event"),),
    "webhooks replay": (
        ("bigupload webhooks replay s3://media --since 2d", "send the events of two days again"),
        ("bigupload webhooks replay s3://media --id evt_9f86d081884c7d659a2feaa0c55ad015", "send one event again"),
    ),
    "store start": (("bigupload store start", "then: bigupload upload --local"),),
    "store status": (("bigupload store status", "its address, and the keys for other tools"),),
    "store stop": (("bigupload store stop", "its objects stay"),),
    "store remove": (("bigupload store remove", "ask, then delete it with all objects"),),
    "config show": (
        ("bigupload config show", "all that the environment and the file set"),
        ("bigupload config show upload", "where each option's value comes from"),
        ("bigupload config show upload --profile work --local", "as a call with these options would take them"),
    ),
    "completion install": (
        ("bigupload completion install", "for your shell"),
        ("bigupload completion install fish", "for another one"),
    ),
    "completion show": (("bigupload completion show zsh", "to read it, or to install it yourself"),),
}
"""By command: each with what it does."""


def groups(
    path: Sequence[str], options: Sequence[click.Option], *, usual: bool = False
) -> Iterator[tuple[str, list[click.Option]]]:
    """Divide a command's options.

    Args:
        path: The command's names, as in `("bucket", "setup")`.
        options: Its options.
        usual: Leave out what is seldom used, if there are many.

    Yields:
        The title of each group that has options, and these in the order of the group.
    """
    if len(options) <= FEW:
        yield "Options", list(options)
        return
    usual = usual and len(options) > MANY
    left = {option.name or "": option for option in options}
    table = _GROUPS_OF_THE_SERVICE if path[0] in _SERVICE else _GROUPS
    named = {title: names.split() for title, names in table.items()}
    titles = {name.strip("*"): title for title, names in named.items() for name in names}
    title = next(iter(named))
    for name, option in left.items():
        title = titles.get(name, getattr(option, "group", title))
        if name not in titles and not option.is_eager:
            named[title].append(name)
    for title, names in named.items():
        found = [(left.pop(name.strip("*"), None), name.endswith("*")) for name in names]
        if shown := [option for option, is_usual in found if option is not None and (is_usual or not usual)]:
            yield title, shown
    if left:
        yield "Help", list(left.values())


def options_of(command: click.Command, ctx: click.Context) -> list[click.Option]:
    """Return the options of a command that are not hidden, with `--help`."""
    return [each for each in command.get_params(ctx) if isinstance(each, click.Option) and not each.hidden]


def add_help(command: click.Command, path: tuple[str, ...]) -> None:
    """Give a command its examples, the groups and, where it has many options, `--help-all`."""
    name = " ".join(path)

    def format_options(ctx: click.Context, formatter: click.HelpFormatter) -> None:
        every, shown = options_of(command, ctx), 0
        for title, group in groups(path, every, usual=_ALL not in ctx.meta):
            shown += len(group)
            with _section(formatter, title, ctx.color):
                formatter.write_dl([row for each in group if (row := each.get_help_record(ctx)) is not None])
        if shown < len(every):
            formatter.write_paragraph()
            formatter.write_text(f"{len(every) - shown} more options: bigupload {name} --help-all")

    def format_help_text(ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _heed_variable(ctx)
        click.Command.format_help_text(command, ctx, formatter)
        if examples := EXAMPLES.get(name):
            with _section(formatter, "Examples", ctx.color):
                for line, meaning in examples:
                    formatter.write(f"{'':>{formatter.current_indent}}# {meaning}\n")
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")

    command.format_options = format_options  # type: ignore[method-assign]  # of any command
    command.format_help_text = format_help_text  # type: ignore[method-assign]  # of any command
    if len(command.params) > MANY:
        command.params.append(
            click.Option(
                ["--help-all"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_show_all,
                help="Show every option, and exit.",
            )
        )


_ALL = "bigupload.help of all options"


def _show_all(ctx: click.Context, _: click.Parameter, value: Any) -> None:
    if value and not ctx.resilient_parsing:
        ctx.meta[_ALL] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


def is_plain(color: bool | None) -> bool:
    """Whether nothing is coloured. `color`: that of click's context; None leaves it to the environment."""
    return any(map(os.environ.get, ("NO_COLOR", "NO_COLOUR"))) if color is None else not color


def _section(formatter: click.HelpFormatter, title: str, color: bool | None) -> Any:
    """A section whose title is bold on a terminal: `click.echo` takes that out for files and pipes."""
    return formatter.section(title if is_plain(color) else click.style(title, bold=True))


LOG_LEVELS = ("debug", "info", "warning")
"""The values of --log-level: each attempt of each request, results, problems."""


def common_options(load: Callable[[click.Context, click.Parameter, Any], Any] | None = None) -> list[click.Option]:
    """Return the options that every command takes, also before its name. `load`: reads the configuration file."""
    path = click.Path(path_type=Path)
    return [
        click.Option(["-v", "--verbose"], count=True, help="Log what happens; -vv logs each attempt of each request."),
        click.Option(["-q", "--quiet"], is_flag=True, help="Show errors and results only."),
        click.Option(["--log-file"], type=path, metavar="FILE", help="Append a full log to FILE."),
        click.Option(["--log-level"], type=click.Choice(LOG_LEVELS), help="What FILE gets. [default: debug]"),
        click.Option(
            ["--config"],
            type=path,
            metavar="FILE",
            is_eager=True,
            help="Take options from this TOML file. [default: config.toml in the user's configuration directory]",
            callback=load,
        ),
        click.Option(  # behind --config, whose file may have it
            ["--color"],
            type=click.Choice(["auto", "always", "never"]),
            is_eager=True,
            expose_value=False,
            callback=_set_color,
            help="Use colours: on a terminal unless NO_COLOR is set, always, or never. [default: auto]",
        ),
    ]


def _heed_variable(ctx: click.Context) -> None:
    """Take the colour from the environment. `--help` is typed, and so click looks at it before that."""
    if ctx.color is None:
        for param in ctx.command.params:
            if param.name == "color":
                _set_color(ctx, param, param.consume_value(ctx, {})[0])


def _set_color(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    # The context has the options before the command's name, which a variable or the file does not replace.
    typed = click.core.ParameterSource.COMMANDLINE
    before = ctx.find_root().get_parameter_source("color") is typed
    if value is not None and (not before or ctx.get_parameter_source("color") is typed):
        ctx.color = {"always": True, "never": False}.get(value)
