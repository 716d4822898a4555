// The key: typed in, checked at once, kept in this tab. A key that is in use folds the form away and shows the owner.

import { POLICY } from "./policy.js";
import { afterPress } from "./press.js";
import { asked } from "./service.js";
import { problemText, t } from "./words.js";

const KEY = "bigupload key"; // in sessionStorage, which ends with the tab
const TYPED = 500; // milliseconds after the last keystroke

const $ = (id) => document.getElementById(id);

export class Account {
  key = sessionStorage.getItem(KEY) ?? "";
  limits = null; // of an upload token: {maxSize, contentTypes}
  #on;
  #input = $("key");
  #timer = null;
  #checking = 0;
  #owner = null;

  /** `on` has: key(text), which is to be used from now on, and valid(), after the service said so. */
  constructor(on) {
    this.#on = on;
    this.#input.value = this.key;
    this.#input.addEventListener("input", () => {
      this.#owner = null;
      this.#error("");
      this.#say("hint", t("key_hint"));
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#check(), TYPED);
    });
    this.#input.addEventListener("change", () => this.#check());
    $("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#check().then(() => this.#owner && this.#fold(true));
    });
    // A press on a button below is what takes the focus, and it must not move away.
    $("key-form").addEventListener("focusout", () => setTimeout(() => afterPress().then(() => this.#fold())));
    $("key-change").addEventListener("click", () => this.ask());
    $("key-show").addEventListener("click", ({ currentTarget }) => {
      const shown = this.#input.type === "password";
      this.#input.type = shown ? "text" : "password";
      currentTarget.textContent = t(shown ? "key_hide" : "key_show");
      currentTarget.setAttribute("aria-pressed", String(shown));
    });
    if (this.key) this.#check().then(() => this.#fold());
    else if (POLICY.ownUsers) this.#signedIn();
  }

  /** Whether there is someone for whom to upload. */
  get known() {
    return Boolean(this.key || this.#owner);
  }

  /** An application that knows its user needs no key. */
  async #signedIn() {
    try {
      this.#owner = (await asked("").me()).owner;
    } catch {
      return; // then a key may help
    }
    $("key-change").hidden = true;
    this.#fold();
    this.#on.valid();
  }

  /** Use what is in the field, checked or not: files were chosen. */
  use() {
    const typed = this.#input.value.trim();
    if (typed === this.key) return;
    this.key = typed;
    sessionStorage.setItem(KEY, typed);
    this.#on.key(typed);
  }

  /** Show the form and go there. */
  ask() {
    this.#unfold();
    this.#input.focus();
    this.#input.select();
  }

  /** The service refused the key of an upload, or there is none. */
  refused(problem) {
    this.#owner = null;
    this.#unfold();
    this.#error(problemText(problem));
  }

  #unfold() {
    $("account").hidden = true;
    $("key-form").hidden = false;
  }

  async #check() {
    clearTimeout(this.#timer);
    const typed = this.#input.value.trim();
    if (!typed) return;
    const mine = ++this.#checking;
    this.#say("hint", t("key_checking"));
    const { problem, ...told } = await asked(typed).me().catch((error) => ({ problem: error }));
    await afterPress();
    if (mine !== this.#checking) return;
    const isRefused = problem?.kind === "key";
    this.#error(isRefused ? problemText(problem) : "");
    this.#say("hint", problem ? t(isRefused ? "key_hint" : "key_later") : t("key_good", { owner: told.owner }));
    if (isRefused) return;
    this.use();
    if (problem) return;
    this.#owner = told.owner;
    this.limits = told.maxSize || told.contentTypes ? told : null;
    this.#on.valid();
  }

  /** Fold the form away if its key is good and nobody is at it. */
  #fold(whoeverIsThere = false) {
    if (!this.#owner || (!whoeverIsThere && $("key-form").contains(document.activeElement))) return;
    $("owner").textContent = t("account", { owner: this.#owner });
    $("account").hidden = false;
    const focused = $("key-form").contains(document.activeElement);
    $("key-form").hidden = true;
    if (focused) $("files").focus();
  }

  #error(text) {
    this.#say("error", text);
    $("key-error").hidden = !text;
    this.#input.setAttribute("aria-invalid", String(Boolean(text)));
  }

  #say(where, text) {
    const element = $(`key-${where}`);
    if (element.textContent !== text) element.textContent = text;
  }
}
