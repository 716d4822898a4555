"""What the site's search finds. Its index is made of whole words, so a page needs the words that people type."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FINDS = {
    "airflow": "library/#in-your-program",
    "bandwidth": "settings/#what-the-options-mean",
    "macos": "",
    "notify": "hooks/#webhooks",
    "pandas": "streams/#a-pipe-whose-beginning-fails",
    "share link": "commands/#links",
    "uninstall": "settings/#uninstall",
}


def test_the_search_finds_what_people_type(built: Path) -> None:
    sections = json.loads((built / "search" / "search_index.json").read_text())["docs"]
    words = {each["location"]: set(re.findall(r"\w+", f"{each['title']} {each['text']}".lower())) for each in sections}
    for typed, place in FINDS.items():
        found = [location for location, has in words.items() if has.issuperset(typed.split())]
        assert any(location.startswith(place) for location in found), f"{typed}: {found}"


def test_who_builds_the_site_has_a_formatter_for_signatures() -> None:
    """mkdocstrings leaves signatures unformatted without one, and says so in each build."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(re.match(r"(ruff|black)\b", requirement) for requirement in extras["docs"])
