// The calls to the service. Knows URLs and JSON, not files, parts in flight or the page. Sends each request once.

import { Authorization } from "./authorization.js";
import { ofAnswer, ofToken } from "./identity.js";
import { Problem, classify, retryAfter } from "./problem.js";

const PATH = "v1/media/multipart";
const ME = "v1/me";
const ANSWER_WITHIN = 60_000; // milliseconds
const COMPLETE_WITHIN = 300_000; // a store may need minutes to join thousands of parts

// Of the codes that are not what their status says: 401 asks for another key, 422 refuses the file.
const KINDS = {
  token_size_exceeded: "refused",
  token_type_refused: "refused",
  upload_refused: "refused",
  invalid_field: "final", // the other fields and parts are the client's own: the file may be fine
  unsupported_part_size: "final",
  unsupported_checksum: "final",
  wrong_part: "final",
  missing_checksum: "final",
  token_used_up: "key",
  upload_gone: "gone",
  upload_expired: "gone",
  invalid_upload: "gone",
  part_not_stored: "part",
  checksum_mismatch: "part",
  too_many_uploads: "final", // waiting does not help; the message says what to do
};
const MESSAGES = {
  invalid_key: "This API key is unknown or was revoked. Enter another one to continue.",
  invalid_token: "This upload token is not valid. Enter another one to continue.",
  token_expired: "This upload token has expired. Enter a new one to continue.",
  token_used_up: "This upload token has been used for as many uploads as it allows. Enter a new one to continue.",
  missing_key: "Enter your API key to start.",
  upload_gone: "The service no longer has this upload: it was cancelled elsewhere or expired.",
  upload_expired: "This upload was started more than 7 days ago, so its parts are deleted.",
  invalid_upload: "The service does not know this upload: it was started with another service.",
  not_your_upload: "This upload was started with another owner's API key. Enter that key to continue.",
};

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

function toProblem(status, headers, body) {
  const { code = null, message = `The service answered with status ${status}.` } = body?.error ?? {};
  let kind = KINDS[code];
  if (kind === undefined) {
    if (status === 401) kind = "key";
    else if (status === 422 && code) kind = "refused";
    else kind = classify(status, code) === "busy" ? "busy" : "final";
  }
  const known = { code, retryAfter: retryAfter(headers.get("Retry-After")) };
  return new Problem(kind, MESSAGES[code] ?? sentence(message), known);
}

export class Api {
  #endpoint;
  #credentials;
  #known = { by: null, who: null }; // the headers that were asked about last, and a promise of whose they are

  /** `endpoint` is the service's base URL. The service may be mounted at any path. */
  constructor({ endpoint, token, headers, credentials = "omit" }) {
    this.#endpoint = new URL(String(endpoint).replace(/\/?$/, "/"), globalThis.location?.href).href;
    this.#credentials = credentials;
    this.authorization = new Authorization({ token, headers });
  }

  get endpoint() {
    return this.#endpoint;
  }

  get servesThisPage() {
    return new URL(this.#endpoint).origin === globalThis.location?.origin;
  }

  /** Resolves to the identity of those who ask. Another person may have the next token. */
  async who(signal) {
    const { headers } = await this.authorization.headers();
    return this.#whose(headers, signal);
  }

  /** `who` of the answer is a function: for whom the service created it. */
  async create(body, signal) {
    body.token ??= crypto.randomUUID().replaceAll("-", ""); // by it the service knows a create that is repeated
    let used;
    const answer = await this.#call("POST", PATH, { body, signal, using: (headers) => (used = headers) });
    return { ...answer, who: () => this.#whose(used, signal) };
  }

  async #whose(headers, signal) {
    const token = headers.Authorization?.slice("Bearer ".length);
    const told = token ? await ofToken(token) : null;
    if (told) return told;
    const by = JSON.stringify(headers);
    if (this.#known.by !== by) {
      const who = this.#call("GET", ME, { signal }).then(ofAnswer);
      this.#known = { by, who };
      who.catch(() => this.#known.who === who && (this.#known = { by: null, who: null }));
    }
    return this.#known.who;
  }

  sign(upload, parts, signal) {
    return this.#call("POST", `${PATH}/parts`, { body: { upload, parts }, signal });
  }

  async stored(upload, signal) {
    return (await this.#call("GET", `${PATH}/parts`, { upload, signal })).parts;
  }

  status(upload, signal) {
    return this.#call("GET", PATH, { upload, signal });
  }

  complete(upload, parts, signal) {
    return this.#call("POST", `${PATH}/complete`, { body: { upload, parts }, signal, within: COMPLETE_WITHIN });
  }

  abort(upload, signal) {
    return this.#call("DELETE", PATH, { upload, signal });
  }

  /** Send it, and once more with another token if the service refuses the first one. */
  async #call(method, path, options) {
    const { headers, renew } = await this.authorization.headers();
    options.using?.(headers);
    try {
      return await this.#request(method, path, headers, options);
    } catch (problem) {
      if (problem.kind !== "key" || !renew()) throw problem;
    }
    options.signal?.throwIfAborted();
    const renewed = (await this.authorization.headers()).headers;
    options.using?.(renewed);
    return this.#request(method, path, renewed, options);
  }

  async #request(method, path, authorization, { upload, body, signal, within = ANSWER_WITHIN }) {
    const url = new URL(path, this.#endpoint);
    if (upload) url.searchParams.set("upload", upload);
    const timeout = AbortSignal.timeout(within);
    let response;
    let answer = null;
    try {
      response = await fetch(url, {
        method,
        headers: body ? { ...authorization, "Content-Type": "application/json" } : authorization,
        body: body && JSON.stringify(body),
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
        cache: "no-store",
        credentials: this.#credentials,
        redirect: "error",
      });
      const text = await response.text();
      if (text) answer = JSON.parse(text);
    } catch (error) {
      signal?.throwIfAborted();
      // If the status is a success but the body is not JSON, a proxy or portal responded.
      if (!(error instanceof SyntaxError) || response.ok) {
        throw new Problem("network", "The service can't be reached.", { cause: error });
      }
    }
    if (!response.ok) throw toProblem(response.status, response.headers, answer);
    return answer;
  }
}
