"""What the client and the page decide, module by module in Node: no clock, no network, no file."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from bigupload.core import retry_policy
from bigupload.service.media import media_types
from tests.tools import problem_tables
from tests.tools.cases import each_case
from tests.tools.node import Call

# --- which parts are there


def settled(run: Call, size: int, part_size: int, rows: list[dict[str, Any]], known: list[dict[str, Any]]) -> Any:
    return run(
        "client/parts",
        """const found = m.settle(new m.Plan(x.size, x.partSize), x.rows, new Map(x.known.map((k) => [k.number, k])));
        return [[...found.there].map(([n, p]) => [n, p.etag]), [...found.doubtful].map(([n, r]) => [n, r.length])];""",
        {"size": size, "partSize": part_size, "rows": rows, "known": known},
    )


def row(number: int, size: int, etag: str = "e", checksum: str | None = "c") -> dict[str, Any]:
    return {"partNumber": number, "size": size, "etag": etag, "checksum": checksum}


KNOWN = {"number": 1, "checksum": "c", "etag": "e"}


def test_every_file_is_cut_into_parts_that_make_it_up(run: Call) -> None:
    sizes = run(
        "client/parts",
        """return x.map(([size, partSize]) => {
          const plan = new m.Plan(size, partSize);
          return plan.numbers.map((number) => plan.sizeOf(number));
        });""",
        [list(pair) for pair in itertools.product(range(1, 30), range(1, 12))],
    )
    for (size, part_size), parts in zip(itertools.product(range(1, 30), range(1, 12)), sizes, strict=True):
        assert sum(parts) == size
        assert all(each == part_size for each in parts[:-1])
        assert 0 < parts[-1] <= part_size


@pytest.mark.parametrize(
    ("there", "known", "verdict"),
    [
        pytest.param([row(1, 10)], [KNOWN], "there", id="as it was remembered"),
        pytest.param([row(1, 10, checksum=None)], [KNOWN], "there", id="the store lists no checksums"),
        pytest.param([row(1, 10)], [], "doubtful", id="not remembered"),
        pytest.param([row(1, 10)], [KNOWN | {"etag": None}], "doubtful", id="sent, and no response came"),
        pytest.param([row(1, 10, etag="other")], [KNOWN], "doubtful", id="another ETag"),
        pytest.param([row(1, 10, checksum="other")], [KNOWN], "doubtful", id="another checksum"),
        pytest.param([row(1, 10, etag="other"), row(1, 10)], [KNOWN], "there", id="listed twice, once as remembered"),
        pytest.param([row(1, 9)], [KNOWN], "missing", id="another size"),
        pytest.param([row(9, 10)], [KNOWN], "missing", id="no part of the plan"),
        pytest.param([row(0, 10)], [KNOWN], "missing", id="no part at all"),
        pytest.param([], [KNOWN], "missing", id="remembered, and not in the store"),
    ],
)
def test_a_part_is_there_only_if_store_and_memory_agree(
    run: Call, there: list[dict[str, Any]], known: list[dict[str, Any]], verdict: str
) -> None:
    sure, doubtful = settled(run, 25, 10, there, known)
    assert ([number for number, _ in sure] == [1]) == (verdict == "there")
    assert ([number for number, _ in doubtful] == [1]) == (verdict == "doubtful")


@pytest.mark.parametrize(
    ("listed", "known", "computed", "is_it"),
    [
        pytest.param("c", None, "c", True, id="the store lists its checksum"),
        pytest.param("c", {"checksum": "c", "etag": "e"}, "x", False, id="the file has changed"),
        pytest.param(None, {"checksum": "c", "etag": "e"}, "c", True, id="this PUT was of this checksum"),
        pytest.param(None, {"checksum": "c", "etag": "e"}, "x", False, id="this PUT was of another checksum"),
        pytest.param(
            None, {"checksum": "c", "etag": None}, "c", True, id="no response came, and nothing else was sent"
        ),
        pytest.param(
            None, {"checksum": "c", "etag": None, "earlier": ["e"]}, "c", False, id="it is an earlier version"
        ),
        pytest.param(None, {"checksum": "c", "etag": "old"}, "c", False, id="another PUT was of this checksum"),
        pytest.param(None, None, "c", False, id="nothing is known of it"),
    ],
)
def test_a_doubtful_part_is_recognised_by_its_hash(
    run: Call, listed: str | None, known: dict[str, Any] | None, computed: str, is_it: bool
) -> None:
    found = run(
        "client/parts",
        "return m.recognise(x.rows, x.sum, x.known)?.etag ?? null;",
        {"rows": [row(1, 10, checksum=listed)], "sum": computed, "known": known},
    )
    assert (found == "e") == is_it


RESUME = """
  const { checksum } = await import(at + "client/parts.js");
  const { Problem } = await import(at + "client/problem.js");
  const { Traffic } = await import(at + "client/traffic.js");
  const { Holds } = await import(at + "client/lock.js");
  const file = (text) => new File([text], "clip.mp4", { lastModified: 1 });
  const sumOf = (text) => checksum(new Blob([text]));
  const stored = await Promise.all(["aaaa", "bbbb", "c"].map(async (text, index) => (
    { partNumber: index + 1, size: text.length, etag: `e${index}`, checksum: x.listed ? await sumOf(text) : null })));
  const parts = new Map(await Promise.all(["aaaa", "bbbb", "c"].map(async (text, index) => (
    [index + 1, { number: index + 1, etag: `e${index}`, checksum: await sumOf(text) }]))));
  const memory = { parts: async () => parts, save: () => {}, savePart: () => {}, forget: async () => {} };
  let completed = false;
  const sent = [];
  const api = {
    status: async () => ({ status: "open" }),
    stored: async () => stored,
    sign: async (_, rows) => {
      sent.push(...rows.map((row) => row.partNumber));
      throw new Problem("final", "enough was seen");
    },
    complete: async () => { completed = true; return {}; },
  };
  const record = { id: "1", handle: "h", name: "clip.mp4", size: 9, lastModified: 1, partSize: 4 };
  const shared = { api, memory, holds: new Holds(), traffic: new Traffic(), queue: { add: () => {} } };
  const upload = new m.Upload(shared, { record, parts });
  upload.resume(file(x.now));
  await upload.run();
  return { state: upload.state, sent, completed };
