"""The client's uploads in Node: their states, their tokens, what they resume. `fetch` answers what a test says."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from bigupload.core.part_plan import S3_LIMITS, plan_parts
from tests.tools.node import Call
from tests.tools.page import MIB

TOKEN = "e30." + base64.urlsafe_b64encode(b'{"sub":"app","user":"u-1"}').decode().rstrip("=") + ".s"
STORED = """
  const { ofToken } = await import(at + "client/identity.js");
  record.who = await ofToken(x.token);
"""
"""A record of the token's user."""
CLIENT = """
  const requests = [], bodies = [];
  globalThis.fetch = async (url, { method, headers, body }) => {
    url = new URL(url);
    requests.push([method, url.pathname, headers.Authorization ?? null, headers["X-User"] ?? null]);
    bodies.push(typeof body === "string" ? JSON.parse(body) : null);
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
    """The service refuses it, so that nothing more happens."""
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
    const forget = async (id) => id === "1" && forgotten.push(id);
    x.storage = { records: async () => [record], parts: async () => new Map(), save: async () => {}, forget };
    """
        + STORED
        + CLIENT
        + """const upload = client.upload(file);
    await upload.finished.catch(() => {});
    return [requests.map(([method]) => method), upload.problem.code, forgotten];"""
    )
    refused = [[403, {"error": {"code": code, "message": "no"}}], [403, {"error": {"code": "quota_exceeded"}}]]
    found = run("client/client", body, {"answers": refused, "token": TOKEN})
    assert found == [["GET", "POST"], "quota_exceeded", [] if code == "not_your_upload" else ["1"]]


def test_a_file_must_be_the_same_to_be_resumed(run: Call) -> None:
    body = (
        """const record = { id: "1", name: "a.png", size: 1, lastModified: 5, partSize: 5, startedAt: 0 };
    x.storage = { records: async () => [record], parts: async () => new Map(), save: async () => {} };
    """
        + STORED
        + CLIENT
        + """const [upload] = await client.unfinished();
    const tried = [[null], [new File(["xx"], "a.png")], [new File(["x"], "b.png")]].map((given) => {
      try { upload.resume(...given); return "resumed"; } catch (problem) { return problem.kind; } });
    return [tried, upload.state, (await client.unfinished()).length];"""
    )
    found = run("client/client", body, {"answers": [], "token": TOKEN})
    assert found == [["file", "file", "file"], "remembered", 1]


@pytest.mark.parametrize(
    ("claims", "same"),
    [
        ({"sub": "app", "user": "u-1"}, True),
        ({"sub": "app", "user": "u-1", "metadata": {"album": "2"}, "exp": 5}, True),
        ({"sub": "app", "user": "u-2"}, False),
        ({"sub": "other", "user": "u-1"}, False),
        ({"sub": "app"}, False),
        ({"sub": "app", "metadata": {"user": "u-1"}}, False),
    ],
)
def test_whose_an_upload_is(run: Call, claims: dict[str, object], same: bool) -> None:
    """Never by what a token has else: its end, its limits, its metadata where it names its user."""
    other = "e30." + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=") + ".s"
    assert run("client/identity", "return (await m.ofToken(x[0])) === (await m.ofToken(x[1]));", [TOKEN, other]) is same


def test_whose_an_upload_is_where_only_metadata_say_it(run: Call) -> None:
    def token(**metadata: str) -> str:
        claims = json.dumps({"sub": "app", "metadata": metadata}).encode()
        return "e30." + base64.urlsafe_b64encode(claims).decode().rstrip("=") + ".s"

    given = [token(a="1", user="u"), token(user="u", a="1"), token(a="1", user="ü"), token()]
    first, swapped, other, none = run("client/identity", "return Promise.all(x.map(m.ofToken));", given)
    assert first == swapped
    assert len({first, other, none}) == 3
    assert run("client/identity", "return [await m.ofToken('sk_x'), await m.ofToken('a.b.c')];") == [None, None]


def test_whose_a_key_is_the_service_says_once(run: Call) -> None:
    body = (
        """const records = [{ id: "1", handle: "h", name: "a", size: 1, lastModified: 5, partSize: 5, startedAt: 0 }];
    x.storage = { records: async () => records, parts: async () => new Map() };
    """
        + CLIENT
        + """const { ofAnswer } = await import(at + "client/identity.js");
    records[0].who = await ofAnswer({ owner: "ada" });
    const found = [(await client.unfinished()).length, (await client.unfinished()).length];
    client.token = "sk_b";
    return [...found, (await client.unfinished()).length, client.uploads.length, requests.map(([, path]) => path)];"""
    )
    answers = [[200, {"owner": "ada"}], [200, {"owner": "bob"}]]
    me = "/uploads/v1/me"
    assert run("client/client", body, {"answers": answers, "token": "sk_a"}) == [1, 1, 0, 0, [me, me]]


