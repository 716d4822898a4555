// How many parts may be in flight, so that a closed page loses little. Pure: the time is passed in, in seconds.
//
// A page sees that bytes are *accepted*: by the system, or by a proxy that takes a body faster than it passes it on. It
// does not see when the other end acknowledges them. A part is *stored* when its response arrives, and only that survives.
//
//   limit of the parts in flight                    because
//   6                                               a browser opens no more HTTP/1.1 connections to one host
//   8 s × rate / part size, at least 1              a closed page loses ten seconds of the stored rate, or one part
//   before the first response: 8 MiB, and as much   nobody knows yet what the path carries. 64 MiB at most, and no
//     again each 0.5 s                                further part while a whole body waits: a proxy may have it
//   half, after a whole body had to be sent again   the store has more than it can work through
//
// `rate` is the stored rate where parts wait long for their responses, because something on the way holds them. Elsewhere
// it is the rate at which bytes are accepted, which is known sooner.
//
// Fewer parts cost nothing if they fill the path. Where each connection carries little, they carry less. So fewer parts
// are a trial: if the rate falls in proportion, the former number is tried again, and kept if the rate comes back.
// Nothing is decided for ever: what a trial has shown is tried again after a rest.

const MIB = 1024 * 1024;
const MOST = 6;
const HORIZON = 10; // seconds of sending that may be lost
const AIM = 8; // seconds in which the parts in flight become stored: the rest of the ten is for what is cancelled
const FEW = 4; // parts by which a rate is known
const LATE = 1; // seconds. A store responds sooner, so something else holds the part.
const START = 64 * MIB; // bytes begun before the first response, at most
const FIRST = 8 * MIB;
const STAGGER = 0.5; // seconds: a path that needs several connections at once is slower
const SOONEST = 0.5; // seconds of accepted bytes that make a rate; as long without a byte says nothing
const STILL = 2; // seconds without a byte, after which what was before counts no more
const SETTLE = 1; // seconds until buffers show another number of parts no more
const JUDGE = 2; // seconds of accepted bytes that judge a trial
const REST = 60; // seconds until a trial is made again; twice as long each time that it changes nothing
const LONGEST_REST = 600;
const SMALL = 1 / 4; // a part is cancelled if no more than this share of it is accepted

const sum = (all, of) => [...all].reduce((total, each) => total + of(each), 0);

const seconds = (parts) => sum(parts, ({ at, begun }) => at - begun);

export class Flight {
  late = false; // whether parts wait long between their last byte and their response
  #parts; // in flight, at most
  #flying = new Set(); // {size, accepted, begun, whole}: bytes, and when it began and was accepted to the end
  #stored = []; // {begun, whole, at, meanwhile, beside}: bytes that became stored while it was in flight, were in flight
  #total = 0; // bytes stored
  #size = Infinity; // of a part in flight, on average; until one is begun, there is room for one
  #accepted = 0; // bytes, of all parts
  #samples = []; // {at, bytes}: accepted by then
  #moved = -Infinity; // when a byte was accepted last
  #newest = -Infinity; // when the last byte of a stored part was accepted, at the latest
  #trial = null; // {parts, before, rate, again, since}
  #kept = false; // more parts than the rate affords, because they carry more
  #rest = REST;
  #restedAt = REST;
  #halved = null; // {parts, at}
  // The clock stands while nothing is in flight.
  #clock = 0;
  #offset = 0;

  constructor(most = MOST) {
    this.most = most;
    this.#parts = most;
  }

