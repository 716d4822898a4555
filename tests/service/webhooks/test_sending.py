"""What a receiver gets, and what its answers mean."""

from __future__ import annotations

import base64
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from bigupload.errors import ServiceError, UsageError
from bigupload.service.access import keys
from bigupload.service.webhooks.hooks import (
    Sent,
    Signer,
    check_secret,
    check_webhook_url,
    connections,
    host_of,
    load_webhook_secrets,
    new_secret,
    receiver_of,
    send,
)
from bigupload.service.webhooks.telling import RETRIED_FOR, event, next_attempt, next_look
from tests.tools.cases import each_case
from tests.tools.http_stub import HttpStub, Response

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()  # not random: xdist compares the names of tests
EVENT = event("media.completed", "1", {"key": "media/ada/1.jpg", "metadata": {"name": "Zoë"}}, 1_790_000_000.0)


async def answered(url: str, *, now: float | None = None, within: float = 15.0) -> Sent:
    async with connections() as http:
        return await send(
            http, url, EVENT.id, EVENT.body, signer=Signer([SECRET]), now=now or time.time(), within=within
        )


async def test_the_reference_library_verifies_an_event(session_stub: HttpStub) -> None:
    session_stub.forget()
    session_stub.responses["/hook"] = Response(status=204)
    assert await answered(f"{session_stub.url}/hook") == Sent(result="delivered", said="204")
    (received,) = session_stub.received
    assert received.headers["webhook-id"] == EVENT.id
    told = Webhook(SECRET).verify(received.body, dict(received.headers))
    assert (told["type"], told["timestamp"], told["data"]["metadata"]) == (
        "media.completed", "2026-09-21T14:13:20Z", {"name": "Zoë"},
    )  # fmt: skip
    for wrong, body in ((new_secret(), received.body), (SECRET, received.body + b" ")):
        with pytest.raises(WebhookVerificationError):
            Webhook(wrong).verify(body, dict(received.headers))


@pytest.mark.parametrize(
    ("response", "sent"),
    [
        (Response(status=200, body=b"x" * 1_000_000), Sent(result="delivered", said="200")),
        (Response(status=410), Sent(result="stopped", said="410")),
        (Response(status=500), Sent(result="failed", said="500")),
        (Response(status=404), Sent(result="failed", said="404")),
        (Response(status=503, headers={"Retry-After": "90"}), Sent(result="failed", said="503", retry_after=90)),
        (
            Response(status=429, headers={"Retry-After": "99999999"}),
            Sent(result="failed", said="429", retry_after=24 * 3600),
        ),
        (Response(status=503, headers={"Retry-After": "soon"}), Sent(result="failed", said="503")),
        (
            Response(status=307, headers={"Location": "/elsewhere"}),
            Sent(result="failed", said="307, and redirects are not followed"),
        ),
        (None, Sent(result="failed", said="no answer: the connection ended early", answered=False)),
    ],
)
async def test_what_an_answer_means(session_stub: HttpStub, response: Response | None, sent: Sent) -> None:
    session_stub.forget()
    session_stub.responses["/hook"] = response
    assert await answered(f"{session_stub.url}/hook") == sent
    assert len(session_stub.received) == 1


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of what accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/secret-path"


