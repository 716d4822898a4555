// The uploads of one service, and the queue that all of a page share.

import { Api } from "./api.js";
import { Memory } from "./memory.js";
import { Traffic } from "./traffic.js";
import { Upload } from "./upload.js";

const SMALL = 8 * 1024 * 1024; // bytes; what several round trips cost more than its transfer
const SMALL_AT_ONCE = 5;
const LARGE_AT_ONCE = 1; // two would both end later

/** Runs uploads in order of arrival: one large file at a time, and small files beside it. */
export class Queue {
  #small = { waiting: [], running: 0, most: SMALL_AT_ONCE };
  #large = { waiting: [], running: 0, most: LARGE_AT_ONCE };

  add(upload) {
    const line = upload.size <= SMALL ? this.#small : this.#large;
    line.waiting.push(upload);
    queueMicrotask(() => this.#pump(line)); // the caller has its upload before its first callback
  }

  #pump(line) {
    while (line.running < line.most && line.waiting.length) {
      const upload = line.waiting.shift();
      if (upload.state !== "waiting") continue; // paused or cancelled meanwhile
      line.running += 1;
      upload.run().finally(() => {
        line.running -= 1;
        this.#pump(line);
      });
    }
  }
}

const OF_THE_PAGE = { queue: new Queue(), traffic: new Traffic() };

/** A memory that is opened when it is first needed, of the browser or of the app. */
class LazyMemory {
  #opened = null;

  constructor(storage, endpoint) {
    this.open = () => (this.#opened ??= open(storage, endpoint));
  }

  async records() { return (await this.open()).records(); }
  async parts(id) { return (await this.open()).parts(id); }
  async save(record) { return (await this.open()).save(record); }
  async savePart(id, number, part) { return (await this.open()).savePart(id, number, part); }
  async forget(id) { return (await this.open()).forget(id); }
}

async function open(storage, endpoint) {
  if (storage === true) return Memory.open(endpoint);
  return storage === false ? new Memory(null) : storage;
}

export class Client {
  #api;
  #memory;
  #shared;
  #uploads = new Map(); // in order of arrival: Upload → nothing

  constructor({ endpoint, token, headers, credentials, storage = true, onChange = null, shared = OF_THE_PAGE }) {
    this.#api = new Api({ endpoint, token, headers, credentials });
    this.#memory = new LazyMemory(storage, this.#api.endpoint);
    this.#shared = {
      ...shared,
      api: this.#api,
      memory: this.#memory,
      claimed: (id) => this.uploads.some(({ record }) => record?.id === id),
      onChange,
    };
  }

  get endpoint() { return this.#api.endpoint; }

  get token() { return this.#api.authorization.token; }

  /** Uploads that waited for another token go on. */
  set token(token) {
    this.#api.authorization.token = token;
    for (const upload of this.uploads) if (upload.state === "unauthorized") upload.resume();
  }

  get uploads() { return [...this.#uploads.keys()]; }

  /** Whether unfinished uploads are remembered over a reload. */
  get remembers() { return this.#memory.open().then(({ works = true }) => works); }

  /** Upload `file`, when its turn comes. An unfinished upload of the same name, size and date is resumed. */
  upload(file, options = {}) {
    const known = this.uploads.find((each) => each.state === "remembered" && each.isOf(file));
    if (known && options.resume !== false) return known.listen(options).resume(file, options.fileHandle);
    const upload = this.#add(new Upload(this.#shared, { ...options, file }));
    this.#shared.queue.add(upload);
    return upload;
  }

  /** What earlier visits left unfinished. Each needs its file again: `resume(file)`. */
  async unfinished() {
    for (const record of await this.#memory.records()) {
      const parts = await this.#memory.parts(record.id);
      if (!this.#shared.claimed(record.id)) this.#add(new Upload(this.#shared, { record, parts }));
    }
    return this.uploads.filter(({ state }) => state === "remembered");
  }

  /** Leave an upload out of `uploads`. One that runs or waits is paused first. */
  forget(upload) {
    if (upload.running || upload.state === "waiting") upload.pause();
    this.#uploads.delete(upload);
  }

  /** Pause all that run or wait. */
  close() {
    for (const upload of this.uploads) upload.pause();
  }

  #add(upload) {
    this.#uploads.set(upload, null);
    this.#shared.onChange?.(upload);
    return upload;
  }
}

const clients = [];

/** Upload a file. Calls with the same endpoint, token and storage share a client. */
export function upload(file, { endpoint, token, headers, credentials, storage, ...options }) {
  const wanted = { endpoint: String(endpoint), token, headers, credentials, storage };
  const same = ({ of }) => Object.keys(wanted).every((name) => of[name] === wanted[name]);
  let known = clients.find(same);
  if (!known) clients.push((known = { of: wanted, client: new Client(wanted) }));
  const made = known.client.upload(file, options);
  made.finished.finally(() => known.client.forget(made)).catch(() => {}); // the app has it, if it wants it
  return made;
}
