// <big-upload endpoint token name multiple accept required disabled>: choose or drop files, see them uploaded. In a form
// its value are the public URLs. README.md says what it has: attributes, events, slots and CSS parts.

import { Client } from "./client.js";
import { Row } from "./element_row.js";

const ENDED = ["done", "cancelled", "remembered"];
const TEXTS = {
  choose: "Choose files or drop them here",
  waiting: "Waiting for its turn",
  remembered: "Not finished. Choose the same file again to resume.",
  starting: "Starting",
  comparing: "Comparing with what was sent before",
  hashing: "Reading the file",
  uploading: "Uploading",
  storing: "Waiting for the store",
  finishing: "Finishing",
  paused: "Paused",
  unauthorized: "Not allowed",
  failed: "Stopped",
  refused: "Not accepted",
  done: "Done",
  cancelled: "Cancelled",
  offline: "No connection. It goes on when the connection is back.",
  service: "The service does not respond. Trying again…",
  store: "The store does not respond. Trying again…",
  check: "A check of the service failed. Trying again…",
  pause: "Pause",
  resume: "Resume",
  cancel: "Cancel",
  remove: "Remove",
  missing: "Choose a file.",
  unfinished: "Wait until the uploads are finished.",
};

const TEXT_PROPERTIES = ["endpoint", "name", "accept", "credentials"]; // attributes, read and set as properties, too
const SWITCHES = ["multiple", "required", "disabled"];
const MISSING = "<big-upload>: the endpoint is missing. Set the attribute or property `endpoint` to the service's URL.";

const MARKUP = `
  <label part="zone">
    <input type="file" part="input">
    <span><slot name="label"></slot></span>
    <small><slot name="hint"></slot></small>
  </label>
  <ul part="list" role="list"></ul>
  <p part="said" role="status"></p>
`;

const STYLE = `
  :host { display: block; font: inherit; }
  :host([hidden]) { display: none; }
  [part~="zone"] { display: grid; gap: .25em; justify-items: center; padding: 1.5em; border: 2px dashed currentColor;
    border-radius: .5em; cursor: pointer; }
  [part~="zone"]:has(:disabled) { opacity: .5; cursor: not-allowed; }
  [part~="zone"].over, [part~="zone"]:focus-within { border-style: solid; }
  [part~="zone"]:focus-within { outline: 2px solid; outline-offset: 2px; }
  input, [part~="said"] { position: absolute; width: 1px; height: 1px; margin: -1px; overflow: hidden;
    clip-path: inset(50%); white-space: nowrap; }
  ul { list-style: none; margin: 0; padding: 0; }
  li { display: grid; grid-template-columns: 1fr auto; gap: .25em .5em; align-items: center; padding: .5em 0; }
  [part~="name"] { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  progress { grid-column: 1 / -1; width: 100%; }
  [part~="status"], [part~="error"] { grid-column: 1 / -1; margin: 0; font-size: .875em; }
  [hidden] { display: none !important; }
`;

let sheet = null; // made in a browser: a server that renders pages may import this module, too

function style() {
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
  }
  return sheet;
}

export class BigUploadElement extends (globalThis.HTMLElement ?? class {}) {
  static formAssociated = true;
  static observedAttributes = ["endpoint", "name", "token", "multiple", "accept", "disabled", "required"];

  #internals = this.attachInternals();
  #root = this.attachShadow({ mode: "open", delegatesFocus: true });
  #client = null;
  #token = null;
  #headers = null;
  #texts = TEXTS;
  #rows = new Map(); // Upload → Row
  #frame = null;
  #warned = false;

  constructor() {
    super();
    this.#root.adoptedStyleSheets = [style()];
    this.#root.innerHTML = MARKUP;
    this.#listen();
  }

