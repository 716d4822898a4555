"""Many cases in one test, where an item for each would cost more than the case, as every worker collects every item."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

Test = Callable[..., Any]
thorough = False
"""Whether the run includes the slow tests. `tests/conftest.py` sets it before it loads the tests."""


def examples(count: int) -> int:
    """The number of examples that hypothesis tries: `count` where the slow tests run, a third in the fast suite."""
    return count if thorough else max(15, count // 3)


def each_case(names: str | tuple[str, ...], cases: Iterable[Any]) -> Callable[[Test], Test]:
    """Like `pytest.mark.parametrize`, but all cases are one item, and share its fixtures.

    All are tried. What fails is raised as a group, and each failure has a note that names its case.

    Args:
        names: the parameters of the test that the cases are for: one name, or several, as for `parametrize`.
        cases: a value for the one name, or for each name in a tuple.
    """
    alone = isinstance(names, str) and "," not in names
    parameters = tuple(name.strip() for name in names.split(",")) if isinstance(names, str) else names
    rows = [dict(zip(parameters, (case,) if alone else case, strict=True)) for case in cases]
    assert rows, "a test without cases can't fail"

    def decorate(test: Test) -> Test:
        signature = inspect.signature(test)
        fixtures = [each for each in signature.parameters.values() if each.name not in parameters]

        def run_all(**given: Any) -> None:
            failures: list[Exception] = []
            for row in rows:
                with _collecting(failures, row):
                    test(**given, **row)
            _raise(failures, len(rows))

        async def await_all(**given: Any) -> None:
            failures: list[Exception] = []
            for row in rows:
                with _collecting(failures, row):
                    await test(**given, **row)
            _raise(failures, len(rows))

        wrapped: Any = await_all if inspect.iscoroutinefunction(test) else run_all
        functools.update_wrapper(wrapped, test)
        wrapped.__signature__ = signature.replace(parameters=fixtures)
        del wrapped.__wrapped__  # else pytest looks at the signature of the test itself
        return wrapped  # type: ignore[no-any-return]  # it is called as `test` is, with fewer arguments

    return decorate


@contextlib.contextmanager
def _collecting(failures: list[Exception], row: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except (Exception, pytest.fail.Exception) as e:
        failure = e if isinstance(e, Exception) else AssertionError(str(e))  # pytest's own is no Exception
        failure.add_note("case: " + ", ".join(f"{name}={value!r}" for name, value in row.items()))
        failures.append(failure)


def _raise(failures: list[Exception], cases: int) -> None:
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {cases} cases fail", failures)
