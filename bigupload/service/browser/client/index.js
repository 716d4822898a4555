// What the package exports.

export { Client, upload } from "./client.js";
export { Problem } from "./problem.js";
export { Upload } from "./upload.js";