  /** A text, or a function that returns one or a promise of one. */
  get token() { return this.#token ?? this.getAttribute("token"); }

  set token(token) {
    this.#token = token;
    this.#renew();
  }

  /** More headers for the service: an object or a function. Set them before the first file. */
  get headers() { return this.#headers; }

  set headers(headers) { this.#headers = headers; }

  /** The words; those that are not named stay as they are. */
  get texts() { return this.#texts; }

  set texts(texts) {
    this.#texts = { ...this.#texts, ...texts };
    this.#render();
  }

  get uploads() { return [...this.#rows.keys()]; }

  /** The public URLs of what is uploaded. */
  get value() { return this.uploads.flatMap(({ result }) => result?.publicUrl ?? []); }

  get form() { return this.#internals.form; }
  get validity() { return this.#internals.validity; }
  get validationMessage() { return this.#internals.validationMessage; }
  checkValidity() { return this.#internals.checkValidity(); }
  reportValidity() { return this.#internals.reportValidity(); }

  /** Upload files, as if they were chosen. */
  add(files) {
    if (!this.hasAttribute("endpoint")) {
      if (!this.#warned) console.error(MISSING);
      this.#warned = true;
      return;
    }
    for (const file of this.hasAttribute("multiple") ? files : [...files].slice(0, 1)) {
      const left = this.uploads.find((each) => each.state === "remembered" && each.couldBe(file));
      if (left) left.resume(file);
      else this.#show(this.#connect().upload(file));
    }
    this.#render();
  }

  connectedCallback() {
    this.#takeOver();
    this.#render();
    // After the page's own scripts, which may set `token` and `headers`.
    if (this.hasAttribute("endpoint")) setTimeout(() => this.#recall());
  }

  /** Properties that were set before this class was loaded hide its accessors: set them again. */
  #takeOver() {
    for (const property of [...TEXT_PROPERTIES, ...SWITCHES, "token", "headers", "texts"]) {
      if (!Object.hasOwn(this, property)) continue;
      const value = this[property];
      delete this[property];
      this[property] = value;
    }
  }

  disconnectedCallback() {
    queueMicrotask(() => this.isConnected || this.#client?.close()); // it may only have moved
  }

  attributeChangedCallback(name) {
    if (name === "token" && this.#token === null) this.#renew();
    if (name === "endpoint" && !this.#rows.size) {
      this.#client = null;
      if (this.isConnected && this.hasAttribute("endpoint")) setTimeout(() => this.#recall());
    }
    this.#render();
  }

  formDisabledCallback() { this.#render(); }

  formResetCallback() {
    for (const upload of this.uploads) this.#remove(upload);
  }

  #connect() {
    this.#client ??= new Client({
      endpoint: this.getAttribute("endpoint"),
      token: this.token,
      headers: this.#headers,
      credentials: this.getAttribute("credentials") ?? undefined,
      onChange: () => this.#renderSoon(),
      onUnfinished: () => this.#recall(),
    });
    return this.#client;
  }

  /** Another token, perhaps of another user. */
  #renew() {
    if (!this.#client) return;
    this.#client.token = this.token;
    this.#recall();
  }

  /** Show what the user left unfinished, and nothing of somebody else's. */
  async #recall() {
    if (!this.isConnected || !this.hasAttribute("endpoint")) return;
    const client = this.#connect();
    const unfinished = await client.unfinished();
    if (client !== this.#client) return;
    for (const [upload, row] of this.#rows) {
      if (upload.state !== "remembered" || unfinished.includes(upload)) continue;
      row.element.remove();
      this.#rows.delete(upload);
    }
    for (const upload of unfinished) if (!this.#rows.has(upload)) this.#show(upload);
    this.#render();
  }

  #show(upload) {
    const row = new Row(upload, () => this.#remove(upload));
    this.#rows.set(upload, row);
    this.#part("list").append(row.element);
  }

  async #remove(upload) {
    const row = this.#rows.get(upload);
    const next = row.element.nextElementSibling ?? row.element.previousElementSibling;
    const focused = row.element.contains(this.#root.activeElement);
    this.#rows.delete(upload);
    row.element.remove();
    if (focused) (next?.querySelector("button:not([hidden])") ?? this.#part("input")).focus();
    this.#render();
    await upload.cancel().catch(() => {}); // another tab has it now
    this.#client.forget(upload);
  }

  #part(name) { return this.#root.querySelector(`[part~="${name}"]`); }

  #listen() {
    const input = this.#part("input");
    const zone = this.#part("zone");
    input.addEventListener("change", () => {
      const files = [...input.files];
      input.value = ""; // so that the same file can be chosen again
      this.add(files);
    });
    for (const [type, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
      zone.addEventListener(type, (event) => {
        event.preventDefault();
        zone.classList.toggle("over", over);
        if (type === "drop" && !input.disabled) this.add(event.dataTransfer.files);
      });
    }
  }

  #renderSoon() {
    // A hidden tab draws no frames, and its uploads end, too.
    this.#frame ??= setTimeout(() => this.#render(), 100);
  }

  #render() {
    clearTimeout(this.#frame);
    this.#frame = null;
    const input = this.#part("input");
    input.multiple = this.hasAttribute("multiple");
    input.accept = this.getAttribute("accept") ?? "";
    input.disabled = this.matches(":disabled");
    const label = this.#root.querySelector('slot[name="label"]');
    if (label.textContent !== this.#texts.choose) label.textContent = this.#texts.choose;
    for (const [upload, row] of this.#rows) {
      const changed = row.render(this.#texts);
      if (changed) this.#tell(upload);
    }
    this.#toForm();
  }

  #tell(upload) {
    const { state, name, problem } = upload;
    if (["uploading", "paused", "done", "failed", "unauthorized"].includes(state)) {
      this.#part("said").textContent = `${name}: ${problem?.message ?? this.#texts[state]}`;
    }
    const dispatch = (type) =>
      this.dispatchEvent(new CustomEvent(type, { detail: { upload }, bubbles: true, composed: true }));
    if (state === "done") {
      dispatch("upload-done");
      this.dispatchEvent(new Event("change", { bubbles: true }));
    } else if (state === "failed" || state === "unauthorized") dispatch("upload-error");
    else dispatch("upload-progress");
  }

  #toForm() {
    const data = new FormData();
    for (const url of this.value) data.append(this.name ?? "", url);
    this.#internals.setFormValue(this.name ? data : null);
    const ended = ({ state, problem }) => ENDED.includes(state) || problem?.kind === "refused";
    const unfinished = !this.uploads.every(ended);
    const missing = this.hasAttribute("required") && !this.value.length && !unfinished;
    const message = missing ? this.#texts.missing : unfinished ? this.#texts.unfinished : "";
    const flags = missing ? { valueMissing: true } : unfinished ? { customError: true } : {};
    this.#internals.setValidity(flags, message, this.#part("input"));
  }
}

for (const name of TEXT_PROPERTIES) {
  Object.defineProperty(BigUploadElement.prototype, name, {
    configurable: true,
    enumerable: true,
    get() { return this.getAttribute(name); },
    set(value) {
      if (value === null || value === undefined) this.removeAttribute(name);
      else this.setAttribute(name, value);
    },
  });
}
for (const name of SWITCHES) {
  Object.defineProperty(BigUploadElement.prototype, name, {
    configurable: true,
    enumerable: true,
    get() { return this.hasAttribute(name); },
    set(value) { this.toggleAttribute(name, Boolean(value)); },
  });
}

if (globalThis.customElements && !customElements.get("big-upload")) customElements.define("big-upload", BigUploadElement);