def test_nothing_is_listed_while_nobody_knows_whose_it_is(run: Call) -> None:
    body = (
        """const records = [{ id: "1", handle: "h", name: "a", size: 1, lastModified: 5, partSize: 5, startedAt: 0 }];
    x.storage = { records: async () => records, parts: async () => new Map() };
    """
        + CLIENT
        + "return (await client.unfinished()).length;"
    )
    assert run("client/client", body, {"answers": [], "nobody": True}) == 0
    refused = [401, {"error": {"code": "invalid_key"}}]
    assert run("client/client", body, {"answers": [refused], "token": "sk_a"}) == 0


@pytest.mark.parametrize("nothing", ["null", "undefined", '""', '"two words"'])
def test_who_got_no_token_asks_again(run: Call, nothing: str) -> None:
    full = [403, {"error": {"code": "quota_exceeded", "message": "full"}}]
    body = f"""let calls = 0;
    client.token = async () => (calls += 1) === 1 ? {nothing} : "good";
    const upload = client.upload(new File(["x"], "a.png"));
    await upload.finished.catch(() => {{}});
    const before = [upload.state, upload.problem.message];
    upload.resume();
    await upload.finished.catch(() => {{}});
    return [...before, calls, requests.map(([, , token]) => token), upload.problem.code];"""
    state, message, calls, sent, code = run("client/client", CLIENT + body, {"answers": [full]})
    assert (state, calls, sent, code) == ("unauthorized", 2, ["Bearer good"], "quota_exceeded")
    assert "key" not in message, "its reader has none"
    assert "token" not in message


def test_an_empty_file_is_refused_before_anything_is_asked(run: Call) -> None:
    body = """const upload = client.upload(new File([], "a.png"));
    await upload.finished.catch(() => {});
    return [requests, upload.problem.kind, upload.problem.message];"""
    assert run("client/client", CLIENT + body, {"answers": []}) == [[], "refused", "The file is empty."]


def test_what_is_no_file_is_a_problem(run: Call) -> None:
    body = """const { upload, Problem } = await import(at + "client/index.js");
    const options = { endpoint: "http://service/", token: "t", storage: false };
    const given = [undefined, null, "a.png", 5, {}, { name: "a.png", size: 1 }, [new File(["x"], "a.png")],
      new Blob(["x"]), new File(["x"], "")];
    return given.flatMap((each) => [() => upload(each, options), () => client.upload(each)]).map((act) => {
      try {
        act();
      } catch (error) {
        return [error instanceof Problem, error.kind, error.message];
      }
    }).concat([client.uploads.length, requests.length]);"""
    *problems, unnamed, _, uploads, requests = run("client/client", CLIENT + body, {"answers": []})
    assert (uploads, requests) == (0, 0)
    nothing, nameless = problems[0][2], unnamed[2]
    assert "Blob" in nothing
    assert "name" in nameless
    assert problems == [[True, "file", nothing]] * 14 + [[True, "file", nameless]] * 2
    assert unnamed == [True, "file", nameless]


def test_a_blob_is_uploaded_by_the_name_that_is_given(run: Call) -> None:
    body = """const blob = new Blob(["x"], { type: "image/png" });
    const given = [blob, new File(["x"], "b.jpg"), new File(["x"], "c.png")];
    const names = ["a.png", "b.png", undefined];
    const uploads = given.map((each, n) => client.upload(each, { name: names[n] }));
    await Promise.all(uploads.map(({ finished }) => finished.catch(() => {})));
    return [uploads.map(({ name, size }) => [name, size]), bodies.map((b) => [b.filename, b.contentType, b.size]),
      uploads[2].file === given[2]];"""
    refused = [403, {"error": {"code": "quota_exceeded", "message": "full"}}]
    uploads, bodies, same = run("client/client", CLIENT + body, {"answers": [refused] * 3})
    assert uploads == [["a.png", 1], ["b.png", 1], ["c.png", 1]]
    assert sorted(bodies) == [[name, "image/png", 1] for name in ("a.png", "b.png", "c.png")]
    assert same


