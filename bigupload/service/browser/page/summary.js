// What stands above the list: all uploads together, what concerns them all, and what can be done to all.

import { doneText } from "./describe.js";
import { Meter } from "../client/meter.js";
import { duration, percent, problemText, rate, sizeOf, t } from "./words.js";

const $ = (id) => document.getElementById(id);
const meter = new Meter();

export function put(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

/** Show the sums of the list. `moved`: bytes that became stored so far; `unauthorized`: the problem of the key. */
export function showTotal(total, moved, unauthorized) {
  const { count, links, done, bytes, sent, stored, running, waiting, paused, over } = total;
  const going = running + waiting > 0;
  if (going && !total.notes.length) meter.add(performance.now(), moved, total.inFlight, total.moving);
  else meter.reset();
  const pace = meter.rate;
  const share = bytes ? sent / bytes : 0;
  const complete = done === count && count > 0;
  const counted = complete ? doneText(total) : count ? t("total_count", { done, count }) : "";
  const linked = links ? t("total_links", { count: links }) : "";
  put("total-text", [counted, complete || !bytes ? "" : sizeOf(stored, bytes), linked].filter(Boolean).join(" · "));
  const left = pace ? t("left_time", { time: duration((bytes - stored - (meter.expected - moved)) / pace) }) : "";
  const still = !going && paused ? t("total_paused") : "";
  put("total-pace", [left, pace ? rate(pace) : "", still].filter(Boolean).join(" · "));
  $("total-bar").value = complete ? 1 : share;
  $("total-bar").hidden = complete || !bytes;
  $("pause-all").hidden = !going;
  $("continue-all").hidden = going || !paused;
  $("clear").hidden = !over;
  document.title = running ? `${percent(share)} · ${t("title")}` : t("title");
  showBanner(total, unauthorized);
}

/** What concerns all uploads stands where it is seen, however long the list is. */
function showBanner({ notes, needed }, unauthorized) {
  const note = ["offline", "blocked", "service", "store", "check"].find((each) => notes.includes(each));
  let text = "";
  if (unauthorized) text = problemText(unauthorized);
  else if (note) text = t(note);
  else if (needed) text = t("attention", { count: needed });
  const said = $("banner").firstElementChild;
  if (said.textContent !== text) said.textContent = text;
  $("banner").hidden = !text;
  $("banner-key").hidden = !unauthorized;
}

/** What several uploads failed of: once, and not in each row. */
export function showProblems(problems) {
  const lines = [...problems].map(([text, count]) => t("problem_shared", { count, text }));
  $("problems").hidden = !lines.length;
  if ([...$("problems").children].map(({ textContent }) => textContent).join() === lines.join()) return;
  $("problems").replaceChildren(...lines.map((textContent) => Object.assign(document.createElement("li"), { textContent })));
}

/** What earlier visits left, for all files at once. `canOpen`: the browser has handles of them all. */
export function showLeft(count, canOpen) {
  const several = count > 1;
  $("left").hidden = !several;
  $("list").classList.toggle("with-left", several);
  if (!several) return;
  put("left-text", t(canOpen ? "left_open" : "left", { count }));
  put("left-button", t(canOpen ? "continue_all" : "choose_again"));
}

// A sleeping phone stops sending.
let awake = null;
export async function keepAwake(wanted) {
  if (wanted && !awake && document.visibilityState === "visible" && navigator.wakeLock) {
    try {
      awake = navigator.wakeLock.request("screen");
      (await awake).addEventListener("release", () => (awake = null));
    } catch {
      awake = null; // low on battery, perhaps
    }
  } else if (!wanted && awake) {
    (await awake.catch(() => null))?.release();
  }
}
