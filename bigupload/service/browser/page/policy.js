// What the service accepts: bytes, seconds, types. A service serves its own in place of this file.

export const POLICY = {
  "maxSize": 5000000000,
  "keep": 604800,
  "types": {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "jpe": "image/jpeg",
    "jfif": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "mp4": "video/mp4",
    "m4v": "video/mp4",
    "mov": "video/quicktime",
    "qt": "video/quicktime",
    "webm": "video/webm"
  },
  "other": null,
  "names": [
    "JPEG",
    "PNG",
    "GIF",
    "WebP",
    "MP4",
    "MOV",
    "WebM"
  ],
  "ownUsers": false
};