"""


@each_case("listed", [True, False])
@each_case(("now", "sent"), [("aaaabbbbc", []), ("aaaaBbbbc", [2]), ("Aaaabbbbc", [1]), ("aaaabbbbC", [3])])
def test_after_a_reload_every_remembered_part_is_compared_with_the_file(
    run: Call, now: str, sent: list[int], listed: bool
) -> None:
    """Name, size and date are the same: only the bytes say whether a part is the file's."""
    found = run("client/upload", RESUME, {"now": now, "listed": listed})
    assert found == {"state": "failed" if sent else "done", "sent": sent, "completed": not sent}


# --- trying again


RETRIES = """
  let now = 0;
  const { Problem } = await import(at + "client/problem.js");
  const retrier = new m.Retrier({ now: () => now, random: () => x.random ?? 1 });
  if (x.responded) retrier.noteResponse();
  const delays = [];
  try {
    for (let made = 1; made < 200; made += 1) {
      now += x.silence ?? 0;
      const problem = new Problem(x.kind, "", { retryAfter: x.retryAfter ?? null });
      delays.push(retrier.after(problem, made, x.online ?? true));
    }
  } catch { /* that was the last */ }
  return delays;
"""


def test_it_waits_twice_as_long_each_time_up_to_a_limit(run: Call) -> None:
    delays = run("client/retry", RETRIES, {"kind": "busy", "responded": True})
    assert delays == [500, 1000, 2000, 4000, 8000, 16000, 20000]  # 8 attempts
    assert run("client/retry", RETRIES, {"kind": "busy", "responded": True, "random": 0}) == [0] * 7


def test_retry_after_is_obeyed_within_reason(run: Call) -> None:
    assert run("client/retry", RETRIES, {"kind": "busy", "random": 0, "retryAfter": 7000})[0] == 7000
    assert run("client/retry", RETRIES, {"kind": "busy", "random": 0, "retryAfter": 10**9})[0] == 900_000


def test_a_store_that_never_responded_is_given_up_soon_and_one_that_did_is_not(run: Call) -> None:
    assert len(run("client/retry", RETRIES, {"kind": "network"})) == 3
    minute = {"kind": "network", "responded": True, "silence": 60_000}
    assert len(run("client/retry", RETRIES, minute)) == 14  # a quarter of an hour
    assert len(run("client/retry", RETRIES, minute | {"online": False})) == 199
    asleep = minute | {"silence": 3_600_000}  # a computer that wakes up each hour, and finds no network
    assert len(run("client/retry", RETRIES, asleep)) == 14


