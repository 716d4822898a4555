"""`each_case` tries all cases, and names those that fail."""

from __future__ import annotations

import pytest

from tests.tools import cases
from tests.tools.cases import each_case, examples

pytestmark = pytest.mark.slow  # guards the tools of the tests
TRIED: list[int] = []


def test_what_fails_is_named_and_the_others_are_tried() -> None:
    @each_case(("number", "name"), [(1, "a"), (2, "b"), (3, "c")])
    def odd(number: int, name: str) -> None:
        TRIED.append(number)
        assert number % 2, name

    with pytest.raises(ExceptionGroup, match="1 of 3 cases fail") as caught:
        odd()
    assert TRIED == [1, 2, 3]
    (failure,) = caught.value.exceptions
    assert failure.__notes__ == ["case: number=2, name='b'"]


async def test_coroutines() -> None:
    @each_case("number", [1, 2])
    async def odd(number: int) -> None:
        if number == 2:
            pytest.fail("even")

    with pytest.raises(ExceptionGroup, match="1 of 2 cases fail"):
        await odd()


@each_case("number", [1, 2])
def test_fixtures_are_given(number: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert tmp_path_factory.mktemp(str(number)).exists()


def test_without_cases_there_is_no_test() -> None:
    with pytest.raises(AssertionError, match="can't fail"):
        each_case("number", [])


def test_the_slow_tests_try_all_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cases.thorough
    assert examples(300) == 300
    monkeypatch.setattr(cases, "thorough", False)
    assert (examples(300), examples(30)) == (100, 15)
