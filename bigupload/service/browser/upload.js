// One upload, from a file to its public URL: create or resume, send the missing parts, complete. Knows no DOM.
//
//   waiting ─▶ starting ─▶ (comparing) ─▶ hashing ─▶ uploading ─▶ finishing ─▶ done
//      ▲            any of these ─▶ paused | key | failed ─▶ waiting         (to continue asks the service first)
//   remembered ─────────────────────────────▶ cancelled
//
// "failed" keeps the parts in the store, unless the problem's kind is "gone" or "refused".

import { Flight, Postponed } from "./flight.js";
import { alone } from "./lock.js";
import { contentType } from "./media.js";
import { Gate, Plan, Preparer, checksum, head, readable, recognise, settle } from "./parts.js";
import { Problem, gone } from "./problem.js";
import { put } from "./put.js";
import { Retrier, pause } from "./retry.js";

const AT_ONCE = 6; // HTTP/1.1 connections that a browser opens to one host
const AHEAD = 6; // parts hashed and signed before their turn
const HEAD_BYTES = 4096; // sent at create, so that the service can check the type
const ROUNDS = 3; // attempts to complete if the store lacks a part
const ACCEPTED = 1 << 20; // more bytes than a socket buffers, so the store accepts them

const RUNNING = new Set(["starting", "comparing", "hashing", "uploading", "finishing"]);

export class Upload {
  phase = "waiting";
  problem = null;
  note = null; // the reason for waiting: "offline", "service", "store"
  result = null; // the response to complete
  found = 0; // parts in the store at a resume
  #control = null;
  #ended = Promise.resolve();
  #takenUp = false;
  #stored = new Map(); // number → {checksum, etag}
  #earlier = new Map(); // number → ETags of parts of earlier versions of the file
  #storedBytes = 0;
  #inFlight = new Map(); // number → bytes
  #service = new Retrier();
  #store = new Retrier();
  #rehash = false; // compare each part in the store with the file

  /** Make an upload from a file or from a stored record. `onChange` is called with this upload, often. */
  constructor({ api, memory, file = null, fileHandle = null, record = null, parts = new Map(), onChange }) {
    this.api = api;
    this.memory = memory;
    this.file = file;
    this.fileHandle = fileHandle ?? record?.fileHandle ?? null;
    this.record = record;
    this.onChange = onChange;
    this.name = file?.name ?? record.name;
    this.size = file?.size ?? record.size;
    this.lastModified = file?.lastModified ?? record.lastModified;
    this.#service.noteResponse(); // the page came from it
    if (record) {
      this.phase = "remembered";
      this.#takenUp = true;
      this.#keep(new Map([...parts].filter(([, part]) => part.etag)));
    }
  }

  get running() { return RUNNING.has(this.phase); }

  get plan() {
    return this.record && new Plan(this.size, this.record.partSize);
  }

  get partsStored() { return this.#stored.size; }

  /** Bytes that the store has or that are in flight. */
  get sent() {
    let sum = this.#storedBytes;
    for (const bytes of this.#inFlight.values()) sum += bytes;
    return Math.min(sum, this.size);
  }

  /** Whether name, size and date are this file's. Its bytes are compared later. */
  isOf(file) {
    return file.name === this.name && file.size === this.size && file.lastModified === this.lastModified;
  }

  /** Whether only the date differs: then the bytes decide. Some phones make a new copy at each choice. */
  couldBe(file) {
    return file.name === this.name && file.size === this.size;
  }

  /**
   * Resume with a file that was chosen, or opened by its handle, when its turn comes. Its bytes may have changed though
   * name, size and date are the same, so every part that the store has is hashed again and compared.
   */
  give(file, fileHandle = null) {
    this.#rehash = true;
    this.file = file;
    this.lastModified = file.lastModified;
    this.fileHandle = fileHandle ?? this.fileHandle;
    if (this.record) {
      this.record = { ...this.record, fileHandle: this.fileHandle, lastModified: this.lastModified };
      this.memory.save(this.record);
    }
    this.queue();
  }

  queue() {
    this.problem = null;
    this.#enter("waiting");
  }

  pause() {
    this.#stop("paused");
  }

  /** Abort the upload. Resolves to whether the service was told. */
  async cancel() {
    this.#stop("cancelled");
    const { record } = this;
    this.#forget();
    if (!record) return true;
    await this.#ended; // no part arrives after it
    const { signal } = new AbortController();
    try {
      await this.#ask(() => this.api.abort(record.handle, signal), signal);
      return true;
    } catch (problem) {
      return problem.kind === "gone";
    }
  }

  /** Do everything that is left. Never rejects: `phase`, `problem` and `result` hold the outcome. */
  run() {
    // An upload that was just paused may still be aborting its requests.
    this.#ended = this.#ended.then(() => this.#run());
    return this.#ended;
  }

  async #run() {
    if (this.phase !== "waiting") return;
    const control = (this.#control = new AbortController());
    this.#service.begin();
    this.#store.begin();
    this.#enter("starting");
    try {
      await this.#go(control.signal);
      this.#enter("done");
      this.#forget();
    } catch (error) {
      if (this.running) this.#fail(error); // otherwise pausing or cancelling caused the error
    } finally {
      control.abort(); // stop preparing further parts
      this.#inFlight.clear();
      this.onChange(this);
    }
  }

  #stop(phase) {
    this.#control?.abort();
    this.note = null;
    this.#enter(phase);
  }

  #enter(phase) {
    this.phase = phase;
    this.onChange(this);
  }

