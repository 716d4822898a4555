// What a row says of one upload. Pure: from an item to texts; no DOM.
//
// An item is an Upload, what a form had before (kept.js), or in the page a link (links.js) or an upload of another tab
// (mirror.js). All have: name, size, state, note, problem, progress {sent, stored, inFlight, left, waiting, found, parts},
// result {publicUrl}, running.

/** The state in a word or two. */
export function stateText(item, { t, has }) {
  const { state, problem, progress, elsewhere } = item;
  if (state === "usable" || state === "checking") return t(`link_${state}`);
  if (elsewhere && state !== "done") return t("state_elsewhere");
  if (item.note && item.running) return t(has("state_stalled") ? "state_stalled" : item.note); // for what, stands above the list
  if (progress.waiting) return t("storing");
  if (state === "remembered" && item.startedAt === null) return t("unbegun");
  return t(state === "failed" && problem?.kind === "refused" ? "refused" : state);
}

function amount({ size: whole, progress, state }, { size, sizeOf }) {
  if (!whole) return "";
  const { sent, stored } = progress;
  return sent > 0 && stored < whole && state !== "done" ? sizeOf(stored, whole) : size(whole);
}

/** The line below the name: short texts, the first of them stands out. */
export function statusParts(item, words) {
  const { state, note, progress } = item;
  const { t, size, duration } = words;
  const parts = [stateText(item, words), amount(item, words)];
  if (state === "uploading" && progress.inFlight) parts.push(t("on_the_way", { size: size(progress.inFlight) }));
  if (state === "uploading" && !note && progress.left) parts.push(t("left_time", { time: duration(progress.left) }));
  return parts.filter(Boolean);
}

/** How far it is, from 0 to 1; null where a bar says nothing. */
export function fraction({ state, problem, size: whole, progress }) {
  if (!whole || problem?.kind === "refused" || ["done", "usable", "cancelled", "checking"].includes(state)) return null;
  if (["waiting", "failed", "unauthorized", "remembered"].includes(state) && progress.sent === 0) return null;
  return Math.min(1, progress.sent / whole);
}
