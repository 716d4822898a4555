// The page's language: the first of the browser's languages that there are words for, else English.
//
// Here are the page's own words; those of uploads are the client's, as <big-upload> has them.

import { Words, choose, wordsOf } from "../client/words.js";
import { WORDS as ENGLISH } from "./words-en.js";

const LANG = choose(globalThis.navigator?.languages ?? []);
const OWN = LANG === "en" ? ENGLISH : (await import(`./words-${LANG}.js`)).WORDS;

/** Nobody drops a file on a phone. */
export const TOUCH = globalThis.matchMedia?.("(pointer: coarse)").matches ?? false;

export const words = new Words({ ...wordsOf(LANG), ...ENGLISH, ...OWN }, LANG);
export const { t, few, either, size, sizeOf, duration, percent } = words;
export const problemText = words.problem;
export const rate = (bytesPerSecond) => size(bytesPerSecond, "-per-second");

/** The text for a count that is known later: a function of it. */
export const later = (name, values = {}) => (count) => t(name, { ...values, count });

/** Put the words of this language into the page: of elements with `data-t`, and of attributes as in `data-t-title`. */
export function translate() {
  document.documentElement.lang = LANG;
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const name of ["aria-label", "title"]) {
    for (const element of document.querySelectorAll(`[data-t-${name}]`)) {
      element.setAttribute(name, t(element.getAttribute(`data-t-${name}`)));
    }
  }
  document.title = t("title");
}
