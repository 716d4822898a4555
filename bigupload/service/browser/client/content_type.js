// The content type of a file by its name, because a browser's type of a .mov depends on the system. For names that the
// published service does not take, it is what the browser says: a service may accept other types.

const BY_EXTENSION = {
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

export function contentTypeOf(file) {
  const extension = /.\.([a-z0-9]+)$/i.exec(file.name)?.[1].toLowerCase() ?? "";
  if (Object.hasOwn(BY_EXTENSION, extension)) return BY_EXTENSION[extension];
  return file.type || "application/octet-stream";
}
