// The page's own calls to the service: whose a key is, and whether a link can be used.

import { Api } from "../client/api.js";
import { POLICY } from "./policy.js";

/** Where it is, and for whom requests are where an application knows its users by a cookie. */
export const SERVICE = {
  endpoint: new URL("..", import.meta.url),
  ...(POLICY.ownUsers && { credentials: "same-origin", headers: {} }),
};

/** The service, asked with this key; for an application's user where it is "". */
export const asked = (key) => new Api({ ...SERVICE, token: key });
