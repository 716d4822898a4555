// How fast bytes become stored, and how many should be stored by now. Pure: the clock is passed in.

const WINDOW = 20_000; // milliseconds of history: parts that share a path end together, each ten seconds at most
const FEW = 4; // growths of what is stored, at least
const LEAST = 2_000; // milliseconds before the first rate

export class Meter {
  #steps = []; // {now, stored}: when it grew
  #now = 0;
  #flight = null;

  /**
   * `stored` is the total of bytes so far. `inFlight` bytes are accepted and not stored; `moving`: more of them are being
   * accepted, so that no proxy has them all.
   */
  add(now, stored, inFlight, moving) {
    const last = this.#steps.at(-1);
    if (!last || stored !== last.stored) this.#steps.push({ now, stored });
    while (this.#steps.length > FEW + 1 && now - this.#steps[1].now >= WINDOW) this.#steps.shift();
    this.#now = now;
    this.#flight = { inFlight, moving };
  }

  /** After an outage: it says nothing of the path as it is now. */
  reset() {
    this.#steps = [];
  }

  /** What is stored, and of what is in flight as much as should be stored since: it does not jump when a part ends. */
  get expected() {
    const [first, last] = [this.#steps[0], this.#steps.at(-1)];
    const { inFlight, moving } = this.#flight;
    if (first === last) return last.stored + (moving ? inFlight : 0);
    const rate = (last.stored - first.stored) / (last.now - first.now || 1);
    return last.stored + Math.min(inFlight, rate * (this.#now - last.now));
  }

  /** Bytes a second; null if there is too little history. */
  get rate() {
    const first = this.#steps[0];
    if (!first || this.#now - first.now < LEAST) return null;
    const rate = ((this.expected - first.stored) * 1000) / (this.#now - first.now);
    return rate > 0 ? rate : null;
  }
}
