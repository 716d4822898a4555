// One PUT of one part. XMLHttpRequest, since fetch does not tell how far an upload is. Sends once, and never again.

import { Problem, classify, retryAfter } from "./problem.js";

const STALL = 30_000; // milliseconds in which nothing moves
const ANSWER = 300_000; // that the store may take once it has the whole body
const LOOK = 1_000;

const NO_ETAG = "The store does not show the page its ETag header: its CORS rules are not set up.";
const MESSAGES = {
  damaged: "The store received other bytes than are in the file.",
  gone: "The store does not know this upload any more.",
  expired: "The store refuses the signed address.",
};

// getResponseHeader() complains in the console about headers that CORS hides; this one keeps silent.
function readHeaders(request) {
  const rows = request.getAllResponseHeaders().trim().split(/\r?\n/).map((row) => row.split(/:\s*(.*)/s));
  return new Map(rows.map(([name, value]) => [name.toLowerCase(), value]));
}

/** What a store's error response means. */
function judge(status, text, headers) {
  const code = /<Code>(\w+)<\/Code>/.exec(text)?.[1] ?? null;
  const known = { code, retryAfter: retryAfter(headers.get("retry-after")) };
  if (code === "RequestTimeTooSkewed") {
    return new Problem("final", "The store says that a clock is wrong: this computer's, or the service's.", known);
  }
  const kind = classify(status, code);
  if (kind in MESSAGES) return new Problem(kind, MESSAGES[kind], known);
  if (kind === "busy") return new Problem("busy", `The store is busy (status ${status}).`, known);
  return new Problem(kind, `The store refused a part (status ${status}${code ? `, ${code}` : ""}).`, known);
}

/** Send `body` (a slice of the file, read as it goes); resolves to the ETag. Rejects with a Problem, or as aborted. */
export function put({ url, headers, body, signal, onProgress }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let moved = performance.now();
    let patience = STALL;

    const abandon = () => request.abort();
    // By the clock, not by one long timer: a tab in the background is given its timers late, its events in time.
    const watch = setInterval(() => {
      if (performance.now() - moved > patience) {
        finish(new Problem("network", "The connection to the store stalled."));
        request.abort();
      }
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
      moved = performance.now();
      patience = ANSWER;
    };
    request.onload = () => {
      const answered = readHeaders(request);
      if (request.status !== 200) finish(judge(request.status, request.responseText, answered));
      else if (answered.get("etag")) finish(null, answered.get("etag"));
      else finish(new Problem("final", NO_ETAG));
    };
    request.onerror = () => finish(new Problem("network", "The store can't be reached."));
    request.onabort = () => finish(signal.reason ?? new Problem("network", "The request was broken off."));
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
