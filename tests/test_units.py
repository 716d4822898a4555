"""Sizes, rates and durations, as people write and read them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload import units
from bigupload.errors import UsageError
from bigupload.units import (
    counted,
    format_age,
    format_part_size,
    format_rate,
    format_seconds,
    format_size,
    format_span,
    format_two_sizes,
    one_line,
    parse_command,
    parse_duration,
    parse_rate,
    parse_size,
    quoted,
)
from tests.tools.cases import each_case, examples
from tests.tools.other_systems import OtherOs


@each_case(
    ("text", "size"),
    [
        ("0", 0), ("1048576", 1048576), ("17b", 17), ("16MiB", 16 * 2**20), ("16 mib", 16 * 2**20),
        ("16Mi", 16 * 2**20),
        ("20MB", 20 * 10**6), ("20 M", 20 * 10**6), ("5g", 5 * 10**9), ("5GiB", 5 * 2**30), ("3k", 3000),
        ("3KiB", 3072),
        ("1.5KiB", 1536), ("0.1kB", 100), ("2T", 2 * 10**12), ("2TiB", 2**41), ("  7 kb  ", 7000), ("0.0000001", 0),
        ("9007199254740993", 9007199254740993),  # more than a float can hold
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@each_case(
    "text",
    ["", " ", "MiB", "-1", "+1", "1.MiB", ".5", "1e3", "1,000", "0x10", "1 Mi B", "1PB", "16 MiB/s", "inf", "nan",
     "\N{ARABIC-INDIC DIGIT ONE}", "1_000",
     "9" * 5000, "9" * 400 + ".5"],
)  # fmt: skip
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="not a size"):
        parse_size(text)


@settings(deadline=None, max_examples=examples(150))
@given(text=st.text(st.sampled_from("0123456789.kKmMgGtTiIbB/sS \n-"), max_size=12) | st.text(max_size=8))
def test_only_usage_errors(text: str) -> None:
    for parse in (parse_size, parse_rate):
        try:
            value = parse(text)
        except UsageError:
            continue
        assert isinstance(value, int)
        assert value >= 0
    with contextlib.suppress(UsageError):
        assert parse_duration(text) >= 0


@each_case(
    ("text", "seconds"),
    [
        ("2d", 172_800),
        ("36 h", 129_600),
        ("90min", 5400),
        ("90M", 5400),
        ("1.5w", 907_200),
        ("0s", 0),
        (" 1 D ", 86_400),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@each_case("text", ["", "2", "d", "-1d", "1y", "2d12h", "two days"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="not a time"):
        parse_duration(text)


@each_case(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (7200, "2 h"), (172_799, "47 h"), (172_800, "2 d")],
)
def test_ages_to_read(seconds: float, text: str) -> None:
    assert format_age(seconds) == format_span(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(40_000_000, "462 d"), (63_000_000, "2 years"), (1_764_372_316, "56 years")],
)
def test_spans_to_read(seconds: float, text: str) -> None:
    assert format_span(seconds) == text


@each_case(
    ("text", "rate"),
    [
        ("20MB/s", 20_000_000),
        ("20 MB / s", 20_000_000),
        ("1MiB/sec", 2**20),
        ("1MiB/S", 2**20),
        ("500k", 500_000),
        ("1kB/s", 1000),
        ("1000", 1000),
    ],
)
def test_rates(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@each_case(
    ("text", "says"),
    [("", "not a rate"), ("/s", "not a rate"), ("20MB/h", "not a rate"), ("1/s/s", "not a rate"),
     ("0", "'0' is 0 bytes a second, and the least is 1 kB/s: write it like 20MB/s"),
     ("1", "'1' is 1 byte a second"),
     ("20", "'20' is 20 bytes a second"),
     ("0.4kB/s", "'0.4kB/s' is 400 bytes a second")],
)  # fmt: skip
def test_what_is_no_rate(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_rate(text)


@each_case(
    ("count", "text"),
    [(0, "0 B"), (17, "17 B"), (999, "999 B"), (1000, "1 kB"), (1024, "1.0 kB"), (999_949, "999.9 kB"),
     (999_950, "1.0 MB"), (16 * 2**20, "16.8 MB"), (5 * 10**9, "5 GB"), (5.3e9, "5.3 GB"), (10**12, "1 TB"),
     (5000 * 10**12, "5000 TB")],
)  # fmt: skip
def test_sizes_to_read(count: float, text: str) -> None:
    assert format_size(count) == text


@each_case(
    ("one", "other", "texts"),
    [
        (7 * 10**9, 5 * 10**9, ("7 GB", "5 GB")),
        (5 * 10**9, 5 * 10**9, ("5 GB", "5 GB")),
        (5 * 10**9 + 1, 5 * 10**9, ("5,000,000,001 bytes", "5,000,000,000 bytes")),
        (5_060_000_000, 5_000_000_000, ("5.1 GB", "5 GB")),
    ],
)  # fmt: skip
def test_two_sizes_that_differ_look_different(one: int, other: int, texts: tuple[str, str]) -> None:
    assert format_two_sizes(one, other) == texts


@each_case(
    ("count", "text"),
    [(0, "0 B"), (17, "17 B"), (1025, "1025 B"), (1024, "1 KiB"), (5 << 20, "5 MiB"), (1536 << 20, "1536 MiB"),
     (1000, "1 kB"), (5_000_000, "5 MB"), (20_000_000, "20 MB"), (5000 << 10, "5000 KiB"), (5_000_001, "5000001 B")],
)  # fmt: skip
def test_part_sizes_to_read(count: int, text: str) -> None:
    assert format_part_size(count) == text
    assert parse_size(text) == count


@each_case(
    ("rate", "text"),
    [(0, "0.0 B/s"), (999, "999.0 B/s"), (1000, "1.0 kB/s"), (12_300_000, "12.3 MB/s"), (2.5e9, "2.50 GB/s"),
     (5e12, "5000.00 GB/s")],
)  # fmt: skip
def test_rates_to_read(rate: float, text: str) -> None:
    assert format_rate(rate) == text


@each_case(
    ("seconds", "text"),
    [(0, "0 s"), (42.4, "42 s"), (59.4, "59 s"), (59.6, "1:00 min"), (187, "3:07 min"), (3599, "59:59 min"),
     (3599.9, "1:00 h"), (7500, "2:05 h"), (100 * 3600, "100:00 h")],
)  # fmt: skip
def test_durations_to_read(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_numbers_with_their_nouns() -> None:
    assert [counted(number, "part") for number in (0, 1, 1203)] == ["0 parts", "1 part", "1,203 parts"]


@settings(deadline=None, max_examples=examples(100))
@given(text=st.text(max_size=400))
def test_foreign_texts_can_not_drive_a_terminal(text: str) -> None:
    shown = one_line(text)
    assert shown.isprintable()
    assert len(shown) <= 200


def test_foreign_texts_stay_readable() -> None:
    assert one_line(" two\nlines,\tand \x1b[31mred\x1b[0m ") == "two lines, and [31mred [0m"
    assert one_line("\ufeffa\u202eb\u200bc\xa0d\udcffe\U000e0001f") == r"\ufeffa\u202eb\u200bc\u00a0d\xffe\U000e0001f"
    assert one_line("a\u2028b\x85c\x7fd") == "a b c d"
    assert one_line("x" * 200) == "x" * 200
    assert one_line("x" * 201) == "x" * 199 + "…"


@each_case(
    ("sep", "words"),
    [
        ("/", ("C:toolsdone.exe", "C:\\Program Files\\a", "a b")),
        ("\\", ("C:\\tools\\done.exe", "C:\\Program Files\\a", "a b")),
    ],
)
def test_a_backslash_in_a_command(sep: str, words: tuple[str, ...]) -> None:
    """It escapes what follows, except on Windows, where it separates the names of a path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "os", OtherOs(sep=sep))
        assert parse_command("C:\\tools\\done.exe \"C:\\Program Files\\a\" 'a b'") == words


@each_case(
    ("sep", "word", "typed"),
    [
        ("/", "/films/a.mov", "/films/a.mov"), ("/", "/my films/a", "'/my films/a'"), ("/", "C:\\a", "'C:\\a'"),
        ("\\", "C:\\films\\a.mov", "C:\\films\\a.mov"), ("\\", "C:\\my films\\a", '"C:\\my films\\a"'),
        ("\\", "C:\\my films\\", '"C:\\my films\\\\"'), ("\\", "bigupload[local]", '"bigupload[local]"'),
        ("\\", "", '""'), ("\\", "a&b", '"a&b"'), ("\\", "it's", '"it\'s"'),
        ("\\", 'say "hi"', '"say \\"hi\\""'), ("\\", "@a", '"@a"'),
    ],
)  # fmt: skip
def test_a_word_to_type(sep: str, word: str, typed: str) -> None:
    """cmd of Windows takes single quotes for a part of the word."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "os", OtherOs(sep=sep))
        assert quoted(word) == typed
