// Sends the missing parts of one upload: hashes and signs each before its turn, sends it again after an error, and sends
// a straggler a second time: the first response wins.

import { Budget, Pace } from "./hedging.js";
import { Preparer, readable } from "./parts.js";
import { NO_RESPONSE, Problem } from "./problem.js";
import { put } from "./put.js";
import { Lane, Postponed } from "./traffic.js";

const AHEAD = 6; // parts hashed and signed before their turn
const LOOK = 250; // milliseconds between two looks for stragglers
const WAITING = 1_000; // milliseconds for which everything must be accepted before the upload waits for the store
const MOST_HEDGES = 4; // of one PUT: one that fails at once costs nothing, so that the budget would not stop the next
// How a store may refuse two PUTs of one part because they are two.
const REFUSALS = new Set(["gone", "part", "damaged", "final"]);

/** One PUT under way. */
class Put {
  sent = 0;
  whole = null; // when its last byte was accepted
  hedge = null; // the second PUT of the same part
  hedges = 0;
  over = false; // it has ended, and its hedge may still arrive
  ended = null; // a promise that never rejects, of the ETag or null
  #now;
  #began;

  constructor(size, signal, now) {
    this.size = size;
    this.#now = now;
    this.#began = now();
    this.control = new AbortController();
    this.signal = AbortSignal.any([signal, this.control.signal]);
  }

  get seconds() {
    return (this.#now() - this.#began) / 1000;
  }

  moved(bytes) {
    this.sent = bytes;
    if (bytes >= this.size) this.whole ??= this.#now();
  }
}

export class PartSender {
  #file;
  #plan;
  #signal;
  #traffic;
  #preparer;
  #on;
  #now;
  #lane = new Lane();
  #pace = new Pace();
  #budget;
  #hedging = true;
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
    this.#budget = new Budget(plan.size, plan.partSize);
    this.#preparer = new Preparer({ file, plan, sign, signal });
  }

  /** Bytes sent of the parts in flight. Of a part that is sent twice, the PUT that has sent more counts. */
  get inFlight() {
    let sum = 0;
    for (const { sent, hedge } of this.#puts.values()) sum += Math.max(sent, hedge?.sent ?? 0);
    return sum;
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
    for (let made = 1; ; ) {
      const { url, headers, checksum } = await this.#preparer.get(number);
      this.#signal.throwIfAborted();
      await this.#on.sending(number, checksum);
      try {
        const etag = await this.#put(number, { url, headers, body: this.#plan.slice(this.#file, number) });
        this.#preparer.drop(number);
        await this.#on.stored(number, { checksum, etag });
        return;
      } catch (problem) {
        this.#signal.throwIfAborted();
        if (problem instanceof Postponed) throw problem;
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

  /** The ETag of the first response. */
  async #put(number, request) {
    const first = new Put(request.body.size, this.#signal, this.#now);
    first.request = request;
    const second = new Promise((resolve) => { first.overtaken = resolve; });
    this.#puts.set(number, first);
    const own = this.#transmit(first, request);
    first.ended = own.catch(() => null).finally(() => { first.over = true; });
    try {
      const etag = await Promise.race([own, second]);
      this.#pace.arrived(first.seconds);
      return etag;
    } catch (problem) {
      if (first.hedges && REFUSALS.has(problem.kind)) {
        // Nobody knows which of the two the store has kept. Sent alone, the part shows whether the upload still exists.
        this.#hedging = false;
        throw new Problem("network", "The store refused a part that was sent twice.", { cause: problem });
      }
      const etag = problem instanceof Postponed ? null : await first.hedge?.ended; // it may still arrive
      if (etag) return etag;
      throw problem;
    } finally {
      this.#puts.delete(number);
      first.control.abort();
      first.hedge?.control.abort();
      await Promise.all([first.ended, first.hedge?.ended]);
    }
  }

  #transmit(each, request) {
    const way = this.#lane.beside ? "putBeside" : "put";
    return this.#traffic[way](each.size, each.signal, (signal, progress, isLost) => {
      const onProgress = (bytes) => {
        each.moved(bytes);
        progress(bytes);
        this.#on.moved(bytes);
      };
      return put({ ...request, signal, onProgress, isLost });
    });
  }

  /** Send stragglers a second time, but not where something on the way holds parts: it has them all. */
  look() {
    this.#on.moved(0); // what is waited for changes with time alone
    if (this.#traffic.late) return;
    const puts = [...this.#puts.values()].filter(({ hedges, over }) => !over && hedges < MOST_HEDGES);
    const newest = puts.map((first) => first.hedge ?? first);
    for (const index of this.#hedging ? this.#pace.lagging(newest, !this.#missing.length) : []) {
      const first = puts[index];
      if (first.hedge) {
        const spent = first.hedge.sent; // no faster than the first: the next look starts another one
        if (spent <= first.sent && this.#budget.has(spent)) first.hedge.control.abort();
        continue;
      }
      const leave = this.#traffic.tryEnter(this.#lane);
      if (!leave) return;
      if (this.#budget.take(first.size)) this.#second(first).finally(leave);
      else leave();
    }
  }

  /** Send the same part again. Never rejects. */
  async #second(first) {
    const hedge = new Put(first.size, this.#signal, this.#now);
    first.hedge = hedge;
    first.hedges += 1;
    hedge.ended = this.#transmit(hedge, first.request).catch((problem) => {
      if (REFUSALS.has(problem.kind)) this.#hedging = false;
      return null;
    });
    const etag = await hedge.ended;
    if (etag) first.overtaken(etag);
    else if (first.hedge === hedge) first.hedge = null;
    this.#budget.giveBack(Math.max(0, hedge.size - (etag ? first : hedge).sent));
  }
}
