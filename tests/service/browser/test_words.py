"""The page's languages: complete, and chosen by the browser's."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.tools.cases import each_case
from tests.tools.node import Call

LANGUAGES = ["en", "de", "fr"]


def words(run: Call, language: str) -> dict[str, Any]:
    found = run(f"page/words-{language}", "return m.WORDS;")
    assert isinstance(found, dict)
    return found


def places(text: Any) -> list[set[str]]:
    """What is put into a text, for each of its forms."""
    forms = list(text.values()) if isinstance(text, dict) else [text]
    return [set(re.findall(r"\{(\w+)\}", form)) for form in forms]


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_a_language_has_all_words_with_the_same_places(run: Call, language: str) -> None:
    english, other = words(run, "en"), words(run, language)
    assert list(other) == list(english)
    for name, text in other.items():
        assert set.union(*places(text)) == set.union(*places(english[name])), name
        assert isinstance(text, dict) == isinstance(english[name], dict), name


@each_case(
    ("wanted", "language"),
    [(["de-AT", "en"], "de"), (["ja", "fr-CA", "en"], "fr"), (["en-GB", "de"], "en"), (["ja"], "en"), ([], "en")],
)
def test_the_first_language_that_the_page_has(run: Call, wanted: list[str], language: str) -> None:
    assert run("client/words", "return m.choose(x);", wanted) == language


def test_the_total_counts_what_was_not_accepted(run: Call) -> None:
    source = """const { sums } = await import(at + "page/totals.js");
    const done = { state: "done", size: 1, problem: null, progress: { sent: 1 } };
    const refused = { state: "failed", size: 1, problem: { kind: "refused" }, progress: { sent: 0 } };
    return [m.doneText(sums([done, done, refused])), m.doneText(sums([done, done]))];"""
    said = ["2 of 3 files uploaded, 1 not accepted", "All 2 files uploaded"]
    assert run("page/describe", source) == said


def test_the_page_says_why_before_it_asks_the_service(run: Call) -> None:
    source = 'return [0, 6e9].map((size) => m.objection({ name: "a.mp4", type: "video/mp4", size })(x));'
    assert run("page/media", source, 1)[0] == "It is empty."
    empty, large = run("page/media", source, 2)
    assert empty == "They are empty."
    assert large == "They have 6\xa0GB each. The limit is 5\xa0GB."


@pytest.mark.slow
@each_case(
    ("accept", "language", "said"),
    [
        ("video/*", "en", "Accepted here: videos."),
        ("image/*, .PDF,.mov", "de", "Angenommen werden hier: Bilder, PDF und MOV."),
        ("audio/*,image/svg+xml,image/x-icon", "fr", "Acceptés ici : fichiers audio, SVG et ICON."),
        ("model/*", "en", "Accepted here: model/*."),
        (".mp4,video/mp4", "en", "Accepted here: MP4."),
        (" , ", "en", ""),
    ],
)
def test_what_a_field_accepts_is_named(run: Call, accept: str, language: str, said: str) -> None:
    source = "return new m.Words(m.wordsOf(x.language), x.language).accepted(x.accept);"
    assert run("client/words", source, {"accept": accept, "language": language}) == said
