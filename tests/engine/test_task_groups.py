"""Which of several errors of a task group the caller sees."""

from __future__ import annotations

import pytest

from bigupload import errors
from bigupload.support.cancellation import for_each, most_serious


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(3)], ids=lambda e: type(e).__name__)
def test_what_ends_the_program_comes_before_any_error(end: BaseException) -> None:
    error = errors.StoreRefused("x")
    assert most_serious(BaseExceptionGroup("g", [error, BaseExceptionGroup("h", [end])])) is end


def test_of_several_errors_the_one_that_no_retry_mends_is_shown() -> None:
    final, passing, foreign = errors.StoreRefused("x"), errors.StoreUnreachable("x"), ValueError("x")
    assert most_serious(BaseExceptionGroup("g", [foreign, passing, ExceptionGroup("h", [final])])) is final
    assert most_serious(BaseExceptionGroup("g", [foreign, passing])) is passing
    assert most_serious(BaseExceptionGroup("g", [foreign])) is foreign


async def test_its_cause_is_kept() -> None:
    """The store's code is there, which the boto3 adapter raises."""

    async def fail(cause: Exception) -> None:
        raise errors.StoreRefused("x") from cause

    cause = ValueError("x")
    with pytest.raises(errors.StoreRefused) as caught:
        await for_each([cause], fail, at_once=1)
    assert caught.value.__cause__ is cause
