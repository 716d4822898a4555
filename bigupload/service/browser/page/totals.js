// All uploads together: how many, how many bytes. Knows no DOM.

import { isOver, needsUser } from "./describe.js";

/** Sums of the list. What other tabs upload is counted, but neither as running nor as waiting here. */
export function sums(items) {
  const states = { done: 0, running: 0, waiting: 0, paused: 0, needed: 0, over: 0, refused: 0 };
  const total = { count: 0, links: 0, bytes: 0, sent: 0, stored: 0, inFlight: 0, moving: false, ...states, notes: [] };
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
    const { sent, stored, inFlight, rate } = item.progress;
    total.sent += item.state === "done" ? item.size : Math.min(item.size, sent);
    total.stored += item.state === "done" ? item.size : Math.min(item.size, stored);
    if (item.elsewhere) continue;
    total.inFlight += inFlight;
    total.moving ||= rate !== null;
    if (item.running) total.running += 1;
    if (item.state === "waiting") total.waiting += 1;
    if (item.state === "paused") total.paused += 1;
    if (item.note) total.notes.push(item.note);
  }
  return total;
}

/** Bytes that became stored, from what each upload says of itself, again and again. */
export class Moved {
  bytes = 0;
  #before = new WeakMap(); // upload → what was stored, while it was uploading

  note(upload) {
    const before = this.#before.get(upload);
    const { stored } = upload.progress;
    // Parts that the store has had already say nothing of the path: only what is added while it sends.
    if (before !== undefined && stored > before) this.bytes += stored - before;
    if (upload.state === "uploading") this.#before.set(upload, stored);
    else this.#before.delete(upload);
  }
}
