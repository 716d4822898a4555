// Shows one item in a row. Reads the item and writes the DOM; decides nothing.

import { fraction, statusParts } from "../client/describe.js";
import { actions, group, remark } from "./describe.js";
import { shortUrl } from "./links.js";
import { label } from "./media.js";
import { middle } from "../client/middle.js";
import { problemText, t, words } from "./words.js";

const ICONS = new Set(["pause", "continue", "cancel", "remove"]); // buttons that show an icon and no text
const PRIMARY = new Set(["choose", "again"]);
const COPIED_FOR = 2_500; // milliseconds

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export class Row {
  #parts = {};
  #buttons = new Map(); // name → element; only those that are offered exist
  #act;

  /** `act(name, row)` is called for a button; `path` is where the file is in a folder that was dropped. */
  constructor(item, act, path) {
    this.item = item;
    this.aside = null; // a message of the page itself
    this.group = null;
    this.#act = act;
    this.element = document.getElementById("row").content.firstElementChild.cloneNode(true);
    const find = (selector) => this.element.querySelector(selector);
    for (const name of ["thumb", "name", "status", "figures", "remark", "buttons"]) this.#parts[name] = find(`.${name}`);
    this.#parts.name.append(middle(item.name));
    this.#parts.name.title = path ?? item.name;
    const folder = path?.includes("/") ? path.slice(0, path.lastIndexOf("/")) : "";
    if (folder) this.#parts.name.after(Object.assign(document.createElement("p"), { className: "folder", textContent: folder }));
    if (item.isLink) this.#parts.thumb.append(icon("link"));
    else this.#parts.thumb.dataset.label = label(item.name);
    this.thumb = this.#parts.thumb;
  }

  get focusTarget() {
    return this.#parts.name;
  }

  render() {
    const { item } = this;
    this.group = group(item);
    this.element.dataset.state = item.state;
    this.element.dataset.stored = item.progress.stored ?? 0; // bytes: for a service's own style, and for tests
    this.element.toggleAttribute("data-bad", item.state === "failed" || item.state === "unauthorized");
    const parts = statusParts(item, words);
    set(this.#parts.status.firstElementChild, parts[0]);
    set(this.#parts.figures, parts.slice(1).join(" · "));
    this.#remark(remark(item, this.aside));
    this.#progress(fraction(item));
    this.#link();
    this.#offer(actions(item));
  }

  /** Whether its problem is said for several above the list. */
  saidAbove(problems) {
    const { state, problem } = this.item;
    this.element.toggleAttribute("data-said", state === "failed" && Boolean(problem) && problems.has(problemText(problem)));
  }

  #remark(said) {
    const element = this.#parts.remark;
    set(element, said?.text ?? "");
    element.hidden = !said;
    element.classList.toggle("bad", Boolean(said?.bad));
  }

  #progress(value) {
    if (value === null) {
      this.#parts.progress?.remove();
      this.#parts.progress = null;
      return;
    }
    if (!this.#parts.progress) {
      const bar = (this.#parts.progress = document.createElement("progress"));
      bar.setAttribute("aria-label", t("progress_of", { name: this.item.name }));
      this.element.append(bar);
    }
    this.#parts.progress.value = value;
  }

  #link() {
    const url = this.item.result?.publicUrl;
    if (!url || this.#parts.link) return;
    const link = (this.#parts.link = document.createElement("a"));
    link.className = "link";
    Object.assign(link, { href: url, title: url, target: "_blank", rel: "noopener noreferrer" });
    link.textContent = shortUrl(url);
    this.#parts.status.append(link);
  }

  #offer(offered) {
    const focused = [...this.#buttons.values()].includes(document.activeElement);
    for (const [name, button] of this.#buttons) {
      if (offered.includes(name)) continue;
      this.#buttons.delete(name);
      button.remove();
    }
    for (const name of offered) {
      if (!this.#buttons.has(name)) this.#buttons.set(name, this.#button(name));
      this.#parts.buttons.append(...(this.#inOrder(name, offered) ? [] : [this.#buttons.get(name)]));
    }
    // After Pause is pressed with the keyboard, focus Continue and not the top of the page.
    if (focused && !this.element.contains(document.activeElement)) {
      (this.#buttons.get(offered[0]) ?? this.#parts.name).focus({ preventScroll: true });
    }
  }

  #inOrder(name, offered) {
    return this.#parts.buttons.children[offered.indexOf(name)] === this.#buttons.get(name);
  }

  #button(name) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = [name, ICONS.has(name) ? "icon" : "", PRIMARY.has(name) ? "primary" : ""].join(" ").trim();
    const text = t(name);
    // With a screen reader, equal button names could not be told apart.
    button.setAttribute("aria-label", t("of", { action: text, name: this.item.name }));
    if (ICONS.has(name)) {
      button.title = text;
      button.append(icon(name === "remove" ? "cancel" : name));
    } else if (name === "copy") {
      button.append(icon("copy"), Object.assign(document.createElement("span"), { textContent: text }));
    } else {
      button.textContent = text;
    }
    button.addEventListener("click", () => this.#act(name, this));
    return button;
  }

  /** Copy the link. Resolves to whether the browser allowed it; else the link is selected. */
  async copy() {
    const button = this.#buttons.get("copy");
    try {
      await navigator.clipboard.writeText(this.item.result.publicUrl);
    } catch {
      getSelection().selectAllChildren(this.#parts.link);
      return false;
    }
    this.#copied(button, true);
    setTimeout(() => this.#copied(button, false), COPIED_FOR);
    return true;
  }

  #copied(button, done) {
    button.firstElementChild.replaceWith(icon(done ? "done" : "copy"));
    button.lastElementChild.textContent = t(done ? "copied" : "copy");
  }
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}
