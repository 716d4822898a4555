// Format sizes, rates and times for people, and compute the smoothed rate. Pure: the clock is passed in.

const SIZES = ["bytes", "kB", "MB", "GB"];

function scaled(value) {
  let unit = 0;
  while (value >= 999.5 && unit < SIZES.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : unit === 3 && value < 9.995 ? 2 : 1;
  return [value.toFixed(digits), unit];
}

/** Bytes in decimal units, like limits and links: "320 MB", "1.25 GB". */
export function size(bytes) {
  const [number, unit] = scaled(bytes);
  return `${number} ${SIZES[unit]}`;
}

/** "150 of 320 MB": the unit only once if both have the same. */
export function sizeOf(part, whole) {
  const [a, unitA] = scaled(part);
  const [b, unitB] = scaled(whole);
  if (part === 0) return `0 of ${size(whole)}`;
  return unitA === unitB ? `${a} of ${b} ${SIZES[unitB]}` : `${size(part)} of ${size(whole)}`;
}

export const rate = (bytesPerSecond) => `${size(bytesPerSecond)}/s`;

/** "100 %" only when everything is sent. */
export const percent = (fraction) => `${fraction >= 1 ? 100 : Math.min(99, Math.floor(fraction * 100))} %`;

/** A duration, no finer than the estimate: "25 s", "3 min", "1 h 5 min". */
export function duration(seconds) {
  if (seconds < 10) return "a few seconds";
  if (seconds < 55) return `${Math.ceil(seconds / 5) * 5} s`;
  const minutes = Math.ceil(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const [hours, rest] = [Math.floor(minutes / 60), minutes % 60];
  return rest ? `${hours} h ${rest} min` : `${hours} h`;
}

const WINDOW = 12_000; // milliseconds of history
const LEAST = 2_000; // milliseconds before the first rate

/** The rate, from the bytes of the last seconds. */
export class Meter {
  #samples = [];

  /** `bytes` is the total so far. It falls if a part must be sent again. */
  add(now, bytes) {
    this.#samples.push({ now, bytes });
    while (this.#samples.length > 2 && now - this.#samples[1].now >= WINDOW) this.#samples.shift();
  }

  reset() {
    this.#samples = [];
  }

  /** Bytes a second; null if there is too little history. */
  get rate() {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (!first || last.now - first.now < LEAST) return null;
    return Math.max(0, ((last.bytes - first.bytes) * 1000) / (last.now - first.now));
  }
}
