// A file's parts: their sizes, which of them the store's list proves, and hashing and signing each before its turn.

import { Problem } from "./problem.js";

const HASHING = 2; // parts in memory at once; a part is released after hashing and read again for sending
const MOST_A_CALL = 100;
const LEFT = 60_000; // milliseconds a URL must still be valid when it is used

export class Plan {
  constructor(size, partSize) {
    this.size = size;
    this.partSize = partSize;
    this.count = Math.max(1, Math.ceil(size / partSize));
  }

  get numbers() {
    return Array.from({ length: this.count }, (_, index) => index + 1);
  }

  sizeOf(number) {
    return number < this.count ? this.partSize : this.size - (this.count - 1) * this.partSize;
  }

  slice(file, number) {
    const start = (number - 1) * this.partSize;
    return file.slice(start, start + this.sizeOf(number));
  }
}

const base64 = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)));

/** Read a blob. If that fails, the file was changed or deleted since it was chosen: browsers check that. */
async function read(blob) {
  try {
    return await blob.arrayBuffer();
  } catch (error) {
    throw new Problem("file", "The file cannot be read: it was changed, moved or deleted. Choose it again.", {
      cause: error,
    });
  }
}

export const readable = (file) => read(file.slice(0, 1));

export const head = async (file, length) => base64(await read(file.slice(0, length)));

/** SHA-256, base64. */
export const checksum = async (blob) => base64(await crypto.subtle.digest("SHA-256", await read(blob)));

/**
 * What the store's list proves, given what was remembered: `there` is sure; `doubtful` has the rows of parts that only
 * hashing the file can tell. What is in neither has to be sent. A store may list a number twice.
 */
export function settle(plan, rows, remembered) {
  const there = new Map();
  const doubtful = new Map();
  for (const row of rows) {
    const number = row.partNumber;
    if (!(number >= 1 && number <= plan.count) || row.size !== plan.sizeOf(number) || there.has(number)) continue;
    const known = remembered.get(number);
    if (known?.etag && known.etag === row.etag && (!row.checksum || row.checksum === known.checksum)) {
      there.set(number, { checksum: known.checksum, etag: row.etag });
      doubtful.delete(number);
    } else {
      doubtful.set(number, [...(doubtful.get(number) ?? []), row]);
    }
  }
  return { there, doubtful };
}

/** The row that is proved to be the part with this checksum; undefined if there is none. */
export function recognise(rows, sum, known) {
  // Where the store lists no checksum, memory knows which one was signed, and which ETags are of an earlier version of
  // the file: the PUT of this version may have failed, so that the store still has the earlier part.
  const signed = (row) =>
    known?.checksum === sum && (known.etag ?? row.etag) === row.etag && !known.earlier?.includes(row.etag);
  return rows.findLast((row) => (row.checksum ? row.checksum === sum : signed(row)));
}

/** Allow this many at once. */
export class Gate {
  #free;
  #waiting = [];

  constructor(places) {
    this.#free = places;
  }

  async run(action) {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise((resolve) => this.#waiting.push(resolve));
    try {
      return await action();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free += 1;
    }
  }
}

/** Hash and sign parts. `sign(parts)` calls the service; requests during a call share the next one. */
export class Preparer {
  #file;
  #plan;
  #sign;
  #signal;
  #gate = new Gate(HASHING);
  #sums = new Map(); // number → promise of the checksum
  #signed = new Map(); // number → promise of {url, headers, until}
  #queue = [];
  #asking = false;

  constructor({ file, plan, sign, signal }) {
    this.#file = file;
    this.#plan = plan;
    this.#sign = sign;
    this.#signal = signal;
  }

  /** Start to prepare this part. `get` returns the result or throws the error. */
  begin(number) {
    if (!this.#signed.has(number)) {
      const signed = this.#prepare(number);
      signed.catch(() => {});
      this.#signed.set(number, signed);
    }
    return this.#signed.get(number);
  }

  /** A part that was hashed and signed elsewhere: {url, headers, until, checksum}. */
  know(number, { checksum, ...signed }) {
    this.#sums.set(number, Promise.resolve(checksum));
    this.#signed.set(number, Promise.resolve(signed));
  }

  /** {url, headers, checksum}, valid for a while. */
  async get(number) {
    let signed = await this.begin(number);
    if (signed.until - Date.now() < LEFT) {
      this.renew(number);
      signed = await this.begin(number);
    }
    return { ...signed, checksum: await this.#sums.get(number) };
  }

  /** Sign it again at the next `get`. */
  renew(number) {
    this.#signed.delete(number);
  }

  /** Forget the part: the next `get` hashes and signs it again. */
  drop(number) {
    this.#signed.delete(number);
    this.#sums.delete(number);
  }

  async #prepare(number) {
    if (!this.#sums.has(number)) {
      this.#sums.set(number, this.#gate.run(() => {
        this.#signal.throwIfAborted();
        return checksum(this.#plan.slice(this.#file, number));
      }));
    }
    const part = { partNumber: number, size: this.#plan.sizeOf(number), checksum: await this.#sums.get(number) };
    this.#signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      this.#queue.push({ part, resolve, reject });
      this.#ask();
    });
  }

  async #ask() {
    if (this.#asking) return;
    this.#asking = true;
    while (this.#queue.length) {
      const batch = this.#queue.splice(0, MOST_A_CALL);
      const asked = Date.now();
      try {
        const { signed, expiresIn } = await this.#sign(batch.map(({ part }) => part));
        const found = new Map(signed.map((each) => [each.partNumber, each]));
        for (const { part, resolve } of batch) {
          const { url, headers } = found.get(part.partNumber);
          resolve({ url, headers, until: asked + expiresIn * 1000 });
        }
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#asking = false;
  }
}
