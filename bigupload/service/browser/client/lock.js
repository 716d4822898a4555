// Only one tab at a time may send an upload: two would send the same parts.

import { Problem } from "./problem.js";

/** Run it while no other tab of this browser holds the lock of `id`. The lock ends with the tab. */
export function alone(id, action) {
  if (!globalThis.navigator?.locks) return action(); // not in a browser, or not over https
  return navigator.locks.request(`bigupload ${id}`, { ifAvailable: true }, (lock) => {
    if (!lock) throw new Problem("final", "Another tab of this browser is sending this file.", { code: "other_tab" });
    return action();
  });
}
