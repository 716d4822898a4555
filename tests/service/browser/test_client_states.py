"""The client's uploads in Node: their states, their tokens, what they resume. `fetch` answers what a test says."""

from __future__ import annotations

import base64
import hashlib

import pytest

from bigupload.core.part_plan import S3_LIMITS, plan_parts
from tests.tools.node import Call
from tests.tools.page import MIB

CLIENT = """
  const requests = [], bodies = [];
  globalThis.fetch = async (url, { method, headers, body }) => {
    requests.push([method, url.pathname, headers.Authorization ?? null, headers["X-User"] ?? null]);
    bodies.push(body && JSON.parse(body));
    const [status, answer] = x.answers.shift();
    return new Response(answer && JSON.stringify(answer), { status });
  };
  const { Client } = await import(at + "client/client.js");
  let asked = 0;
  const token = x.token ?? (async () => `token-${asked += 1}`);
  const client = new Client({
    endpoint: "http://service/uploads",
    token: x.nobody ? null : token,
    storage: x.storage ?? false,
    headers: x.headers ?? null,
  });
"""


def test_a_small_file_is_created_with_its_part_signed(run: Call) -> None:
    """The PUT needs a browser, so that here it is the last that happens."""
    assert plan_parts(5 * MIB, None, limits=S3_LIMITS).count == 1, (
        "the client signs the only part of such a file at create"
    )
    body = """const states = [];
    const upload = client.upload(new File(["x".repeat(x.size)], "a.png"), { onState: (state) => states.push(state) });
    await upload.finished.catch(() => {});
    return [requests, states, upload.problem.code, bodies[0].firstParts];"""
    refused = [403, {"error": {"code": "quota_exceeded", "message": "full"}}]
    *found, first = run("client/client", CLIENT + body, {"size": 5 * MIB, "answers": [refused]})
    checksum = base64.b64encode(hashlib.sha256(b"x" * 5 * MIB).digest()).decode()
    assert first == [{"partNumber": 1, "size": 5 * MIB, "checksum": checksum}]
    assert run("client/client", CLIENT + body, {"size": 5 * MIB + 1, "answers": [refused]})[-1] == []
    assert found == [
        [["POST", "/uploads/v1/media/multipart", "Bearer token-1", None]],
        ["starting", "failed"],
        "quota_exceeded",
    ]


def test_a_refused_token_is_asked_for_once_more(run: Call) -> None:
    expired = [401, {"error": {"code": "token_expired", "message": "expired"}}]
    full = [403, {"error": {"code": "quota_exceeded", "message": "full"}}]
    body = """const upload = client.upload(new File(["x"], "a.png"));
    await upload.finished.catch(() => {});
    return [requests.map(([, , token]) => token), upload.state, asked];"""
    assert run("client/client", CLIENT + body, {"answers": [expired, full]}) == [
        ["Bearer token-1", "Bearer token-2"],
        "failed",
        2,
    ]
    assert run("client/client", CLIENT + body, {"answers": [expired, expired]})[1:] == ["unauthorized", 2]
    fixed = run("client/client", CLIENT + body, {"answers": [expired], "token": "eyJ"})
    assert fixed == [["Bearer eyJ"], "unauthorized", 0]


def test_a_token_that_is_used_up_is_asked_for_once_more(run: Call) -> None:
    used = [403, {"error": {"code": "token_used_up", "message": "used up"}}]
    full = [403, {"error": {"code": "quota_exceeded", "message": "full"}}]
    body = """const upload = client.upload(new File(["x"], "a.png"));
    await upload.finished.catch(() => {});
    return [requests.map(([, , token]) => token), upload.state, upload.problem.code];"""
    twice = ["Bearer token-1", "Bearer token-2"]
    assert run("client/client", CLIENT + body, {"answers": [used, full]}) == [twice, "failed", "quota_exceeded"]
    assert run("client/client", CLIENT + body, {"answers": [used, used]}) == [twice, "unauthorized", "token_used_up"]
    fixed = run("client/client", CLIENT + body, {"answers": [used], "token": "eyJ"})
    assert fixed == [["Bearer eyJ"], "unauthorized", "token_used_up"], "it waits for another token"


