// The smoothed rate of an upload. Pure: the clock is passed in.

const WINDOW = 12_000; // milliseconds of history
const LEAST = 2_000; // milliseconds before the first rate
const EVERY = 200; // milliseconds between two samples

export class Meter {
  #samples = [];

  /** `bytes` is the total so far. It falls if a part must be sent again. */
  add(now, bytes) {
    if (now - this.#samples.at(-1)?.now < EVERY) return;
    this.#samples.push({ now, bytes });
    while (this.#samples.length > 2 && now - this.#samples[1].now >= WINDOW) this.#samples.shift();
  }

  /** After an outage: it says nothing of the link as it is now. */
  reset() {
    this.#samples = [];
  }

  /** Bytes a second; null if there is too little history. */
  get rate() {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (!first || last.now - first.now < LEAST) return null;
    return Math.max(0, ((last.bytes - first.bytes) * 1000) / (last.now - first.now));
  }
}