  #fail(error) {
    const unexpected = !(error instanceof Problem);
    if (unexpected) console.error(error);
    this.problem = unexpected ? new Problem("final", `Something unexpected happened: ${error.message}`) : error;
    this.note = null;
    if (this.problem.kind === "gone" || (this.problem.kind === "refused" && this.phase === "finishing")) this.#forget();
    this.#enter(this.problem.kind === "key" ? "key" : "failed");
  }

  #forget() {
    if (this.record) this.memory.forget(this.record.id);
    if (this.phase !== "done") {
      this.record = null;
      this.#keep(new Map());
    }
  }

  #keep(stored) {
    this.#stored = stored;
    this.#storedBytes = [...stored.keys()].reduce((sum, number) => sum + this.plan.sizeOf(number), 0);
  }

  async #go(signal) {
    if (this.record) return alone(this.record.id, () => this.#goOn(signal));
    await this.#create(signal);
    return alone(this.record.id, () => this.#sendAndComplete(signal)); // it is stored now: another tab could resume it
  }

  async #goOn(signal) {
    const { status, completed, error } = await this.#ask(() => this.api.status(this.record.handle, signal), signal);
    if (status === "completed") return this.#finish(completed);
    if (status === "gone") throw gone(error);
    await this.#reconcile(signal);
    if (this.#takenUp) this.found = this.#stored.size;
    this.#takenUp = false;
    return this.#sendAndComplete(signal);
  }

  async #create(signal) {
    const type = contentType(this.name);
    const body = {
      filename: this.name,
      contentType: type,
      size: this.size,
      checksumAlgorithm: "sha256",
      head: await head(this.file, HEAD_BYTES),
    };
    const answer = await this.#ask(() => this.api.create(body, signal), signal);
    this.record = {
      id: crypto.randomUUID(),
      handle: answer.upload,
      key: answer.key,
      publicUrl: answer.publicUrl,
      name: this.name,
      size: this.size,
      lastModified: this.lastModified,
      contentType: type,
      partSize: answer.partSize,
      parts: answer.parts,
      startedAt: Date.now(),
      fileHandle: this.fileHandle,
    };
    await this.memory.save(this.record);
    signal.throwIfAborted();
  }

  /** List the store's parts and compare them with the file: by this page's own checksums, or by hashing its parts. */
  async #reconcile(signal) {
    this.#enter("comparing");
    const [rows, memory] = await Promise.all([
      this.#ask(() => this.api.stored(this.record.handle, signal), signal),
      this.memory.parts(this.record.id),
    ]);
    const { plan } = this;
    // Only parts that this page itself sent need no hashing: the file may have changed since a record was stored.
    const { there, doubtful } = settle(plan, rows, this.#rehash ? new Map() : this.#stored);
    const gate = new Gate(2);
    await Promise.all([...doubtful].map(([number, candidates]) => gate.run(async () => {
      signal.throwIfAborted();
      const sum = await checksum(plan.slice(this.file, number));
      const row = recognise(candidates, sum, memory.get(number));
      if (row) there.set(number, { checksum: sum, etag: row.etag });
      else this.#earlier.set(number, candidates.map(({ etag }) => etag));
    })));
    signal.throwIfAborted();
    this.#rehash = false;
    this.#keep(there);
    for (const [number, part] of there) {
      if (memory.get(number)?.etag !== part.etag) this.memory.savePart(this.record.id, number, part);
    }
    this.onChange(this);
  }

  async #sendAndComplete(signal) {
    for (let round = 1; ; round += 1) {
      await this.#send(signal);
      try {
        return this.#finish(await this.#complete(signal));
      } catch (problem) {
        if (problem.kind !== "part" || round >= ROUNDS) throw problem;
        this.#rehash = problem.code === "checksum_mismatch";
        await this.#reconcile(signal);
      }
    }
  }

  async #send(signal) {
    const missing = this.plan.numbers.filter((number) => !this.#stored.has(number));
    if (!missing.length) return;
    this.#enter("hashing");
    const preparer = new Preparer({
      file: this.file,
      plan: this.plan,
      sign: (parts) => this.#ask(() => this.api.sign(this.record.handle, parts, signal), signal),
      signal,
    });
    const flight = new Flight(AT_ONCE, signal);
    let failure = null;
    await flight.run(async () => {
      if (failure || !missing.length) return false;
      const number = missing.shift();
      preparer.begin(number);
      for (const next of missing.slice(0, AHEAD)) preparer.begin(next);
      try {
        await this.#sendPart(number, preparer, flight, signal);
      } catch (error) {
        if (error instanceof Postponed) return missing.unshift(number);
        failure ??= error;
        // Without a key nothing can be signed, but parts already signed may still be sent.
        if (error.kind !== "key") this.#control.abort();
      }
      return true;
    });
    if (failure) throw failure;
  }

  async #sendPart(number, preparer, flight, signal) {
    const seen = new Set(); // kinds of errors that are corrected only once
    for (let made = 1; ; ) {
      const { url, headers, checksum: sum } = await preparer.get(number);
      signal.throwIfAborted();
      const earlier = this.#earlier.get(number);
      await this.memory.savePart(this.record.id, number, { checksum: sum, etag: null, earlier });
      if (this.phase === "hashing") this.#enter("uploading");
      try {
        const body = this.plan.slice(this.file, number);
        const etag = await flight.put(body.size, (own, progress) => {
          const onProgress = (bytes) => {
            progress(bytes);
            this.#inFlight.set(number, bytes);
            if (bytes > ACCEPTED) this.#noteResponse(this.#store, "store");
            this.onChange(this);
          };
          return put({ url, headers, body, signal: own, onProgress });
        });
        this.#noteResponse(this.#store, "store");
        preparer.drop(number);
        this.#inFlight.delete(number);
        this.#stored.set(number, { checksum: sum, etag });
        this.#storedBytes += this.plan.sizeOf(number);
        await this.memory.savePart(this.record.id, number, { checksum: sum, etag, earlier });
        this.onChange(this);
        return;
      } catch (problem) {
        this.#inFlight.delete(number);
        signal.throwIfAborted();
        if (problem instanceof Postponed) throw problem;
        if ((problem.kind === "expired" || problem.kind === "damaged") && !seen.has(problem.kind)) {
          seen.add(problem.kind);
          if (problem.kind === "expired") preparer.renew(number);
          else preparer.drop(number);
          continue;
        }
        if (problem.kind === "network") await readable(this.file); // a changed file causes the same error
        made += await this.#wait(this.#store, "store", problem, made, signal);
      }
    }
  }

  /** If the response to complete is lost, ask the service for the state instead of repeating the parts. */
  async #complete(signal) {
    this.#enter("finishing");
    const { handle } = this.record;
    const parts = this.plan.numbers.map((number) => ({ partNumber: number, ...this.#stored.get(number) }));
    for (let made = 1; ; ) {
      try {
        const answer = await this.api.complete(handle, parts, signal);
        this.#noteResponse(this.#service, "service");
        return answer;
      } catch (problem) {
        signal.throwIfAborted();
        if (!problem.passing) throw problem;
        made += await this.#wait(this.#service, "service", problem, made, signal);
      }
      const { status, completed, error } = await this.#ask(() => this.api.status(handle, signal), signal);
      if (status === "completed") return completed;
      if (status === "gone") throw gone(error);
    }
  }

  #finish(answer) {
    this.result = answer;
    this.#storedBytes = this.size;
  }

  /** Call the service, with retries. */
  async #ask(call, signal) {
    for (let made = 1; ; ) {
      try {
        const answer = await call();
        this.#noteResponse(this.#service, "service");
        return answer;
      } catch (problem) {
        signal.throwIfAborted();
        if (!(problem instanceof Problem)) throw problem;
        made += await this.#wait(this.#service, "service", problem, made, signal);
      }
    }
  }

  #noteResponse(retrier, whom) {
    retrier.noteResponse();
    if (this.note === whom || this.note === "offline") this.note = null;
  }

  /** Wait for the next attempt; resolves to the number of attempts to count. Rejects after the last. */
  async #wait(retrier, whom, problem, made, signal) {
    const online = navigator.onLine;
    const milliseconds = retrier.after(problem, made, online);
    this.note = online ? whom : "offline";
    this.onChange(this);
    await pause(milliseconds, signal);
    if (online) return 1;
    retrier.begin();
    return 0;
  }
}
