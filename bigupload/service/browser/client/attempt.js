// One attempt at an upload: the calls to service and store in their order, with retries. The upload holds what it found.

import { Gate, checksum, head, recognise, settle } from "./parts.js";
import { PartSender } from "./part_sender.js";
import { Problem, explain, gone, notYours } from "./problem.js";
import { online, pause } from "./retry.js";
import { contentTypeOf } from "./content_type.js";

const MIB = 1024 * 1024;
const HEAD_BYTES = 4096; // sent at create, so that the service can check the type
const ONE_PART = 5 * MIB; // no service divides a smaller file
const ROUNDS = 3; // attempts to complete if the store lacks a part
const WAITS = { check_failed: "check", store_blocked: "blocked" }; // the service, the store itself responds
const ACCEPTED = MIB; // more bytes than a socket buffers, so the store accepts them

export class Attempt {
  #api;
  #memory;
  #traffic;
  #upload;
  #signal;
  #abort;
  #service; // when to ask it again
  #store;
  #earlier = new Map(); // number → ETags of parts of earlier versions of the file
  #sender = null;
  #first = null; // the only part of a small file, signed at create

  constructor({ api, memory, traffic, service, store }, upload, control) {
    this.#api = api;
    this.#memory = memory;
    this.#traffic = traffic;
    this.#service = service;
    this.#store = store;
    this.#upload = upload;
    this.#signal = control.signal;
    this.#abort = () => control.abort();
    service.begin();
    store.begin();
    if (api.servesThisPage) service.noteResponse();
  }

  /** What is sent: {inFlight, moving, waiting}, as PartSender has them. */
  get flight() {
    return this.#sender ?? { inFlight: 0, moving: false, waiting: false };
  }

  /** Resolves to the identity of the user. */
  who() {
    return this.#ask(() => this.#api.who(this.#signal));
  }

  async create() {
    const upload = this.#upload;
    const { file, name, size } = upload;
    if (size === 0) throw new Problem("refused", "The file is empty.", { code: "empty_file" });
    const type = upload.contentType ?? contentTypeOf(file);
    const checksums = size <= ONE_PART ? [await checksum(file)] : [];
    const body = {
      filename: name,
      contentType: type,
      size,
      checksumAlgorithm: "sha256",
      head: await head(file, HEAD_BYTES),
      firstParts: checksums.map((sum) => ({ partNumber: 1, size, checksum: sum })),
    };
    const asked = Date.now();
    const answer = await this.#ask(() => this.#api.create(body, this.#signal));
    const [signed] = answer.signed;
    if (signed) {
      const { url, headers } = signed;
      this.#first = { url, headers, checksum: checksums[0], until: asked + answer.expiresIn * 1000 };
    }
    await upload.keep({
      ...upload.description,
      who: this.#memory.keeps === false ? null : await this.#ask(answer.who).catch(() => null),
      handle: answer.upload,
      key: answer.key,
      publicUrl: answer.publicUrl,
      contentType: type,
      partSize: answer.partSize,
      parts: answer.parts,
      startedAt: Date.now(),
    });
    this.#signal.throwIfAborted();
  }

  /** Find out where an upload stands. Resolves to the result if it is complete already. */
  async goOn(rehash) {
    const { handle, who } = this.#upload.record;
    if (who && who !== (await this.who())) throw notYours();
    const { status, completed, error } = await this.#ask(() => this.#api.status(handle, this.#signal));
    if (status === "completed") return completed;
    if (status === "gone") throw gone(error);
    await this.#reconcile(rehash);
    return null;
  }

