// The parts in flight: so few on a slow link that an interruption costs little. `core/flight_bound.py` explains the
// bound and has the same numbers and rules; a test compares the two. A page does not see what is acknowledged, so that
// it can't judge a link by its first round trips.

const HORIZON = 10; // seconds of sending that an interruption may lose
const AIM = 8; // seconds in which the parts in flight are finished under a bound
const CONTRAST = 1.5;
const CUT = 4;
const WINDOW = 0.4;
const SETTLED = 1.1;
const PATIENCE = 10;
const GROWTH = 1.08;
const REST = 60;
const LONGEST_REST = 600;
const CHANGED = 0.2;
const MEMORY = 0.3;

const lately = (goodput) => (goodput.at(-1) + goodput.at(-2)) / 2;
const affordable = (goodput, partSize) => Math.max(1, Math.floor((AIM * goodput) / partSize));

export class FlightBound {
  limit = null; // parts; null: no bound
  #window = null;
  #goodput = [];
  #average = 0;
  #parts = 0;
  #trial = null;
  #rest = REST;
  #moreAt = Infinity;
  #open = false;

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
      this.#goodput = [];
      this.#average = 0;
    }
    this.#parts = inFlight;
    this.#goodput.push((done - before) / (now - since));
    const trial = this.#trial;
    if (trial && !this.#judge(now, inFlight)) return null;
    if (trial && trial.before === this.limit) return this.limit;
    return this.#look(now, inFlight, partSize);
  }

  #look(now, inFlight, partSize) {
    if (this.#goodput.length < 2 || this.#goodput.at(-1) > SETTLED * this.#goodput.at(-2)) return null;
    const goodput = lately(this.#goodput);
    this.#average += (goodput - this.#average) * (this.#average ? MEMORY : 1);
    const enough = affordable(this.#average, partSize);
    if (this.limit !== null && enough > this.limit) this.limit = enough;
    if (this.limit !== null && now >= this.#moreAt && inFlight >= this.limit) {
      return this.#begin(2 * this.limit, this.limit, goodput);
    }
    const most = this.limit === null ? inFlight : Math.min(inFlight, this.limit);
    if (most > 1 && most * partSize > HORIZON * this.#average && !this.#open) {
      return this.#begin(Math.max(Math.min(enough, Math.floor(most / CONTRAST)), Math.ceil(most / CUT)), most, goodput);
    }
    return null;
  }

  #begin(parts, before, goodput) {
    this.#trial = { parts, before, goodput, limit: this.limit };
    this.limit = parts;
    this.#goodput = [];
    return parts < before ? parts : null;
  }

  #judge(now, inFlight) {
    const trial = this.#trial;
    const fewer = trial.parts < trial.before;
    if (fewer && inFlight > trial.parts) this.#goodput = [];
    if (this.#goodput.length < 2) return false;
    const goodput = lately(this.#goodput);
    const proportional = (trial.goodput * trial.parts) / trial.before;
    const reached = goodput >= (trial.goodput + proportional) / 2;
    const hopeless = this.#goodput.length >= 3 && goodput < GROWTH * Math.min(proportional, trial.goodput);
    if (!reached && !hopeless && this.#goodput.length < PATIENCE) return false;
    this.#trial = null;
    this.#goodput = [];
    if (fewer && reached) {
      this.#moreAt = now + this.#rest;
      return true;
    }
    this.limit = fewer || !reached ? trial.limit : null;
    this.#open = this.limit === null;
    if (fewer) this.#moreAt = now;
    else {
      this.#moreAt = now + this.#rest;
      this.#rest = Math.min(LONGEST_REST, 2 * this.#rest);
    }
    return true;
  }
}
