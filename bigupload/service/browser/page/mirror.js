// Shows in this tab what other tabs of the same user upload. An upload has the same id in all tabs: that of its record.

import { Elsewhere, Tabs } from "./tabs.js";

export class Mirror {
  #list;
  #client;
  #changed;
  #shown = new Map(); // tab → Map: id → Elsewhere
  #hidden = new Map(); // id → this tab's own "remembered" upload, while another tab sends it
  #tabs;

  /** `who`: the user's identity. `changed()` is called after the list changed. */
  constructor(who, list, client, changed) {
    this.who = who;
    this.#list = list;
    this.#client = client;
    this.#changed = changed;
    this.#tabs = new Tabs(who, {
      items: () => client.uploads.filter((upload) => this.#isTold(upload)),
      told: (tab, rows, removed) => this.#told(tab, rows, removed),
      gone: (tab) => this.#gone(tab),
    });
  }

  /** An upload of this tab changed. */
  tell(upload) {
    if (this.#isTold(upload)) this.#tabs.changed(upload);
  }

  #isTold({ state, record }) {
    return state !== "remembered" && (!record?.who || record.who === this.who);
  }

  /** Another user's tabs are to be shown. */
  close() {
    this.#tabs.close();
    for (const shown of this.#shown.values()) this.#list.remove(...shown.values());
  }

  tellRemoved(item) {
    if (!item.isLink && !item.elsewhere) this.#tabs.removed(item);
  }

  /** The upload of another tab that has this file now, or undefined. */
  sending(file) {
    return this.#list.items.find((item) => item.elsewhere && item.state !== "done" && item.isOf(file));
  }

  #told(tab, rows, removed) {
    const shown = this.#shown.get(tab) ?? new Map();
    this.#shown.set(tab, shown);
    for (const told of rows) {
      const known = shown.get(told.id);
      if (told.state === "cancelled") removed.push(told.id);
      else if (known && this.#list.has(known)) {
        known.take(told);
        this.#list.changed(known);
      } else if (!known) this.#show(shown, told);
    }
    for (const id of removed) {
      this.#hidden.delete(id);
      this.#list.remove(shown.get(id));
      shown.delete(id);
    }
    this.#changed();
  }

  #show(shown, told) {
    const own = this.#client.uploads.find(({ id, state }) => id === told.id && state === "remembered");
    if (own) {
      this.#hidden.set(told.id, own);
      this.#list.remove(own);
    }
    const item = new Elsewhere(told);
    shown.set(told.id, item);
    this.#list.add(item);
  }

  /** What that tab did not finish can be continued here, once its file is chosen. */
  async #gone(tab) {
    const shown = this.#shown.get(tab) ?? new Map();
    this.#shown.delete(tab);
    const unfinished = [...shown.values()].filter(({ state }) => state !== "done");
    this.#list.remove(...unfinished);
    for (const { id } of unfinished) this.#hidden.delete(id);
    if (unfinished.length) for (const own of await this.#client.unfinished()) this.adopt(own);
    this.#changed();
  }

  /** Show an upload that earlier visits, or another tab, left. */
  adopt(upload) {
    const elsewhere = [...this.#shown.values()].some((shown) => shown.has(upload.id));
    if (elsewhere) this.#hidden.set(upload.id, upload);
    else if (!this.#list.has(upload)) this.#list.add(upload, upload.path);
  }
}
