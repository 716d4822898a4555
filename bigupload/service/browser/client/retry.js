// Retries. `Retrier` decides when to retry; `pause` waits. Clock and randomness are passed in.

// The defaults of RetryPolicy in bigupload/core/retry_policy.py, which says why; times in milliseconds. A test compares
// the two.
export const POLICY = Object.freeze({
  attempts: 8,
  attemptsBeforeResponse: 4,
  baseDelay: 500,
  maxDelay: 20_000,
  giveUpAfter: 15 * 60_000,
  stallAfter: 30_000,
  responseTimeout: 300_000,
});
const MOST_WHILE_OTHERS_SUCCEED = 100; // attempts of a request without a response while others get one
const MOST_COUNTED = 60_000; // milliseconds that one attempt may count: a sleeping computer attempts nothing

/** Shared by all requests of an upload to one host: while one succeeds, the others keep retrying. */
export class Retrier {
  #responded = false; // ever
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

  get responded() {
    return this.#responded;
  }

  /** A response came, or bytes were accepted. */
  noteResponse() {
    this.#responded = true;
    this.begin();
  }

  /** Milliseconds to wait before the next attempt, after `made` attempts; throws the problem after the last. */
  after(problem, made, online = true) {
    if (!problem.passing) throw problem;
    if (problem.kind === "busy") {
      this.noteResponse();
      if (made >= POLICY.attempts) throw problem;
    } else if (online) {
      const now = this.#now();
      this.#silent += Math.min(now - this.#mark, MOST_COUNTED);
      this.#mark = now;
      if (!this.#responded && made >= POLICY.attemptsBeforeResponse) throw problem;
      if (this.#silent >= POLICY.giveUpAfter || made >= MOST_WHILE_OTHERS_SUCCEED) throw problem;
    }
    // Full jitter: https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
    const jitter = this.#random() * Math.min(POLICY.maxDelay, POLICY.baseDelay * 2 ** Math.min(made - 1, 30));
    return Math.max(jitter, Math.min(problem.retryAfter ?? 0, POLICY.giveUpAfter)); // more would look like a hang
  }
}

/** What the browser says; it may be wrong. */
export const online = () => globalThis.navigator?.onLine ?? true;

/** Wait this many milliseconds, or until the network is back. Rejects when `signal` is aborted. */
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      globalThis.removeEventListener?.("online", end);
      signal.removeEventListener("abort", end);
      if (signal.aborted) reject(signal.reason);
      else resolve();
    };
    // The browser's network state may be wrong: never wait for it alone.
    const timer = setTimeout(end, online() ? milliseconds : POLICY.maxDelay);
    globalThis.addEventListener?.("online", end);
    signal.addEventListener("abort", end);
    if (signal.aborted) end();
  });
}
