// An app's backend makes upload tokens by itself: `node mint_token.mjs OWNER`, with the owner's signing key.
//
// The key comes from `bigupload keys signing-key --owner OWNER`, in the environment variable UPLOAD_SIGNING_KEY. It stays
// in the backend; the token goes to the user's browser. mint_token.py is the same for Python.

import { createHmac, randomUUID } from "node:crypto";

const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A token of `owner`. `limits`: user, maxSize and any other of docs/service-access.md. */
export function uploadToken(owner, signingKey, { seconds = 3600, ...limits } = {}) {
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    aud: "bigupload",
    sub: owner,
    iat: now,
    exp: now + seconds, // at most 24 hours after iat
    jti: randomUUID(), // another one for each token: uploads are counted by it
    ...limits,
  };
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
  return `${signed}.${createHmac("sha256", signingKey).update(signed).digest("base64url")}`;
}

if (import.meta.url === `file://${process.argv[1]}`) {
  const limits = { user: "u-17", maxSize: 100_000_000, contentTypes: ["image/*", "video/mp4"], uploads: 1 };
  console.log(uploadToken(process.argv[2], process.env.UPLOAD_SIGNING_KEY, limits));
}
