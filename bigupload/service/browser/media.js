// Check which files the service accepts, before anything is sent. The service decides; this only saves time.

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

/** The type by the name alone, because a browser's type of a .mov depends on the system. */
export const contentType = (name) => TYPES[extension(name)] ?? null;

/** Why the file can't be uploaded, or null. */
export function objection(file) {
  const type = contentType(file.name);
  if (type === null) return "Its name is not that of a JPEG, PNG, GIF, WebP, MP4, MOV or WebM file.";
  const said = file.type.split("/")[0];
  if (said && !["image", "video", "application"].includes(said)) return `Its type is ${file.type}, not ${type}.`;
  if (file.size === 0) return "It is empty.";
  if (file.size > MAX_SIZE) return `It has ${size(file.size)}; the limit is ${size(MAX_SIZE)}.`;
  return null;
}

/** The types for the browser's file dialogue, if it supports them. */
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
