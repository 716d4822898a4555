// One upload in <big-upload>.

const MARKUP = `
  <span part="name"></span>
  <span>
    <button type="button" part="button pause"></button>
    <button type="button" part="button resume"></button>
    <button type="button" part="button cancel"></button>
  </span>
  <progress part="bar"></progress>
  <p part="status"></p>
  <p part="error" role="alert" hidden></p>
`;
const RESUMED = ["paused", "failed", "unauthorized"];
const NO_BAR = ["remembered", "done", "cancelled"];

export class Row {
  #upload;
  #shown = null; // the state and bytes that were rendered last

  constructor(upload, remove) {
    this.#upload = upload;
    this.element = document.createElement("li");
    this.element.part.add("row");
    this.element.innerHTML = MARKUP;
    this.#part("name").textContent = upload.name;
    this.#part("name").title = upload.name;
    this.#part("bar").setAttribute("aria-label", upload.name);
    this.#part("pause").addEventListener("click", () => this.#press(() => upload.pause(), "resume"));
    this.#part("resume").addEventListener("click", () => this.#press(() => upload.resume(), "pause"));
    this.#part("cancel").addEventListener("click", remove);
  }

  #part(name) { return this.element.querySelector(`[part~="${name}"]`); }

  /** With the keyboard, the button that takes its place is focused. */
  #press(action, next) {
    action();
    this.#part("pause").hidden = next !== "pause";
    this.#part("resume").hidden = next !== "resume";
    this.#part(next).focus();
  }

  /** Show it as it is now. Returns whether anything has changed. */
  render(texts) {
    const { state, note, problem, result, progress, file } = this.#upload;
    const { sent, size, waiting } = progress;
    const bar = this.#part("bar");
    bar.max = size;
    bar.value = sent;
    const refused = problem?.kind === "refused";
    const words = texts[note ?? (refused && state === "failed" ? "refused" : waiting ? "storing" : state)];
    bar.hidden = refused || NO_BAR.includes(state);
    const percent = state === "uploading" && !note && !waiting ? ` · ${Math.floor((100 * sent) / size)} %` : "";
    this.#part("status").textContent = words + percent;
    this.#error(state === "failed" || state === "unauthorized" ? problem.message : "");
    if (result && !this.#part("link")) this.#link(result.publicUrl);
    this.element.dataset.state = state;
    const buttons = {
      pause: ["starting", "comparing", "hashing", "uploading", "waiting"].includes(state),
      resume: RESUMED.includes(state) && file && !refused,
      cancel: state !== "finishing",
    };
    for (const [name, offered] of Object.entries(buttons)) {
      const text = name === "cancel" && (result || refused || state === "cancelled") ? texts.remove : texts[name];
      const button = this.#part(name);
      button.hidden = !offered;
      button.textContent = text;
      button.setAttribute("aria-label", `${text}: ${this.#upload.name}`); // equal names could not be told apart
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
    link.textContent = this.#upload.name;
    this.#part("name").replaceChildren(link);
  }
}
