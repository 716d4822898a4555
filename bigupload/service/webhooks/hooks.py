"""Requests to the operator's programs: hooks are asked, and receivers of webhooks get events. Knows neither notes nor
media.

A hook is a command, a URL or a function, as a setting names it. It answers with nothing to accept, and with a reason to
refuse. A command gets JSON on its standard input; its exit status, and one line of its output, are the answer. It runs
without a shell, in a process group of its own, which is killed at the time limit: a scanner's children must not go on
when nobody waits for them. A URL gets a signed POST of JSON; its status, and a reason in its body, are the answer.

Every POST is signed as https://www.standardwebhooks.com says, by that project's own library, which is imported on first
need.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import functools
import hashlib
import inspect
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import aiohttp
from pydantic.alias_generators import to_camel

from bigupload import __version__
from bigupload.errors import UsageError
from bigupload.records import dataclass
from bigupload.service.access.keys import read_secrets, service_file
from bigupload.service.call import AccessLog
from bigupload.service.problems import Problem, Refused
from bigupload.support.cancellation import retrieve
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.systems import KILL, end_group, way_of_ending
from bigupload.units import one_line, printable, split_command

_URL = re.compile(r"https?://", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUpload:
    """An upload that is about to begin. Its fields about the file come from the client, unchecked."""

    owner: str
    """The owner of the API key or upload token."""
    user: str | None = None
    """The owner's end user for whom the file is; None: nobody in particular."""
    filename: str
    content_type: str
    """As the client declared it."""
    size: int | None
    """Bytes; None: the client of one PUT does not declare them."""
    way: Literal["put", "multipart"]
    """Whether one PUT or a multipart upload is to be signed."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """From the upload token and the request."""
    token: str | None = None
    """The id (`jti`) of the upload token; None: an API key is used."""

    def to_json(self) -> dict[str, Any]:
        """Return what commands and URLs get."""
        return {"hook": "before-create", **_fields_of(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedFile:
    """A file that is in the store, and was found to be what it claims to be. It does not count yet."""

    key: str
    owner: str
    user: str | None = None
    """The owner's end user whose file it is; None: nobody in particular."""
    size: int
    """Bytes."""
    content_type: str
    etag: str
    checksum: str | None
    """The object's checksum from its store, in base64; None: the store has none."""
    checksum_algorithm: str | None
    metadata: Mapping[str, str]
    """The object's metadata without bigupload's own."""
    filename: str | None = None
    """The file's own name; None: it was not kept."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """The object's tags."""
    url: str = field(repr=False)
    """A presigned URL to GET the bytes, valid for an hour. Whoever has it can read the file."""

    def to_json(self) -> dict[str, Any]:
        """Return what commands and URLs get."""
        return {"hook": "before-finish", **self.public_json(), "url": self.url}

    def public_json(self) -> dict[str, Any]:
        """Return all fields but the presigned URL."""
        return {name: value for name, value in _fields_of(self).items() if name != "url"}


Question = NewUpload | FinishedFile


def _fields_of(question: Question) -> dict[str, Any]:
    """Return the fields by their names in JSON, as `contentType`."""
    found = {}
    for each in fields(question):
        value = getattr(question, each.name)
        found[to_camel(each.name)] = dict(value) if isinstance(value, Mapping) else value
    return found


BeforeCreate = Callable[[NewUpload], Awaitable[str | None] | str | None]
"""Returns None to accept, or the reason to refuse: one line for the person who uploads. It may be async; a plain
function runs in a thread."""
BeforeFinish = Callable[[FinishedFile], Awaitable[str | None] | str | None]
"""The same, for a file that is in the store."""

Ask = Callable[[Question], Awaitable[str | None]]
"""Asks a hook, whatever it is. Returns None to accept, or the reason to refuse. Raises HookFailed."""


class HookFailed(Exception):
    """A hook neither accepted nor refused. The text holds no secret."""


