"""What each kind of hook may answer, and what becomes of one that does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from standardwebhooks import Webhook

from bigupload.errors import UsageError
from bigupload.service.call import AccessLog
from bigupload.service.problems import Problem, Refused
from bigupload.service.webhooks.hooks import (
    FinishedFile,
    HookFailed,
    Hooks,
    HookSettings,
    NewUpload,
    ask_command,
    check_hook,
    new_secret,
    opened_hooks,
)
from tests.tools.cases import each_case
from tests.tools.http_stub import HttpStub, Response
from tests.tools.waiting import until

UPLOAD = NewUpload(owner="ada", filename="a.jpg", content_type="image/jpeg", size=7, way="put", metadata={"user": "7"})
SECRET_URL = "https://store.example/a?X-Amz-Signature=abc"
FILE = FinishedFile(
    key="media/ada/1.jpg", owner="ada", size=7, content_type="image/jpeg", etag='"1"', checksum=None,
    checksum_algorithm=None, metadata={}, url=SECRET_URL,
)  # fmt: skip


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


async def outcome(hook: Any, *, within: float = 60.0, **more: Any) -> tuple[str, str, list[dict[str, Any]]]:
    """What the client is told, and the log."""
    lines: list[str] = []
    settings = HookSettings(before_finish=hook, hook_timeout=within, **more)
    async with opened_hooks(settings, AccessLog(write=lines.append)) as hooks:
        try:
            await hooks.before_finish(FILE)
        except Refused as refused:
            cause = repr(refused.__cause__)  # which the request's own line of the log has
            assert "X-Amz" not in "".join((*lines, cause))
            return refused.problem.code, str(refused), [json.loads(line) for line in lines]
    return "accepted", "", [json.loads(line) for line in lines]


async def test_a_command_gets_the_question_and_accepts() -> None:
    code = "import json, sys; d = json.load(sys.stdin); sys.exit(0 if d['metadata']['user'] == '7' else 3)"
    assert await ask_command(python(code), UPLOAD) is None


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('\\n  too loud  \\nmore'); raise SystemExit(1)", "too loud"),
        ("import sys; sys.stdin.close(); print('no', flush=True); raise SystemExit('beside it')", "no"),
        ("print('x' * 10_000_000); raise SystemExit(1)", "x" * 64 * 1024),
    ],
)
async def test_a_command_refuses_by_status_1(code: str, reason: str) -> None:
    """Its first line is the reason, of however much it writes."""
    assert await ask_command(python(code), UPLOAD) == reason


@each_case(
    ("code", "said"),
    [
        ("import sys; print('no clamd', file=sys.stderr); sys.exit(2)", "status 2: no clamd"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ("1 / 0", "status 1: Traceback"),  # what is refused is deleted: a bug must not do that
        ("raise SystemExit(1)", "status 1$"),
        ("print('\\x1b\\x07\\x08'); raise SystemExit(1)", "status 1$"),  # nobody could read that reason
        ("import os; os.kill(os.getpid(), 35)", "signal 35$"),  # a real-time one, which Python does not name
    ],
)
async def test_another_status_is_a_failure(code: str, said: str) -> None:
    with pytest.raises(HookFailed, match=said):
        await ask_command(python(code), UPLOAD)


async def test_a_command_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    """The child, which ignores hangups and holds the pipes, ends as well."""
    file = tmp_path / "pid"
    code = (
        "import os, pathlib, signal, sys, time; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        f"if os.fork() == 0: pathlib.Path({str(file)!r}).write_text(str(os.getpid()))\n"
        "time.sleep(600)"
    )
    code, _, log = await outcome(shlex.join(python(code)), within=1)
    assert (code, log[0]["error"]) == ("check_failed", "the hook took longer than 1 s")
    if file.exists():  # on a slow machine, it was killed before
        child = int(file.read_text())
        await until(lambda: not _is_running(child))


def _is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text() if Path("/proc").exists() else _lives(pid)
    except FileNotFoundError:
        return False


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _sync(answer: str | None) -> Callable[[FinishedFile], str | None]:
    return lambda file: answer


async def _coroutine(file: FinishedFile) -> str | None:
    return f"no {file.content_type}"


class _Object:
    async def __call__(self, file: FinishedFile) -> str | None:
        return "of an object"


def _breaks(_: FinishedFile) -> str | None:
    raise RuntimeError(SECRET_URL)


@each_case(
    ("hook", "code", "message"),
    [
        (_sync(None), "accepted", ""),
        (_sync("too loud"), "file_refused", "too loud"),
        (_sync(""), "file_refused", Problem.FILE_REFUSED.meaning),
        (_sync(f"found in {SECRET_URL}\nhere"), "file_refused", "found in (a URL) here"),
        (_coroutine, "file_refused", "no image/jpeg"),
        (_Object(), "file_refused", "of an object"),
        (_breaks, "check_failed", Problem.CHECK_FAILED.meaning),
        (lambda file: False, "check_failed", Problem.CHECK_FAILED.meaning),
    ],
)
async def test_a_function(hook: Any, code: str, message: str) -> None:
    found, said, log = await outcome(hook)
    assert (found, said) == (code, message)
    assert [line["result"] for line in log] == {"accepted": [], "file_refused": ["refused"]}.get(code, ["failed"])


async def test_a_command_that_fails_with_its_url_on_its_lips() -> None:
    """Like one that shows the error of its HTTP client."""
    code = f"raise SystemExit(print('403 for {SECRET_URL}') or 2)"
    found, _, log = await outcome(shlex.join(python(code)))
    assert (found, log[0]["error"]) == ("check_failed", "the command ended with status 2: 403 for (a URL)")


async def test_a_function_that_hangs_takes_no_thread_of_the_event_loop() -> None:
    threads = []
    await outcome(lambda _: threads.append(threading.current_thread()))
    assert threads[0].daemon


async def test_a_reason_is_short_enough_for_a_note() -> None:
    _, said, _ = await outcome(_sync("\N{PILE OF POO}" * 5000))
    assert 100 < len(said) <= 200


@pytest.mark.parametrize(
    ("response", "code", "message"),
    [
        (Response(status=204), "accepted", ""),
        (Response(status=422, body=b'{"reason": "a logo of others"}'), "file_refused", "a logo of others"),
        (Response(status=403, body=b'{"reason": "too many"}'), "file_refused", "too many"),
        (Response(status=404, body=b"<html>"), "check_failed", "and no reason"),
        (Response(status=422, body=b'{"reason": " "}'), "check_failed", "and no reason"),
        (Response(status=429, body=b'{"reason": "slow down"}'), "check_failed", "answered with 429"),
        (Response(status=500), "check_failed", "answered with 500"),
        (Response(status=302, headers={"Location": "/elsewhere"}), "check_failed", "answered with 302"),
        (None, "check_failed", "did not answer: the connection ended early"),
    ],
)
async def test_a_url(session_stub: HttpStub, response: Response | None, code: str, message: str) -> None:
    """What it is asked is signed, so that it can tell the service from others. A redirect is not followed."""
    session_stub.forget()
    session_stub.responses["/check"] = response
    secret, older = new_secret(), new_secret()
    url = f"{session_stub.url}/check"
    found, said, log = await outcome(url, webhook_secrets=(older, secret))
    assert (found, message in (said if code != "check_failed" else log[0]["error"])) == (code, True)
    (asked,) = session_stub.received
    for each in (secret, older):
        assert Webhook(each).verify(asked.body, dict(asked.headers))["key"] == FILE.key


async def test_questions_beyond_sixteen_wait() -> None:
    """The time limit of one that waits has not begun."""
    running, most, free = 0, 0, asyncio.Event()

    async def hook(_: FinishedFile) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await free.wait()
        running -= 1

    settings = HookSettings(before_create=lambda _: None, before_finish=hook)
    async with opened_hooks(settings, AccessLog(write=lambda _: None)) as hooks:
        asked = [asyncio.create_task(hooks.before_finish(replace(FILE, etag=f"{n}"))) for n in range(20)]
        await until(lambda: running == 16)
        await asyncio.wait_for(hooks.before_create(UPLOAD), 60)  # which scans do not hold up
        free.set()
        await asyncio.gather(*asked)
    assert most == 16


async def test_requests_about_one_file_share_a_question() -> None:
    """Whoever repeats a complete while the file is scanned must not take all places."""
    asked, free = 0, asyncio.Event()

    async def hook(_: FinishedFile) -> str:
        nonlocal asked
        asked += 1
        await free.wait()
        return "too loud"

    async with opened_hooks(HookSettings(before_finish=hook), AccessLog(write=lambda _: None)) as hooks:
        first, *others = [asyncio.create_task(hooks.before_finish(FILE)) for _ in range(20)]
        await until(lambda: asked > 0)
        first.cancel()  # its client has left
        free.set()
        told = await asyncio.gather(*others, return_exceptions=True)
        assert (asked, len({id(each) for each in told}), {str(each) for each in told}) == (1, 19, {"too loud"})
        with pytest.raises(Refused):
            await hooks.before_finish(FILE)
        assert asked == 2
        free.clear()
        left = asyncio.create_task(hooks.before_finish(FILE))
        await until(lambda: asked == 3)
    with pytest.raises(asyncio.CancelledError):  # the service has ended
        await left


@each_case(
    ("hook", "message"),
    [
        ("", "this one is empty"),
        ("no-such-program-anywhere --x", "no program 'no-such-program-anywhere' can be run"),
        ("echo 'half", "can't be read"),
        ("https://checks.example", "`webhook_secrets`"),
        (7, "a command, a URL or a function, not int"),
    ],
)
def test_what_is_no_hook(hook: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_hook("before_finish", hook, ())


async def test_a_hook_that_writes_one_endless_line() -> None:
    """Each character of it is looked at once: a pattern that begins anywhere would take hours."""
    code, said, _ = await outcome(_sync("a" * 5_000_000 + SECRET_URL))
    assert (code, len(said)) == ("file_refused", 200)
    assert await outcome(_sync(f"see <{SECRET_URL}> or {SECRET_URL[20:]}"), within=60.0) == (
        "file_refused",
        "see <(a URL) or (a URL)",
        [ANY],
    )


async def test_questions_that_hang_hold_up_others_for_as_long_as_one_may_take() -> None:
    hangs = asyncio.Event()

    async def hang(_: Any) -> str | None:
        while not hangs.is_set():
            with contextlib.suppress(asyncio.CancelledError):  # like a program that can't be killed
                await hangs.wait()
        return None

    hooks = Hooks(None, hang, within=0.001)
    files = [replace(FILE, key=f"media/ada/{number}.jpg") for number in range(17)]
    asking = [asyncio.create_task(hooks.before_finish(file)) for file in files]
    async with asyncio.timeout(60):
        with pytest.raises(Refused) as caught:
            await asking[16]
    assert caught.value.problem is Problem.CHECK_FAILED
    hangs.set()
    await asyncio.gather(*asking[:16])
