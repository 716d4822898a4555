"""Which parts are in flight, of which upload, and which are sent again: in Node."""

from __future__ import annotations

import pytest

from tests.tools.node import Call

FLIGHT = """const { signal } = new AbortController();
let limit = 4, surplus = [];
const parts = [], calls = [];
const flight = {
  most: 4,
  limit: () => limit,
  begin: (size) => { parts.push({ size }); return parts.at(-1); },
  accept: () => {},
  store: () => calls.push("store"),
  end: () => calls.push("end"),
  again: () => calls.push("again"),
  isLost: (part, timeout, now) => now > timeout,
  look: () => {},
  surplus: () => surplus.splice(0),
};
let now = 0;
const traffic = new m.Traffic({ flight, now: () => now }), lane = new m.Lane();
const todo = [1, 2, 3, 4, 5, 6], log = [], ends = new Map(), moves = new Map();
const worker = async () => {
  while (todo.length) {
    const leave = await traffic.enter(lane, signal);
    const number = todo.shift();
    try {
      if (number) await traffic.put(1000, signal, (own, progress) => new Promise((resolve, reject) => {
        log.push(number);
        progress(number * 10);
        moves.set(number, progress);
        ends.set(number, resolve);
        own.addEventListener("abort", () => reject(own.reason));
      }));
    } catch (error) {
      if (!(error instanceof m.Postponed)) throw error;
      todo.unshift(number);
    }
    leave();
  }
};
const running = Promise.all([worker(), worker(), worker(), worker()]);
const settled = () => new Promise((resolve) => setTimeout(resolve));
await settled();
"""


def test_parts_are_postponed_and_sent_later(run: Call) -> None:
    body = """const before = [...log];
    limit = 2;
    surplus = [parts[0], parts[1]];
    traffic.look();
    await settled();
    const during = [lane.taken, [...calls]];
    for (let number = 1; number < 20; number += 1) {
      for (const end of ends.values()) end();
      await settled();
    }
    await running;
    return [before, ...during, log.slice(4).sort(), todo.length, calls.filter((each) => each === "store").length];"""
    assert run("client/traffic", FLIGHT + body) == [[1, 2, 3, 4], 2, ["end", "end"], [1, 2, 5, 6], 0, 6]


def test_only_a_whole_part_that_is_sent_again_lowers_the_limit(run: Call) -> None:
    body = """const { Problem, NO_RESPONSE } = await import(at + "client/problem.js");
    calls.splice(0);
    const seen = [];
    for (const code of [null, NO_RESPONSE]) {
      const fail = async (own, progress, isLost) => {
        seen.push(isLost());
        now = 300.1; // seconds
        seen.push(isLost());
        throw new Problem("network", "", { code });
      };
      await traffic.put(1000, signal, fail).catch(() => {});
      now = 0;
    }
    return [seen, calls];"""
    assert run("client/traffic", FLIGHT + body) == [[False, True] * 2, ["end", "end", "again"]]


@pytest.mark.parametrize("most", [1, 2, 6])
def test_uploads_share_the_places_fairly(run: Call, most: int) -> None:
    """A large file has begun, and two small ones come: each gets the next free place."""
    body = """const traffic = new m.Traffic({ flight: { limit: () => x } });
    const lanes = { large: new m.Lane(), a: new m.Lane(), b: new m.Lane() };
    const { signal } = new AbortController();
    const log = [], held = [];
    const enter = async (name) => { held.push(await traffic.enter(lanes[name], signal)); log.push(name); };
    const settled = () => new Promise((resolve) => setTimeout(resolve));
    for (let part = 0; part < 12; part += 1) enter("large");
    for (const name of ["a", "b"]) enter(name);
    await settled();
    while (held.length) { held.shift()(); await settled(); }
    return log;"""
    log = run("client/traffic", body, most)
    assert log[:most] == ["large"] * most
    assert log[most : most + 2] == ["a", "b"]
    assert log[most + 2 :] == ["large"] * (12 - most)


def test_who_is_paused_while_waiting_takes_no_place(run: Call) -> None:
    body = """const traffic = new m.Traffic({ flight: { limit: () => 1 } }), lane = new m.Lane();
    const leave = await traffic.enter(lane, new AbortController().signal);
    const control = new AbortController();
    const waiting = traffic.enter(lane, control.signal).catch((error) => error.name);
    const after = traffic.enter(lane, new AbortController().signal);
    control.abort();
    const name = await waiting;
    leave();
    (await after)();
    return [name, lane.taken];"""
    assert run("client/traffic", body) == ["AbortError", 0]


