// The list of rows: what moves on top, and only rows that changed are drawn. Thousands of rows stay fluid: those out of
// sight are skipped by the browser (`content-visibility`), and thumbnails are made of those in sight alone.

import { Row } from "./row.js";

export class List {
  #element;
  #act;
  #thumbs;
  #rows = new Map(); // item → row, in order of arrival
  #changed = new Set(); // items
  #ordered = []; // rows, as they stand

  constructor(element, thumbs, act) {
    this.#element = element;
    this.#thumbs = thumbs;
    this.#act = act;
  }

  get items() {
    return [...this.#rows.keys()];
  }

  has(item) {
    return this.#rows.has(item);
  }

  row(item) {
    return this.#rows.get(item);
  }

  add(item, path = null) {
    this.#rows.set(item, new Row(item, this.#act, path));
    this.#changed.add(item);
  }

  changed(item) {
    if (this.#rows.has(item)) this.#changed.add(item);
  }

  /** Take rows away. Returns what to focus if the focus was in one of them, else null. */
  remove(...items) {
    const gone = new Set(items.map((item) => this.#rows.get(item)).filter(Boolean));
    const at = this.#ordered.findIndex((row) => gone.has(row) && row.element.contains(document.activeElement));
    const stays = (row) => !gone.has(row);
    const next = at < 0 ? null : (this.#ordered.slice(at).find(stays) ?? this.#ordered.slice(0, at).findLast(stays));
    for (const row of gone) {
      this.#thumbs.forget(row);
      row.element.remove();
      this.#rows.delete(row.item);
      this.#changed.delete(row.item);
    }
    this.#ordered = this.#ordered.filter(stays);
    return next?.focusTarget ?? null;
  }

  /** Draw what changed since. */
  render() {
    const moving = new Set();
    for (const item of this.#changed) {
      const row = this.#rows.get(item);
      const before = row.group;
      row.render();
      if (row.group !== before) moving.add(row);
      if (before === null) this.#thumbs.watch(row);
    }
    this.#changed.clear();
    if (moving.size) this.#order(moving);
  }

  #order(moving) {
    const groups = [[], [], [], [], []];
    for (const row of this.#rows.values()) groups[row.group].push(row);
    this.#ordered = groups.flat();
    const focused = document.activeElement;
    const staying = this.#ordered.filter((row) => !moving.has(row));
    let next = 0; // of `staying`: those stand in order already, so that only the others are moved
    for (const row of this.#ordered) {
      if (row === staying[next]) next += 1;
      else this.#element.insertBefore(row.element, staying[next]?.element ?? null);
    }
    // Moving an element takes its focus away.
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  }
}
