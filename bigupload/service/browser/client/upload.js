// One upload, from a file to its public URL: create or resume, send the missing parts, complete. Knows no DOM.
//
//   waiting ─▶ starting ─▶ (comparing) ─▶ hashing ─▶ uploading ─▶ finishing ─▶ done
//      ▲            any of these ─▶ paused | unauthorized | failed ─▶ waiting     (to resume asks the service first)
//   remembered ─────────────────────────────────▶ cancelled
//
// "failed" keeps the parts in the store, unless the problem's kind is "gone" or "refused".

import { Attempt } from "./attempt.js";
import { otherTab } from "./lock.js";
import { Meter } from "./meter.js";
import { Plan } from "./parts.js";
import { Problem } from "./problem.js";
import { Retrier } from "./retry.js";

const RUNNING = new Set(["starting", "comparing", "hashing", "uploading", "finishing"]);
const STARTED_ANEW = new Set(["upload_gone", "upload_expired", "invalid_upload", "not_your_upload"]);
const PROGRESS_EVERY = 100; // milliseconds

export class Upload {
  #shared; // {api, memory, holds, queue, traffic, claimed(id), onChange(upload)}
  #options = {};
  #state = "waiting";
  #attempt = null;
  #control = null;
  #ended = Promise.resolve();
  #finished = null; // {promise, resolve, reject}
  #takenUp = false; // from the browser's memory, not yet compared
  #isNoted = false; // in the browser's memory, before the service has created it
  #chosenAt = Date.now();
  #rehash = false; // compare each part in the store with the file
  #meter = new Meter();
  #retriers = { service: new Retrier(), store: new Retrier() };
  #told = -Infinity; // when onProgress was called last

  /** Of a file, or of a stored record and its parts: by `Client`. */
  constructor(shared, { file = null, record = null, parts = new Map(), ...options }) {
    this.#shared = shared;
    this.file = file;
    this.fileHandle = options.fileHandle ?? record?.fileHandle ?? null;
    this.folderHandle = options.folderHandle ?? record?.folderHandle ?? null;
    this.path = options.path ?? record?.path ?? null;
    this.record = record?.handle ? record : null;
    this.stored = new Map(); // number → {checksum, etag}
    this.id = record?.id ?? crypto.randomUUID();
    this.name = file?.name ?? record.name;
    this.size = file?.size ?? record.size;
    this.lastModified = file?.lastModified ?? record.lastModified;
    this.contentType = options.contentType ?? record?.contentType ?? null;
    this.problem = null;
    this.note = null; // the reason for waiting: "offline", "service", "store", "check", "blocked"
    this.result = null; // the response to complete
    this.found = 0; // parts in the store at a resume
    this.sentAgain = 0; // parts that were sent again whole
    this.#begin();
    if (record) {
      this.#state = "remembered";
      this.#takenUp = Boolean(this.record);
      this.#isNoted = !this.record;
      this.stored = new Map([...parts].filter(([, part]) => part.etag));
    }
    this.listen(options);
  }