async def test_a_receiver_that_is_silent_or_away(silent: str, session_stub: HttpStub) -> None:
    assert await answered(silent, within=0.1) == Sent(result="failed", said="no answer within 0.1 s", answered=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        away = f"http://127.0.0.1:{listener.getsockname()[1]}/secret-path"
    refused = Sent(result="failed", said="no answer: Connection refused", answered=False)
    assert await answered(away) == refused
    plain = await answered(f"{session_stub.url}/hook".replace("http:", "https:"))
    assert plain.said == "no answer: its TLS certificate is not trusted, or it speaks no TLS"
    unknown = await answered("http://no-such-host.invalid/secret-path")
    assert unknown.said == "no answer: there is no such host"


def test_the_same_event_has_the_same_id() -> None:
    assert event("media.completed", "1", {}, 5.0).id == EVENT.id
    assert len({EVENT.id, event("media.completed", "2", {}, 5.0).id, event("media.refused", "1", {}, 5.0).id}) == 3


def test_an_event_is_tried_for_24_hours() -> None:
    """Nine times, the last time at the end of the day; and later if the receiver says so."""
    tries, now = [0.0], 0.0
    while (again := next_attempt(len(tries), now=now, since=0.0, retry_after=None, random=lambda: 0.5)) is not None:
        now = again
        tries.append(now)
    assert tries == [0, 5, 65, 365, 2165, 9365, 27_365, 56_165, 84_965, RETRIED_FOR]
    assert next_attempt(1, now=0.0, since=0.0, retry_after=600.0, random=lambda: 0.5) == 600
    assert next_attempt(1, now=0.0, since=0.0, retry_after=RETRIED_FOR * 2, random=lambda: 0.5) == RETRIED_FOR
    spread = [next_attempt(3, now=0.0, since=0.0, retry_after=None, random=lambda at=at: at) for at in (0.0, 1.0)]
    assert spread == [270, 330]


def test_looks_become_rare() -> None:
    assert [next_look(looks, now=100.0) - 100 for looks in (0, 1, 2, 8, 500)] == [15, 30, 60, 3600, 3600]


@each_case(
    "url", ["", "app.example/hook", "ftp://a.example", "https://", "https://u:p@a.example/", "https://a.example/#x",
            "https://a.example/a b", "https://a.example:0/", "https://[a/"],
)  # fmt: skip
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_webhook_url(url)
    assert "u:p" not in str(refused.value)


def test_names_that_do_not_tell_the_url() -> None:
    url = "http://10.0.0.7:9000/hooks/T0?token=secret"
    check_webhook_url(url)  # private addresses are the operator's business
    assert host_of(url) == "10.0.0.7"
    assert "secret" not in receiver_of(url)


@each_case("secret", ["", "whsec_", "whsec_AAAA", SECRET[6:], "whsec_" + "ö" * 40, SECRET + "A" * 400])
def test_what_is_no_secret(secret: str) -> None:
    with pytest.raises(UsageError):
        check_secret(secret)


def test_the_file_of_secrets(tmp_path: Path) -> None:
    """Made once, private, and one line for each secret while it is replaced."""
    file = tmp_path / "new" / "webhook-secret"
    with pytest.raises(ServiceError, match="bigupload webhooks secret"):
        load_webhook_secrets(file, create=False)
    (first,) = load_webhook_secrets(file, create=True)
    assert load_webhook_secrets(file, create=True) == (first,)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text(f"{first}\n\n{SECRET}\n")
    assert load_webhook_secrets(file, create=False) == (first, SECRET)
    headers = Signer([first, SECRET]).headers("evt_1", b"{}", 1_790_000_000.9)
    assert headers["webhook-timestamp"] == "1790000000"
    assert len(headers["webhook-signature"].split(" ")) == 2
    for content, said in ((b"", "is empty"), (b"\xff", "not text"), (f"{SECRET}\nabc".encode(), "line 2")):
        file.write_bytes(content)
        with pytest.raises(ServiceError, match=said) as refused:
            load_webhook_secrets(file, create=False)
        assert "abc" not in str(refused.value)
    file.chmod(0o640)
    with pytest.raises(ServiceError, match="chmod 600"):
        load_webhook_secrets(file, create=False)


def test_a_file_of_roots_may_be_read_by_its_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So Kubernetes mounts a Secret for a user who is not root."""
    file = tmp_path / "webhook-secrets"
    file.write_text(SECRET)
    file.chmod(0o440)
    before = file.stat()
    mounted = os.stat_result((*before[:4], 0, *before[5:]))
    monkeypatch.setattr(keys, "read_regular", lambda path: (path.read_bytes(), mounted))
    monkeypatch.setattr(os, "geteuid", lambda: 10001)
    assert load_webhook_secrets(file, create=False) == (SECRET,)