def test_what_a_page_asked_wrongly_is_said_to_its_developer(run: Call) -> None:
    error = {"code": "invalid_field", "message": "Input should be greater than 0", "field": "size"}
    body = """const said = [], log = console.error;
    console.error = (text) => said.push(text);
    const upload = client.upload(new File(["x"], "a.png"));
    await upload.finished.catch(() => {});
    console.error = log;
    return [upload.problem.kind, upload.problem.message, said];"""
    kind, message, said = run("client/client", CLIENT + body, {"answers": [[422, {"error": error}]]})
    assert kind == "final"
    assert "Input should" not in message
    assert said == ["bigupload: size: Input should be greater than 0"]
    named = error | {"field": "filename", "message": "rename the file"}
    found = run("client/client", CLIENT + body, {"answers": [[422, {"error": named}]]})
    assert found == ["refused", "Rename the file.", []]


def test_a_small_file_is_sent_in_node_too(run: Call) -> None:
    body = """const upload = client.upload(new File(["x"], "a.png"));
    const url = await upload.finished.then(({ publicUrl }) => publicUrl, (problem) => problem.message);
    return [url, requests.map(([method, path]) => [method, path])];"""
    signed = {"partNumber": 1, "url": "http://store/a?x", "headers": {}}
    created = {"upload": "h", "key": "k", "publicUrl": "u", "partSize": 5 * MIB, "parts": 1, "expiresIn": 3600}
    answers = [[200, created | {"signed": [signed]}], [200, None], [200, {"publicUrl": "u", "key": "k", "size": 1}]]
    found = run(
        "client/client", CLIENT.replace("{ status }", '{ status, headers: { ETag: "e" } }') + body, {"answers": answers}
    )
    path = "/uploads/v1/media/multipart"
    assert found == ["u", [["POST", path], ["PUT", "/a"], ["POST", f"{path}/complete"]]]


def test_the_element_can_be_imported_by_a_server(run: Call) -> None:
    assert run("client/element", "return typeof m.BigUploadElement;") == "function"


def test_clients_share_a_database_and_go_with_their_functions(run: Call) -> None:
    body = """let opened = 0;
    globalThis.indexedDB = { open() {
      opened += 1;
      const request = {};
      setTimeout(() => { request.result = {}; request.onsuccess(); });
      return request;
    } };
    const { Memory } = await import(at + "client/memory.js");
    const all = await Promise.all(["http://a/", "http://a/", "http://b/"].map((at) => new Memory(at).works));
    delete globalThis.indexedDB;
    return [opened, all];"""
    assert run("client/client", body) == [2, [True, True, True]]


def test_all_that_wait_are_stored_at_once_and_forgotten_at_their_end(run: Call) -> None:
    body = (
        """const saved = [], forgotten = [];
    let wake;
    const stored = () => new Promise((resolve) => (wake = resolve));
    x.storage = { records: async () => [], parts: async () => new Map(), find: async () => [],
      saveAll: async (rows) => { saved.push(rows); wake(); }, forget: async (id) => forgotten.push(id) };
    """
        + CLIENT
        + """const { ofToken } = await import(at + "client/identity.js");
    const begin = (names) => names.map((name) => client.upload(new File(["x"], name), { path: `A/${name}` }));
    let is = stored();
    const [first] = begin(["a.png", "b.png", "c.png"]);
    for (const upload of client.uploads) upload.pause();
    await is;
    const before = saved.splice(0);
    await first.cancel();
    client.token = null;
    is = stored();
    begin(["d.png"])[0].pause();
    await is;
    const unknown = saved.splice(0).flat();
    is = stored();
    client.token = x.token;
    await is;
    return {
      calls: before.length,
      paths: before.flat().map(({ path }) => path),
      whose: new Set(before.flat().map(({ who }) => who)).has(await ofToken(x.token)),
      begun: before.flat().map(({ handle, startedAt }) => handle ?? startedAt),
      forgotten: forgotten[0] === first.id && forgotten.length,
      unknown: unknown.length,
      later: saved.flat().map(({ name }) => name),
    };"""
    )
    assert run("client/client", body, {"answers": [], "token": TOKEN}) == {
        "calls": 1,
        "paths": ["A/a.png", "A/b.png", "A/c.png"],
        "whose": True,
        "begun": [None, None, None],
        "forgotten": 1,
        "unknown": 0,
        "later": ["d.png"],
    }
