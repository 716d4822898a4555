// A link to media elsewhere. The service does not fetch it: it checks that a post can use it as it is.

import { Problem } from "../client/index.js";
import { t, words } from "./words.js";

/** A long URL in little space: its host and the end of its path. */
export function shortUrl(url) {
  const { host, pathname } = new URL(url);
  const last = pathname.split("/").at(-1);
  const name = last.length > 20 ? `…${last.slice(-16)}` : last;
  return pathname === `/${last}` ? `${host}/${name}` : `${host}/…/${name}`;
}

/** An item of the list, like an upload. */
export class Link {
  isLink = true;
  state = "checking";
  problem = null;
  note = null;
  size = 0;
  progress = { sent: 0, stored: 0, inFlight: 0, rate: null, left: null, waiting: false, found: 0, parts: null };
  result = null;
  file = null;

  constructor(url) {
    this.url = url;
    this.name = shortUrl(url);
  }

  get running() {
    return this.state === "checking";
  }

  /** Ask the service. `check(url)` calls it. Never rejects. */
  async run(check) {
    this.state = "checking";
    this.problem = null;
    try {
      const { usable, size, error } = await check(this.url);
      this.size = size ?? 0;
      this.state = usable ? "usable" : "failed";
      if (usable) this.result = { publicUrl: this.url };
      else this.problem = new Problem("refused", reason(error), { code: `link ${error.code}` });
    } catch (problem) {
      this.state = problem.kind === "key" ? "unauthorized" : "failed";
      this.problem = problem;
    }
  }
}

const reason = ({ code, message }) => (words.has(`link_${code}`) ? t(`link_${code}`) : message);

/** The address, if it is one. */
export function webAddress(text) {
  try {
    const url = new URL(text.trim());
    return ["http:", "https:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
