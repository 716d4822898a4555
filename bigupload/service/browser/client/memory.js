// Store open uploads, their files and their sent parts in IndexedDB, so that they outlive the tab. No keys, no URLs.
//
// This is a hint: the service says which parts the store has, and the checksums stored here identify them.

const VERSION = 2;
const FILE = ["name", "size", "lastModified"]; // what tells files apart, but for their bytes
const KEPT = 7 * 24 * 3600 * 1000; // milliseconds that an upload stays open

const OPENED = new Map(); // name → promise of a Memory

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

const since = ({ startedAt, chosenAt }) => startedAt ?? chosenAt;

/** The parts of one upload: keys are [id, number]. */
const partsOf = (id) => IDBKeyRange.bound([id], [id, []]);

/**
 * An upload's record: {id, who, handle, key, publicUrl, name, size, lastModified, contentType, partSize, parts, startedAt,
 * chosenAt, fileHandle, folderHandle, path}. Before the service has created the upload, `handle` and `startedAt` are null.
 * A part's: {id, number, checksum, etag, earlier}; `etag` is null from before its PUT until the store's
 * answer, `earlier` has the ETags of parts that were sent of earlier versions of the file.
 */
export class Memory {
  #database;

  constructor(database) {
    this.#database = database;
    // Another tab wants to install a newer layout and must not wait for this one.
    if (database) database.onversionchange = () => database.close();
  }

  /**
   * One for each service. If the browser forbids IndexedDB, keep nothing: uploads work, but cannot be resumed after a
   * restart.
   */
  static open(endpoint) {
    const name = nameFor(endpoint);
    if (!OPENED.has(name)) OPENED.set(name, Memory.#open(name));
    return OPENED.get(name);
  }

  static async #open(name) {
    try {
      const request = indexedDB.open(name, VERSION);
      request.onupgradeneeded = ({ oldVersion }) => {
        const { result, transaction } = request;
        if (oldVersion < 1) {
          result.createObjectStore("uploads", { keyPath: "id" });
          result.createObjectStore("parts", { keyPath: ["id", "number"] });
        }
        transaction.objectStore("uploads").createIndex("file", FILE);
      };
      return new Memory(await done(request));
    } catch {
      OPENED.delete(name);
      return new Memory(null);
    }
  }

  get works() {
    return this.#database !== null;
  }

  /** The record of every open upload; expired ones are deleted. */
  async records(now = Date.now()) {
    if (!this.works) return [];
    const found = [];
    try {
      for (const record of await done(this.#store("uploads", "readonly").getAll())) {
        if (now - since(record) > KEPT) await this.forget(record.id);
        else found.push(record);
      }
    } catch {
      this.#database = null; // damaged or deleted
      return [];
    }
    return found.sort((a, b) => since(a) - since(b));
  }

  /** The records of a file: by its name, size and date. Few of thousands. */
  async find(file, now = Date.now()) {
    if (!this.works) return [];
    try {
      const index = this.#store("uploads", "readonly").index("file");
      const found = await done(index.getAll(FILE.map((name) => file[name])));
      return found.filter((record) => now - since(record) <= KEPT);
    } catch {
      return [];
    }
  }

  async parts(id) {
    if (!this.works) return new Map();
    try {
      const rows = await done(this.#store("parts", "readonly").getAll(partsOf(id)));
      return new Map(rows.map((row) => [row.number, row]));
    } catch {
      return new Map();
    }
  }

  save(record) { return this.saveAll([record]); }

  async saveAll(records) {
    if (!records.length || (await this.#put("uploads", ...records))) return;
    // Some browsers cannot store file handles.
    await this.#put("uploads", ...records.map((record) => ({ ...record, fileHandle: null, folderHandle: null })));
  }

  savePart(id, number, { checksum, etag, earlier = [] }) {
    return this.#put("parts", { id, number, checksum, etag, earlier });
  }

  async forget(id) {
    if (!this.works) return;
    try {
      const transaction = this.#database.transaction(["uploads", "parts"], "readwrite");
      transaction.objectStore("uploads").delete(id);
      transaction.objectStore("parts").delete(partsOf(id));
      await committed(transaction);
    } catch {
      // Then the page offers it again, and the service says that it no longer exists.
    }
  }

  #store(name, mode) {
    return this.#database.transaction(name, mode).objectStore(name);
  }

  /** Return whether it is stored. A full disk must not end an upload: a part that is not stored is hashed again. */
  async #put(name, ...rows) {
    if (!this.works) return false;
    try {
      const store = this.#store(name, "readwrite");
      for (const row of rows) store.put(row);
      await committed(store.transaction);
      return true;
    } catch {
      return false;
    }
  }
}