def test_the_page_retries_as_the_library_does(run: Call) -> None:
    policy = retry_policy.RetryPolicy()
    assert run("client/retry", "return m.POLICY;") == {
        "attempts": policy.attempts,
        "attemptsBeforeResponse": retry_policy.ATTEMPTS_BEFORE_RESPONSE,
        "baseDelay": policy.base_delay * 1000,
        "maxDelay": policy.max_delay * 1000,
        "giveUpAfter": policy.give_up_after * 1000,
        "stallAfter": policy.stall_after * 1000,
        "responseTimeout": policy.response_timeout * 1000,
    }


@each_case("kind", ["key", "expired", "damaged", "part", "gone", "refused", "file", "final"])
def test_what_would_fail_again_is_not_tried(run: Call, kind: str) -> None:
    assert run("client/retry", RETRIES, {"kind": kind, "responded": True}) == []


@each_case(
    ("header", "milliseconds"),
    [("7", 7000), ("Thu, 01 Jan 1970 00:00:09 GMT", 9000), ("soon", None), ("", None), (None, None)],
)
def test_retry_after_in_seconds_or_as_a_date(run: Call, header: str | None, milliseconds: int | None) -> None:
    assert run("client/problem", "return m.retryAfter(x, 0);", header) == milliseconds


def test_the_page_classifies_responses_as_the_library_does(run: Call) -> None:
    codes = [None, "", "Unheard-of", "toString", *retry_policy._BY_CODE]
    responses = [[status, code] for status in range(100, 620) for code in codes]
    found = run("client/problem", "return x.map(([status, code]) => m.classify(status, code));", responses)
    for (status, code), kind in zip(responses, found, strict=True):
        assert kind == problem_tables.KINDS[retry_policy.classify(status, code)], (status, code)


# --- what people read


@each_case(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (99_949, "99.9 kB"), (320_000_000, "320 MB"),
     (999_700_000, "1 GB"), (5_250_000_000, "5.25 GB"), (12_340_000_000, "12.3 GB")],
)  # fmt: skip
def test_sizes(run: Call, count: int, text: str) -> None:
    assert run("page/words", "return m.size(x);", count).replace("\xa0", " ") == text


def test_an_upload_is_at_100_percent_only_when_it_is(run: Call) -> None:
    assert run("page/words", "return [0, 0.129, 0.9999, 1].map((x) => m.percent(x));") == [
        "0%",
        "12%",
        "99%",
        "100%",
    ]


def test_times_are_no_finer_than_they_can_be_foretold(run: Call) -> None:
    texts = run("page/words", "return [3, 11, 54, 56, 119, 3600, 3900, 9000].map((each) => m.duration(each));")
    assert texts == ["5 sec", "15 sec", "55 sec", "1 min", "2 min", "60 min", "65 min", "2.5 hr"]


METER = """const meter = new m.Meter(), seen = [];
for (const [seconds, stored, inFlight, moving = false] of x) {
  meter.add(seconds * 1000, stored, inFlight, moving);
  seen.push([meter.rate, meter.expected]);
}
return seen;"""


def test_the_rate_is_of_what_becomes_stored(run: Call) -> None:
    """What a proxy has taken at once is not a rate: until a part is stored, there is none."""
    seen = run("client/meter", METER, [[0, 0, 0], [1, 0, 500], [3, 0, 500], [5, 500, 500]])
    assert seen == [[None, 0], [None, 0], [None, 0], [100, 500]]


def test_before_a_part_is_stored_the_rate_is_of_what_moves(run: Call) -> None:
    seen = run("client/meter", METER, [[0, 0, 0, True], [1, 0, 100, True], [3, 0, 300, True], [4, 0, 400, False]])
    assert seen == [[None, 0], [None, 100], [100, 300], [None, 0]]


