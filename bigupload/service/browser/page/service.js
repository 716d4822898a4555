// The page's own calls to the service: whose a key is, and whether a link can be used.

import { Problem } from "../client/index.js";
import { POLICY } from "./policy.js";

const ANSWER_WITHIN = 20_000; // milliseconds; a check of a link takes 10 s at most

/** How requests say for whom they act, where an application knows its users by a cookie. */
export const CREDENTIALS = POLICY.ownUsers ? { credentials: "same-origin", headers: {} } : {};

/** Rejects with a Problem: of kind "key" where the key is refused, "network" where nobody answers. */
async function call(key, method, path, body) {
  if (!key && !POLICY.ownUsers) throw new Problem("key", "", { code: "missing_key" });
  // A header cannot contain anything else, and no key does.
  if (!/^[\x21-\x7e]*$/.test(key)) throw new Problem("key", "", { code: "invalid_key" });
  const headers = { ...(key && { Authorization: `Bearer ${key}` }), ...(body && { "Content-Type": "application/json" }) };
  let response;
  let answer;
  try {
    response = await fetch(new URL(`../v1/${path}`, import.meta.url), {
      method,
      headers,
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(ANSWER_WITHIN),
      cache: "no-store",
      credentials: CREDENTIALS.credentials ?? "omit",
      redirect: "error",
    });
    answer = await response.json();
  } catch (error) {
    throw new Problem("network", "", { cause: error });
  }
  if (response.ok) return answer;
  const { code = null, message = `The service answered with status ${response.status}.` } = answer?.error ?? {};
  throw new Problem(response.status === 401 ? "key" : response.status >= 500 ? "network" : "final", message, { code });
}

/** {owner, expiresAt, maxSize, contentTypes} of an API key or upload token; of an application's user where it is "". */
export const whose = (key) => call(key, "GET", "me");

/** {usable, url, contentType, type, size, error} */
export const checkLink = (key, url) => call(key, "POST", "media/check", { url });
