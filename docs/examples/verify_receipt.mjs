// An app's backend verifies the receipt of an upload: `node verify_receipt.mjs SERVICE OWNER USER < receipt`.
//
// SERVICE is the address of the media service, OWNER the owner whose keys and tokens the app has, and USER the id of the
// user who is signed in. It needs no package; verify_receipt.py is the same for Python.

import { createPublicKey, verify } from "node:crypto";
import { text } from "node:stream/consumers";

const decode = (part) => JSON.parse(Buffer.from(part, "base64url").toString());

/** What the service says of the user's upload. Throws for anything else. `keys` are those of the service's JWKS. */
export function verified(receipt, keys, owner, user) {
  const [head, body, signature] = receipt.split(".");
  const { alg, kid } = decode(head);
  const jwk = keys.find((each) => each.kid === kid);
  if (alg !== "ES256" || !jwk) throw new Error("the key is unknown");
  const key = { key: createPublicKey({ key: jwk, format: "jwk" }), dsaEncoding: "ieee-p1363" };
  if (!verify("sha256", Buffer.from(`${head}.${body}`), key, Buffer.from(signature, "base64url"))) {
    throw new Error("the signature is wrong");
  }
  const facts = decode(body);
  if (facts.aud !== owner || facts.user !== user) throw new Error("the receipt is another owner's or user's");
  if (!(facts.exp > Date.now() / 1000)) throw new Error("the receipt has expired");
  return facts; // remember facts.jti, if an upload must be used only once
}

if (import.meta.url === `file://${process.argv[1]}`) {
  const [service, owner, user] = process.argv.slice(2);
  const { keys } = await (await fetch(`${service}/.well-known/jwks.json`)).json(); // keep them for 5 minutes
  try {
    console.log(JSON.stringify(verified((await text(process.stdin)).trim(), keys, owner, user)));
  } catch (error) {
    console.error(`not a receipt: ${error.message}`);
    process.exit(1);
  }
}
