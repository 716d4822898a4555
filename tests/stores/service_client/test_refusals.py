"""What the media service refuses: every problem that it knows, as the error or the fault that it is to a client."""

from __future__ import annotations

from typing import Any

import pytest

from bigupload import errors
from bigupload.core.checksums import Algorithm
from bigupload.core.part_plan import Plan
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service.problems import Problem
from bigupload.stores.service_client import ServiceStore
from tests.stores.service_client.support import CALLS, HANDLE, KEY, PLAN, Fake, complete, create, refusal_of
from tests.tools.cases import each_case

KINDS = {
    Problem.RATE_LIMITED: FaultKind.BUSY, Problem.TOO_MANY_UPLOADS: FaultKind.BUSY,
    Problem.STORE_UNAVAILABLE: FaultKind.BUSY, Problem.CREDENTIALS_EXPIRING: FaultKind.BUSY,
    Problem.TOO_MANY_CONNECTIONS: FaultKind.BUSY, Problem.CHECK_FAILED: FaultKind.BUSY,
    Problem.INTERNAL: FaultKind.SERVER, Problem.UPLOAD_GONE: FaultKind.GONE, Problem.UPLOAD_EXPIRED: FaultKind.GONE,
    Problem.PART_NOT_STORED: FaultKind.INVALID_PART, Problem.CHECKSUM_MISMATCH: FaultKind.CORRUPTED,
    Problem.UNSUPPORTED_CHECKSUM: FaultKind.UNSUPPORTED,
}  # fmt: skip
ERRORS: dict[Problem, type[errors.BigUploadError]] = {
    Problem.MISSING_KEY: errors.CredentialsError, Problem.INVALID_KEY: errors.CredentialsError,
    Problem.INVALID_TOKEN: errors.CredentialsError, Problem.TOKEN_EXPIRED: errors.CredentialsError,
    Problem.TOKEN_USED_UP: errors.AccessDenied, Problem.TOKEN_SIZE_EXCEEDED: errors.AccessDenied,
    Problem.TOKEN_TYPE_REFUSED: errors.AccessDenied,
    Problem.NOT_YOUR_UPLOAD: errors.AccessDenied, Problem.UPLOAD_REFUSED: errors.MediaRefused,
    Problem.STORE_REFUSED: errors.StoreUnavailable,
}  # fmt: skip
BY_STATUS: dict[int, FaultKind | type[errors.BigUploadError]] = {
    401: errors.CredentialsError, 422: errors.MediaRefused, 429: FaultKind.BUSY, 500: FaultKind.SERVER,
    503: FaultKind.BUSY,
}  # fmt: skip
"""What `Problem` promises of a code that no table of a client has. Any other status is StoreRefused."""
ELSEWHERE = {Problem.POSTS_NOT_CONFIGURED, Problem.POSTS_UNREACHABLE, Problem.MEDIA_NOT_FOUND, Problem.MEDIA_UNUSABLE}
"""Of endpoints that no upload asks."""


@each_case("problem", [p for p in Problem if p not in ELSEWHERE])
async def test_every_problem(fake: Fake, store: ServiceStore, problem: Problem) -> None:
    by_status = BY_STATUS.get(problem.status, errors.StoreRefused)
    await check_refusal(fake, store, problem.code, problem.status, KINDS.get(problem) or ERRORS.get(problem, by_status))


@each_case("status", [401, 403, 409, 410, 422, 429, 500, 501, 503])
async def test_a_code_of_a_newer_service_means_what_its_status_says(
    fake: Fake, store: ServiceStore, status: int
) -> None:
    await check_refusal(fake, store, "unheard_of", status, BY_STATUS.get(status, errors.StoreRefused))


async def check_refusal(
    fake: Fake, store: ServiceStore, code: str, status: int, expected: FaultKind | type[errors.BigUploadError]
) -> None:
    fake.responses.clear()
    fake.asked.clear()
    fake.refuses(code, status, Retry_After="7")
    refused = await refusal_of(store.list_parts(HANDLE, Algorithm.NONE))
    if isinstance(expected, FaultKind):
        assert isinstance(refused, Fault)
        assert (refused.kind, refused.retry_after) == (expected, 7)
        assert "the words of the service" in str(refused)
    else:
        assert type(refused) is expected
    assert len(fake.asked) == 1  # whoever called decides about another try


async def test_a_url_with_a_path_of_the_api(fake: Fake, store: ServiceStore) -> None:
    fake.responses.clear()
    fake.refuses("not_found", 404)
    refused = await refusal_of(store.list_parts(HANDLE, Algorithm.NONE))
    assert "name its address alone, as https://media.example.com, without /v1" in str(refused)


STRAY: list[tuple[Any, int, dict[str, str]]] = [
    ("<html>log in</html>", 200, {}), ("<html>not here</html>", 404, {}), ("blocked", 403, {}),
    ("", 302, {"Location": "https://portal.example/login"}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "headers"), STRAY)
