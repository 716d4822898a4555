"""What a user may set, catch or get is on a page: options, variables, errors, events, fields."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path

import click
import pytest

import bigupload
from bigupload import errors, events
from bigupload.cli import _cli, settings
from bigupload.cli.options import DerivedOption
from bigupload.service.access.upload_tokens import TokenRequest
from tests.tools import library_tables
from tests.tools.cases import each_case

pytestmark = pytest.mark.slow  # guards pages of the documentation

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
OF_THE_SERVICE = ("hooks.md", "production.md", *(page.name for page in DOCS.glob("service*.md")))
OF_UPLOADS = (
    "commands.md", "settings.md", "many-files.md", "streams.md", "resuming.md", "proof.md", "copying.md", "remote.md",
    "cluster.md", "deleting.md",
)  # fmt: skip
"""Pages that explain options. Others mention some in passing."""
COMMON = frozenset({"verbose", "quiet", "help_all"})
"""The pages have the first two by their short names alone, and the last one once for all commands."""
LEAVES = list(settings.leaves(_cli))
NO_SETTING = frozenset({"AWS_EXECUTION_ENV", "BIGUPLOAD_MEDIA", "BIGUPLOAD_REQUIRE_PROOF"})
"""The last two are settings of Django: docs/drop-in.md."""


def _text(names: tuple[str, ...]) -> str:
    return "\n".join((DOCS / name).read_text() for name in names)


@each_case(("words", "command"), LEAVES)
def test_each_option_is_explained(words: tuple[str, ...], command: click.Command) -> None:
    is_of_the_service = words[0] in ("serve", "keys", "bucket", "webhooks", "check-url")
    pages = _text(OF_THE_SERVICE if is_of_the_service else OF_UPLOADS)
    names = [
        f"--{settings.name_of(param)}"
        for param in command.params
        if isinstance(param, click.Option)
        and not param.hidden
        and param.name not in COMMON
        and not isinstance(param, DerivedOption)  # the manual page and the references have its documentation
    ]
    shared = _text(("settings.md",))  # --config and the log
    assert [name for name in names if not re.search(rf"{name}(?![\w-])", pages + shared)] == []


def test_each_variable_is_on_the_page_of_settings() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "bigupload").rglob("*.py") if "testing" not in path.parts)
    read = set(re.findall(r"""["']((?:BIGUPLOAD|AWS|SSL_CERT|REQUESTS)_[A-Z0-9_]+)["']""", code))
    assert "AWS_CA_BUNDLE" in read
    page = (DOCS / "settings.md").read_text()
    assert sorted(name for name in read - NO_SETTING if not re.search(rf"`{name}[`=]", page)) == []


def test_each_error_and_event_is_on_their_page() -> None:
    committed = library_tables.PAGE.read_text()
    for kind in (*errors.classes().values(), *typing.get_args(events.Event)):
        assert f"| `{kind.__name__}` |" in committed
        assert kind.__name__ in bigupload.__all__
    assert errors.UsageError in errors.classes().values()


def test_each_limit_of_upload_tokens_has_its_row() -> None:
    page = (DOCS / "service-access.md").read_text()
    assert [each.alias for each in TokenRequest.model_fields.values() if f"\n| `{each.alias}` | " not in page] == []


@pytest.mark.parametrize("kind", [bigupload.Selection, bigupload.RetryPolicy])
def test_each_field_of_what_a_program_sets_is_on_a_page(kind: type) -> None:
    pages = _text(("library.md", "many-files.md"))
    assert [each.name for each in dataclasses.fields(kind) if not re.search(rf"\b{each.name}\b", pages)] == []


def test_no_cell_of_a_table_is_a_paragraph() -> None:
    """A reader finds a section by its title, and reads no column of a hundred words."""
    cells = [
        (f"{page.relative_to(ROOT)}:{number}", len(cell.split()))
        for page in (ROOT / "README.md", *DOCS.rglob("*.md"))
        for number, line in enumerate(page.read_text().splitlines(), 1)
        if line.startswith("|")
        for cell in line.replace("\\|", "").split("|")
    ]
    assert len(cells) > 1000
    assert [(place, words) for place, words in cells if words > 60] == []