  /** List the store's parts and compare them with the file: by this page's own checksums, or by hashing its parts. */
  async #reconcile(rehash) {
    const upload = this.#upload;
    const { record, plan, file } = upload;
    upload.enter("comparing");
    const [rows, memory] = await Promise.all([
      this.#ask(() => this.#api.stored(record.handle, this.#signal)),
      this.#memory.parts(record.id),
    ]);
    // Only parts that this page itself sent need no hashing: the file may have changed since a record was stored.
    const { there, doubtful } = settle(plan, rows, rehash ? new Map() : upload.stored);
    const gate = new Gate(2);
    await Promise.all([...doubtful].map(([number, candidates]) => gate.run(async () => {
      this.#signal.throwIfAborted();
      const sum = await checksum(plan.slice(file, number));
      const row = recognise(candidates, sum, memory.get(number));
      if (row) there.set(number, { checksum: sum, etag: row.etag });
      else this.#earlier.set(number, candidates.map(({ etag }) => etag));
    })));
    this.#signal.throwIfAborted();
    upload.stored = there;
    for (const [number, part] of there) {
      if (memory.get(number)?.etag !== part.etag) this.#memory.savePart(record.id, number, part);
    }
    upload.changed();
  }

  async sendAndComplete() {
    for (let round = 1; ; round += 1) {
      await this.#send();
      try {
        return await this.#complete();
      } catch (problem) {
        if (problem.kind !== "part" || round >= ROUNDS) throw problem;
        await this.#reconcile(problem.code === "checksum_mismatch");
      }
    }
  }

  async #send() {
    const upload = this.#upload;
    const { plan, record, file } = upload;
    const missing = plan.numbers.filter((number) => !upload.stored.has(number));
    if (!missing.length) return;
    upload.enter("hashing");
    this.#sender = new PartSender({
      file,
      plan,
      signal: this.#signal,
      traffic: this.#traffic,
      sign: (parts) => this.#ask(() => this.#api.sign(record.handle, parts, this.#signal)),
      on: {
        sending: (number, sum) => this.#sending(number, sum),
        stored: (number, part) => this.#stored(number, part),
        moved: (bytes) => this.#moved(bytes),
        again: (number) => this.#upload.again(number),
        wait: (problem, made) => this.#wait(this.#store, "store", problem, made),
        // Without a key nothing can be signed, but parts already signed may still be sent.
        failed: (problem) => problem.kind === "key" || this.#abort(),
      },
    });
    if (this.#first) this.#sender.know(1, this.#first);
    this.#first = null;
    try {
      await this.#sender.run(missing);
    } finally {
      this.#sender = null;
    }
  }

  async #sending(number, sum) {
    const part = { checksum: sum, etag: null, earlier: this.#earlier.get(number) };
    await this.#memory.savePart(this.#upload.record.id, number, part);
    if (this.#upload.state === "hashing") this.#upload.enter("uploading");
  }

  async #stored(number, part) {
    const upload = this.#upload;
    this.#noteResponse(this.#store, "store");
    upload.stored.set(number, part);
    upload.changed();
    // The upload may be cancelled by now, and its record with it.
    if (upload.record) {
      await this.#memory.savePart(upload.record.id, number, { ...part, earlier: this.#earlier.get(number) });
    }
  }

  #moved(bytes) {
    if (bytes > ACCEPTED) this.#noteResponse(this.#store, "store");
    this.#upload.changed();
  }

  /** If the response to complete is lost, ask the service for the state instead of repeating the parts. */
  async #complete() {
    const upload = this.#upload;
    upload.enter("finishing");
    const { handle } = upload.record;
    const parts = upload.plan.numbers.map((number) => ({ partNumber: number, ...upload.stored.get(number) }));
    for (let made = 1; ; ) {
      try {
        const answer = await this.#api.complete(handle, parts, this.#signal);
        this.#noteResponse(this.#service, "service");
        return answer;
      } catch (problem) {
        this.#signal.throwIfAborted();
        if (!problem.passing) throw problem;
        made += await this.#wait(this.#service, "service", problem, made);
      }
      const { status, completed, error } = await this.#ask(() => this.#api.status(handle, this.#signal));
      if (status === "completed") return completed;
      if (status === "gone") throw gone(error);
    }
  }

  /** Resolves to whether the service knows that the upload is not wanted any more. */
  async abort(handle) {
    try {
      await this.#ask(() => this.#api.abort(handle, this.#signal));
      return true;
    } catch (problem) {
      return problem.kind === "gone";
    }
  }

  /** Call the service, with retries. */
  async #ask(call) {
    for (let made = 1; ; ) {
      try {
        const answer = await call();
        this.#noteResponse(this.#service, "service");
        return answer;
      } catch (problem) {
        this.#signal.throwIfAborted();
        if (!(problem instanceof Problem)) throw problem;
        made += await this.#wait(this.#service, "service", problem, made);
      }
    }
  }

  #noteResponse(retrier, whom) {
    retrier.noteResponse();
    const ended = ["offline", whom, whom === "service" ? "check" : "blocked"];
    if (ended.includes(this.#upload.note)) this.#upload.waitFor(null);
  }

  /** Wait for the next attempt; resolves to the number of attempts to count. Rejects after the last. */
  async #wait(retrier, whom, met, made) {
    const reachable = online();
    // Once the store has responded, its rules are right.
    const problem = reachable && !retrier.responded ? await explain(met, this.#signal) : met;
    const milliseconds = retrier.after(problem, made, reachable);
    const cause = WAITS[problem.code] ?? whom;
    this.#upload.waitFor(reachable ? cause : "offline");
    await pause(milliseconds, this.#signal);
    if (reachable) return 1;
    retrier.begin();
    return 0;
  }
}
