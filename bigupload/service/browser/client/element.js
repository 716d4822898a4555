// <big-upload endpoint token name multiple accept required disabled>: choose or drop files, see them uploaded. In a form
// its value are the public URLs; `receipt-name` names a field for the signed receipts. It keeps the contract of
// <input type=file>: without `multiple` another choice replaces the first one, `accept` counts for what is dropped, and
// Back brings the value back. README.md says what it has: attributes, events, slots and CSS parts.

import { Client } from "./client.js";
import { Row } from "./element_row.js";
import { style } from "./element_style.js";
import { accepts, dropped } from "./intake.js";
import { describe, read } from "./kept.js";
import { Thumbs } from "./thumbs.js";
import { Words, choose, wordsOf } from "./words.js";

const TYPE_REFUSED = ["unsupported_media", "token_type_refused"]; // codes of the service
const ENDED = ["done", "cancelled", "remembered"];
// Attributes, read and set as properties, too.
const TEXT_PROPERTIES = ["endpoint", "name", "accept", "credentials", "receiptName"];
const ATTRIBUTES = { receiptName: "receipt-name" }; // of properties that are spelled otherwise
const SWITCHES = ["multiple", "required", "disabled"];
const MISSING = "<big-upload>: the endpoint is missing. Set the attribute or property `endpoint` to the service's URL.";

const MARKUP = `
  <label part="zone">
    <input type="file" part="input">
    <span><slot name="label"></slot></span>
    <small><slot name="hint"></slot></small>
  </label>
  <p part="notice" role="alert" hidden></p>
  <p part="total" hidden></p>
  <p part="left" hidden><span></span> <button type="button" part="button choose-again"></button></p>
  <ul part="list" role="list"></ul>
  <p part="said" role="status"></p>
`;

/** Nothing that is done here makes it an upload: it was refused, or would be again. */
const isLost = ({ state, problem }) => state === "failed" && !problem.passing;

const isBusy = ({ running, state }) => running || state === "waiting";

export class BigUploadElement extends (globalThis.HTMLElement ?? class {}) {
  static formAssociated = true;
  static observedAttributes = ["endpoint", "name", "receipt-name", "token", "multiple", "accept", "disabled", "required"];

