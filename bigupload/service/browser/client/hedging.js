// Which parts in flight are stragglers, so that a second PUT may finish earlier. Pure: the time is passed in, in
// seconds. `core/hedging.py` explains the rules and has the same numbers; a test compares the two.

const KNOWN = 4; // parts that must have arrived before the usual time of a part is known
const REMEMBERED = 32;
const FAR = 4;
const FAR_AT_THE_END = 2.5;
const VERY_FAR = 10;
const GRACE = 0.25; // seconds
const SHARE = 20;

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const share = ({ sent, size }) => (size ? sent / size : 1);
const projected = (put) => (share(put) ? put.seconds / share(put) : Infinity);

/** The usual time of the parts of one upload. */
export class Pace {
  #took = [];

  arrived(seconds) {
    this.#took.push(seconds);
    if (this.#took.length > REMEMBERED) this.#took.shift();
  }

  /** Indices of the stragglers among `puts`, {size, sent, seconds}, the slowest first. */
  lagging(puts, atTheEnd) {
    if (this.#took.length < KNOWN) return [];
    let usual = median(this.#took);
    if (!atTheEnd) {
      const moving = puts.filter(({ sent }) => sent).map(projected);
      usual = Math.max(usual, moving.length > 2 ? median(moving) : 0);
    }
    const far = (atTheEnd ? FAR_AT_THE_END : FAR) * usual;
    const late = (put) =>
      projected(put) > far && put.seconds > (projected(put) > VERY_FAR * usual ? 1 : 2) * usual + GRACE;
    return [...puts.keys()].filter((index) => late(puts[index])).sort((a, b) => share(puts[a]) - share(puts[b]));
  }
}

/** The bytes that may be sent a second time: one of 20 bytes of the file, and one part in any case. */
export class Budget {
  #left;

  constructor(size, partSize) {
    this.#left = Math.max(partSize, Math.floor(size / SHARE));
  }

  has(count) {
    return count <= this.#left;
  }

  /** Reserve `count` bytes. False if there are not so many left. */
  take(count) {
    if (!this.has(count)) return false;
    this.#left -= count;
    return true;
  }

  giveBack(count) {
    this.#left += count;
  }
}
