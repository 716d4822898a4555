// The kinds of errors, which decide what happens next. Texts are for people and contain no secrets.

/**
 * Kinds:
 *   network  no response: the connection broke, stalled, or there is none
 *   busy     a temporary error response: 408, 429, 5xx, OperationAborted and the like
 *   key      the API key or token is missing, unknown, revoked, expired or used up: another one may do
 *   expired  the store refuses the signed URL
 *   damaged  the store received other bytes than were hashed
 *   part     complete named a part that the store does not have, or has with another ETag
 *   gone     the upload does not exist any more
 *   refused  the service refuses this file
 *   file     the file cannot be read, or has changed
 *   final    any other error that a retry would meet again
 */
export class Problem extends Error {
  constructor(kind, message, { code = null, retryAfter = null, origin = null, cause } = {}) {
    super(message, { cause });
    this.name = "Problem";
    this.kind = kind;
    this.code = code;
    this.retryAfter = retryAfter; // milliseconds
    this.origin = origin; // of a request that failed before there was a response
  }

  /** Whether a retry may succeed. */
  get passing() {
    return this.kind === "network" || this.kind === "busy";
  }
}

const PROBE_WITHIN = 5_000; // milliseconds

/** The code of a PUT whose body was accepted to the end, and that got no response. */
export const NO_RESPONSE = "no_response";

const NOTHING_LEFT = "The service no longer has this upload: it was cancelled or expired.";

/** The error for the status "gone"; `error` says more if the service knows why. */
export function gone(error) {
  return new Problem("gone", error?.message ?? NOTHING_LEFT, { code: error?.code ?? "upload_gone" });
}

/** Another user of this browser began the upload. */
export const notYours = () =>
  new Problem("final", "Another user began this upload. Upload the file again.", { code: "not_your_upload" });

const BLOCKED = "The store can be reached, but lets no page of this site upload: its CORS rules are missing.";

/** The same problem, if the store responds to requests that need no permission. */
export async function explain(problem, signal) {
  if (!problem.origin) return problem;
  try {
    const asked = AbortSignal.any([signal, AbortSignal.timeout(PROBE_WITHIN)]);
    await fetch(problem.origin, { mode: "no-cors", credentials: "omit", cache: "no-store", signal: asked });
  } catch {
    return problem;
  }
  return new Problem("network", BLOCKED, { code: "store_blocked", cause: problem });
}

/** Milliseconds of a Retry-After header: seconds or a date; null if it is missing. */
export function retryAfter(value, now = Date.now()) {
  if (!value) return null;
  const milliseconds = /^\d+$/.test(value.trim()) ? Number(value) * 1000 : Date.parse(value) - now;
  return Number.isFinite(milliseconds) ? Math.max(0, milliseconds) : null;
}

// Both tables are made of those in bigupload/core/retry_policy.py, which says why.
const BY_CODE = {
  BadDigest: "damaged",
  InvalidDigest: "damaged",
  XAmzContentChecksumMismatch: "damaged",
  ExpiredToken: "expired",
  TokenRefreshRequired: "expired",
  RequestTimeTooSkewed: "final",
  NoSuchUpload: "gone",
  NoSuchKey: "gone",
  NotImplemented: "final",
  InvalidPart: "part",
  InvalidPartOrder: "part",
  ConditionalRequestConflict: "busy",
  RequestTimeout: "busy",
  IncompleteBody: "busy",
  OperationAborted: "busy",
  InternalError: "busy",
  SlowDown: "busy",
  Throttling: "busy",
  ThrottlingException: "busy",
  ThrottledException: "busy",
  RequestThrottled: "busy",
  RequestThrottledException: "busy",
  RequestLimitExceeded: "busy",
  BandwidthLimitExceeded: "busy",
  TooManyRequestsException: "busy",
};
const BY_STATUS = {
  501: "final",
  401: "expired",
  403: "expired",
  408: "busy",
  425: "busy",
  429: "busy",
};

/** The kind of an error response: by its code, else by its status, never by its message. `code` may be null. */
export function classify(status, code) {
  if (code && Object.hasOwn(BY_CODE, code)) return BY_CODE[code];
  if (!code && (status === 404 || status === 409)) return "busy"; // a gateway without its store
  return BY_STATUS[status] ?? (status >= 500 && status <= 599 ? "busy" : "final");
}
