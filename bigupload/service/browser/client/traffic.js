// What all uploads of a page share: the places for parts in flight. `flight` decides how many there are. They are shared
// fairly: the upload with the fewest parts in flight is next, so that a small file passes a large one. A tiny part need
// not wait for the place of a large one: it adds nothing to what a closed page loses.

import { Flight } from "./flight.js";
import { NO_RESPONSE } from "./problem.js";
import { POLICY } from "./retry.js";

const TINY = 256 * 1024; // bytes, which every path carries in the time of a large part
const MOST_BESIDE = 2; // tiny parts beside those that have places: a browser has few connections
const TICK = 100; // milliseconds between two looks at the parts in flight

const clock = () => performance.now() / 1000;

/** The part is to be sent later. That is no failure. */
export class Postponed extends Error {}

/** One upload's share of the places. */
export class Lane {
  taken = 0;
  turn = 0; // of its last place
  beside = false; // its part has no place

  before(other) {
    return this.taken < other.taken || (this.taken === other.taken && this.turn < other.turn);
  }
}

export class Traffic {
  #flight;
  #now;
  #taken = 0;
  #beside = 0;
  #turn = 0;
  #waiting = []; // {lane, admit}
  #puts = new Map(); // what `flight` calls a part → its AbortController
  #timer = null;

  constructor({ flight = new Flight(), now = clock } = {}) {
    this.#flight = flight;
    this.#now = now;
  }

  /** Whether something on the way holds parts for long before the store responds. */
  get late() {
    return this.#flight.late;
  }

  get most() {
    return this.#flight.most;
  }

  get limit() {
    return this.#flight.limit(this.#now());
  }

  /**
   * Wait for a place for a part of `size` bytes. Resolves to the function that gives it back; rejects when `signal` is
   * aborted.
   */
  async enter(lane, signal, size = Infinity) {
    signal.throwIfAborted();
    const isFull = this.#waiting.length > 0 || this.#taken >= this.limit;
    if (isFull && size <= TINY && this.#beside < MOST_BESIDE) return this.#enterBeside(lane);
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

  #enterBeside(lane) {
    this.#beside += 1;
    lane.beside = true;
    return () => {
      if (!lane.beside) return;
      lane.beside = false;
      this.#beside -= 1;
    };
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

  /** PUT a part that has no place: nothing is measured. `send` as for `put`. */
  putBeside(size, signal, send) {
    let whole = Infinity;
    const progress = (bytes) => (whole = bytes < size ? Infinity : Math.min(whole, this.#now()));
    return send(signal, progress, () => this.#now() - whole > POLICY.responseTimeout / 1000);
  }

  /**
   * PUT `size` bytes: `send(signal, progress, isLost)`. `isLost` is whether a whole body waits in vain for its response.
   * Rejects with Postponed if it is to be sent later.
   */
  async put(size, signal, send) {
    signal.throwIfAborted();
    const control = new AbortController();
    const follow = () => control.abort(signal.reason);
    signal.addEventListener("abort", follow);
    const flight = this.#flight;
    const part = flight.begin(size, this.#now());
    this.#puts.set(part, control);
    this.#timer ??= setInterval(() => this.look(), TICK);
    const progress = (bytes) => flight.accept(part, bytes, this.#now());
    const isLost = () => flight.isLost(part, POLICY.responseTimeout / 1000, this.#now());
    try {
      const result = await send(control.signal, progress, isLost);
      flight.store(part, this.#now());
      return result;
    } catch (error) {
      flight.end(part, this.#now());
      if (error.code === NO_RESPONSE) flight.again(this.#now());
      throw error;
    } finally {
      signal.removeEventListener("abort", follow);
      this.#puts.delete(part);
    }
  }

  /** Measure, and postpone what there is no room for. */
  look() {
    if (this.#puts.size) {
      this.#flight.look(this.#now());
      for (const part of this.#flight.surplus()) this.#puts.get(part).abort(new Postponed());
    } else {
      clearInterval(this.#timer);
      this.#timer = null;
    }
    this.#admit();
  }
}
