// The page's language: the first of the browser's languages that there are words for, else English.
//
// Another language is another module like words-de.js, and its name in `OTHERS`.

import { WORDS as ENGLISH } from "./words-en.js";

const OTHERS = ["de", "fr"];

/** The language of `wanted` (like navigator.languages) that the page has. */
export function choose(wanted) {
  const codes = wanted.map((tag) => tag.toLowerCase().split("-")[0]);
  return codes.find((code) => code === "en" || OTHERS.includes(code)) ?? "en";
}

export const LANG = choose(globalThis.navigator?.languages ?? []);

/** Nobody drops a file on a phone. */
export const TOUCH = globalThis.matchMedia?.("(pointer: coarse)").matches ?? false;

const WORDS = LANG === "en" ? ENGLISH : { ...ENGLISH, ...(await import(`./words-${LANG}.js`)).WORDS };
const RULES = new Intl.PluralRules(LANG);
const NUMBERS = new Intl.NumberFormat(LANG);

/** Whether there are words for this name. */
export const has = (name) => Object.hasOwn(WORDS, name);

/** The text of a name. `{count}` chooses between singular and plural where the words tell them apart. */
export function t(name, values = {}) {
  let text = WORDS[name];
  if (typeof text === "object") text = text[RULES.select(values.count)] ?? text.other;
  return text.replace(/\{(\w+)\}/g, (_, key) => {
    const value = values[key];
    return typeof value === "number" ? NUMBERS.format(value) : value;
  });
}

/** The same for a count that is known later: a function of it. */
export const later = (name, values = {}) => (count) => t(name, { ...values, count });

/** "JPEG, PNG or WebP" */
export const either = (names) => new Intl.ListFormat(LANG, { type: "disjunction" }).format(names);

/** "a.jpg, b.jpg and 3 more" */
export function few(names, most = 3) {
  if (names.length <= most + 1) return new Intl.ListFormat(LANG).format(names);
  const shown = names.slice(0, most);
  return new Intl.ListFormat(LANG).format([...shown, t("more", { count: names.length - most })]);
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
