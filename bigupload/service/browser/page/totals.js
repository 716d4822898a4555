// All uploads together: how many, how many bytes, how fast, how long. Knows no DOM; the clock is passed in.

import { isOver, needsUser, RUNNING } from "./describe.js";

const WINDOW = 10_000; // milliseconds of history
const LEAST = 2_000; // milliseconds before the first rate
const STILL = 4_000; // milliseconds without a byte: what was before says nothing of what comes

/** Sums of the list. What other tabs upload is counted, but neither as running nor as waiting here. */
export function sums(items) {
  const states = { done: 0, running: 0, waiting: 0, paused: 0, needed: 0, over: 0, refused: 0 };
  const total = { count: 0, links: 0, bytes: 0, sent: 0, ...states, notes: [] };
  for (const item of items) {
    if (isOver(item)) total.over += 1;
    if (item.state === "cancelled") continue;
    if (item.state === "failed" && isOver(item)) {
      if (!item.isLink) total.refused += 1;
      continue;
    }
    if (needsUser(item)) total.needed += 1;
    if (item.isLink) {
      total.links += 1;
      continue;
    }
    total.count += 1;
    if (item.state === "done") total.done += 1;
    total.bytes += item.size;
    total.sent += item.state === "done" ? item.size : Math.min(item.size, item.progress.sent);
    if (item.elsewhere) continue;
    if (RUNNING.has(item.state)) total.running += 1;
    if (item.state === "waiting") total.waiting += 1;
    if (item.state === "paused") total.paused += 1;
    if (item.note) total.notes.push(item.note);
  }
  return total;
}

/** Bytes that went over the network, from what each upload says of itself, again and again. */
export class Moved {
  bytes = 0;
  #before = new WeakMap(); // upload → what was sent, while it was uploading

  note(upload) {
    const before = this.#before.get(upload);
    const { sent } = upload.progress;
    // Parts that the store has had already are no traffic: only what is added while it sends.
    if (before !== undefined && sent > before) this.bytes += sent - before;
    if (upload.state === "uploading") this.#before.set(upload, sent);
    else this.#before.delete(upload);
  }
}

/** The rate of the last seconds. It starts anew after an outage. */
export class Meter {
  #samples = [];
  #moved = 0; // when bytes moved last

  /** `bytes` is the total so far. */
  add(now, bytes) {
    const last = this.#samples.at(-1);
    if (!last || bytes > last.bytes) {
      if (last && now - this.#moved > STILL) this.#samples = [];
      this.#moved = now;
    }
    this.#samples.push({ now, bytes });
    while (this.#samples.length > 2 && now - this.#samples[1].now >= WINDOW) this.#samples.shift();
  }

  reset() {
    this.#samples = [];
  }

  /** Bytes a second; null if there is too little history, or nothing moves. */
  get rate() {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (!first || last.now - first.now < LEAST || last.now - this.#moved > STILL) return null;
    return ((last.bytes - first.bytes) * 1000) / (last.now - first.now) || null;
  }
}
