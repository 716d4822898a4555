// Check which files the service accepts, before anything is sent. The service decides; this only saves time.

import { POLICY } from "./policy.js";
import { either, later, size, t } from "./words.js";

const TYPES = POLICY.types;
const DAY = 86_400; // seconds
const IMAGES = ["heic", "heif", "avif", "tif", "tiff", "bmp", "jxl", "psd", "svg", "dng", "cr2", "cr3", "nef", "arw", "raf"];
const VIDEOS = ["avi", "mkv", "wmv", "flv", "mpg", "mpeg", "m2ts", "mts", "ts", "ogv", "vob", "3gp", "3g2", "mxf"];

const extension = (name) => /.\.([a-z0-9]+)$/i.exec(name)?.[1].toLowerCase() ?? "";

/** The type by the name alone, because a browser's type of a .mov depends on the system. */
export const contentType = (name) => (Object.hasOwn(TYPES, extension(name)) ? TYPES[extension(name)] : POLICY.other);

/** What stands in place of a picture of the file. */
export const label = (name) => extension(name).slice(0, 4).toUpperCase();

export const anyType = POLICY.other !== null;

/** What the page says of its limits. */
export function limits() {
  const { keep } = POLICY;
  const kept =
    keep % DAY === 0 ? t("limit_days", { count: keep / DAY }) : t("limit_hours", { count: Math.round(keep / 3600) });
  return [
    POLICY.names.length ? either(POLICY.names) : t("limit_any"),
    t("limit_size", { size: size(POLICY.maxSize) }),
    ...(keep === null ? [] : [kept]),
  ];
}

/** For the file input; empty: all files. */
export const ACCEPTED = anyType ? "" : Object.keys(TYPES).map((end) => `.${end}`).join(",");

function unsupported(name) {
  const end = extension(name);
  const names = either(POLICY.names);
  if (!end) return later("refused_nameless", { names });
  const type = end.toUpperCase();
  if (IMAGES.includes(end) && "jpg" in TYPES) return later("refused_export", { type, other: "JPEG" });
  if (VIDEOS.includes(end) && "mp4" in TYPES) return later("refused_export", { type, other: "MP4" });
  return later("refused_type", { type, names });
}

/** Whether an upload token's list of types has this one. */
const allows = (patterns, type) =>
  patterns.some((each) => (each.endsWith("/*") ? type.startsWith(each.slice(0, -1)) : each === type));

/**
 * Why the file can't be uploaded: a function from the number of such files to a sentence, or null if it can.
 * `token`: the limits of the upload token, if there is one.
 */
export function objection(file, token = null) {
  const type = contentType(file.name);
  if (type === null) return unsupported(file.name);
  const said = file.type.split("/")[0];
  const expected = ["application", ...Object.values(TYPES).map((each) => each.split("/")[0])];
  if (said && !anyType && !expected.includes(said)) return later("refused_claim", { said: file.type, type });
  if (file.size === 0) return later("refused_empty");
  if (file.size > POLICY.maxSize) return later("refused_size", { size: size(file.size), limit: size(POLICY.maxSize) });
  if (token?.maxSize && file.size > token.maxSize) {
    return later("refused_token_size", { size: size(file.size), limit: size(token.maxSize) });
  }
  if (token?.contentTypes && !allows(token.contentTypes, type)) return later("refused_token_type", { type });
  return null;
}

/** The types for the browser's file dialogue, if it supports them. */
export const pickerTypes = () =>
  anyType
    ? []
    : [
        {
          description: t("picker"),
          accept: Object.fromEntries(
            [...new Set(Object.values(TYPES))].map((type) => [
              type,
              Object.keys(TYPES).filter((end) => TYPES[end] === type).map((end) => `.${end}`),
            ]),
          ),
        },
      ];
