// Retries. `Patience` decides when to retry; `pause` waits. Clock and randomness are passed in.

const ATTEMPTS = 8; // attempts of a request that gets responses
const FIRST_CONTACT = 5; // attempts if the store never responded, so that the error is shown soon
const UNHEARD = 100; // attempts of a request without a response while others get one
const SILENCE = 15 * 60_000; // milliseconds without any response before the user must continue
const MOST = 60_000; // milliseconds that one attempt may count: a sleeping computer attempts nothing
const BASE = 500;
const CAP = 20_000;
const LONGEST = 5 * 60_000; // milliseconds of a Retry-After: more would look like a hang

/** Shared by all requests of an upload to one host: while one succeeds, the others keep retrying. */
export class Patience {
  #heard = false; // ever
  #silent = 0; // milliseconds spent on attempts since the last response
  #mark; // the end of the time counted so far
  #now;
  #random;

  constructor({ now = () => performance.now(), random = Math.random } = {}) {
    this.#now = now;
    this.#random = random;
    this.#mark = now();
  }

  /** The user tries again: count the time without a response from now. */
  begin() {
    this.#silent = 0;
    this.#mark = this.#now();
  }

  /** A response came, or bytes were accepted. */
  heard() {
    this.#heard = true;
    this.begin();
  }

  /** Milliseconds to wait before the next attempt, after `made` attempts; throws the problem after the last. */
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

/** Wait this many milliseconds, or until the network is back. Rejects when `signal` is aborted. */
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("online", end);
      signal.removeEventListener("abort", end);
      if (signal.aborted) reject(signal.reason);
      else resolve();
    };
    // The browser's network state may be wrong: never wait for it alone.
    const timer = setTimeout(end, navigator.onLine ? milliseconds : CAP);
    addEventListener("online", end);
    signal.addEventListener("abort", end);
    if (signal.aborted) end();
  });
}