async def test_what_responds_in_a_known_service_s_place_passes(
    fake: Fake, store: ServiceStore, body: str, status: int, headers: dict[str, str]
) -> None:
    """A portal, a balancer: a stranger at first sight, and no end of an upload that is under way."""
    fake.says(body, status, **headers)
    assert isinstance(await refusal_of(store.list_parts(HANDLE, Algorithm.NONE)), errors.StoreRefused)
    fake.responses.clear()
    fake.says({"parts": []})
    assert await store.list_parts(HANDLE, Algorithm.NONE) == []
    fake.responses.clear()
    fake.says(body, status, **headers)
    passing = await refusal_of(store.list_parts(HANDLE, Algorithm.NONE))
    assert isinstance(passing, Fault)
    assert passing.kind is FaultKind.SERVER


async def test_a_field_that_is_meant_is_named_and_a_key_in_a_code_is_not_shown(fake: Fake, store: ServiceStore) -> None:
    fake.says({"error": {"code": "invalid_field", "message": "is too long", "field": "filename"}}, 422)
    assert "filename: is too long" in str(await refusal_of(store.list_parts(HANDLE, Algorithm.NONE)))
    fake.responses.clear()
    fake.refuses(f"X{KEY}", 422)
    assert KEY not in str(await refusal_of(store.list_parts(HANDLE, Algorithm.NONE)))


async def test_an_empty_file_is_refused_in_words(fake: Fake, store: ServiceStore) -> None:
    with pytest.raises(errors.MediaRefused, match="empty"):
        await store.create(Plan(0, PLAN.part_size), Algorithm.CRC64NVME, declare=True, token="0" * 32)
    assert fake.asked == []


@pytest.mark.parametrize("name", [n for n in CALLS if n != "abort"])
@pytest.mark.parametrize("code", ["invalid_key", "token_expired", "invalid_token"])
async def test_a_key_or_token_that_ended_says_what_to_do(fake: Fake, store: ServiceStore, name: str, code: str) -> None:
    fake.refuses(code, 401)
    refused = await refusal_of(CALLS[name](store))
    assert isinstance(refused, errors.CredentialsError)
    assert refused.resumable
    assert "set BIGUPLOAD_API_KEY" in str(refused)
    assert "try again" in str(refused)


async def test_an_expired_handle(fake: Fake, store: ServiceStore) -> None:
    """While parts are sent, the same command starts a new upload. After complete was sent, only --no-resume does."""
    fake.refuses("upload_expired", 410)
    signing = await refusal_of(CALLS["sign"](store))
    assert isinstance(signing, errors.UploadExpired)
    assert signing.resumable
    assert "try again to start a new upload" in str(signing)
    for name in ("complete", "stat"):
        ended = await refusal_of(CALLS[name](store))
        assert isinstance(ended, errors.UploadGone)
        assert "`resume=False`" in str(ended)


async def test_no_refusal_looks_like_a_store_that_knows_no_checksums(fake: Fake, store: ServiceStore) -> None:
    """The engine tries without them after a FINAL 400: the service says so in other words."""
    for problem in Problem:
        fake.responses.clear()
        fake.refuses(problem.code, 400)
        refused = await refusal_of(create(store))
        assert not (isinstance(refused, Fault) and refused.kind is FaultKind.FINAL)


async def test_what_a_later_service_refuses(fake: Fake, store: ServiceStore) -> None:
    fake.refuses("not_invented_yet", 422)
    fake.refuses("not_invented_yet", 503)
    assert isinstance(await refusal_of(create(store)), errors.MediaRefused)
    later = await refusal_of(create(store))
    assert isinstance(later, Fault)
    assert later.kind is FaultKind.BUSY


async def test_the_services_words_are_shown_as_one_line(fake: Fake, store: ServiceStore) -> None:
    fake.refuses("not_media", message=f"no\x1b[2Jt\nmedia, {KEY}, " + "long " * 1000)
    refused = await refusal_of(create(store))
    assert str(refused).startswith("no [2Jt media, sk_…, long")
    assert len(str(refused)) <= 200


@pytest.mark.parametrize(
    ("status", "kind"),
    [(408, FaultKind.SERVER), (429, FaultKind.BUSY), (500, FaultKind.SERVER),
     (502, FaultKind.SERVER), (503, FaultKind.BUSY), (504, FaultKind.SERVER), (520, FaultKind.SERVER)],
)  # fmt: skip
async def test_a_balancer_that_fails(fake: Fake, store: ServiceStore, status: int, kind: FaultKind) -> None:
    fake.says("<html>Bad gateway</html>", status, Retry_After="3")
    fault = await refusal_of(complete(store))
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.status, fault.retry_after) == (kind, status, 3)
