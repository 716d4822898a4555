// Tabs of one user that know of each other: each tells the others what its uploads do, and shows theirs. An upload has the
// same id in all tabs: that of its record.
//
// A tab holds a lock for as long as it lives. The others ask for the same lock: who gets it knows that the tab is gone.

const EVERY = 500; // milliseconds between two messages
const AT = new URL("..", import.meta.url).pathname; // several services may be mounted at one origin

/** An upload of another tab: an item of the list, which nothing can be done to here. */
class Elsewhere {
  elsewhere = true;
  note = null;
  problem = null;
  file = null;

  constructor(tab, told) {
    this.take(tab, told);
  }

  take(tab, { id, name, size, lastModified, state, running, sent, stored, url }) {
    Object.assign(this, { tab, id, name, size, lastModified, state, running });
    this.progress = { sent, stored, inFlight: sent - stored, rate: null, left: null, waiting: false, found: 0, parts: null };
    this.result = url ? { publicUrl: url } : null;
  }

  isOf(file) {
    return file.name === this.name && file.size === this.size && file.lastModified === this.lastModified;
  }
}

const tell = ({ id, name, size, lastModified, state, running, progress: { sent, stored }, result }) => ({
  id, name, size, lastModified, state, running, sent, stored, url: result?.publicUrl ?? null,
});

export class Mirror {
  #list;
  #client;
  #changed;
  #tab = crypto.randomUUID();
  #name;
  #channel;
  #closed = new AbortController();
  #news = new Map(); // id → this tab's upload; null: it was removed
  #timer = null;
  #others = new Set(); // tabs
  #shown = new Map(); // id → Elsewhere

  /** `who`: the user's identity. `changed()` is called after the list changed. */
  constructor(who, list, client, changed) {
    this.who = who;
    this.#list = list;
    this.#client = client;
    this.#changed = changed;
    this.#name = `bigupload ${AT} ${who}`;
    this.#channel = new BroadcastChannel(this.#name);
    // Held until the tab ends or has another user. Others wait for it.
    const held = () => new Promise((resolve) => this.#closed.signal.addEventListener("abort", resolve));
    navigator.locks.request(`${this.#name} ${this.#tab}`, held);
    this.#channel.onmessage = ({ data }) => this.#heard(data);
    this.#channel.postMessage({ tab: this.#tab, hello: true });
  }

  /** Another user's tabs are to be shown. */
  close() {
    clearTimeout(this.#timer);
    this.#timer = 0; // nothing is sent any more
    this.#channel.close();
    this.#closed.abort();
    this.#list.remove(...this.#shown.values());
  }

  /** An upload of this tab changed. */
  tell(upload) {
    if (this.#isTold(upload)) this.#soon(upload.id, upload);
  }

  tellRemoved(item) {
    if (!item.isLink && !item.elsewhere) this.#soon(item.id, null);
  }

  #isTold({ state, record }) {
    return state !== "remembered" && (!record?.who || record.who === this.who);
  }

  #soon(id, upload) {
    this.#news.set(id, upload);
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#say([...this.#news].map(([id, upload]) => (upload ? tell(upload) : { id, state: "cancelled" })));
      this.#news.clear();
    }, EVERY);
  }

  #say(rows) {
    this.#channel.postMessage({ tab: this.#tab, rows });
  }

  /** The upload of another tab that has this file now, or undefined. */
  sending(file) {
    return this.#list.items.find((item) => item.elsewhere && item.state !== "done" && item.isOf(file));
  }

  #heard({ tab, hello, rows = [] }) {
    if (!this.#others.has(tab)) {
      this.#others.add(tab);
      navigator.locks.request(`${this.#name} ${tab}`, { signal: this.#closed.signal }, () => this.#gone(tab)).catch(() => {});
    }
    if (hello) return this.#say(this.#client.uploads.filter((upload) => this.#isTold(upload)).map(tell));
    for (const told of rows) this.#take(tab, told);
    this.#changed();
  }

  #take(tab, told) {
    const { id, state } = told;
    const known = this.#shown.get(id);
    if (state === "cancelled") {
      if (known?.tab !== tab) return;
      this.#list.remove(known);
      this.#shown.delete(id);
    } else if (known) {
      known.take(tab, told);
      this.#list.changed(known);
    } else {
      this.#list.remove(this.#client.uploads.find((own) => own.id === id && own.state === "remembered"));
      this.#shown.set(id, new Elsewhere(tab, told));
      this.#list.add(this.#shown.get(id));
    }
  }

  /** What that tab did not finish can be continued here, once its file is chosen. */
  async #gone(tab) {
    this.#others.delete(tab);
    const unfinished = [...this.#shown.values()].filter((item) => item.tab === tab && item.state !== "done");
    this.#list.remove(...unfinished);
    for (const { id } of unfinished) this.#shown.delete(id);
    if (unfinished.length) for (const own of await this.#client.unfinished()) this.adopt(own);
    this.#changed();
  }

  /** Show an upload that earlier visits, or another tab, left. */
  adopt(upload) {
    if (!this.#shown.has(upload.id) && !this.#list.has(upload)) this.#list.add(upload, upload.path);
  }
}
