// The page's language: the first of the browser's languages that there are words for, else English.
//
// Here are the page's own words; those of uploads are the client's, as <big-upload> has them.

import * as words from "../client/words.js";
import { WORDS as ENGLISH } from "./words-en.js";

export const LANG = words.choose(globalThis.navigator?.languages ?? []);

/** Nobody drops a file on a phone. */
export const TOUCH = globalThis.matchMedia?.("(pointer: coarse)").matches ?? false;

const OWN = LANG === "en" ? ENGLISH : (await import(`./words-${LANG}.js`)).WORDS;
const WORDS = { ...words.wordsOf(LANG), ...ENGLISH, ...OWN };
const RULES = new Intl.PluralRules(LANG);
const NUMBERS = new Intl.NumberFormat(LANG);

/** Whether there are words for this name. */
export const has = (name) => Object.hasOwn(WORDS, name);

/** The text of a name. `{count}` chooses between singular and plural where the words tell them apart. */
export function t(name, values = {}) {
  const found = WORDS[name];
  const text = typeof found === "object" ? (found[RULES.select(values.count)] ?? found.other) : found;
  const shown = (value) => (typeof value === "number" ? NUMBERS.format(value) : value);
  return words.fill(text, Object.fromEntries(Object.entries(values).map(([key, value]) => [key, shown(value)])));
}

/** The same for a count that is known later: a function of it. */
export const later = (name, values = {}) => (count) => t(name, { ...values, count });

/** "JPEG, PNG or WebP" */
export const either = (names) => new Intl.ListFormat(LANG, { type: "disjunction" }).format(names);

export const few = (names) => words.few(names, WORDS, LANG);
export const problemText = (problem) => words.problemText(problem, WORDS);
export const size = (bytes) => words.size(bytes, LANG);
export const rate = (bytesPerSecond) => words.size(bytesPerSecond, LANG, "-per-second");
export const duration = (seconds) => words.duration(seconds, LANG);
export const percent = (fraction) => words.percent(fraction, LANG);

/** "150 of 320 MB": the unit only once if both have the same. */
export function sizeOf(part, whole) {
  const [a, b] = [size(part), size(whole)];
  const unit = b.slice(b.indexOf("\u00a0"));
  return t("part_of", { part: part && !a.endsWith(unit) ? a : a.split("\u00a0")[0], whole: b });
}

/** Put the words of this language into the page: of elements with `data-t`, and of attributes as in `data-t-title`. */
export function translate(root = document) {
  document.documentElement.lang = LANG;
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const name of ["aria-label", "placeholder", "title"]) {
    for (const element of root.querySelectorAll(`[data-t-${name}]`)) {
      element.setAttribute(name, t(element.getAttribute(`data-t-${name}`)));
    }
  }
  if (root === document) document.title = t("title");
}
