// What all uploads of a page share: the places for parts in flight, so few on a slow link that an interruption costs
// little. Places are shared fairly: the upload with the fewest parts in flight is next, so that a small file passes a
// large one.

import { FlightBound } from "./flight_bound.js";

const AT_ONCE = 6; // HTTP/1.1 connections that a browser opens to one host
const TICK = 100; // milliseconds between two looks at the parts in flight
const SMALL = 1 / 8; // parts are postponed of which no more than this share is sent

/** The part is to be sent later. That is no failure. */
export class Postponed extends Error {}

/** One upload's share of the places. */
export class Lane {
  taken = 0;
  turn = 0; // of its last place

  before(other) {
    return this.taken < other.taken || (this.taken === other.taken && this.turn < other.turn);
  }
}

export class Traffic {
  #most;
  #bound;
  #taken = 0;
  #turn = 0;
  #waiting = []; // {lane, admit}
  #done = 0; // bytes of PUTs that ended
  #puts = new Set(); // {size, sent, control}
  #timer = null;

  constructor({ most = AT_ONCE, bound = new FlightBound() } = {}) {
    this.#most = most;
    this.#bound = bound;
  }

  get most() {
    return this.#most;
  }

  get limit() {
    let bound = this.#bound.limit ?? this.#most;
    // The next part begins while the only one waits for its response.
    if (bound === 1 && [...this.#puts].some(({ sent, size }) => sent >= size)) bound = 2;
    return Math.min(this.#most, bound);
  }

  /** Wait for a place. Resolves to the function that gives it back; rejects when `signal` is aborted. */
  async enter(lane, signal) {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const quit = () => {
        this.#waiting.splice(this.#waiting.indexOf(entry), 1);
        reject(signal.reason);
      };
      const admit = () => {
        signal.removeEventListener("abort", quit);
        resolve(this.#take(lane));
      };
      const entry = { lane, admit };
      signal.addEventListener("abort", quit);
      this.#waiting.push(entry);
      this.#admit();
    });
  }

  /** A place that nobody waits for, or null. */
  tryEnter(lane) {
    return this.#waiting.length || this.#taken >= this.limit ? null : this.#take(lane);
  }

  #take(lane) {
    let held = true;
    this.#taken += 1;
    lane.taken += 1;
    lane.turn = ++this.#turn;
    return () => {
      if (!held) return;
      held = false;
      this.#taken -= 1;
      lane.taken -= 1;
      this.#admit();
    };
  }

  #admit() {
    while (this.#waiting.length && this.#taken < this.limit) {
      const next = this.#waiting.reduce((first, each) => (each.lane.before(first.lane) ? each : first));
      this.#waiting.splice(this.#waiting.indexOf(next), 1);
      next.admit();
    }
  }

  /** PUT `size` bytes: `send(signal, progress)`. Rejects with Postponed if it is to be sent later. */
  async put(size, signal, send) {
    const control = new AbortController();
    const follow = () => control.abort(signal.reason);
    const put = { size, sent: 0, control };
    signal.addEventListener("abort", follow);
    this.#puts.add(put);
    this.#timer ??= setInterval(() => this.look(performance.now() / 1000), TICK);
    try {
      signal.throwIfAborted();
      return await send(control.signal, (bytes) => { put.sent = bytes; });
    } finally {
      signal.removeEventListener("abort", follow);
      this.#puts.delete(put);
      this.#done += put.sent;
    }
  }

  /** Measure at `now` (seconds), and postpone what there is no room for: small parts, those with the least sent. */
  look(now) {
    const puts = [...this.#puts].sort((a, b) => a.sent - b.sent);
    const sum = (of) => puts.reduce((total, put) => total + of(put), 0);
    const done = this.#done + sum(({ sent }) => sent);
    const left = this.#bound.sample(now, done, puts.length, puts.length && sum(({ size }) => size) / puts.length);
    const most = left === null ? [] : puts.slice(0, puts.length - left);
    for (const { sent, size, control } of most) if (sent <= SMALL * size) control.abort(new Postponed());
    if (!puts.length) {
      clearInterval(this.#timer);
      this.#timer = null;
    }
    this.#admit();
  }
}