def test_a_failed_check_is_not_called_a_silent_service(run: Call) -> None:
    failed = [503, {"error": {"code": "check_failed", "message": "a check did not work"}}]
    full = [403, {"error": {"code": "quota_exceeded", "message": "full"}}]
    body = """const upload = client.upload(new File(["x"], "a.png"));
    const notes = [], waitFor = upload.waitFor.bind(upload), random = Math.random;
    upload.waitFor = (note) => { notes.push(note); waitFor(note); };
    Math.random = () => 0;
    await upload.finished.catch(() => {});
    Math.random = random;
    return [notes, upload.problem.code];"""
    assert run("client/client", CLIENT + body, {"answers": [failed, full]}) == [["check"], "quota_exceeded"]
    unavailable = [503, {"error": {"code": "internal", "message": "no"}}]
    assert run("client/client", CLIENT + body, {"answers": [unavailable, full]})[0] == ["service"]


def test_another_token_lets_the_uploads_go_on(run: Call) -> None:
    expired = [401, {"error": {"code": "token_expired", "message": "expired"}}]
    full = [403, {"error": {"code": "quota_exceeded", "message": "full"}}]
    body = """const upload = client.upload(new File(["x"], "a.png"));
    await upload.finished.catch(() => {});
    const before = upload.state;
    client.token = "new";
    await upload.finished.catch(() => {});
    return [before, upload.state, requests.map(([, , token]) => token)];"""
    found = run("client/client", CLIENT + body, {"answers": [expired, full], "token": "old"})
    assert found == ["unauthorized", "failed", ["Bearer old", "Bearer new"]]


def test_headers_alone_may_say_who_asks(run: Call) -> None:
    full = [403, {"error": {"code": "quota_exceeded", "message": "full"}}]
    body = """const upload = client.upload(new File(["x"], "a.png"));
    await upload.finished.catch(() => {});
    return [requests, upload.problem.code];"""
    found = run("client/client", CLIENT + body, {"answers": [full], "nobody": True, "headers": {"X-User": "ada"}})
    assert found == [[["POST", "/uploads/v1/media/multipart", None, "ada"]], "quota_exceeded"]
    assert run("client/client", CLIENT + body, {"answers": [], "nobody": True}) == [[], "missing_key"]


@pytest.mark.parametrize("code", ["not_your_upload", "upload_expired"])
def test_an_upload_that_cannot_be_resumed_begins_anew(run: Call, code: str) -> None:
    """The app asked for the file to be uploaded, not for that upload: another user may have begun it."""
    body = (
        """const file = new File(["x"], "a.png", { lastModified: 5 });
    const record = { id: "1", handle: "h", name: "a.png", size: 1, lastModified: 5, partSize: 5, startedAt: 0 };
    const forgotten = [];
    const forget = async (id) => forgotten.push(id);
    x.storage = { records: async () => [record], parts: async () => new Map(), forget };
    """
        + CLIENT
        + """const upload = client.upload(file);
    await upload.finished.catch(() => {});
    return [requests.map(([method]) => method), upload.problem.code, forgotten];"""
    )
    refused = [[403, {"error": {"code": code, "message": "no"}}], [403, {"error": {"code": "quota_exceeded"}}]]
    found = run("client/client", body, {"answers": refused})
    assert found == [["GET", "POST"], "quota_exceeded", [] if code == "not_your_upload" else ["1"]]


def test_a_file_must_be_the_same_to_be_resumed(run: Call) -> None:
    body = (
        """const record = { id: "1", name: "a.png", size: 1, lastModified: 5, partSize: 5, startedAt: 0 };
    x.storage = { records: async () => [record], parts: async () => new Map(), save: async () => {} };
    """
        + CLIENT
        + """const [upload] = await client.unfinished();
    const tried = [[null], [new File(["xx"], "a.png")], [new File(["x"], "b.png")]].map((given) => {
      try { upload.resume(...given); return "resumed"; } catch (problem) { return problem.kind; } });
    return [tried, upload.state, (await client.unfinished()).length];"""
    )
    assert run("client/client", body, {"answers": []}) == [["file", "file", "file"], "remembered", 1]
