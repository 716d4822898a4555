// Tabs that know of each other: each tells the others what its uploads do, and shows theirs.
//
// A tab holds a lock for as long as it lives. The others ask for the same lock: who gets it knows that the tab is gone.

const EVERY = 500; // milliseconds between two messages
const AT = new URL("..", import.meta.url).pathname; // several services may be mounted at one origin

/** An upload of another tab: an item of the list, which nothing can be done to here. */
export class Elsewhere {
  elsewhere = true;
  note = null;
  problem = null;
  file = null;

  constructor(told) {
    this.take(told);
  }

  get running() {
    return this.state === "uploading";
  }

  take({ id, name, size, lastModified, state, sent, stored = sent, url }) {
    Object.assign(this, { id, name, size, lastModified, state });
    this.progress = { sent, stored, inFlight: sent - stored, rate: null, left: null, waiting: false, found: 0, parts: null };
    this.result = url ? { publicUrl: url } : null;
  }

  isOf(file) {
    return file.name === this.name && file.size === this.size && file.lastModified === this.lastModified;
  }
}

const tell = ({ id, name, size, lastModified, state, progress, result }) => ({
  id, name, size, lastModified, state, sent: progress.sent, stored: progress.stored, url: result?.publicUrl ?? null,
});

export class Tabs {
  #id = crypto.randomUUID();
  #name;
  #channel;
  #closed = new AbortController();
  #changed = new Set();
  #removed = new Set();
  #timer = null;
  #others = new Set(); // ids of tabs
  #on;

  /** `who`: the user, whose tabs alone know of each other. `on` has: items() of this tab, told(tab, rows, removed) and gone(tab). */
  constructor(who, on) {
    this.#on = on;
    this.#name = `bigupload ${AT} ${who}`;
    this.#channel = new BroadcastChannel(this.#name);
    // Held until the tab ends or has another user. Others wait for it.
    const { signal } = this.#closed;
    const held = () => new Promise((resolve) => signal.addEventListener("abort", resolve));
    navigator.locks.request(`${this.#name} ${this.#id}`, held);
    this.#channel.onmessage = ({ data }) => this.#heard(data);
    this.#channel.postMessage({ tab: this.#id, hello: true });
  }

  close() {
    clearTimeout(this.#timer);
    this.#timer = 0; // nothing is sent any more
    this.#channel.close();
    this.#closed.abort();
  }

  changed(item) {
    this.#changed.add(item);
    this.#timer ??= setTimeout(() => this.#send(), EVERY);
  }

  removed(item) {
    this.#changed.delete(item);
    this.#removed.add(item.id);
    this.#timer ??= setTimeout(() => this.#send(), EVERY);
  }

  #send() {
    this.#timer = null;
    const message = { tab: this.#id, rows: [...this.#changed].map(tell), removed: [...this.#removed] };
    this.#changed.clear();
    this.#removed.clear();
    this.#channel.postMessage(message);
  }

  #heard({ tab, hello, rows = [], removed = [] }) {
    if (!this.#others.has(tab)) {
      this.#others.add(tab);
      const gone = () => {
        this.#others.delete(tab);
        this.#on.gone(tab);
      };
      navigator.locks.request(`${this.#name} ${tab}`, { signal: this.#closed.signal }, gone).catch(() => {});
    }
    if (hello) this.#channel.postMessage({ tab: this.#id, rows: this.#on.items().map(tell) });
    else this.#on.told(tab, rows, removed);
  }
}
