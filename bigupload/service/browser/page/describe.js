// What the page says of one upload, and what it offers. Pure: from an item to texts; no DOM.
//
// An item is an Upload of the client, a link (links.js) or an upload of another tab (tabs.js). All have: name, size,
// state, note, problem, progress {sent, stored, inFlight, left, waiting, found, parts}, result {publicUrl}, running.

import { TOUCH, duration, percent, problemText, size, sizeOf, t } from "./words.js";

export const RUNNING = new Set(["starting", "comparing", "hashing", "uploading", "finishing", "checking"]);

/** Kinds of problems after which there is nothing to continue. */
const ENDED = new Set(["refused", "gone"]);

/** Where an item stands in the list: what moves, what needs the user, what waits, what is done. */
export function group({ state }) {
  if (RUNNING.has(state)) return 0;
  if (state === "done" || state === "usable") return 3;
  if (state === "cancelled") return 4;
  return state === "waiting" ? 2 : 1;
}

/** Whether only the user can make it go on. */
export const needsUser = ({ state, problem, elsewhere }) =>
  !elsewhere && (["failed", "unauthorized", "remembered"].includes(state)) && problem?.kind !== "network";

/** Nothing happens to it any more: "clear finished" takes it away. */
export const isOver = ({ state, problem }) =>
  ["done", "usable", "cancelled"].includes(state) || (state === "failed" && problem?.kind === "refused");

/** The names of the buttons that it has now. */
export function actions(item) {
  const { state, problem, file, fileHandle } = item;
  if (item.elsewhere) return state === "done" ? ["copy", "remove"] : [];
  if (item.isLink) return state === "usable" ? ["copy", "remove"] : ["remove"];
  const openable = Boolean(file || fileHandle);
  switch (state) {
    case "done":
      return ["copy", "remove"];
    case "finishing":
      return ["pause"]; // continuing asks the service first what became of it
    case "waiting":
    case "unauthorized":
      return ["pause", "cancel"];
    case "paused":
      return ["continue", "cancel"];
    case "remembered":
      return [openable ? "continue" : "choose", "cancel"];
    case "failed":
      if (problem.kind === "refused") return ["remove"];
      if (problem.kind === "gone") return [openable ? "again" : "choose", "remove"];
      return [problem.kind === "file" || !openable ? "choose" : "continue", "cancel"];
    case "cancelled":
      return ["remove"];
    default:
      return ["pause", "cancel"];
  }
}

const MANY = 3; // uploads with one problem: it is said once

/** The problems of several uploads: text → how many have it. */
export function sharedProblems(items) {
  const counts = new Map();
  for (const { state, problem, elsewhere } of items) {
    if (state !== "failed" || !problem || elsewhere) continue;
    counts.set(problemText(problem), (counts.get(problemText(problem)) ?? 0) + 1);
  }
  return new Map([...counts].filter(([, count]) => count >= MANY));
}

/** What is said when all files have ended that the service accepts. */
export function doneText({ count, done, refused }) {
  return refused ? t("total_refused", { count: count + refused, done, refused }) : t("total_done", { count });
}

/** The state in a word or two. */
export function stateText(item) {
  const { state, problem, progress, elsewhere } = item;
  if (state === "usable" || state === "checking") return t(`link_${state}`);
  if (elsewhere && state !== "done") return t("state_elsewhere");
  if (item.note && item.running) return t("state_stalled"); // for what, stands above the list
  if (progress?.waiting) return t("storing");
  if (state === "remembered" && item.startedAt === null) return t("state_unbegun");
  if (state === "remembered") return t("state_remembered");
  return t(state === "failed" && problem?.kind === "refused" ? "refused" : state);
}

function amount({ size: whole, progress, state }) {
  if (!whole) return "";
  const { sent, stored } = progress;
  return sent > 0 && stored < whole && state !== "done" ? sizeOf(stored, whole) : size(whole);
}

/** The line below the name: short texts, the first of them stands out. */
export function statusParts(item) {
  const { state, note, progress } = item;
  const parts = [stateText(item), amount(item)];
  if (state === "uploading" && progress.inFlight) parts.push(t("on_the_way", { size: size(progress.inFlight) }));
  if (state === "uploading" && !note && progress.left) parts.push(t("left_time", { time: duration(progress.left) }));
  return parts.filter(Boolean);
}

/** A sentence that the line has no room for: {text, bad}, or null. `aside` is what the page itself has to say of it. */
export function remark(item, aside) {
  const { state, problem, progress } = item;
  if (state === "failed" && problem) return { text: problemText(problem), bad: true };
  if (aside) return { text: aside, bad: false };
  if (item.elsewhere) return null;
  if (state === "remembered") return { text: t(item.fileHandle ? "hint_continue" : TOUCH ? "hint_choose_touch" : "hint_choose"), bad: false };
  if (progress.found && item.running && progress.parts) {
    return { text: t("continued", { percent: percent(progress.found / progress.parts) }), bad: false };
  }
  return null;
}

/** How far it is, from 0 to 1; null where a bar says nothing. */
export function fraction({ state, size: whole, progress }) {
  if (!whole || ["done", "usable", "cancelled", "checking"].includes(state)) return null;
  if (["waiting", "failed", "remembered"].includes(state) && progress.sent === 0) return null;
  return Math.min(1, progress.sent / whole);
}