  /** What is stored of the upload before the service has created it: a reload can ask for the file then. */
  get description() {
    const { id, name, size, lastModified, contentType, fileHandle, folderHandle, path } = this;
    const unknown = { handle: null, startedAt: null };
    return { ...unknown, id, name, size, lastModified, contentType, fileHandle, folderHandle, path, chosenAt: this.#chosenAt };
  }

  /** What to store of it while it waits, or null. */
  memo(who) {
    const isOver = ["cancelled", "done"].includes(this.#state) || this.problem?.kind === "refused";
    if (this.record || this.#isNoted || isOver) return null;
    this.#isNoted = true;
    this.#shared.holds.take(this.id, { isNew: true });
    return { ...this.description, who };
  }

  /** Use these callbacks and this signal from now on. */
  listen(options) {
    this.#options = { ...this.#options, ...options };
    options.signal?.addEventListener("abort", () => this.cancel(), { once: true });
    if (options.signal?.aborted) this.cancel();
    return this;
  }

  get state() { return this.#state; }

  get running() { return RUNNING.has(this.#state); }

  get startedAt() { return this.record?.startedAt ?? null; }

  get plan() { return this.record && new Plan(this.size, this.record.partSize); }

  /** Resolves to the result; rejects with the problem if this attempt fails or is cancelled. */
  get finished() { return this.#finished.promise; }

  /**
   * Where it is. Bytes that are sent are in the store or in flight. `rate`, in bytes a second, and `left`, in seconds,
   * are of what becomes stored.
   */
  get progress() {
    const { plan } = this;
    const stored = this.result ? this.size : [...this.stored.keys()].reduce((sum, n) => sum + plan.sizeOf(n), 0);
    const { inFlight = 0, moving, waiting = false } = this.#attempt?.flight ?? {};
    const sent = Math.min(this.size, stored + inFlight);
    const uploading = this.#state === "uploading" && !this.note;
    if (uploading) this.#meter.add(performance.now(), stored, sent - stored, moving);
    const rate = uploading ? this.#meter.rate : null;
    return {
      sent, stored, inFlight: sent - stored, size: this.size, rate,
      left: rate ? (this.size - this.#meter.expected) / rate : null,
      waiting: uploading && waiting,
      parts: plan?.count ?? null,
      partsStored: this.stored.size,
      found: this.found,
      sentAgain: this.sentAgain,
    };
  }

  /** Whether name, size and date are this file's. Its bytes are compared later. */
  isOf(file) { return this.couldBe(file) && file.lastModified === this.lastModified; }

  /** Whether only the date differs: then the bytes decide. Some phones make a new copy at each choice. */
  couldBe(file) { return file.name === this.name && file.size === this.size; }

  pause() {
    if (this.running || this.#state === "waiting" || this.#state === "unauthorized") this.#stop("paused");
  }

  /**
   * Go on, when its turn comes. `file` is the file chosen again. Its bytes may have changed though name, size and date
   * are the same, so every part that the store has is then hashed again and compared.
   */
  resume(file = null, fileHandle = null) {
    if (this.running || ["waiting", "done", "cancelled"].includes(this.#state)) return this;
    if (file) this.#give(file, fileHandle);
    if (!this.file) throw new Problem("file", `Choose ${this.name} again to resume.`);
    if (this.#state === "failed" || this.#state === "unauthorized") this.#begin();
    this.problem = null;
    this.#shared.holds.take(this.id);
    this.#enter("waiting");
    this.#shared.queue.add(this);
    return this;
  }

  /** Resume it if it is still this user's; else upload the file anew. */
  take(file, fileHandle = null) {
    this.resume(file, fileHandle);
    this.#takenUp = "recalled";
    return this;
  }

  #give(file, fileHandle) {
    if (!this.couldBe(file)) throw new Problem("file", "This is another file: its name or its size differs.");
    this.#rehash = true;
    this.file = file;
    this.lastModified = file.lastModified;
    this.fileHandle = fileHandle ?? this.fileHandle;
    if (this.record) this.keep({ ...this.record, fileHandle: this.fileHandle, lastModified: this.lastModified });
  }

  /** Abort the upload. Resolves to whether the service was told. Rejects if another tab has the upload. */
  async cancel() {
    if (this.#state === "remembered" && !(await this.#shared.holds.take(this.id))) throw otherTab();
    if (this.#state === "done" || this.#state === "cancelled") return true;
    this.#stop("cancelled");
    const { record, id } = this;
    const forgotten = this.#drop();
    if (record) await this.#ended; // no part arrives after it
    const told = record ? await this.#try(new AbortController()).abort(record.handle) : true;
    await forgotten;
    this.#shared.holds.release(id);
    return told;
  }

  /** Do everything that is left. Never rejects: `state`, `problem` and `result` hold the outcome. */
  run() {
    // An upload that was just paused may still be aborting its requests.
    this.#ended = this.#ended.then(() => this.#run());
    return this.#ended;
  }

  async #run() {
    if (this.#state !== "waiting") return;
    const control = (this.#control = new AbortController());
    this.#attempt = this.#try(control);
    this.#enter("starting");
    try {
      const result = await this.#go();
      if (this.#state === "cancelled") return;
      this.result = result;
      const { id } = this;
      this.#shared.memory.forget(id).finally(() => this.#shared.holds.release(id));
      this.#enter("done");
      this.#finished.resolve(result);
    } catch (error) {
      if (this.running) this.#fail(error); // otherwise pausing or cancelling caused the error
    } finally {
      control.abort(); // stop preparing further parts
      this.#attempt = null;
      this.changed();
    }
  }

  #try(control) {
    return new Attempt({ ...this.#shared, ...this.#retriers }, this, control);
  }

  async #go() {
    if (!this.record && this.#options.resume !== false) await this.#recall();
    await this.#hold();
    if (!this.record) return this.#create();
    const recalled = this.#takenUp === "recalled";
    try {
      return await this.#goOn();
    } catch (problem) {
      // The app asked for an upload, not for that one.
      if (!recalled || !STARTED_ANEW.has(problem.code)) throw problem;
      if (problem.code !== "not_your_upload") this.#shared.memory.forget(this.record.id);
      this.#unlink();
      this.#shared.holds.release(this.id);
      this.id = crypto.randomUUID(); // a record of somebody else's stays
      await this.#hold();
      return this.#create();
    }
  }

  /** Take up what an earlier visit left of this file. */
  async #recall() {
    const { memory } = this.#shared;
    const known = memory.find ? await memory.find(this) : (await memory.records()).filter((each) => this.isOf(each));
    const free = (each) => each.id !== this.id && !this.#shared.claimed(each.id);
    const same = known.filter(free);
    if (!same.length) return;
    const who = await this.#attempt.who();
    const own = same.filter((each) => each.who === who && free(each));
    const record = own.find(({ handle }) => handle) ?? own[0];
    if (!record) return;
    if (this.#isNoted) memory.forget(this.id);
    this.#shared.holds.release(this.id);
    this.id = record.id;
    this.#isNoted = !record.handle;
    if (this.#isNoted) return;
    this.record = record;
    this.#takenUp = "recalled";
    this.#rehash = true;
  }

  async #hold() {
    if (!(await this.#shared.holds.take(this.id))) throw otherTab();
  }

  async #create() {
    await this.#attempt.create();
    return this.#attempt.sendAndComplete();
  }

  async #goOn() {
    const rehash = this.#rehash;
    const completed = await this.#attempt.goOn(rehash);
    if (completed) return completed;
    this.#rehash = false;
    if (this.#takenUp) this.found = this.stored.size;
    this.#takenUp = false;
    return this.#attempt.sendAndComplete();
  }

  #stop(state) {
    this.#control?.abort();
    this.note = null;
    this.#enter(state);
    if (state === "cancelled") this.#finished.reject(new Problem("cancelled", "The upload was cancelled."));
  }

  #fail(error) {
    const unexpected = !(error instanceof Problem);
    if (unexpected) console.error(error);
    this.problem = unexpected ? new Problem("final", `Something unexpected happened: ${error.message}`) : error;
    this.note = null;
    const { kind } = this.problem;
    if (kind === "gone" || (kind === "refused" && (this.#state === "finishing" || !this.record))) this.#drop();
    this.#enter(kind === "key" ? "unauthorized" : "failed");
    this.#finished.reject(this.problem);
  }

  #begin() {
    const deferred = {};
    deferred.promise = new Promise((resolve, reject) => Object.assign(deferred, { resolve, reject }));
    deferred.promise.catch(() => {}); // who does not ask for it looks at `state`
    this.#finished = deferred;
  }

  async #drop() {
    const { id } = this;
    const isStored = this.record || this.#isNoted;
    this.#unlink();
    if (isStored) await this.#shared.memory.forget(id);
  }

  #unlink() {
    this.record = null;
    this.#isNoted = false;
    this.#takenUp = false;
    this.stored = new Map();
  }

  // --- for the attempt

  /** Store the record, from which the upload can be resumed after a reload. */
  keep(record) {
    this.record = record;
    this.id = record.id;
    return this.#shared.memory.save(record);
  }

  enter(state) {
    if (this.running) this.#enter(state);
  }

  /** A part is sent again whole, because no response came. */
  again(number) {
    this.sentAgain += 1;
    this.#options.onSentAgain?.(number, this);
    this.changed();
  }

  waitFor(note) {
    if (note === this.note || !this.running) return;
    this.note = note;
    this.#meter.reset();
    this.changed();
  }

  changed() {
    this.#shared.onChange?.(this);
    const now = performance.now();
    if (!this.#options.onProgress || now - this.#told < PROGRESS_EVERY) return;
    this.#told = now;
    this.#options.onProgress(this.progress, this);
  }

  #enter(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#meter.reset();
    this.#told = -Infinity;
    this.changed();
    this.#options.onState?.(state, this);
  }
}
