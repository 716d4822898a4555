// What the page offers for one upload, and what it says beside its state. Pure: no DOM. client/describe.js says what an
// item is.

import { TOUCH, percent, problemText, t } from "./words.js";

/** Kinds of problems after which there is nothing to continue. */
const ENDED = new Set(["refused", "gone"]);

/** Where an item stands in the list: what moves, what needs the user, what waits, what is done. */
export function group({ state, running }) {
  if (running) return 0;
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
