// When to try again. `Patience` decides, and does nothing else; `pause` waits. Clock and randomness are passed in.

const ATTEMPTS = 8; // of a request that is answered
const FIRST_CONTACT = 5; // of one to a store that never answered: soon enough to say what is wrong
const UNHEARD = 100; // of one that gets no answer while others do
const SILENCE = 15 * 60_000; // milliseconds without any answer at all, before it is left to the person
const MOST = 60_000; // milliseconds that one try may count as: in a computer that slept, nobody tried
const BASE = 500;
const CAP = 20_000;
const LONGEST = 5 * 60_000; // of a Retry-After: more would look like a hang

/** Shared by all requests of an upload to one host: while one of them gets through, the others need not despair. */
export class Patience {
  #heard = false; // ever
  #silent = 0; // milliseconds spent trying since it answered
  #mark; // until when that is counted
  #now;
  #random;

  constructor({ now = () => performance.now(), random = Math.random } = {}) {
    this.#now = now;
    this.#random = random;
    this.#mark = now();
  }

  /** A new try by a person: silence counts from here. */
  begin() {
    this.#silent = 0;
    this.#mark = this.#now();
  }

  /** An answer came, or bytes were taken. */
  heard() {
    this.#heard = true;
    this.begin();
  }

  /** Milliseconds to wait before the next try, after `made` tries; throws the problem where that was the last. */
  after(problem, made, online = true) {
    if (!problem.passing) throw problem;
    if (problem.kind === "busy") {
      this.heard();
      if (made >= ATTEMPTS) throw problem;
    } else if (online) {
      const now = this.#now();
      this.#silent += Math.min(now - this.#mark, MOST);
      this.#mark = now;
      if (!this.#heard && made >= FIRST_CONTACT) throw problem;
      if (this.#silent >= SILENCE || made >= UNHEARD) throw problem;
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
