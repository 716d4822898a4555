// What can go wrong, in the kinds that decide what happens next. Texts are for people, and hold nothing secret.

/**
 * Kinds:
 *   network  no answer came: the connection broke, stalled, or there is none
 *   busy     a passing answer: 408, 429, 5xx
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

export const isPassingStatus = (status) => status === 408 || status === 429 || (status >= 500 && status !== 501);
