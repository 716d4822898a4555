// PUT one part, once. It uses XMLHttpRequest, because fetch does not report upload progress; fetch where there is no other,
// as in Node.

import { NO_RESPONSE, Problem, classify, retryAfter } from "./problem.js";
import { POLICY } from "./retry.js";

const LOOK = 1_000;

const NO_ETAG = "The store's response has no ETag for this page: its CORS rules hide it, or a proxy drops it.";
const NOT_ANSWERED = "The store did not respond to a part.";
const UNREACHABLE = "The store can't be reached.";
const MESSAGES = {
  damaged: "Checksum mismatch: the store received other bytes than the file's.",
  gone: "The store no longer has this upload.",
  expired: "The store refused the signed URL.",
};

// getResponseHeader() logs an error about headers that CORS hides; this does not.
function readHeaders(request) {
  const rows = request.getAllResponseHeaders().trim().split(/\r?\n/).map((row) => row.split(/:\s*(.*)/s));
  return new Map(rows.map(([name, value]) => [name.toLowerCase(), value]));
}

/** The outcome of a response. */
function conclude(status, text, headers) {
  if (status !== 200) throw judge(status, text, headers);
  if (!headers.get("etag")) throw new Problem("final", NO_ETAG);
  return headers.get("etag");
}

/** Translate a store's error response. */
function judge(status, text, headers) {
  const code = /<Code>(\w+)<\/Code>/.exec(text)?.[1] ?? null;
  const known = { code, retryAfter: retryAfter(headers.get("retry-after")) };
  if (code === "RequestTimeTooSkewed") {
    return new Problem("final", "The store says that a clock is wrong: this computer's or the service's.", known);
  }
  const kind = classify(status, code);
  if (kind in MESSAGES) return new Problem(kind, MESSAGES[kind], known);
  if (kind === "busy") return new Problem("busy", `The store is busy (status ${status}).`, known);
  return new Problem(kind, `The store refused a part (status ${status}${code ? `, ${code}` : ""}).`, known);
}

/**
 * Send `body`, a slice of the file; resolves to the ETag. Rejects with a Problem or an abort. `isLost` is asked when the
 * whole body is accepted: whether its response comes no more.
 */
export function put(part) {
  return globalThis.XMLHttpRequest ? putWatched(part) : putUnwatched(part);
}

async function putUnwatched({ url, headers, body, signal, onProgress }) {
  const timeout = AbortSignal.timeout(POLICY.responseTimeout);
  let response;
  let text;
  try {
    response = await fetch(url, { method: "PUT", headers, body, signal: AbortSignal.any([signal, timeout]) });
    text = await response.text();
  } catch (error) {
    signal.throwIfAborted();
    const lost = timeout.aborted ? { code: NO_RESPONSE } : { cause: error };
    throw new Problem("network", timeout.aborted ? NOT_ANSWERED : UNREACHABLE, lost);
  }
  onProgress(body.size);
  return conclude(response.status, text, response.headers);
}

function putWatched({ url, headers, body, signal, onProgress, isLost }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let moved = performance.now();
    let whole = false;

    const abandon = () => request.abort();
    // Check the clock instead of one long timer: a background tab gets its timers late, but its events in time.
    const watch = setInterval(() => {
      if (whole ? !isLost() : performance.now() - moved <= POLICY.stallAfter) return;
      if (whole) finish(new Problem("network", NOT_ANSWERED, { code: NO_RESPONSE }));
      else finish(new Problem("network", "The connection to the store stalled."));
      request.abort();
    }, LOOK);
    function finish(problem, etag) {
      clearInterval(watch);
      signal.removeEventListener("abort", abandon);
      if (problem) reject(problem);
      else resolve(etag);
    }

    request.upload.onprogress = (event) => {
      moved = performance.now();
      onProgress(event.loaded);
    };
    request.upload.onload = () => {
      whole = true;
      onProgress(body.size);
    };
    request.onload = () => {
      try {
        finish(null, conclude(request.status, request.responseText, readHeaders(request)));
      } catch (problem) {
        finish(problem);
      }
    };
    request.onerror = () => finish(new Problem("network", UNREACHABLE, { origin: new URL(url).origin }));
    request.onabort = () => finish(signal.reason ?? new Problem("network", "The request was aborted."));
    signal.addEventListener("abort", abandon);
    try {
      signal.throwIfAborted();
      request.open("PUT", url);
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      request.send(body);
    } catch (error) {
      finish(error);
    }
  });
}
