// The uploads of one service, and the queue that all of a page share.

import { Api } from "./api.js";
import { Holds, listen } from "./lock.js";
import { Memory } from "./memory.js";
import { Problem } from "./problem.js";
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

const isRemembered = ({ state }) => state === "remembered";

/** What keeps no records: the option `storage: false`. */
const NOTHING = {
  keeps: false,
  records: async () => [],
  parts: async () => new Map(),
  save: async () => {},
  savePart: async () => {},
  forget: async () => {},
};

const NO_FILE = "There is no file to upload: pass a File, or a Blob with the option `name`.";
const NO_NAME = "The file has no name: pass one as the option `name`, such as \"photo.jpg\".";

/** What is given, as a File of this name. Its class says nothing: each frame of a page has its own. */
function asFile(given, name) {
  const kind = Object.prototype.toString.call(given);
  if (kind !== "[object File]" && kind !== "[object Blob]") throw new Problem("file", NO_FILE);
  const wanted = name ?? given.name;
  if (!wanted) throw new Problem("file", NO_NAME);
  if (kind === "[object File]" && given.name === wanted) return given;
  return new File([given], wanted, { type: given.type, lastModified: given.lastModified ?? 0 });
}

export class Client {
  #api;
  #memory;
  #shared;
  #uploads = new Map(); // in order of arrival: Upload → nothing
  #holds = new Holds();
  #chosen = []; // uploads that are not stored yet
  #onUnfinished;
  #watched = new Set(); // ids of unfinished uploads that another tab has

  constructor({
    endpoint, token, headers, credentials, storage = true, onChange = null, onUnfinished = null, shared = OF_THE_PAGE,
  }) {
    this.#api = new Api({ endpoint, token, headers, credentials });
    this.#memory = storage === true ? new Memory(this.#api.endpoint) : storage || NOTHING;
    this.#shared = {
      ...shared,
      api: this.#api,
      memory: this.#memory,
      holds: this.#holds,
      claimed: (id) => this.uploads.some((each) => each.id === id),
      onChange,
    };
    this.#onUnfinished = onUnfinished;
    if (onUnfinished) listen((id) => this.uploads.some((each) => isRemembered(each) && each.id === id) && onUnfinished());
  }

  get endpoint() { return this.#api.endpoint; }

  get token() { return this.#api.authorization.token; }

  /** Uploads that waited for another token go on. */
  set token(token) {
    this.#api.authorization.token = token;
    for (const upload of this.uploads) {
      if (upload.state === "unauthorized") upload.resume();
      if (!upload.record && upload.file) this.#memorize(upload); // nobody knew whose it was
    }
  }

  get uploads() { return [...this.#uploads.keys()]; }

  /** Whether unfinished uploads are remembered over a reload. */
  get remembers() { return Promise.resolve(this.#memory.works ?? this.#memory.keeps !== false); }

  /**
   * Upload a file, or a Blob with the option `name`, when its turn comes. An unfinished upload of the same name, size and
   * date is resumed. Throws a Problem of the kind "file" for anything else.
   */
  upload(given, options = {}) {
    const file = asFile(given, options.name);
    const known = this.uploads.find((each) => each.state === "remembered" && each.isOf(file));
    if (known && options.resume !== false) return known.listen(options).take(file, options.fileHandle);
    const upload = this.#add(new Upload(this.#shared, { ...options, file }));
    this.#shared.queue.add(upload);
    this.#memorize(upload);
    return upload;
  }

  /** Store what waits, so that a reload can ask for its files: all that are chosen together at once. */
  #memorize(upload) {
    if (this.#memory.keeps === false || this.#chosen.push(upload) > 1) return;
    setTimeout(async () => {
      const who = await this.who();
      const chosen = this.#chosen.splice(0);
      const memos = who === null ? [] : chosen.map((each) => each.memo(who)).filter(Boolean);
      const saved = this.#memory.saveAll?.(memos) ?? Promise.all(memos.map((memo) => this.#memory.save(memo)));
      await saved.catch(() => {}); // they can be sent without
    });
  }

  /**
   * What earlier visits of the token's user left unfinished, and no other tab has. Each needs its file again:
   * `resume(file)`. There is nothing while nobody knows whose token it is.
   */
  async unfinished() {
    const records = await this.#memory.records();
    const who = records.length ? await this.who() : null;
    if (records.length && who === null) return this.uploads.filter(isRemembered);
    const own = records.filter((each) => each.who === who);
    const begun = own.filter(({ handle }) => handle);
    const parts = new Map(await Promise.all(begun.map(async ({ id }) => [id, await this.#memory.parts(id)])));
    const others = await this.#holds.others(own.map(({ id }) => id));
    const free = new Map(own.filter(({ id }) => !others.has(id)).map((record) => [record.id, record]));
    for (const upload of this.uploads.filter(isRemembered)) if (!free.has(upload.id)) this.#uploads.delete(upload);
    for (const [id, record] of free) {
      if (!this.#shared.claimed(id)) this.#add(new Upload(this.#shared, { record, parts: parts.get(id) }));
    }
    for (const id of others) this.#watch(id);
    return this.uploads.filter(isRemembered);
  }

  /** When the other tab has ended, the upload can be continued here. */
  async #watch(id) {
    if (!this.#onUnfinished || this.#watched.has(id)) return;
    this.#watched.add(id);
    await this.#holds.free(id);
    this.#watched.delete(id);
    this.#onUnfinished();
  }

  /** Whose token it is, as a digest; null: nobody can say now. */
  async who() {
    try {
      return await this.#api.who();
    } catch {
      return null;
    }
  }

  /** Leave an upload out of `uploads`. One that runs or waits is paused first. */
  forget(upload) {
    if (upload.running || upload.state === "waiting") upload.pause();
    this.#uploads.delete(upload);
    this.#holds.release(upload.id);
  }

  /** Pause all that run or wait. Another tab may continue them. */
  close() {
    for (const upload of this.uploads) {
      upload.pause();
      this.#holds.release(upload.id);
    }
  }

  #add(upload) {
    this.#uploads.set(upload, null);
    this.#shared.onChange?.(upload);
    return upload;
  }
}

const ofTexts = [];
const ofFunctions = new WeakMap(); // a function that is made for one call ends with it, and so does its client

function clientsOf(...given) {
  const key = given.find((each) => typeof each === "function" || (typeof each === "object" && each !== null));
  if (!key) return ofTexts;
  if (!ofFunctions.has(key)) ofFunctions.set(key, []);
  return ofFunctions.get(key);
}

/** Upload a file, or a Blob with the option `name`. Calls with the same endpoint, token and storage share a client, and so a token. */
export function upload(file, { endpoint, token, headers, credentials, storage, ...options }) {
  const wanted = { endpoint: String(endpoint), token, headers, credentials, storage };
  const same = ({ of }) => Object.keys(wanted).every((name) => of[name] === wanted[name]);
  const clients = clientsOf(token, headers, storage);
  let known = clients.find(same);
  if (!known) clients.push((known = { of: wanted, client: new Client(wanted) }));
  const made = known.client.upload(file, options);
  made.finished.finally(() => known.client.forget(made)).catch(() => {}); // the app has it, if it wants it
  return made;
}