  #time(now) {
    return this.#flying.size ? now - this.#offset : this.#clock;
  }

  /** A part is begun. Returns it, for the other calls. */
  begin(size, now) {
    if (!this.#flying.size) this.#offset = now - this.#clock;
    const beside = size + sum(this.#flying, (each) => each.size);
    const part = { size, accepted: 0, begun: now - this.#offset, whole: null, before: this.#total, beside };
    this.#flying.add(part);
    this.#size = beside / this.#flying.size;
    return part;
  }

  /** `bytes` of the part are accepted. */
  accept(part, bytes, now) {
    const at = this.#time(now);
    if (bytes > part.accepted) {
      if (at - this.#moved > STILL) this.#samples = [{ at, bytes: this.#accepted }];
      this.#accepted += bytes - part.accepted;
      this.#moved = at;
      part.accepted = bytes;
    }
    if (bytes >= part.size) part.whole ??= at;
  }

  store(part, now) {
    this.accept(part, part.size, now);
    const at = this.#time(now);
    this.#total += part.size;
    const meanwhile = this.#total - part.before;
    this.#stored.push({ ...part, at, meanwhile, beside: Math.max(part.beside, sum(this.#flying, (each) => each.size)) });
    this.#newest = Math.max(this.#newest, part.whole);
    while (this.#stored.length > FEW && this.#stored[0].at <= at - HORIZON) this.#stored.shift();
    this.end(part, now);
    this.look(now);
  }

  /** It is no longer in flight. */
  end(part, now) {
    this.#clock = this.#time(now);
    this.#flying.delete(part);
  }

  /** A whole body is sent again, because no response came. */
  again(now) {
    this.#halved = { parts: Math.max(1, this.#parts >> 1), at: this.#time(now) };
  }

  /** How many parts may be in flight. */
  limit(now) {
    const t = this.#time(now);
    const whole = [...this.#flying].some((part) => part.whole !== null);
    let parts = this.#parts;
    // The next part begins while the only one waits for a response that follows at once.
    if (parts === 1 && whole && !this.late && this.#stored.length) parts = 2;
    if (!this.#stored.length) {
      const begun = Math.min(START, FIRST * (1 + t / STAGGER));
      parts = Math.max(1, Math.min(parts, whole ? this.#flying.size : Math.floor(begun / this.#size)));
    }
    if (this.#halved) parts = Math.min(parts, this.#halved.parts + Math.floor((t - this.#halved.at) / REST));
    return Math.min(this.most, parts);
  }

  /** Small parts that are too many: they are sent later. What a proxy may have is not cancelled. */
  surplus() {
    if (this.late || this.#flying.size <= this.#parts) return [];
    const parts = [...this.#flying].reverse().sort((a, b) => a.accepted - b.accepted); // of equals, the newest first
    return parts.slice(0, parts.length - this.#parts).filter(({ accepted, size }) => accepted <= SMALL * size);
  }

  /**
   * Whether a part that is accepted to the end waits in vain for its response. `timeout` is for a path that stores
   * nothing: while other parts become stored it waits, and until twice the time in which what is accepted could be stored.
   * But parts that were accepted so much later may not overtake it.
   */
  isLost({ whole }, timeout, now) {
    if (this.#newest > whole + timeout) return true;
    const last = this.#stored.at(-1);
    const backlog = sum(this.#flying, ({ accepted }) => accepted);
    // Where responses follow at once, a low rate is that of tiny parts.
    const known = last && last.at - last.whole > LATE;
    const patience = known ? Math.max(timeout, (2 * backlog) / this.#storedRate(last.at)) : timeout;
    return this.#time(now) - Math.max(whole, last?.at ?? 0) > patience;
  }

  /**
   * Bytes a second, by the parts of the last ten seconds, or the last four: what became stored while each was in flight.
   * Parts that share a path end together, so the time between two ends says little. If the last end is longer ago than a
   * part takes, that counts.
   */
  #storedRate(t) {
    const done = this.#stored.filter(({ at }, index, all) => at > t - HORIZON || index >= all.length - FEW);
    if (!done.length) return 0;
    const overdue = Math.max(0, done.length * (t - done.at(-1).at) - seconds(done));
    return sum(done, ({ meanwhile }) => meanwhile) / (seconds(done) + overdue);
  }

  /** Bytes a second that these parts would make for long, by Little's law: what was in flight with them, by their time. */
  #throughput(done = this.#stored.slice(-FEW)) {
    return done.length && sum(done, ({ beside }) => beside) / seconds(done);
  }

  /**
   * The same without the parts that were begun before anything was stored: the first of them waited for no others, so
   * Little's law would make too much of their time.
   */
  #settledRate(t) {
    const settled = this.#stored.slice(-FEW).filter(({ before }) => before > 0);
    return settled.length ? this.#throughput(settled) : this.#storedRate(t);
  }

  /** Bytes a second since then; null: too soon to tell. */
  #acceptedRate(t, from, least) {
    const first = this.#samples.findLast(({ at }) => at <= from) ?? this.#samples[0];
    if (!first || t - first.at < least) return null;
    return (this.#accepted - first.bytes) / (t - first.at);
  }

  #isLate(t) {
    const waits = this.#stored.slice(-FEW).map(({ at, whole }) => at - whole);
    for (const { whole } of this.#flying) if (whole !== null && t - whole > LATE) waits.push(t - whole);
    const last = waits.slice(-FEW);
    return 2 * last.filter((wait) => wait > LATE).length > last.length;
  }

  /** Measure and decide. Called several times a second. */
  look(now) {
    const t = this.#time(now);
    while (this.#samples.length > 1 && this.#samples[1].at <= t - HORIZON) this.#samples.shift();
    this.#samples.push({ at: t, bytes: this.#accepted });
    const late = this.#isLate(t);
    if (late !== this.late) this.#trial = null;
    this.late = late;
    if (!late && t - this.#moved > SOONEST) return;
    const rate = late ? this.#storedRate(t) : this.#acceptedRate(t, t - HORIZON, SOONEST);
    if (rate === null) return;
    const enough = Math.max(1, Math.min(this.most, Math.floor((AIM * rate) / this.#size)));
    if (this.#trial) this.#follow(t, rate, enough);
    else if (enough > this.#parts) this.#parts = enough;
    else if (enough < this.#parts) {
      const loss = (this.#parts * this.#size) / rate;
      if (loss > (late ? AIM : HORIZON) && !(this.#kept && t < this.#restedAt)) this.#try(enough, rate);
    } else if (enough < this.most && this.#flying.size >= enough && t >= this.#restedAt) this.#try(enough + 1, rate);
  }

  #try(parts, rate, again = false) {
    this.#trial = { parts, before: this.#parts, rate: this.late && !again ? this.#throughput() : rate, again, since: null };
    this.#parts = parts;
  }

  #follow(t, rate, enough) {
    const trial = this.#trial;
    const fewer = trial.parts < trial.before;
    const begun = this.#stored.filter((part) => trial.since !== null && part.begun >= trial.since);
    if (fewer && enough >= trial.before) {
      this.#trial = null;
      this.#parts = enough;
      return;
    }
    if (enough > trial.parts || (fewer && this.late && enough < trial.parts && !begun.length)) {
      this.#parts = trial.parts = enough; // the first measurements of a change are of both
      trial.since = null;
    }
    if (trial.since === null) {
      if (fewer ? this.#flying.size > trial.parts : this.#flying.size < trial.parts) return;
      trial.since = t;
      if (fewer) trial.rate = this.late ? this.#settledRate(t) : rate;
      return;
    }
    if (this.late && begun.length < Math.max(2, Math.min(FEW, trial.parts))) return;
    const found = this.late ? this.#throughput(begun) : this.#acceptedRate(t, trial.since + SETTLE, JUDGE);
    if (found === null) return;
    const much = 2 * found >= trial.rate * (1 + trial.parts / trial.before);
    this.#trial = null;
    if (fewer && !much) return this.#try(trial.before, found, true); // does it come back?
    this.#kept = !fewer && much;
    if (!fewer) {
      if (!much) this.#parts = trial.before;
      this.#rest = much === trial.again ? Math.min(LONGEST_REST, 2 * this.#rest) : REST;
      if (much && !trial.again && trial.parts < this.most) return this.#try(trial.parts + 1, found);
    }
    this.#restedAt = t + this.#rest;
  }
}
