// What screen readers are told: milestones, never every per cent, and many at once as one.

import { stateText } from "../client/describe.js";
import { doneText } from "./describe.js";
import { percent, problemText, t, words } from "./words.js";

const FEW = 4; // so many uploads are told of one by one
const QUARTERS = [0.25, 0.5, 0.75];
const GATHER = 700; // milliseconds in which announcements are put together
const TOLD = new Set(["uploading", "done", "paused", "failed", "unauthorized", "usable", "cancelled"]);

export class Announcer {
  #element;
  #texts = [];
  #timer = null;
  #states = new WeakMap(); // item → what was said last
  #quarter = 0;
  #finished = true;

  constructor(element) {
    this.#element = element;
  }

  /** Say it soon, with what else there is to say. */
  say(text) {
    if (!this.#texts.includes(text)) this.#texts.push(text);
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#element.textContent = this.#texts.join(" ");
      this.#texts = [];
    }, GATHER);
  }

  /** Note that an item changed. `count`: how many there are. */
  item(item, count) {
    const said = item.note && item.running ? `note ${item.note}` : item.state;
    const before = this.#states.get(item);
    if (before === said) return;
    this.#states.set(item, said);
    if (before === undefined || item.elsewhere) return;
    if (said.startsWith("note ")) return this.say(t(item.note));
    if (!TOLD.has(item.state) || (count > FEW && item.state !== "failed")) return;
    if (before.startsWith("note ") && item.state === "uploading") return;
    const text = item.state === "failed" && item.problem ? problemText(item.problem) : stateText(item, words);
    this.say(t("said_state", { name: item.name, state: text }));
  }

  /** Note how far all are. */
  total(total) {
    const { count, done, bytes, sent, running, waiting, refused } = total;
    const going = running + waiting > 0;
    const share = bytes ? sent / bytes : 0;
    const quarter = QUARTERS.findLast((each) => share >= each) ?? 0;
    if (going && quarter > this.#quarter) this.say(t("said_percent", { percent: percent(quarter) }));
    this.#quarter = quarter;
    if (!going && !this.#finished && done && done === count && count + refused > 1) this.say(doneText(total));
    this.#finished = !going;
  }
}