def as_line(question: Question) -> bytes:
    """Return the question as one line of JSON."""
    return json.dumps(question.to_json(), separators=(",", ":")).encode() + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSettings:
    """The hooks of a service, or of a sweep."""

    before_create: BeforeCreate | str | None = None
    """Asked before an upload begins: a function, a command, or the URL of an HTTP endpoint. It may refuse."""
    before_finish: BeforeFinish | str | None = None
    """Asked before a file that is in the store counts, as by a virus scanner. A file that it refuses is deleted."""
    hook_timeout: float = 60.0
    """Seconds that a hook may take. After that, the client gets 503 and tries again."""
    webhook_urls: tuple[str, ...] = field(default=(), repr=False)
    """The URLs that get an event for each file."""
    webhook_uploads: bool = False
    """Whether they get an event when an upload in parts begins, and when it is aborted, too."""
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    """The secrets that sign requests to the operator's URLs, as `whsec_…`: each request has a signature by each."""


def is_url(hook: str) -> bool:
    """Return whether a hook that is text is a URL. If not, it is a command."""
    return _URL.match(hook) is not None


def check_hook(name: str, hook: object, secrets: Sequence[str]) -> None:
    """Raise UsageError for a setting that is not a hook.

    Args:
        name: The setting, for the message.
        hook: What it was set to; None: there is no hook.
        secrets: The webhook secrets, by which requests to a URL are signed.
    """
    if hook is None or callable(hook):
        return
    if not isinstance(hook, str):
        raise UsageError(f"`{name}` is a command, a URL or a function, not {type(hook).__name__}")
    if not is_url(hook):
        words_of(hook)
    elif not secrets:
        raise UsageError(f"`{name}` is a URL, and requests to it are signed: name `webhook_secrets`")


def words_of(command: str) -> list[str]:
    """Return the program of a command, and its arguments. Raises UsageError if it can't be run."""
    try:
        words = split_command(command)
    except ValueError as e:
        raise UsageError(f"the hook's command can't be read: {e}") from None
    if not words:
        raise UsageError("a hook is a command or a URL, and this one is empty")
    if shutil.which(words[0]) is None:
        raise UsageError(f"no program {words[0]!r} can be run: write its whole path, and make it executable")
    return words


REFUSES = 1
"""The exit status by which a command refuses, as clamdscan's, if it says why. 0 accepts. Every other one means that it
failed, and so does 1 without a line on standard output: many programs end with 1 when they crash, and what is refused
is deleted."""
_MOST_OUTPUT = 64 * 1024
"""Bytes that are kept of each of a command's outputs. The rest is read and dropped."""
_ENDS_WITHIN = 2.0
"""Seconds that a killed group has to end. Only a process that left the group can take longer."""
_MOST_ANSWER = 64 * 1024
"""Bytes that are read of a URL's answer."""
_NO_REFUSALS = (408, 425, 429)
"""Statuses that ask to come again, and say nothing about the file."""
BEFORE_CREATE, BEFORE_FINISH = "before-create", "before-finish"
_AT_ONCE = 16
"""The most questions that one process asks each hook at once. Others wait: a slow scan must not hold up creates."""
_RETRY_AFTER = 10.0
"""Seconds, if a hook failed."""
_LONGEST_REASON = 200
"""Characters. A reason becomes metadata of a note, which has room for 2 KB."""
_MOST_QUOTED = 1500
_MOST_READ = 4096
"""Characters of a hook's words that are looked at."""
_WORD = re.compile(r"\S+")
_IN_QUERY = "x-amz-"
"""A part of each presigned URL's query. A URL in a hook's words may be the one that it was given to read the file."""

Count = Callable[[str, str], None]
"""Counts one question: the hook's name, and `accepted`, `refused` or `failed`."""


