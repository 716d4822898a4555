"""MkDocs calls these hooks when it builds the site. They make its reference pages from the code.

These are 35 pages, of 3,800 lines of Markdown, that nobody has to write or to keep true. mkdocstrings, which the site
uses for functions and classes, knows neither the groups of options nor the API and the schemas.
"""

from __future__ import annotations

import html
import inspect
import json
import os
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import bigupload
from bigupload import errors, events
from bigupload.cli import _cli, settings
from bigupload.cli.help import EXAMPLES, groups, options_of
from bigupload.service.http.endpoints import document

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_LINK = re.compile(r"""(\]\(|\ssrc=")(?![a-z]+:|[#/])([^)\s"#]+)([^)\s"]*)""")
_TASKS = {
    "reference/upload": (
        "Upload one source",
        "A file, a URL, bytes, a file object or a stream becomes one object.",
        ("upload", "upload_sync", "start", "UploadResult", "UploadHandle", "UploadOptions", "PartProof", "Verified",
         "Algorithm"),
    ),
    "reference/many": (
        "Upload many files",
        "Files of a program's choice, several at a time.",
        ("upload_many", "select_files", "Selection", "FileEntry", "Omitted", "UploadFailed", "UploadManyOptions"),
    ),
    "reference/steps": (
        "After the proof",
        "Steps that follow the proof of each file: `then=`.",
        ("Digest", "Link", "Receipt", "DeleteSource", "Row"),
    ),
    "reference/directories": (
        "Keep a directory in the store",
        "Once, as `sync` does it, or for as long as the program runs, as `watch` does it.",
        ("sync", "watch", "SyncResult", "SyncStep", "SyncOptions", "WatchOptions"),
    ),
    "reference/resume": (
        "Resume and abort",
        "What to do with uploads that have begun.",
        ("resume", "adopt", "abort", "list_uploads", "abort_orphans", "KnownUpload", "Orphan", "OrphanReport",
         "ResumeOptions", "AdoptOptions", "AbortOptions", "OrphanOptions"),
    ),
    "reference/verify": (
        "Prove objects",
        "Compare an object with a file, whichever program uploaded it.",
        ("verify", "verify_many", "read_back", "Verification", "VerificationFailed", "ReadBack", "VerifyOptions",
         "ReadBackOptions"),
    ),
    "reference/writers": (
        "Write an object",
        "An object that a program writes like a file, and that exists only if it was closed cleanly.",
        ("open_writer", "UploadWriter", "TextUploadWriter", "AsyncUploadWriter", "WriterOptions"),
    ),
    "reference/share": (
        "Share objects",
        "Links by which others can read an object.",
        ("share", "Share", "ShareOptions"),
    ),
    "reference/uploader": (
        "Share an uploader",
        "Uploads that share connections, a rate limit and retries; and how to display them.",
        ("Uploader", "UploaderOptions", "RetryPolicy", "RateSchedule", "rich_progress", "tqdm_progress"),
    ),
    "reference/store": (
        "Name the store and the object",
        "How to reach a store, with which credentials, and the properties of the object.",
        ("S3Options", "Credentials"),
    ),
}  # fmt: skip
"""The pages of the library's reference: the title, a sentence, and the names of `bigupload` in their order."""
_SCHEMAS = ROOT / "bigupload" / "schema"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put a page for each command below "Every option"."""
    reference: Any = next(section["Reference"] for section in config.nav or () if "Reference" in section)
    every = next(entry for entry in reference if "Every option" in entry)
    every["Every option"] = [every["Every option"], *({name: f"{_page_of(name)}.md"} for name in _names())]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the first page and the reference."""
    pages = {
        "index": [(ROOT / "README.md").read_text()],
        **_library(),
        "reference/errors": _errors(),
        "reference/events": _events(),
        **_commands(),
        "reference/events-json": _schema("Events as JSON", "events.schema.json"),
        "reference/manifest": _schema("The manifest", "manifest.schema.json"),
        "reference/receipt": _schema("Receipts", "receipt.schema.json"),
        "reference/api": _api(),
    }
    for name, lines in pages.items():
        files.append(File.generated(config, f"{name}.md", content="\n".join(lines) + "\n"))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files that are no pages of the site lead to the repository."""
    name = page.file.src_uri
    folder = ROOT if name == "index.md" else (DOCS / name).parent

    def lead(link: re.Match[str]) -> str:
        before, target, anchor = link.groups()
        path = Path(os.path.normpath(folder / target))
        inside = path.relative_to(DOCS).as_posix() if path.is_relative_to(DOCS) else None
        if inside is not None and files.get_file_from_path(inside) is not None:
            return f"{before}{os.path.relpath(path, (DOCS / name).parent)}{anchor}"
        if not path.exists():
            return link[0]  # a page that is made here, or a dead link, which the strict build finds
        kind = "tree" if path.is_dir() else "blob"
        return f"{before}{(config.repo_url or '').rstrip('/')}/{kind}/main/{path.relative_to(ROOT).as_posix()}{anchor}"

    return _LINK.sub(lead, markdown)


def on_page_content(content: str, **_: object) -> str:
    """Show `|` in the code of a table's cell without the backslash that GitHub needs before it.

    The `::` before the code of a docstring is for `help`.
    """
    content = re.sub(r"<td.*?</td>", lambda cell: cell[0].replace("\\|", "|"), content, flags=re.DOTALL)
    return content.replace("<p>::</p>", "")


def _library() -> dict[str, list[str]]:
    """The pages of the library: an overview, and a page for each task."""
    tasks = {name: list(_task(name, *task)) for name, task in _TASKS.items()}
    missing = set(bigupload.__all__) - {name for _, _, names in _TASKS.values() for name in names}
    missing -= {"__version__", *vars(errors), *vars(events)}
    if missing:
        raise PluginError(f"docs/site/pages.py names no page of the reference for {sorted(missing)}")
    return {"reference/library": list(_overview()), **tasks}


def _overview() -> Iterator[str]:
    yield "# The library\n"
    yield "The names of the package `bigupload`, by task. [In a program](../library.md) shows their use."
    yield "The [errors](errors.md) and the [events](events.md) have pages of their own.\n"
    for name, (title, text, names) in _TASKS.items():
        yield f"## [{title}]({Path(name).name}.md)\n\n{text}\n\n| name | meaning |\n|---|---|"
        for each in names:
            summary = inspect.cleandoc(getattr(bigupload, each).__doc__ or "").partition("\n")[0]
            yield f"| [`{each}`]({Path(name).name}.md#bigupload.{each}) | {_cell(summary)} |"
        yield ""


def _task(name: str, title: str, text: str, names: Iterable[str]) -> Iterator[str]:
    yield f"# {title}\n\n{text}\n"
    for each in names:
        value = getattr(bigupload, each)
        if typing.is_typeddict(value):
            yield from _typed_options(each, value)
        elif value is bigupload.Uploader:
            yield f"::: bigupload.{each}\n    options: {{members: [__init__]}}\n"
            yield from _methods(value)
        elif each in ("start", "upload_sync"):  # the same thirty parameters
            yield f"::: bigupload.{each}\n    options: {{show_signature: false, show_docstring_parameters: false}}\n"
            yield "Its parameters are those of [upload][bigupload.upload].\n"
        elif each == "open_writer":  # in the stub it is overloaded, and mkdocstrings finds no such function
            yield f'<a id="bigupload.{each}"></a>\n'
            yield f"::: bigupload.api.functions.{each}\n    options: {{heading: {each}, show_signature: false}}\n"
            yield "Its options are those below, `text`, `encoding` and `newline`, and those of an `Uploader`.\n"
        else:
            yield f"::: bigupload.{each}\n"


def _methods(kind: type) -> Iterator[str]:
    yield "Each method is also a function for a single call, which has a section of its own. The function takes the"
    yield "options of the method, and those of the `Uploader` that matter to it.\n"
    yield "| method | meaning |\n|---|---|"
    for name, value in vars(kind).items():
        if inspect.isfunction(value) and not name.startswith("_"):
            yield f"| [`{name}`][bigupload.{name}] | {_cell((value.__doc__ or '').partition(chr(10))[0])} |"
    yield ""


def _typed_options(name: str, declared: Any) -> Iterator[str]:
    """A typed dictionary, with the options of its bases."""
    summary, _, attributes = inspect.cleandoc(declared.__doc__).partition("\n\nAttributes:\n")
    yield f"## `{name}` {{#bigupload.{name}}}\n\n{summary} A typed dictionary:\n"
    for option, text in re.findall(r"^    (\w+): ((?:.+\n?(?:        .+\n?)*))", attributes, re.MULTILINE):
        kind = declared.__annotations__[option].__forward_arg__
        yield f"- **`{option}`** (`{kind}`). {' '.join(text.split())}"
    yield ""


def _errors() -> Iterator[str]:
    yield "# Errors of the library\n"
    yield "Each is a `BigUploadError`. Its `exit_code` is the exit status of a command that ends with it.\n"
    for name in bigupload.__all__:
        if _is_of(getattr(bigupload, name), errors):
            yield f"::: bigupload.{name}\n"


def _events() -> Iterator[str]:
    yield "# Events\n"
    yield inspect.cleandoc(events.__doc__ or "") + "\n"
    yield "`--progress json` prints one a line: see [events as JSON](events-json.md).\n"
    for kind in (events.UploadIdentity, *typing.get_args(events.Event)):
        yield f"::: bigupload.{kind.__name__}\n"


def _is_of(value: object, module: Any) -> bool:
    return inspect.isclass(value) and value.__module__ == module.__name__


def _names() -> list[str]:
    return _cli.list_commands(click.Context(_cli))


def _page_of(name: str) -> str:
    return f"reference/command-{name}"


def _commands() -> dict[str, list[str]]:
    """The pages of the commands: an overview, and a page for each."""
    pages = {name: [f"# {name}\n"] for name in _names()}
    for words, command in settings.leaves(_cli):
        pages[words[0]] += _command(words, command)
    return {"reference/commands": list(_every_command()), **{_page_of(name): lines for name, lines in pages.items()}}


def _every_command() -> Iterator[str]:
    yield "# Every option\n"
    yield "[Commands](../commands.md) explains each command. These are its options:\n"
    yield "| command | meaning |\n|---|---|"
    for words, command in settings.leaves(_cli):
        name = " ".join(words)
        anchor = f"#{name.replace(' ', '-')}" if len(words) > 1 else ""
        summary = inspect.cleandoc(command.help or "").partition("\n\n")[0]
        yield f"| [`{name}`]({Path(_page_of(words[0])).name}.md{anchor}) | {_cell(summary)} |"
    yield "\nEvery command takes these:\n"
    yield from _options(options_of(_cli, context := click.Context(_cli)), context)


def _command(words: tuple[str, ...], command: click.Command) -> Iterator[str]:
    common = [each.name for each in _cli.params]
    context = click.Context(command, info_name=" ".join(("bigupload", *words)))
    if len(words) > 1:
        yield f"## {' '.join(words)}\n"
    yield f"    {context.command_path} {' '.join(command.collect_usage_pieces(context))}\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    if examples := EXAMPLES.get(" ".join(words)):
        yield "```console"
        for line, meaning in examples:
            yield f"# {meaning}\n$ {line}"
        yield "```\n"
    own = [each for each in options_of(command, context) if each.name not in common and "--help" not in each.opts]
    for title, group in groups(words, own):
        yield f"{'###' if len(words) > 1 else '##'} {title}\n"
        yield from _options(group, context)


def _options(options: Iterable[click.Option], context: click.Context) -> Iterator[str]:
    yield "| option | meaning |\n|---|---|"
    for each in options:
        if (row := each.get_help_record(context)) is not None:
            yield f"| `{row[0]}` | {_cell(html.escape(row[1]))} |"
    yield ""


def _schema(title: str, name: str) -> Iterator[str]:
    schema = json.loads((_SCHEMAS / name).read_bytes())
    yield f"# {title}\n"
    yield f"The JSON Schema is in the package: `bigupload/schema/{name}`.\n"
    yield schema["description"] + "\n"
    for name, described in schema["$defs"].items():
        yield f"## {name}\n"
        yield described.get("description", "") + "\n"
        yield from _table(described.get("properties", {}), described.get("required", ()))


def _table(properties: Mapping[str, Any], required: Any) -> Iterator[str]:
    if not properties:
        return
    yield "| field | kind | meaning |\n|---|---|---|"
    for name, described in properties.items():
        kind = _kind(described) + ("" if name in required else ", may be left out")
        yield f"| `{name}` | {kind} | {_cell(described.get('description', ''))} |"
    yield ""


def _kind(described: Mapping[str, Any]) -> str:
    """Say what values a schema allows."""
    match described:
        case {"$ref": str(ref)}:
            name = ref.rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        case {"const": value}:
            return f"`{json.dumps(value)}`"
        case {"enum": values}:
            return " or ".join(f"`{json.dumps(value)}`" for value in values)
        case {"anyOf": kinds} | {"oneOf": kinds}:
            return " or ".join(map(_kind, kinds))
        case {"type": "array", "items": items}:
            return f"list of {_kind(items)}"
        case {"type": list(kinds)}:
            return " or ".join(kinds)
        case {"type": str(kind)}:
            return kind
    return "any"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _api() -> Iterator[str]:
    api = document()
    yield "# The media service's API\n"
    yield "A running service shows the same at `/openapi.json`."
    yield "[The API of the media service](../service-api.md) explains its use.\n"
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            yield f"## {method.upper()} {path}\n"
            yield operation["summary"] + "\n"
            yield from _takes(operation)
            yield "| status | response |\n|---|---|"
            for status, response in operation["responses"].items():
                yield f"| {status} | {_response(response)} |"
            yield ""
    for kind, operations in api["webhooks"].items():
        yield f"## {kind}\n"
        yield f"A [webhook](../hooks.md#webhooks). {operations['post']['summary']}\n"
        yield from _takes(operations["post"])
    for name, described in api["components"]["schemas"].items():
        yield f"## {name}\n"
        yield described.get("description", "") + "\n"
        yield from _table(described.get("properties", {}), described.get("required", ()))


def _takes(operation: Mapping[str, Any]) -> Iterator[str]:
    if parameters := operation.get("parameters"):
        required = [each["name"] for each in parameters if each.get("required")]
        shown = {each["name"]: {"description": each.get("description", ""), **each["schema"]} for each in parameters}
        yield from _table(shown, required)
    if body := operation.get("requestBody"):
        content = body["content"]["application/json"]
        yield f"The body is {_kind(content['schema'])}" + (", for example:\n" if "example" in content else ".\n")
        if "example" in content:
            yield f"```json\n{json.dumps(content['example'], indent=2)}\n```\n"


def _response(response: Mapping[str, Any]) -> str:
    schema = response.get("content", {}).get("application/json", {}).get("schema")
    kind = f" ({_kind(schema)})" if schema else ""
    return _cell(response["description"]) + kind
