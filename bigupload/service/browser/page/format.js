// Format sizes, rates and times for people, in the page's language. Pure.

import { LANG, t } from "./words.js";

const UNITS = t("units").split(" ");

function scaled(value) {
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : unit >= 3 && value < 9.995 ? 2 : 1;
  const number = value.toLocaleString(LANG, { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return [number, unit];
}

/** Bytes in decimal units, like limits and links: "320 MB", "1.25 GB". */
export function size(bytes) {
  const [number, unit] = scaled(bytes);
  return `${number}\u00a0${UNITS[unit]}`;
}

/** A round size without decimals: "5 GB". */
export const roundSize = (bytes) => size(bytes).replace(/[.,]0+(?=\s)/u, "");

/** "150 of 320 MB": the unit only once if both have the same. */
export function sizeOf(part, whole) {
  const [a, unitA] = scaled(part);
  const [, unitB] = scaled(whole);
  return t("part_of", { part: part === 0 ? "0" : unitA === unitB ? a : size(part), whole: size(whole) });
}

export const rate = (bytesPerSecond) => t("rate", { size: size(bytesPerSecond) });

const PERCENT = new Intl.NumberFormat(LANG, { style: "percent" });

/** "100%" only when everything is sent. */
export const percent = (fraction) =>
  PERCENT.format(fraction >= 1 ? 1 : Math.min(99, Math.floor(fraction * 100)) / 100);

/** A duration, no finer than the estimate: "25 s", "3 min", "1 h 5 min". */
export function duration(seconds) {
  if (seconds < 10) return t("time_few");
  if (seconds < 55) return t("time_seconds", { count: Math.ceil(seconds / 5) * 5 });
  const minutes = Math.ceil(seconds / 60);
  if (minutes < 60) return t("time_minutes", { count: minutes });
  const [hours, rest] = [Math.floor(minutes / 60), minutes % 60];
  return rest ? t("time_both", { hours, minutes: rest }) : t("time_hours", { hours });
}

/** A long URL in little space: its host and the end of its path. */
export function shortUrl(url) {
  const { host, pathname } = new URL(url);
  const last = pathname.split("/").at(-1);
  const name = last.length > 20 ? `…${last.slice(-16)}` : last;
  return pathname === `/${last}` ? `${host}/${name}` : `${host}/…/${name}`;
}
