// Only one tab at a time has an upload: two would send the same parts, and one could cancel what the other one sends.
//
// A lock is held for as long as a client has the upload, paused or not. It ends with the tab. Where there are no locks
// (not in a browser, or not over https) an upload is had without one.

import { Problem } from "./problem.js";

const NAME = "bigupload upload ";

export const otherTab = () =>
  new Problem("final", "This file is being uploaded already, here or in another tab.", { code: "other_tab" });

export class Holds {
  #held = new Map(); // id → promise: of the function that gives it back, or of null
  #ending = new Map(); // id → promise of its end, after it was given back

  get #locks() { return globalThis.navigator?.locks; }

  /** Have the upload, until `release`. Resolves to whether nobody else has it. `isNew`: nobody can know of it. */
  async take(id, { isNew = false } = {}) {
    if (!this.#locks) return true;
    if (!this.#held.has(id)) this.#held.set(id, this.#request(id, isNew));
    return (await this.#held.get(id)) !== null;
  }

  async #request(id, isNew) {
    await this.#ending.get(id);
    return new Promise((resolve) => {
      const granted = (lock) => (lock ? new Promise((release) => resolve(release)) : resolve(null));
      const ended = this.#locks.request(NAME + id, { ifAvailable: true }, granted).catch(() => resolve(null));
      this.#ending.set(id, ended.finally(() => this.#ending.delete(id)));
    }).then((release) => {
      if (release === null) this.#held.delete(id);
      else if (!isNew) say({ taken: id });
      return release;
    });
  }

  async release(id) {
    const held = this.#held.get(id);
    this.#held.delete(id);
    (await held)?.();
  }

  /** Of these uploads, those that somebody else has. */
  async others(ids) {
    if (!this.#locks) return new Set();
    const { held } = await this.#locks.query();
    const names = new Set(held.map(({ name }) => name));
    return new Set(ids.filter((id) => names.has(NAME + id) && !this.#held.has(id)));
  }

  /** Resolves when nobody has the upload. */
  async free(id) {
    await this.#locks.request(NAME + id, { mode: "shared" }, () => {});
  }
}

function say(message) {
  const channel = new BroadcastChannel(NAME);
  channel.postMessage(message);
  channel.close();
}

/** Call `told(id)` when somebody takes an upload. */
export function listen(told) {
  if (!globalThis.navigator?.locks) return;
  const channel = new BroadcastChannel(NAME);
  channel.onmessage = ({ data }) => told(data.taken);
  channel.unref?.(); // Node would wait for it
}
