// Sends the missing parts of one upload: hashes and signs each before its turn, and sends it again after an error, or when it
// lags far behind the others.

import { Preparer, readable } from "./parts.js";
import { NO_RESPONSE } from "./problem.js";
import { put } from "./put.js";
import { Lane, Postponed } from "./traffic.js";

const AHEAD = 6; // parts hashed and signed before their turn
const LOOK = 250; // milliseconds between two looks for stragglers
const WAITING = 1_000; // milliseconds for which everything must be accepted before the upload waits for the store
const KNOWN = 4; // parts that must have arrived before the usual time of a part is known
const REMEMBERED = 32;
const FAR = 4; // times the usual time: what takes so long is a straggler
const GRACE = 250; // milliseconds
const GIVEN_UP = 2; // times that a part is given up as a straggler
const SHARE = 20; // of so many bytes of the file, one may be sent twice, and one part in any case

/** A PUT was given up, because it lags far behind the others. */
class Straggler extends Error {}

/** One PUT under way. */
class Put {
  sent = 0;
  whole = null; // when its last byte was accepted
  control = new AbortController();

  constructor(size, began, mayLag) {
    Object.assign(this, { size, began, mayLag });
  }

  moved(bytes, now) {
    this.sent = bytes;
    if (bytes >= this.size) this.whole ??= now;
  }

  /** Milliseconds that it takes at its pace. */
  time(now) {
    return this.sent ? ((now - this.began) * this.size) / this.sent : Infinity;
  }
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

export class PartSender {
  #file;
  #plan;
  #signal;
  #traffic;
  #preparer;
  #on;
  #now;
  #lane = new Lane();
  #took = []; // milliseconds, of the last parts
  #spare; // bytes of stragglers that may be sent again
  #missing = [];
  #begun = 0; // parts that are hashed, signed or sent
  #puts = new Map(); // number → Put

  /**
   * `sign(parts)` calls the service. `on` has {sending(number, checksum), moved(bytes), stored(number, part), again(number)
   * when a whole part is sent again, wait(problem, made) → how many attempts to count, failed(error)}.
   */
  constructor({ file, plan, signal, traffic, sign, on, now = () => performance.now() }) {
    this.#file = file;
    this.#plan = plan;
    this.#signal = signal;
    this.#traffic = traffic;
    this.#on = on;
    this.#now = now;
    this.#spare = Math.max(plan.partSize, plan.size / SHARE);
    this.#preparer = new Preparer({ file, plan, sign, signal });
  }

  /** Bytes sent of the parts in flight. */
  get inFlight() {
    return [...this.#puts.values()].reduce((sum, { sent }) => sum + sent, 0);
  }

  /** Whether bytes of a part in flight are still to be accepted. */
  get moving() {
    return [...this.#puts.values()].some(({ whole }) => whole === null);
  }

  /** Whether everything is accepted, for a while, and nothing is left to send. */
  get waiting() {
    if (this.#missing.length || this.#begun !== this.#puts.size) return false;
    const now = this.#now();
    return [...this.#puts.values()].every(({ whole }) => whole !== null && now - whole >= WAITING);
  }

  /** A part that is hashed and signed already. */
  know(number, signed) {
    this.#preparer.know(number, signed);
  }

  /** Send these parts. Throws the first error that ends the upload, after all that is in flight has ended. */
  async run(numbers) {
    this.#missing = [...numbers];
    let failure = null;
    const fail = (error) => {
      failure ??= error;
      this.#on.failed(error);
    };
    const only = this.#plan.count === 1 ? this.#plan.size : undefined;
    const worker = async () => {
      while (this.#missing.length && !failure) {
        const leave = await this.#traffic.enter(this.#lane, this.#signal, only);
        try {
          if (failure || !this.#missing.length) return;
          await this.#next();
        } finally {
          leave();
        }
      }
    };
    const workers = Math.min(this.#traffic.most, numbers.length);
    const look = setInterval(() => this.look(), LOOK);
    try {
      await Promise.all(Array.from({ length: workers }, () => worker().catch(fail)));
    } finally {
      clearInterval(look);
    }
    if (failure) throw failure;
  }

  async #next() {
    const number = this.#missing.shift();
    this.#begun += 1;
    this.#preparer.begin(number);
    for (const next of this.#missing.slice(0, AHEAD)) this.#preparer.begin(next);
    try {
      await this.#send(number);
    } catch (error) {
      if (!(error instanceof Postponed)) throw error;
      this.#missing.unshift(number);
    } finally {
      this.#begun -= 1;
    }
  }

  async #send(number) {
    const seen = new Set(); // kinds of errors that are corrected only once
    let givenUp = 0;
    for (let made = 1; ; ) {
      const { url, headers, checksum } = await this.#preparer.get(number);
      this.#signal.throwIfAborted();
      await this.#on.sending(number, checksum);
      try {
        const request = { url, headers, body: this.#plan.slice(this.#file, number) };
        const etag = await this.#put(number, request, givenUp < GIVEN_UP);
        this.#preparer.drop(number);
        await this.#on.stored(number, { checksum, etag });
        return;
      } catch (problem) {
        this.#signal.throwIfAborted();
        if (problem instanceof Postponed) throw problem;
        if (problem instanceof Straggler) {
          givenUp += 1;
          continue;
        }
        if ((problem.kind === "expired" || problem.kind === "damaged") && !seen.has(problem.kind)) {
          seen.add(problem.kind);
          if (problem.kind === "expired") this.#preparer.renew(number);
          else this.#preparer.drop(number);
          continue;
        }
        if (problem.code === NO_RESPONSE) this.#on.again(number);
        if (problem.kind === "network") await readable(this.#file); // a changed file causes the same error
        made += await this.#on.wait(problem, made);
      }
    }
  }

  /** Resolves to the ETag. */
  async #put(number, request, mayLag) {
    const { size } = request.body;
    const each = new Put(size, this.#now(), mayLag);
    this.#puts.set(number, each);
    const signal = AbortSignal.any([this.#signal, each.control.signal]);
    try {
      const etag = await this.#traffic[this.#lane.beside ? "putBeside" : "put"](size, signal, (own, progress, isLost) => {
        const onProgress = (bytes) => {
          each.moved(bytes, this.#now());
          progress(bytes);
          this.#on.moved(bytes);
        };
        return put({ ...request, signal: own, onProgress, isLost });
      });
      this.#took = [...this.#took, this.#now() - each.began].slice(-REMEMBERED);
      return etag;
    } finally {
      this.#puts.delete(number);
    }
  }

  /** Give stragglers up, but not where something on the way holds parts: it has them all. */
  look() {
    this.#on.moved(0); // what is waited for changes with time alone
    if (this.#traffic.late || this.#took.length < KNOWN) return;
    const now = this.#now();
    const puts = [...this.#puts.values()];
    const moving = puts.filter(({ sent }) => sent);
    // Where all have become slower, none of them is late.
    const usual = Math.max(median(this.#took), moving.length > 2 ? median(moving.map((each) => each.time(now))) : 0);
    for (const each of puts) {
      const lags = each.time(now) > FAR * usual && now - each.began > 2 * usual + GRACE;
      if (!lags || !each.mayLag || each.sent > this.#spare) continue;
      this.#spare -= each.sent;
      each.control.abort(new Straggler());
    }
  }
}
