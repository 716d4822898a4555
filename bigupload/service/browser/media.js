// Which files the service takes, told before anything is sent. The service decides; this only spares the wait.

import { size } from "./format.js";

export const MAX_SIZE = 5_000_000_000; // bytes

const TYPES = {
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  jpe: "image/jpeg",
  jfif: "image/jpeg",
  png: "image/png",
  gif: "image/gif",
  webp: "image/webp",
  mp4: "video/mp4",
  m4v: "video/mp4",
  mov: "video/quicktime",
  qt: "video/quicktime",
  webm: "video/webm",
};

const extension = (name) => /.\.([a-z0-9]+)$/i.exec(name)?.[1].toLowerCase() ?? "";

/** By the name alone: what browsers say of a .mov differs with the system. */
export const contentType = (name) => TYPES[extension(name)] ?? null;

/** Why the file can't be uploaded, or null. */
export function objection(file) {
  const type = contentType(file.name);
  if (type === null) return "It is none of JPEG, PNG, GIF, WebP, MP4, MOV and WebM, going by its name.";
  const said = file.type.split("/")[0];
  if (said && !["image", "video", "application"].includes(said)) return `It says that it is ${file.type}, not ${type}.`;
  if (file.size === 0) return "It is empty.";
  if (file.size > MAX_SIZE) return `It has ${size(file.size)}; at most ${size(MAX_SIZE)} are taken.`;
  return null;
}

/** For the browser's file dialogue, where it can be told. */
export const PICKER_TYPES = [
  {
    description: "Photos and videos",
    accept: Object.fromEntries(
      [...new Set(Object.values(TYPES))].map((type) => [
        type,
        Object.keys(TYPES).filter((end) => TYPES[end] === type).map((end) => `.${end}`),
      ]),
    ),
  },
];
