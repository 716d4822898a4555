// What can go wrong, in the kinds that decide what happens next. Texts are for people, and hold nothing secret.

/**
 * Kinds:
 *   network  no answer came: the connection broke, stalled, or there is none
 *   busy     a passing error response: 408, 429, 5xx, OperationAborted and the like
 *   key      the API key is missing, unknown or revoked
 *   expired  the store refuses the signed URL
 *   damaged  the store received other bytes than were hashed
 *   part     complete named a part that the store has not, or not like that
 *   gone     the upload does not exist any more
 *   refused  the service will not have this file
 *   file     the file can't be read, or is not what it was
 *   final    anything else that the same request would meet again
 */
export class Problem extends Error {
  constructor(kind, message, { code = null, retryAfter = null, cause } = {}) {
    super(message, { cause });
    this.name = "Problem";
    this.kind = kind;
    this.code = code;
    this.retryAfter = retryAfter; // milliseconds
  }

  /** May the same request fare better in a while? */
  get passing() {
    return this.kind === "network" || this.kind === "busy";
  }
}

const NOTHING_LEFT = "The service has nothing of this upload any more: it was cancelled, or too old.";

/** What a status of "gone" means; `error` says more where the service knows why. */
export function gone(error) {
  return new Problem("gone", error?.message ?? NOTHING_LEFT, { code: error?.code ?? "upload_gone" });
}

/** Milliseconds of a Retry-After header: seconds or a date; null where there is none. */
export function retryAfter(value, now = Date.now()) {
  if (!value) return null;
  const milliseconds = /^\d+$/.test(value.trim()) ? Number(value) * 1000 : Date.parse(value) - now;
  return Number.isFinite(milliseconds) ? Math.max(0, milliseconds) : null;
}

// The same table as in bigupload/core/retry_policy.py, which says why. A test compares the two.
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
const BY_STATUS = { 401: "expired", 403: "expired", 408: "busy", 425: "busy", 429: "busy", 501: "final" };

/** The kind of an error response: by its code, else by its status, never by its message. `code` may be null. */
export function classify(status, code) {
  if (code && Object.hasOwn(BY_CODE, code)) return BY_CODE[code];
  if (!code && (status === 404 || status === 409)) return "busy"; // a gateway that has lost its store
  return BY_STATUS[status] ?? (status >= 500 && status <= 599 ? "busy" : "final");
}