SENDER = """
  const { Plan } = await import(at + "client/parts.js");
  const { Traffic } = await import(at + "client/traffic.js");
  const { Problem } = await import(at + "client/problem.js");
  const requests = []; // {number, done(status), aborted}
  globalThis.XMLHttpRequest = class {
    upload = {};
    responseText = "";
    getAllResponseHeaders() { return `etag: e${this.number}`; }
    setRequestHeader() {}
    open(_, url) { this.number = Number(url); }
    abort() { if (!this.over) { this.over = this.aborted = true; this.onabort(); } }
    done(status, code = "") {
      this.over = true;
      this.status = status;
      this.responseText = `<Code>${code}</Code>`;
      this.onload();
    }
    send() {
      requests.push(this);
      if (this.number < 6) setTimeout(() => this.done(200));
    }
  };
  const control = new AbortController();
  const plan = new Plan(60, 10), stored = [], again = [], traffic = new Traffic();
  let now = 0;
  const sender = new m.PartSender({
    file: new Blob(["x".repeat(60)]), plan, signal: control.signal, traffic,
    sign: async (parts) => ({
      signed: parts.map(({ partNumber }) => ({ partNumber, url: String(partNumber), headers: {} })), expiresIn: 3600 }),
    on: { sending: async () => {}, moved: () => {}, again: (number) => again.push(number),
      stored: async (number, { etag }) => stored.push(etag),
      wait: async () => 1, failed: () => control.abort() },
    now: () => now,
  });
  const running = sender.run(plan.numbers).then(() => "done", (error) => error.message);
  const settled = () => new Promise((resolve) => setTimeout(resolve));
  const last = async () => {
    while (stored.length < 5 || requests.length < 6) await settled();
    now += 10_000; // milliseconds; the others took none
    sender.look();
    await settled();
    return requests.filter(({ number }) => number === 6);
  };
"""


def test_a_straggler_is_given_up_and_sent_again(run: Call) -> None:
    """At most twice: then it may take its time."""
    body = """const counts = [];
    for (let looks = 0; looks < 4; looks += 1) counts.push((await last()).length);
    const sixth = requests.filter(({ number }) => number === 6);
    sixth.at(-1).done(200);
    return [await running, stored.sort(), counts, sixth.map(({ aborted = false }) => aborted), again];"""
    found = run("client/part_sender", SENDER + body)
    assert found == ["done", ["e1", "e2", "e3", "e4", "e5", "e6"], [2, 3, 3, 3], [True, True, False], []]


def test_a_part_is_not_given_up_where_a_proxy_holds_all(run: Call) -> None:
    body = """Object.defineProperty(traffic, "late", { value: true });
    const [sixth] = await last();
    sixth.done(200);
    return [await running, sixth.aborted ?? false, requests.length];"""
    assert run("client/part_sender", SENDER + body) == ["done", False, 6]


def test_few_bytes_are_sent_twice_for_stragglers(run: Call) -> None:
    """One part of the file's: a second straggler that has sent as much is let be."""
    body = """while (stored.length < 5 || requests.length < 6) await settled();
    const counts = [];
    for (const bytes of [8, 8]) {
      requests.at(-1).upload.onprogress({ loaded: bytes });
      await last();
      await settled();
      counts.push(requests.length);
    }
    requests.at(-1).done(200);
    return [await running, counts];"""
    assert run("client/part_sender", SENDER + body) == ["done", [7, 7]]


def test_a_whole_part_without_a_response_is_sent_again_and_reported(run: Call) -> None:
    body = """const timers = [], every = globalThis.setInterval;
    globalThis.setInterval = (call) => timers.push(call);
    let lost = false;
    traffic.put = (size, signal, send) => send(signal, () => {}, () => lost);
    while (stored.length < 5 || requests.length < 6) await settled();
    globalThis.setInterval = every;
    requests.at(-1).upload.onload(); // its whole body is accepted
    now += 500;
    const seen = [sender.moving, sender.waiting];
    now += 500;
    seen.push(sender.waiting);
    for (const look of timers) look();
    await settled();
    seen.push([...again]);
    lost = true;
    for (const look of timers) look();
    while (requests.length < 7) await settled();
    requests.at(-1).done(200);
    return [await running, seen, again, requests.at(-2).aborted];"""
    found = run("client/part_sender", SENDER + body)
    assert found == ["done", [False, False, True, []], [6], True]


def test_a_tiny_part_does_not_wait_for_the_place_of_a_large_one(run: Call) -> None:
    """But neither do many at once take all connections of a browser; and they say nothing of the path."""
    body = """const TINY = 256 * 1024, before = parts.length;
    const entered = [];
    const enter = async (size, own = new m.Lane()) => { entered.push([size, await traffic.enter(own, signal, size)]); };
    for (const size of [TINY + 1, 700, TINY, 700]) enter(size);
    await settled();
    const sizes = entered.map(([size]) => size);
    const beside = new m.Lane();
    entered[0][1]();
    enter(1, beside);
    await settled();
    await traffic.putBeside(1, signal, async (own, progress) => progress(1));
    return [sizes, entered.length, beside.beside, parts.length - before];"""
    assert run("client/traffic", FLIGHT + body) == [[700, 256 * 1024], 3, True, 0]


def test_a_tiny_part_that_gets_no_response_is_lost(run: Call) -> None:
    body = """const seen = [];
    await traffic.putBeside(5, signal, async (own, progress, isLost) => {
      progress(4); now = 400; seen.push(isLost());
      progress(5); seen.push(isLost());
      now = 700; seen.push(isLost());
      now = 700.1; seen.push(isLost());
    });
    return seen;"""
    assert run("client/traffic", FLIGHT + body) == [False, False, False, True]
