// A program on the types that openapi-typescript makes of the service's document. It must compile under strict rules,
// and what is marked as wrong must not.

import { readFile } from "node:fs/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Schemas = components["schemas"];

const [url = "", key = "", picture = ""] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${key}` } });

// @ts-expect-error: the content type is missing
const incomplete: Schemas["PresignRequest"] = { filename: "photo.jpg" };
// @ts-expect-error: a size is a number
const wrong: Schemas["PresignRequest"] = { filename: "photo.jpg", contentType: "image/jpeg", size: "5" };
// @ts-expect-error: there is no such algorithm
const other: Schemas["CreateRequest"] = { filename: "a.mp4", contentType: "video/mp4", size: 1, checksumAlgorithm: "x" };
// @ts-expect-error: a handle is needed to look at an upload
const nameless = () => client.GET("/v1/media/multipart");
void [incomplete, wrong, other, nameless];

const made = await client.POST("/v1/media/presign", { body: { filename: "photo.jpg", contentType: "image/jpeg" } });
if (made.data === undefined) throw new Error(made.error.error.code);
const sent = await fetch(made.data.uploadUrl, {
  method: "PUT",
  headers: { "Content-Type": "image/jpeg" },
  body: await readFile(picture),
});
const listed = await client.GET("/v1/media", { params: { query: { limit: 10 } } });
const [file] = listed.data?.media ?? [];
console.log(sent.status, file?.key === made.data.key, file?.size, made.data.expiresIn);

const upload = await client.POST("/v1/media/multipart", {
  body: { filename: "film.mp4", contentType: "video/mp4", size: 10_000_000 },
});
if (upload.data === undefined) throw new Error(upload.error.error.code);
const query = { upload: upload.data.upload };
const state = await client.GET("/v1/media/multipart", { params: { query } });
const aborted = await client.DELETE("/v1/media/multipart", { params: { query } });
console.log(upload.data.parts, state.data?.status, aborted.response.status);

const token = await client.POST("/v1/media/tokens", { body: { uploads: 1, contentTypes: ["image/*"], singlePut: true } });
const refused = await client.POST("/v1/media/presign", {
  body: { filename: "film.mp4", contentType: "video/mp4" },
  headers: { Authorization: `Bearer ${token.data?.token}` },
});
console.log(refused.response.status, refused.error?.error.code, refused.error?.error.field);

await client.DELETE("/v1/media/{key}", { params: { path: { key: made.data.key } } });
console.log((await client.GET("/v1/media")).data?.media.length);