class Hooks:
    """The hooks of one service."""

    def __init__(
        self,
        before_create: Ask | None = None,
        before_finish: Ask | None = None,
        *,
        within: float | None = None,
        log: AccessLog | None = None,
        count: Count = lambda *_: None,
    ) -> None:
        """`within`: seconds that a question may take, and for which it waits for its turn while others take all places;
        None: no limit."""
        self._within = within
        self._before_create = before_create
        self._before_finish = before_finish
        self._log = log
        self._count = count
        self._places = {name: asyncio.Semaphore(_AT_ONCE) for name in (BEFORE_CREATE, BEFORE_FINISH)}
        self._asking: dict[tuple[str, str], asyncio.Task[None]] = {}
        """The questions about files that are under way, by key and ETag."""

    @property
    def check_files(self) -> bool:
        """Whether there is a hook that files must pass before they count."""
        return self._before_finish is not None

    async def before_create(self, upload: NewUpload) -> None:
        """Ask whether an upload may begin. Raises Refused: UPLOAD_REFUSED or CHECK_FAILED."""
        if self._before_create is not None:
            about = {"owner": upload.owner}
            await self._ask(BEFORE_CREATE, self._before_create, upload, about, Problem.UPLOAD_REFUSED)

    async def before_finish(self, file: FinishedFile) -> None:
        """Ask whether a file may count. Raises Refused: FILE_REFUSED or CHECK_FAILED.

        Requests about one file share a question: who repeats a complete while a scan runs takes no other places. The
        question goes on if all of them leave.
        """
        if self._before_finish is None:
            return
        which = (file.key, file.etag)
        asking = self._asking.get(which)
        if asking is None:
            about = {"owner": file.owner, "object": file.key}  # `key` is an API key in this log
            question = self._ask(BEFORE_FINISH, self._before_finish, file, about, Problem.FILE_REFUSED)
            asking = self._asking[which] = asyncio.create_task(question)
            asking.add_done_callback(lambda _: self._asking.pop(which))
            asking.add_done_callback(retrieve)  # nobody may wait for it any more
        try:
            await asyncio.shield(asking)
        except Refused as e:  # one of its own for each request, which may add a field
            raise Refused(e.problem, str(e), retry_after=e.retry_after) from e.__cause__

    async def aclose(self) -> None:
        """End the questions that are under way."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _ask(self, name: str, ask: Ask, question: Question, about: dict[str, str], problem: Problem) -> None:
        began, what = time.monotonic(), f"{_AT_ONCE} other questions"
        try:
            async with asyncio.timeout(self._within) as limit, self._places[name]:
                began, what = time.monotonic(), "the hook"
                if self._within is not None:
                    limit.reschedule(asyncio.get_running_loop().time() + self._within)
                reason = await ask(question)
        except (HookFailed, TimeoutError) as e:
            text = f"{what} took longer than {self._within:g} s" if isinstance(e, TimeoutError) else str(e)
            why = one_line(_without_urls(text))
            self._tell(name, "failed", about, began, error=why)
            raise Refused(Problem.CHECK_FAILED, retry_after=_RETRY_AFTER) from HookFailed(why)  # causes are logged
        if reason is None:
            self._count(name, "accepted")
            return
        said = _short(reason) or None
        self._tell(name, "refused", about, began, reason=said)
        raise Refused(problem, said)

    def _tell(self, name: str, result: str, about: dict[str, str], began: float, **more: Any) -> None:
        self._count(name, result)
        if self._log is not None:
            ms = round((time.monotonic() - began) * 1000)
            self._log.write_event("hook", name=name, result=result, **about, **more, ms=ms)


def _without_urls(text: str) -> str:
    """Return the beginning of a foreign text without its URLs. It is cut first, and each character is read once."""
    return _WORD.sub(_without_url, text[:_MOST_READ])


def _without_url(word: re.Match[str]) -> str:
    url = _URL.search(word[0])
    before = word[0] if url is None else word[0][: url.start()]
    if _IN_QUERY in before.lower():
        return "(a URL)"
    return before if url is None else f"{before}(a URL)"


def _short(reason: str) -> str:
    text = one_line(_without_urls(reason)).strip()[:_LONGEST_REASON]
    while len(quote(text)) > _MOST_QUOTED:
        text = text[:-1]
    return text


@contextlib.asynccontextmanager
async def opened_hooks(config: HookSettings, log: AccessLog, count: Count = lambda *_: None) -> AsyncIterator[Hooks]:
    """Make the hooks that `config` names. Raises UsageError for those that can't be."""
    named = (config.before_create, config.before_finish)
    async with connections() as http:
        asks = (None if hook is None else _ask_of(hook, config, http) for hook in named)
        hooks = Hooks(*asks, within=config.hook_timeout, log=log, count=count)
        async with contextlib.aclosing(hooks):
            yield hooks