  #internals = this.attachInternals();
  #root = this.attachShadow({ mode: "open", delegatesFocus: true });
  #client = null;
  #token = null;
  #headers = null;
  #texts = {}; // those that the app has replaced
  #rows = new Map(); // Upload → Row
  #thumbs = globalThis.IntersectionObserver ? new Thumbs() : null;
  #interrupted = []; // uploads that were paused because the element was removed
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
  get texts() { return this.#words().texts; }

  set texts(texts) {
    this.#texts = { ...this.#texts, ...texts };
    this.#render();
  }

  /** In the language of the element or of what it is in, else the browser's. */
  #words(more = {}) {
    const named = this.closest?.("[lang]")?.lang;
    const language = choose(named ? [named] : (globalThis.navigator?.languages ?? []));
    return new Words({ ...wordsOf(language), ...this.#texts, ...more }, language);
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
  add(files) { this.#add([...files].map((file) => ({ file }))); }

  #add(chosen) {
    if (!this.hasAttribute("endpoint")) {
      if (!this.#warned) console.error(MISSING);
      this.#warned = true;
      return;
    }
    const twice = [];
    for (const each of this.hasAttribute("multiple") ? chosen : chosen.slice(0, 1)) {
      const { file, fileHandle, folderHandle, path = file.webkitRelativePath || null } = each;
      const left = this.uploads.find((upload) => upload.state === "remembered" && upload.couldBe(file));
      const same = this.uploads.find((upload) => (isBusy(upload) || upload.result) && upload.isOf(file));
      if (left) left.resume(file, fileHandle);
      else if (same) twice.push(file.name);
      else {
        if (!this.hasAttribute("multiple")) for (const upload of this.uploads) this.#remove(upload);
        this.#show(this.#connect().upload(file, { fileHandle, folderHandle, path }));
      }
    }
    this.#notice({ twice });
    this.#render();
  }

  /** Why files were not added: {name of the text: names of files}. */
  #notice(reasons) {
    const words = this.#words();
    const lines = Object.entries(reasons).filter(([, names]) => names.length);
    const said = lines.map(([name, names]) => words.t(name, { names: words.few(names) }));
    if (reasons.not_accepted?.length) said.push(words.accepted(this.accept ?? ""));
    this.#put("notice", said.join("\n"));
  }

  connectedCallback() {
    this.#takeOver();
    this.#render();
    globalThis.addEventListener?.("beforeunload", this.#beforeUnload);
    for (const upload of this.#interrupted.splice(0)) if (upload.state === "paused") upload.resume();
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
    queueMicrotask(() => {
      if (this.isConnected) return; // it has only moved
      globalThis.removeEventListener("beforeunload", this.#beforeUnload);
      this.#interrupted = this.uploads.filter(isBusy);
      this.#client?.close();
    });
  }

  #beforeUnload = (event) => {
    if (this.uploads.some(isBusy)) event.preventDefault();
  };

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
    this.#notice({});
  }

  /** The browser shows the form again, as it was left. */
  formStateRestoreCallback(state) {
    // After the page's own scripts, which may set `token` and `headers`.
    setTimeout(async () => {
      const kept = read(state);
      if (!kept.length || this.value.length || !this.hasAttribute("endpoint")) return;
      const known = kept.some(({ who }) => who) ? await this.#connect().who() : null;
      for (const upload of kept) if (!upload.who || upload.who === known) this.#show(upload);
      this.#render();
    });
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
      this.#thumbs?.forget(row);
      row.element.remove();
      this.#rows.delete(upload);
    }
    for (const upload of unfinished) if (!this.#rows.has(upload)) this.#show(upload);
    this.#render();
  }

  #show(upload) {
    const row = new Row(upload, () => {
      this.#remove(upload);
      if (upload.result) this.dispatchEvent(new Event("change", { bubbles: true }));
    });
    this.#rows.set(upload, row);
    this.#part("list").append(row.element);
    this.#thumbs?.watch(row);
  }

  async #remove(upload) {
    const row = this.#rows.get(upload);
    const next = row.element.nextElementSibling ?? row.element.previousElementSibling;
    const focused = row.element.contains(this.#root.activeElement);
    this.#rows.delete(upload);
    this.#thumbs?.forget(row);
    row.element.remove();
    if (focused) (next?.querySelector("button:not([hidden])") ?? this.#part("input")).focus();
    this.#render();
    await upload.cancel().catch(() => {}); // another tab has it now
    this.#client?.forget(upload);
  }

  #part(name) { return this.#root.querySelector(`[part~="${name}"]`); }

  #listen() {
    const input = this.#part("input");
    const zone = this.#part("zone");
    input.addEventListener("change", () => {
      const files = [...input.files].map((file) => ({ file }));
      input.value = ""; // so that the same file can be chosen again
      this.#add(files);
    });
    this.#part("choose-again").addEventListener("click", () => input.click());
    for (const [type, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
      zone.addEventListener(type, (event) => {
        event.preventDefault();
        zone.classList.toggle("over", over);
        if (type === "drop" && !input.disabled) this.#drop(event.dataTransfer);
      });
    }
  }

  async #drop(transfer) {
    const { chosen, empty, unread } = await dropped(transfer);
    const isAccepted = ({ file }) => accepts(this.accept ?? "", file);
    this.#add(chosen.filter(isAccepted));
    const refused = chosen.filter((each) => !isAccepted(each)).map(({ file, path }) => path ?? file.name);
    if (refused.length + empty.length + unread.length) {
      this.#notice({ not_accepted: refused, no_files: empty, not_read: unread });
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
    input.accept = this.accept ?? "";
    input.disabled = this.matches(":disabled");
    const words = this.#words();
    const label = this.#root.querySelector('slot[name="label"]');
    const invitation = this.#invitation(words.texts);
    if (label.textContent !== invitation) label.textContent = invitation;
    for (const [upload, row] of this.#rows) {
      const own = this.#wordsOf(upload, words);
      if (row.render(own)) this.#tell(upload, own);
    }
    this.#summarize(words);
    this.#toForm(words.texts);
  }

  /** The words of one file. The service names all types that it takes, of which `accept` may want a few. */
  #wordsOf({ file, problem }, words) {
    const name = `problem_${problem?.code}`;
    const isOfType = !TYPE_REFUSED.includes(problem?.code) || !file || accepts(this.accept ?? "", file);
    if (isOfType || this.#texts[name]) return words;
    return this.#words({ [name]: `${words.t("wrong_type")} ${words.accepted(this.accept ?? "")}` });
  }

  /** Nobody drops a file on a phone. */
  #invitation(texts) {
    const touch = globalThis.matchMedia?.("(hover: none)").matches ? "_touch" : "";
    const one = this.hasAttribute("multiple") ? "" : "_one";
    if (this.#texts.choose && !this.#texts[`choose${touch}${one}`]) return this.#texts.choose;
    return texts[`choose${touch}${one}`];
  }

  /** What there is to say of several files at once. */
  #summarize({ t, sizeOf }) {
    const { uploads } = this;
    const sum = (all, of) => all.reduce((total, each) => total + of(each), 0);
    const counted = uploads.filter((upload) => !isLost(upload)); // what is refused is no file of the form
    const done = uploads.filter(({ result }) => result);
    const left = uploads.filter(({ state, file }) => state === "remembered" && !file);
    const bytes = sum(counted, (each) => each.size);
    const stored = sum(counted, (each) => (each.result ? each.size : each.progress.stored));
    const total = t("total", { done: done.length, count: counted.length });
    this.#put("total", counted.length > 1 ? `${total} · ${sizeOf(stored, bytes)}` : "");
    const several = left.length > 1;
    this.#part("left").hidden = !several;
    if (!several) return;
    this.#part("left").firstElementChild.textContent = t("left", { count: left.length });
    this.#part("choose-again").textContent = t("choose_again");
  }

  #put(name, text) {
    const part = this.#part(name);
    if (part.textContent !== text) part.textContent = text;
    part.hidden = !text;
  }

  #tell(upload, words) {
    const { state, name, problem } = upload;
    if (["uploading", "paused", "done", "failed", "unauthorized"].includes(state)) {
      this.#part("said").textContent = `${name}: ${problem ? words.problem(problem) : words.t(state)}`;
    }
    const dispatch = (type) =>
      this.dispatchEvent(new CustomEvent(type, { detail: { upload }, bubbles: true, composed: true }));
    if (state === "done") {
      dispatch("upload-done");
      this.dispatchEvent(new Event("change", { bubbles: true }));
    } else if (state === "failed" || state === "unauthorized") dispatch("upload-error");
    else dispatch("upload-progress");
  }

  #toForm(texts) {
    const data = new FormData();
    const { name, receiptName } = this;
    for (const { result } of this.uploads.filter((upload) => upload.result)) {
      if (name) data.append(name, result.publicUrl);
      if (receiptName) data.append(receiptName, result.receipt ?? ""); // as many as URLs, in their order
    }
    this.#internals.setFormValue(name || receiptName ? data : null, describe(this.uploads));
    const open = this.uploads.filter((upload) => !ENDED.includes(upload.state) && !isLost(upload));
    const missing = this.hasAttribute("required") && !this.value.length && !open.length;
    const unsent = open.length > 0 && !open.some(isBusy) && open.every(({ state }) => state !== "paused");
    const message = missing ? texts.missing : unsent ? texts.unsent : open.length ? texts.unfinished : "";
    const flags = missing ? { valueMissing: true } : open.length ? { customError: true } : {};
    this.#internals.setValidity(flags, message, this.#part("input"));
  }
}

for (const name of [...TEXT_PROPERTIES, ...SWITCHES]) {
  const attribute = ATTRIBUTES[name] ?? name;
  const isSwitch = SWITCHES.includes(name);
  Object.defineProperty(BigUploadElement.prototype, name, {
    configurable: true,
    enumerable: true,
    get() { return isSwitch ? this.hasAttribute(attribute) : this.getAttribute(attribute); },
    set(value) {
      if (isSwitch ? value : value !== null && value !== undefined) this.setAttribute(attribute, isSwitch ? "" : value);
      else this.removeAttribute(attribute);
    },
  });
}

if (globalThis.customElements && !customElements.get("big-upload")) customElements.define("big-upload", BigUploadElement);
