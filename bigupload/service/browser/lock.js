// One tab at a time for one upload: two that send the same would only be in each other's way.

import { Problem } from "./problem.js";

/** Do it while no other tab of this browser does something for `id`. The lock is gone with the tab. */
export function alone(id, action) {
  return navigator.locks.request(`bigupload ${id}`, { ifAvailable: true }, (lock) => {
    if (!lock) throw new Problem("final", "Another tab of this browser is sending this file.");
    return action();
  });
}