def _ask_of(hook: str | Callable[[Any], Any], config: HookSettings, http: aiohttp.ClientSession) -> Ask:
    if not isinstance(hook, str):
        return functools.partial(_ask_function, hook, threads=asyncio.Semaphore(_AT_ONCE))
    if is_url(hook):
        return functools.partial(ask_url, http, hook, signer=Signer(config.webhook_secrets))
    return functools.partial(ask_command, words_of(hook))


async def _ask_function(
    function: Callable[[Any], Any], question: Question, *, threads: asyncio.Semaphore
) -> str | None:
    # Not in the event loop's own threads: calls that hang would take them all, and those look up host names.
    try:
        if inspect.iscoroutinefunction(function):
            answer: Any = await function(question)
        else:
            answer = await run_in_daemon_thread(functools.partial(function, question), threads)
            if isinstance(answer, Awaitable):  # of an object whose __call__ is async
                answer = await answer
    except Exception as e:
        raise HookFailed(f"the function raised {type(e).__name__}") from e
    if answer is not None and not isinstance(answer, str):
        raise HookFailed(f"the function returned {type(answer).__name__}, not None or a text")
    return answer


async def ask_url(http: aiohttp.ClientSession, url: str, question: Question, *, signer: Signer) -> str | None:
    """POST a question to a URL.

    Args:
        http: The connections.
        url: The hook's URL.
        question: The body.
        signer: Signs the request, as webhooks are signed.

    Returns:
        None for a status 2xx. The reason for a status 4xx whose body is `{"reason": "…"}`: without it, a 404 of a
        wrong URL would refuse every file.

    Raises:
        HookFailed: Every other answer, or none.
    """
    try:
        asked = f"hook_{secrets.token_hex(16)}"
        status, _, answer = await _post(http, url, asked, as_line(question), signer, time.time(), read=_MOST_ANSWER)
    except _NoAnswer as e:
        raise HookFailed(f"the URL did not answer: {e}") from None
    if 200 <= status < 300:
        return None
    reason = _reason(answer)
    if 400 <= status < 500 and status not in _NO_REFUSALS and reason is not None:
        return reason
    raise HookFailed(f"the URL answered with {status}" + ("" if reason else " and no reason"))


