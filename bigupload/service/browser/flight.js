// The parts in flight: so few on a slow link that an interruption costs little. `core/flight_bound.py` explains the
// bound and has the same numbers and rules; a test compares the two.

const HORIZON = 10; // seconds in which the parts in flight must be finished
const TOLERANCE = 1.5;
const WINDOW = 0.4;
const SETTLED = 1.1;
const PATIENCE = 10;
const GROWTH = 1.08;
const REST = 60;
const LONGEST_REST = 600;
const CHANGED = 0.2;
const MEMORY = 0.3;
const TICK = 100; // milliseconds between two looks at the parts in flight

const lately = (goodput) => (goodput.at(-1) + goodput.at(-2)) / 2;

export class FlightBound {
  limit = null; // parts; null: no bound
  #window = null;
  #goodput = [];
  #average = 0;
  #parts = 0;
  #trial = null;
  #rest = REST;
  #moreAt = Infinity;
  #cancels = true;

  /** Take a measurement at `now` (seconds). Returns how many parts to leave in flight, or null to cancel none. */
  sample(now, done, inFlight, partSize) {
    if (!this.#window || inFlight === 0) {
      this.#window = { since: now, before: done };
      this.#goodput = [];
      return null;
    }
    const { since, before } = this.#window;
    if (now - since < WINDOW) return null;
    this.#window = { since: now, before: done };
    if (done <= before) {
      this.#goodput = [];
      return null;
    }
    if (!this.#trial && this.#parts > 0 && Math.abs(inFlight - this.#parts) > CHANGED * this.#parts) {
      if (this.limit === null) this.#cancels = false;
      this.#goodput = [];
      this.#average = 0;
    }
    this.#parts = inFlight;
    this.#goodput.push((done - before) / (now - since));
    if (this.#trial && !this.#judge(now, inFlight)) return null;
    return this.#look(now, inFlight, partSize);
  }

  #look(now, inFlight, partSize) {
    if (this.#goodput.length < 2 || this.#goodput.at(-1) > SETTLED * this.#goodput.at(-2)) return null;
    const goodput = lately(this.#goodput);
    this.#average += (goodput - this.#average) * (this.#average ? MEMORY : 1);
    const affordable = Math.max(1, Math.floor((HORIZON * this.#average) / partSize));
    if (this.limit !== null && affordable > this.limit) this.limit = affordable;
    if (this.limit !== null && now >= this.#moreAt && inFlight >= this.limit) {
      return this.#begin(2 * this.limit, this.limit, goodput);
    }
    const most = this.limit === null ? inFlight : Math.min(inFlight, this.limit);
    if (affordable < most && most * partSize > TOLERANCE * HORIZON * this.#average) {
      if (this.limit !== null || this.#cancels) {
        return this.#begin(Math.max(affordable, Math.ceil(most / 2)), most, goodput);
      }
    } else if (this.limit !== null) this.#cancels = false;
    return null;
  }

  #begin(parts, before, goodput) {
    this.#trial = { parts, before, goodput, limit: this.limit };
    this.limit = parts;
    this.#goodput = [];
    return this.#cancels && parts < before ? parts : null;
  }

  #judge(now, inFlight) {
    const trial = this.#trial;
    const fewer = trial.parts < trial.before;
    if (fewer && inFlight > trial.parts) this.#goodput = [];
    if (this.#goodput.length < 2) return false;
    const goodput = lately(this.#goodput);
    const proportional = (trial.goodput * trial.parts) / trial.before;
    const reached = goodput >= (trial.goodput + proportional) / 2;
    const hopeless = this.#goodput.length >= 3 && fewer && goodput < GROWTH * proportional;
    if (!reached && !hopeless && this.#goodput.length < PATIENCE) return false;
    this.#trial = null;
    if (fewer && reached) {
      this.#moreAt = now + this.#rest;
      return true;
    }
    this.#goodput = [];
    if (fewer || reached) this.#cancels = false;
    this.limit = fewer || !reached ? trial.limit : null;
    if (fewer) this.#moreAt = now;
    else {
      this.#moreAt = now + this.#rest;
      this.#rest = Math.min(LONGEST_REST, 2 * this.#rest);
    }
    return true;
  }
}

/** The part is to be sent later. That is no failure. */
export class Postponed extends Error {}

/** Slots for parts: `most`, or as many as the bound allows. */
export class Flight {
  #most;
  #signal;
  #bound;
  #taken = 0;
  #waiting = [];
  #done = 0; // bytes of PUTs that ended
  #puts = new Set(); // {size, sent, control}

  constructor(most, signal, bound = new FlightBound()) {
    this.#most = most;
    this.#signal = signal;
    this.#bound = bound;
  }

  get limit() {
    let bound = this.#bound.limit ?? this.#most;
    // The next part begins while the only one waits for its response.
    if (bound === 1 && [...this.#puts].some(({ sent, size }) => sent >= size)) bound = 2;
    return Math.min(this.#most, bound);
  }

  /** Call `next`, again and again, at once as often as there are slots, until it resolves to false. It never rejects. */
  async run(next) {
    const worker = async () => {
      for (let more = true; more; ) {
        await this.#enter();
        more = await next();
        this.#taken -= 1;
        this.#admit();
      }
    };
    const timer = setInterval(() => this.look(performance.now() / 1000), TICK);
    await Promise.all(Array.from({ length: this.#most }, worker)); // none does anything later
    clearInterval(timer);
  }

  async #enter() {
    if (this.#taken < this.limit) this.#taken += 1;
    else await new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** PUT a part of `size` bytes: `send(signal, progress)`. Rejects with Postponed if it is to be sent later. */
  async put(size, send) {
    const control = new AbortController();
    const follow = () => control.abort(this.#signal.reason);
    const part = { size, sent: 0, control };
    this.#signal.addEventListener("abort", follow);
    this.#puts.add(part);
    try {
      return await send(control.signal, (bytes) => { part.sent = bytes; });
    } finally {
      this.#signal.removeEventListener("abort", follow);
      this.#puts.delete(part);
      this.#done += part.sent;
    }
  }

  /** Measure at `now` (seconds), and postpone the parts that there is no room for: those of which the least was sent. */
  look(now) {
    const puts = [...this.#puts].sort((a, b) => a.sent - b.sent);
    const sum = (of) => puts.reduce((total, put) => total + of(put), 0);
    if (puts.length) {
      const done = this.#done + sum(({ sent }) => sent);
      const left = this.#bound.sample(now, done, puts.length, sum(({ size }) => size) / puts.length);
      if (left !== null) for (const { control } of puts.slice(0, puts.length - left)) control.abort(new Postponed());
    }
    this.#admit();
  }

  #admit() {
    while (this.#waiting.length && this.#taken < this.limit) {
      this.#taken += 1;
      this.#waiting.shift()();
    }
  }
}
