// A finished upload of a form that is shown again, after Back or a restored tab: what a row of <big-upload> needs of it.

export class Kept {
  state = "done";
  note = null;
  problem = null;
  file = null;
  running = false;

  constructor({ name, size, path = null, who = null, result }) {
    Object.assign(this, { name, size, path, who, result });
    this.id = crypto.randomUUID();
    this.progress = { sent: size, stored: size, inFlight: 0, size, rate: null, left: null, waiting: false };
  }

  isOf() { return false; } // nobody knows its date
  couldBe() { return false; }
  pause() {}
  async cancel() { return true; }
}

/** What is kept of finished uploads, as a text. */
export function describe(uploads) {
  const done = uploads.filter(({ result }) => result);
  const rows = done.map(({ name, size, path, who, record, result }) => {
    return { name, size, path, who: who ?? record?.who ?? null, result };
  });
  return JSON.stringify(rows);
}

/** The uploads of such a text. */
export function read(text) {
  try {
    return JSON.parse(text).map((row) => new Kept(row));
  } catch {
    return []; // of another version
  }
}
