// Store open uploads, their files and their sent parts in IndexedDB, so that they outlive the tab. No keys, no URLs.
//
// This is a hint: the service says which parts the store has, and the checksums stored here identify them.

const VERSION = 2;
const FILE = ["name", "size", "lastModified"]; // what tells files apart, but for their bytes
const KEPT = 7 * 24 * 3600 * 1000; // milliseconds that an upload stays open

const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

const committed = (transaction) =>
  new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
  });

/** The database's name: a page may use several services, and several may be mounted at one origin. */
function nameFor(endpoint) {
  const { origin, pathname, href } = new URL(endpoint);
  if (origin !== globalThis.location?.origin) return `bigupload ${href}`;
  return pathname === "/" ? "bigupload" : `bigupload ${pathname}`;
}

const opened = new Map(); // name → promise: all clients of a page have one connection

async function open(name) {
  const request = indexedDB.open(name, VERSION);
  request.onupgradeneeded = ({ oldVersion }) => {
    const { result, transaction } = request;
    if (oldVersion < 1) {
      result.createObjectStore("uploads", { keyPath: "id" });
      result.createObjectStore("parts", { keyPath: ["id", "number"] });
    }
    transaction.objectStore("uploads").createIndex("file", FILE);
  };
  const database = await done(request);
  // Another tab wants to install a newer layout and must not wait for this one.
  database.onversionchange = () => database.close();
  return database;
}

const since = ({ startedAt, chosenAt }) => startedAt ?? chosenAt;

const isOpen = (record) => Date.now() - since(record) <= KEPT;

/** The parts of one upload: keys are [id, number]. */
const partsOf = (id) => IDBKeyRange.bound([id], [id, []]);

/**
 * An upload's record: {id, who, handle, key, publicUrl, name, size, lastModified, contentType, partSize, parts, startedAt,
 * chosenAt, fileHandle, folderHandle, path}. Before the service has created the upload, `handle` and `startedAt` are null.
 * A part's: {id, number, checksum, etag, earlier}; `etag` is null from before its PUT until the store's
 * answer, `earlier` has the ETags of parts that were sent of earlier versions of the file.
 *
 * Where the browser forbids IndexedDB or loses it, nothing is kept: uploads work, but are not resumed after a restart.
 */
export class Memory {
  #name;

  /** One for each service. */
  constructor(endpoint) {
    this.#name = nameFor(endpoint);
  }

  #opened() {
    if (!opened.has(this.#name)) opened.set(this.#name, open(this.#name));
    return opened.get(this.#name);
  }

  get works() {
    return this.#opened().then(() => true, () => false);
  }

  /** What `action` asks of the two stores, once it is committed; `otherwise`, where the browser does not do it. */
  async #ask(mode, action, otherwise) {
    try {
      const transaction = (await this.#opened()).transaction(["uploads", "parts"], mode);
      const request = action(transaction.objectStore("uploads"), transaction.objectStore("parts"));
      await committed(transaction);
      return request.result;
    } catch {
      return otherwise;
    }
  }

  /** The record of every open upload; expired ones are deleted. */
  async records() {
    const found = await this.#ask("readonly", (uploads) => uploads.getAll(), []);
    for (const record of found) if (!isOpen(record)) await this.forget(record.id);
    return found.filter(isOpen).sort((a, b) => since(a) - since(b));
  }

  /** The records of a file: by its name, size and date. Few of thousands. */
  async find(file) {
    const key = FILE.map((name) => file[name]);
    return (await this.#ask("readonly", (uploads) => uploads.index("file").getAll(key), [])).filter(isOpen);
  }

  async parts(id) {
    const rows = await this.#ask("readonly", (uploads, parts) => parts.getAll(partsOf(id)), []);
    return new Map(rows.map((row) => [row.number, row]));
  }

  save(record) { return this.saveAll([record]); }

  async saveAll(records) {
    const put = (rows) => this.#ask("readwrite", (uploads) => rows.map((row) => uploads.put(row)), null);
    if (!records.length || (await put(records)) !== null) return;
    // Some browsers cannot store file handles.
    await put(records.map((record) => ({ ...record, fileHandle: null, folderHandle: null })));
  }

  /** A full disk must not end an upload: a part that is not stored is hashed again. */
  savePart(id, number, { checksum, etag, earlier = [] }) {
    return this.#ask("readwrite", (uploads, parts) => parts.put({ id, number, checksum, etag, earlier }));
  }

  /** Where it fails, the page offers the upload again, and the service says that it no longer exists. */
  forget(id) {
    return this.#ask("readwrite", (uploads, parts) => {
      parts.delete(partsOf(id));
      return uploads.delete(id);
    });
  }
}
