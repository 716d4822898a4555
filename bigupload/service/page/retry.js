// When to try again. `Patience` decides, and does nothing else; `pause` waits. Clock and randomness are passed in.

const ATTEMPTS = 8; // of a request that is answered
const FIRST_CONTACT = 5; // of one to a store that never answered: soon enough to say what is wrong
const SILENCE = 15 * 60_000; // milliseconds without any answer at all, before it is left to the person
const BASE = 500;
const CAP = 20_000;
const LONGEST = 5 * 60_000; // of a Retry-After: more would look like a hang

/** Shared by all requests of an upload to one host: while one of them gets through, the others need not despair. */
export class Patience {
  #heard = null;
  #since;
  #now;
  #random;

  constructor({ now = () => performance.now(), random = Math.random } = {}) {
    this.#now = now;
    this.#random = random;
    this.#since = now();
  }

  /** A new try by a person: silence counts from here. */
  begin() {
    this.#since = this.#now();
    if (this.#heard !== null) this.#heard = this.#since;
  }

  /** An answer came, or bytes were taken. */
  heard() {
    this.#heard = this.#now();
  }

  /** Milliseconds to wait before the next try, after `made` tries; throws the problem where that was the last. */
  after(problem, made, online = true) {
    if (!problem.passing) throw problem;
    if (problem.kind === "busy") {
      this.heard();
      if (made >= ATTEMPTS) throw problem;
    } else if (online) {
      const silent = this.#now() - (this.#heard ?? this.#since);
      if (this.#heard === null && made >= FIRST_CONTACT) throw problem;
      if (silent >= SILENCE || made >= 4 * ATTEMPTS) throw problem;
    }
    // Full jitter: https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
    const jitter = this.#random() * Math.min(CAP, BASE * 2 ** Math.min(made - 1, 30));
    return Math.max(jitter, Math.min(problem.retryAfter ?? 0, LONGEST));
  }
}

/** Wait so many milliseconds, or until the network is back. Rejects when `signal` is aborted. */
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("online", end);
      signal.removeEventListener("abort", end);
      if (signal.aborted) reject(signal.reason);
      else resolve();
    };
    // What the browser says of the network may be wrong: never wait for its word alone.
    const timer = setTimeout(end, navigator.onLine ? milliseconds : CAP);
    addEventListener("online", end);
    signal.addEventListener("abort", end);
    if (signal.aborted) end();
  });
}
