// The headers that say who asks: an API key or a token, renewed by the app when the service refuses it.

import { Problem } from "./problem.js";

// For people who have neither a key nor a token: their app has.
export const MISSING = "This page may not upload now. Reload it, or sign in again.";

export class Authorization {
  #token;
  #headers;
  #current = null; // a promise of the token that the function returned

  /** `token` is a text, or a function that returns one or a promise of one; `headers` an object or such a function. */
  constructor({ token = null, headers = null }) {
    this.#token = token;
    this.#headers = headers;
  }

  get token() {
    return this.#token;
  }

  set token(token) {
    this.#token = token;
    this.#current = null;
  }

  /** The headers for a request, and `renew`, which resolves to whether there is another token to try with. */
  async headers() {
    const others = typeof this.#headers === "function" ? await this.#call(this.#headers) : this.#headers;
    const asked = typeof this.#token === "function" ? (this.#current ??= this.#call(this.#token)) : this.#token;
    let token;
    try {
      token = await asked;
    } catch (problem) {
      this.#forget(asked);
      throw problem;
    }
    const renew = () => this.#forget(asked);
    if (token === null || token === undefined || token === "") {
      if (others) return { headers: { ...others }, renew };
      this.#forget(asked); // the next request asks again
      throw new Problem("key", MISSING, { code: "missing_key" });
    }
    // A header cannot contain anything else, and no key does.
    if (!/^[\x21-\x7e]+$/.test(token)) {
      this.#forget(asked);
      throw new Problem("key", MISSING, { code: "invalid_key" });
    }
    return { headers: { ...others, Authorization: `Bearer ${token}` }, renew };
  }

  /** Ask for another one the next time. Requests that were refused together ask once. */
  #forget(asked) {
    if (this.#current === asked) this.#current = null;
    return [this.#token, this.#headers].some((each) => typeof each === "function") || asked !== this.#token;
  }

  async #call(ask) {
    try {
      return (await ask()) ?? null;
    } catch (error) {
      if (error instanceof Problem) throw error;
      throw new Problem("network", "No upload token: the app's own service does not respond.", { cause: error });
    }
  }
}
