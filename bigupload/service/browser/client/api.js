// The calls to the service. Knows URLs and JSON, not files, parts in flight or the page. Sends each request once.

import { Authorization, MISSING } from "./authorization.js";
import { ofAnswer, ofToken } from "./identity.js";
import { Problem, classify, retryAfter } from "./problem.js";

const PATH = "v1/media/multipart";
const ME = "v1/me";
const ANSWER_WITHIN = 60_000; // milliseconds
const SOON = 20_000; // what somebody waits for; a check of a link takes 10 s at most
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
// Where people read it: they have neither a key nor a token, their app has.
const MESSAGES = {
  invalid_key: MISSING,
  invalid_token: MISSING,
  missing_key: MISSING,
  token_expired: "The permission to upload has ended. Reload the page, or sign in again.",
  token_used_up: "No more files may be uploaded for now. Reload the page, or sign in again.",
  token_size_exceeded: "The file is larger than you may upload.",
  token_type_refused: "You may not upload files of this type.",
  upload_gone: "What was sent of this file is gone: it was cancelled elsewhere, or is too old. Upload the file again.",
  upload_expired: "What was sent of this file is too old, so it is deleted. Upload the file again.",
  invalid_upload: "What was sent of this file was sent elsewhere. Upload the file again.",
  not_your_upload: "Another user began this upload. Upload the file again.",
  invalid_field: "This page asked for something that the service does not do. Tell those who run the site.",
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
  // A name is the file's: the service says what is wrong with it. The other fields are the client's own.
  if (code === "invalid_field" && body.error.field === "filename") return new Problem("refused", sentence(message), known);
  if (code === "invalid_field") console.error(`bigupload: ${body.error.field ?? "a field"}: ${message}`);
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
      const who = this.me(signal).then(ofAnswer);
      this.#known = { by, who };
      who.catch(() => this.#known.who === who && (this.#known = { by: null, who: null }));
    }
    return this.#known.who;
  }

  /** {owner, user, expiresAt, maxSize, contentTypes} of those who ask. */
  me(signal) {
    return this.#call("GET", ME, { signal, within: SOON });
  }

  /** Whether a post can use the media at this address: {usable, url, contentType, type, size, error}. */
  check(url) {
    return this.#call("POST", "v1/media/check", { body: { url }, within: SOON });
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