def _reason(body: bytes) -> str | None:
    try:
        reason = json.loads(body)["reason"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return reason if isinstance(reason, str) and printable(reason) else None


async def ask_command(words: Sequence[str], question: Question) -> str | None:
    """Run a command. If the call is cancelled, what is left of the command is killed.

    Args:
        words: The program and its arguments.
        question: What it gets on its standard input.

    Returns:
        None if it accepts, or the first line of its standard output if it refuses.

    Raises:
        HookFailed: It could not be started, or ended in another way.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as e:
        raise HookFailed(f"the command can't be started: {e.strerror}") from None
    try:
        said, complained, _ = await asyncio.gather(
            _output(process.stdout), _output(process.stderr), _feed(process.stdin, as_line(question))
        )
        status = await process.wait()
    finally:
        await _end(process)
    if status == REFUSES and (reason := _first_line(said)):
        return reason
    if status != 0:
        line = _first_line(complained) or _first_line(said)
        raise HookFailed(f"the command ended with {way_of_ending(status)}" + (f": {line}" if line else ""))
    return None


async def _feed(stdin: asyncio.StreamWriter | None, data: bytes) -> None:
    assert stdin is not None
    with contextlib.suppress(OSError):  # it may answer without reading
        stdin.write(data)
        await stdin.drain()
        stdin.close()
        await stdin.wait_closed()


async def _output(stream: asyncio.StreamReader | None) -> bytes:
    assert stream is not None
    kept = b""
    while chunk := await stream.read(_MOST_OUTPUT):
        kept += chunk[: _MOST_OUTPUT - len(kept)]
    return kept


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of the group, unless all of it has ended."""
    pipes = (process.stdout, process.stderr)
    if process.returncode is not None and all(pipe is None or pipe.at_eof() for pipe in pipes):
        return
    with contextlib.suppress(OSError):
        end_group(process.pid, KILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_ENDS_WITHIN):
            await process.wait()


def _first_line(output: bytes) -> str:
    """Return the first line with anything to read: one of control characters alone says nothing."""
    lines = output.decode(errors="replace").splitlines()
    return next((line.strip() for line in lines if printable(line)), "")


SECRET_PREFIX = "whsec_"  # noqa: S105 - what each begins with
_FEWEST_BYTES, _MOST_BYTES = 24, 64
"""Bytes of a secret, as Standard Webhooks asks for."""
VARIABLE = "BIGUPLOAD_WEBHOOK_SECRET_FILE"


class Signer:
    """Signs with all of a list of secrets, so that a receiver may know any one of them."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """Make it. `secrets`: each as `check_secret` wants it."""
        from standardwebhooks import Webhook

        self._by = [Webhook(secret) for secret in secrets]

    def headers(self, message_id: str, body: bytes, now: float) -> dict[str, str]:
        """Return the headers of a request.

        Args:
            message_id: The same for each attempt of one message.
            body: The request's body, in UTF-8.
            now: The time of this attempt, in seconds since 1970.
        """
        at, text = datetime.fromtimestamp(int(now), UTC), body.decode()
        return {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"bigupload/{__version__}",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": " ".join(each.sign(message_id, at, text) for each in self._by),
        }


def check_secret(secret: str) -> None:
    """Raise UsageError unless `secret` is `whsec_` and then 24 to 64 bytes in base64."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not _FEWEST_BYTES <= len(key) <= _MOST_BYTES:
        raise UsageError(
            f"a webhook secret is {SECRET_PREFIX} and then {_FEWEST_BYTES} to {_MOST_BYTES} bytes in base64: "
            "bigupload webhooks secret makes one"
        )


def new_secret() -> str:
    """Return a new secret."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def default_webhook_secret_file() -> Path:
    """`$BIGUPLOAD_WEBHOOK_SECRET_FILE`, or a file among the user's data."""
    return service_file(VARIABLE, "webhook-secret")


def load_webhook_secrets(path: Path, *, create: bool) -> tuple[str, ...]:
    """Return the secrets of a file, one a line. Requests are signed by each of them.

    Args:
        path: The file, which nobody else may read; of a file of root's, a group may.
        create: Whether to make it with a new secret if it is missing.

    Raises:
        ServiceError: It is missing, unreadable, readable for others, or holds something else.
    """
    new, advice = new_secret if create else None, "bigupload webhooks secret makes one"
    return tuple(read_secrets(path, "webhook secret file", check_secret, new=new, advice=advice))


ANSWER_WITHIN = 15.0
"""Seconds that a receiver may take. It should note the event and answer, and work afterwards."""
_GONE = 410
_LONGEST_WAIT = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The outcome of one attempt."""

    result: Literal["delivered", "stopped", "failed"]
    """`stopped`: the receiver wants no more events (410)."""
    said: str
    """The status, or the reason without one. No secret is in it."""
    retry_after: float | None = None
    """Seconds that the receiver asks to wait."""
    answered: bool = True
    """Whether there was any answer."""


def check_webhook_url(url: str) -> None:
    """Raise UsageError unless `url` is an http(s) URL without a user name. It may be secret, so it is not repeated."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.username is None and parts.port != 0
    except ValueError:
        sound = False
    if not sound or parts.fragment or any(c.isspace() or not c.isprintable() for c in url):
        raise UsageError("a webhook's URL is not one: write it like https://app.example.com/webhooks")


def receiver_of(url: str) -> str:
    """Return a name for a receiver that hides its URL."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def host_of(url: str) -> str:
    """Return the part of a webhook's URL that may be logged."""
    return urlsplit(url).hostname or ""


def connections() -> aiohttp.ClientSession:
    """Return the connections to the operator's URLs: without cookies, proxies and passwords of the environment.

    Each is closed after its request. A server may close an idle one at the moment when it is used again, and then
    nobody knows whether the request arrived.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True),
        timeout=aiohttp.ClientTimeout(total=None),  # who sends has a limit of its own
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
    )


class _NoAnswer(Exception):
    """A URL did not answer. The text says why in plain words: aiohttp's own can hold the URL, which may be secret."""

    def __init__(self, e: Exception) -> None:
        match e:
            case aiohttp.ClientConnectorDNSError():
                why = "there is no such host"
            case aiohttp.ClientSSLError():
                why = "its TLS certificate is not trusted, or it speaks no TLS"
            case aiohttp.ClientConnectorError(errno=int(number)):
                why = os.strerror(number)  # like "Connection refused"
            case _:
                why = "the connection ended early"
        super().__init__(why)


async def _post(
    http: aiohttp.ClientSession, url: str, message_id: str, body: bytes, signer: Signer, now: float, *, read: int = 0
) -> tuple[int, Mapping[str, str], bytes]:
    """Return the status, the headers and the first `read` bytes of the body with which a URL answers a signed POST.

    Redirects are not followed: they could lead anywhere. Raises _NoAnswer.
    """
    headers = signer.headers(message_id, body, now)
    try:
        async with http.post(url, data=body, headers=headers, allow_redirects=False) as response:
            answer = bytearray()
            if read:
                async for chunk in response.content.iter_any():
                    answer += chunk[: read - len(answer)]
            return response.status, response.headers, bytes(answer)
    except (aiohttp.ClientError, OSError) as e:
        raise _NoAnswer(e) from None


async def send(
    http: aiohttp.ClientSession,
    url: str,
    message_id: str,
    body: str,
    *,
    signer: Signer,
    now: float,
    within: float = ANSWER_WITHIN,
) -> Sent:
    """Send an event.

    Args:
        http: From `connections`.
        url: The receiver.
        message_id: The event's id.
        body: Its body.
        signer: Signs it.
        now: The time, in seconds since 1970, which is signed, too.
        within: The time limit, in seconds.
    """
    try:
        async with asyncio.timeout(within):
            status, headers, _ = await _post(http, url, message_id, body.encode(), signer, now)
    except TimeoutError:
        return Sent(result="failed", said=f"no answer within {within:g} s", answered=False)
    except _NoAnswer as e:
        return Sent(result="failed", said=f"no answer: {e}", answered=False)
    wait = headers.get("Retry-After", "")
    if 200 <= status < 300:
        return Sent(result="delivered", said=str(status))
    if status == _GONE:
        return Sent(result="stopped", said=str(status))
    seconds = float(min(int(wait), _LONGEST_WAIT)) if wait.isascii() and wait.isdigit() and len(wait) < 10 else None
    said = f"{status}, and redirects are not followed" if 300 <= status < 400 else str(status)
    return Sent(result="failed", said=said, retry_after=seconds)
