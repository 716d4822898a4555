// One upload in <big-upload>.

import { middle } from "./middle.js";
import { duration, fill, percent, problemText, size } from "./words.js";

const MARKUP = `
  <span part="thumb" aria-hidden="true"></span>
  <div part="what">
    <div part="name"></div>
    <p part="folder" hidden></p>
    <p part="status"></p>
  </div>
  <span part="buttons">
    <button type="button" part="button pause"></button>
    <button type="button" part="button resume"></button>
    <button type="button" part="button cancel"></button>
  </span>
  <progress part="bar"></progress>
  <p part="error" role="alert" hidden></p>
`;
const RESUMED = ["paused", "failed", "unauthorized"];
const NO_BAR = ["remembered", "waiting", "done", "cancelled"];
const HALTED = ["failed", "unauthorized"];

export class Row {
  #upload;
  #shown = null; // the state and bytes that were rendered last

  constructor(upload, remove) {
    this.#upload = upload;
    this.item = upload;
    this.element = document.createElement("li");
    this.element.part.add("row");
    this.element.innerHTML = MARKUP;
    this.#part("name").append(middle(upload.name));
    this.#part("name").title = upload.path ?? upload.name;
    this.#folder(upload.path);
    this.#part("thumb").textContent = /.\.(\w{1,4})$/.exec(upload.name)?.[1].toUpperCase() ?? "";
    this.#part("bar").setAttribute("aria-label", upload.name);
    this.#part("pause").addEventListener("click", () => this.#press(() => upload.pause(), "resume"));
    this.#part("resume").addEventListener("click", () => this.#press(() => upload.resume(), "pause"));
    this.#part("cancel").addEventListener("click", remove);
  }

  get thumb() { return this.#part("thumb"); }

  #part(name) { return this.element.querySelector(`[part~="${name}"]`); }

  #folder(path) {
    const folder = this.#part("folder");
    folder.textContent = path?.slice(0, Math.max(0, path.lastIndexOf("/"))) ?? "";
    folder.hidden = !folder.textContent;
  }

  /** With the keyboard, the button that takes its place is focused. */
  #press(action, next) {
    action();
    this.#part("pause").hidden = next !== "pause";
    this.#part("resume").hidden = next !== "resume";
    this.#part(next).focus();
  }

  /** Show it as it is now. Returns whether anything has changed. */
  render(texts, language = "en") {
    const { state, note, problem, result, progress, file } = this.#upload;
    const { sent, waiting } = progress;
    const bar = this.#part("bar");
    bar.max = this.#upload.size || 1;
    bar.value = sent;
    const refused = problem?.kind === "refused";
    bar.hidden = refused || NO_BAR.includes(state) || (HALTED.includes(state) && !sent);
    this.#part("status").textContent = this.#status(texts, language);
    this.#error(state === "failed" || state === "unauthorized" ? problemText(problem, texts) : "");
    if (result && !this.#part("link")) this.#link(result.publicUrl);
    this.element.dataset.state = state;
    const buttons = {
      pause: ["starting", "comparing", "hashing", "uploading", "waiting"].includes(state),
      resume: RESUMED.includes(state) && file && !refused,
      cancel: state !== "finishing",
    };
    const words = {
      pause: texts.pause,
      resume: state === "paused" ? texts.resume : texts.again,
      cancel: result || refused || state === "cancelled" ? texts.remove : texts.cancel,
    };
    for (const [name, offered] of Object.entries(buttons)) {
      const button = this.#part(name);
      button.hidden = !offered;
      button.textContent = words[name];
      button.setAttribute("aria-label", `${words[name]}: ${this.#upload.name}`); // equal names could not be told apart
    }
    const shown = `${state} ${note} ${sent} ${waiting}`;
    const changed = shown !== this.#shown;
    this.#shown = shown;
    return changed;
  }

  #status(texts, language) {
    const { state, note, problem, progress, startedAt, size: whole } = this.#upload;
    const { sent, waiting, left } = progress;
    const refused = problem?.kind === "refused" && state === "failed";
    const name = state === "remembered" && startedAt === null ? "unbegun" : state;
    const words = texts[note ?? (refused ? "refused" : waiting ? "storing" : name)];
    const isMoving = state === "uploading" && !note && !waiting;
    const parts = [words];
    if (isMoving) parts.push(percent(sent / whole, language));
    if (whole && state !== "remembered") parts.push(size(whole, language));
    if (isMoving && left) parts.push(fill(texts.left_time, { time: duration(left, language) }));
    return parts.join(" · ");
  }

  #error(text) {
    const error = this.#part("error");
    if (error.textContent !== text) error.textContent = text;
    error.hidden = !text;
  }

  #link(url) {
    const link = document.createElement("a");
    link.href = url;
    link.part.add("link");
    link.setAttribute("aria-label", this.#upload.name);
    link.append(middle(this.#upload.name));
    this.#part("name").replaceChildren(link);
  }
}
