// Whose uploads they are. Several people may use one browser: none of them may see or continue what another began.
//
// An identity is a digest, so that no name is stored. Who has an upload token is read from the token. Whoever else it is,
// the service says.

/** The claims of an upload token, which only the service can verify; null: it is something else, as an API key. */
function claims(token) {
  const payload = /^[\w-]+\.([\w-]+)\.[\w-]+$/.exec(token)?.[1];
  if (!payload) return null;
  try {
    const text = atob(payload.replaceAll("-", "+").replaceAll("_", "/"));
    const read = JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (each) => each.charCodeAt(0))));
    return typeof read?.sub === "string" ? read : null;
  } catch {
    return null;
  }
}

/** The identity of a token's user; null: it is no token. */
export async function ofToken(token) {
  const read = claims(token);
  if (!read) return null;
  // An upload keeps the metadata that it was created with. If only they can say whose it is, they must be the same.
  const { sub, user = null, metadata } = read;
  return digest(sub, user, user === null ? Object.entries(metadata ?? {}).sort() : []);
}

/** The identity of someone whom the service knows. */
export const ofAnswer = ({ owner, user = null }) => digest(owner, user, []);

async function digest(...names) {
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify(names)));
  return btoa(String.fromCharCode(...new Uint8Array(bytes)));
}
