// One upload in <big-upload>.

import { fraction, statusParts } from "./describe.js";
import { middle } from "./middle.js";

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

  /** Show it as it is now, in these words. Returns whether anything has changed. */
  render(words) {
    const { state, note, problem, result, progress, file } = this.#upload;
    const { sent, waiting } = progress;
    const far = fraction(this.#upload);
    this.#part("bar").value = far ?? 0;
    this.#part("bar").hidden = far === null;
    this.#part("status").textContent = statusParts(this.#upload, words).join(" · ");
    this.#error(HALTED.includes(state) ? words.problem(problem) : "");
    if (result && !this.#part("link")) this.#link(result.publicUrl);
    this.element.dataset.state = state;
    const refused = problem?.kind === "refused";
    const buttons = {
      pause: ["starting", "comparing", "hashing", "uploading", "waiting"].includes(state),
      resume: [...HALTED, "paused"].includes(state) && file && !refused,
      cancel: state !== "finishing",
    };
    const named = {
      pause: "pause",
      resume: state === "paused" ? "resume" : "again",
      cancel: result || refused || state === "cancelled" ? "remove" : "cancel",
    };
    for (const [name, offered] of Object.entries(buttons)) {
      const button = this.#part(name);
      button.hidden = !offered;
      button.textContent = words.t(named[name]);
      button.setAttribute("aria-label", `${button.textContent}: ${this.#upload.name}`); // equal names could not be told apart
    }
    const shown = `${state} ${note} ${sent} ${waiting}`;
    const changed = shown !== this.#shown;
    this.#shown = shown;
    return changed;
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