def test_what_is_expected_does_not_jump_when_a_part_is_stored(run: Call) -> None:
    """One part each five seconds, looked at each half second."""
    steady = [[tick / 2, tick // 10 * 500, 500] for tick in range(200)]
    seen = run("client/meter", METER, steady)[10:]
    assert [rate for rate, _ in seen] == pytest.approx([100] * len(seen))
    assert [expected for _, expected in seen] == pytest.approx([50 * tick for tick in range(10, 200)])


def test_a_part_that_is_late_lowers_the_rate_and_nothing_else(run: Call) -> None:
    steady = [[tick / 2, tick // 10 * 500, 500] for tick in range(100)]
    late = run("client/meter", METER, [*steady, *[[50 + tick / 2, 4500, 500] for tick in range(20)]])[100:]
    rates = [rate for rate, _ in late]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 80
    assert {expected for _, expected in late} == {5000}, "no more than what is in flight"


def test_the_total_is_of_what_is_stored(run: Call) -> None:
    body = """const item = (more) => ({ state: "uploading", running: true, size: 10, problem: null, progress: more });
    const moved = new m.Moved(), upload = item({ stored: 4 });
    for (const stored of [4, 6, 6, 9]) {
      upload.progress = { stored };
      moved.note(upload);
    }
    const { sent, stored, inFlight, moving } = m.sums([
      item({ sent: 7, stored: 4, inFlight: 3, rate: 2 }), item({ sent: 2, stored: 1, inFlight: 1, rate: null })]);
    return [moved.bytes, sent, stored, inFlight, moving];"""
    assert run("page/totals", body) == [5, 9, 5, 4, True]


@pytest.mark.parametrize(
    ("state", "waiting", "texts"),
    [
        ("uploading", False, ["Uploading", "4 of 9 MB", "3 MB on the way"]),
        ("uploading", True, ["Waiting for the store", "4 of 9 MB", "3 MB on the way"]),
        ("paused", False, ["Paused", "4 of 9 MB"]),
    ],
)
def test_what_is_stored_and_what_is_on_the_way_are_told_apart(
    run: Call, state: str, waiting: bool, texts: list[str]
) -> None:
    progress = {"sent": 7e6, "stored": 4e6, "inFlight": 3e6 * (state == "uploading"), "waiting": waiting, "left": None}
    item = {"state": state, "note": None, "size": 9e6, "running": True, "progress": progress}
    found = run("client/describe", "return m.statusParts(x, (await import(at + 'page/words.js')).words);", item)
    assert [text.replace("\xa0", " ") for text in found] == texts


# --- the service's list of media

BY_EXTENSION = {extension: kind for kind in media_types.MEDIA_TYPES for extension in kind.extensions}


def test_the_page_takes_what_the_service_takes(run: Call) -> None:
    names = [f"a.{end}" for kind in media_types.MEDIA_TYPES for end in kind.extensions]
    names += ["A.MP4", ".mp4", "a", "a.", "a.exe", "a.mp4.exe", "a.tiff", "a.mp4 "]
    for name, content_type in zip(names, run("page/media", "return x.map(m.contentType);", names), strict=True):
        kind = BY_EXTENSION.get(media_types.extension_of(name))
        assert content_type == (kind and kind.content_type), name
    assert run("page/policy", "return m.POLICY.maxSize;") == media_types.MAX_FILE_SIZE


def test_the_client_declares_what_the_published_service_takes(run: Call) -> None:
    """Of other names it declares what the browser says: a service may take other types."""
    names = [f"a.{end}" for kind in media_types.MEDIA_TYPES for end in kind.extensions] + [
        "a.MOV",
        "a.mkv",
        ".mp4",
        "a",
    ]
    types = run("client/content_type", 'return x.map((name) => m.contentTypeOf({ name, type: "x/y" }));', names)
    for name, content_type in zip(names, types, strict=True):
        kind = BY_EXTENSION.get(media_types.extension_of(name))
        assert content_type == (kind.content_type if kind else "x/y"), name
    assert run("client/content_type", 'return m.contentTypeOf({ name: "a", type: "" });') == "application/octet-stream"


def test_a_folder_where_there_are_no_handles(run: Call) -> None:
    """The older interface gives at most 100 entries at a time."""
    body = """
      const file = (name) => ({ name, isDirectory: false, file: (done) => done(new File(["x"], name)) });
      const folder = (name, inside) => ({ name, isDirectory: true, createReader: () => {
        const left = [...inside];
        return { readEntries: (done) => done(left.splice(0, 100)) };
      } });
      const inside = Array.from({ length: 250 }, (_, number) => file(`${number}.jpg`));
      const root = folder("A", [...inside, folder("B", [file("b.jpg"), file(".hidden")])]);
      const items = [{ kind: "file", getAsFile: () => null, webkitGetAsEntry: () => root }, { kind: "string" }];
      const { chosen, empty, unread } = await m.dropped({ items });
      return [chosen.length, chosen.at(-1).path, chosen[11].path, empty, unread];
    """
    assert run("client/intake", body) == [251, "A/B/b.jpg", "A/11.jpg", [], []]
