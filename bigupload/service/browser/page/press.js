// What moves under a pressed pointer takes the click away, since a browser wants press and release on the same element.

const CLICK_WITHIN = 10_000; // milliseconds; then the browser did not tell of the release

let over = null; // while a pointer is pressed: resolves after the click
let end = () => {};
let timer = null;

/** Resolves when the page may move: at once, or after the click that has begun. */
export const afterPress = async () => over;

function pressed({ isPrimary, button }) {
  if (!isPrimary || button !== 0) return;
  over ??= new Promise((resolve) => (end = resolve)).then(() => (over = null));
  clearTimeout(timer);
  timer = setTimeout(end, CLICK_WITHIN);
}

addEventListener("pointerdown", pressed, { capture: true });
// The click comes in the same task as the pointerup.
for (const type of ["pointerup", "pointercancel"]) addEventListener(type, () => setTimeout(end), { capture: true });
