// Shows one upload. Reads an Upload and writes the DOM; decides nothing.

import { Meter, duration, percent, rate, size, sizeOf } from "./format.js";

const PHASES = {
  waiting: "Waiting for its turn",
  remembered: "Not finished",
  starting: "Starting",
  comparing: "Comparing with the parts already sent",
  hashing: "Reading the file",
  uploading: "Uploading",
  finishing: "Finishing",
  done: "Done",
  paused: "Paused",
  key: "Waiting for a key",
  failed: "Stopped",
  cancelled: "Cancelled",
};
const NOTES = {
  offline: "No connection. The upload continues when the connection is back.",
  service: "The service does not respond. Trying again…",
  store: "The store does not respond. Trying again…",
};
const COPIED_FOR = 2_500; // milliseconds

const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function word({ phase, problem, note }) {
  if (note) return "Waiting";
  return phase === "failed" && problem.kind === "refused" ? "Not accepted" : PHASES[phase];
}

/** The actions that an upload allows now, by the names of the buttons. */
export function actions(upload) {
  const { phase, problem, file, fileHandle } = upload;
  if (phase === "finishing") return [];
  if (upload.running) return ["pause", "cancel"];
  if (phase === "waiting" || phase === "key") return ["cancel"];
  if (phase === "paused") return ["continue", "cancel"];
  if (phase === "remembered") return fileHandle ? ["continue", "cancel"] : ["choose", "cancel"];
  if (phase === "failed") {
    if (problem.kind === "refused") return ["remove"];
    if (problem.kind === "gone") return [file ? "continue" : "choose", "remove"];
    return [problem.kind === "file" || !(file || fileHandle) ? "choose" : "continue", "cancel"];
  }
  return ["remove"];
}

export class Card {
  #parts = {};
  #meter = new Meter();
  #metered = null;
  #said = null;

  /** `on` has a function for each button; `say` announces text to screen readers. */
  constructor(upload, template, on, say) {
    this.upload = upload;
    this.aside = null; // a message of the page itself
    this.element = template.content.firstElementChild.cloneNode(true);
    this.say = say;
    const find = (selector) => this.element.querySelector(selector);
    for (const name of ["name", "phase", "note", "error", "result"]) this.#parts[name] = find(`.${name}`);
    for (const name of ["amount", "pace", "parts"]) this.#parts[name] = find(`.${name} dd`);
    this.#parts.progress = find("progress");
    this.#parts.figures = find(".figures");
    this.#parts.link = find(".result a");
    this.#parts.name.textContent = upload.name;
    this.#parts.name.title = upload.name;
    this.#parts.progress.setAttribute("aria-label", `Progress of ${upload.name}`);
    this.buttons = {};
    for (const name of ["pause", "continue", "choose", "cancel", "remove"]) {
      const button = (this.buttons[name] = find(`button.${name}`));
      // With a screen reader, equal button names could not be told apart.
      button.setAttribute("aria-label", `${button.textContent}: ${upload.name}`);
      button.addEventListener("click", () => on[name](this));
    }
    this.#parts.copy = find("button.copy");
    this.#parts.copy.addEventListener("click", () => this.#copy());
  }

  render(now = performance.now()) {
    const { upload } = this;
    const { phase, problem } = upload;
    this.#announce();
    this.element.dataset.phase = phase;
    this.#parts.phase.textContent = word(upload);
    this.#figures(now);
    this.#show("note", NOTES[upload.note] ?? this.aside ?? this.#remark());
    this.#show("error", phase === "failed" ? problem.message : null);
    this.#parts.result.hidden = phase !== "done";
    if (phase === "done" && !this.#parts.link.href) {
      this.#parts.link.href = upload.result.publicUrl;
      this.#parts.link.textContent = upload.result.publicUrl;
    }
    this.#offer(actions(upload));
  }

  #offer(offered) {
    const focused = Object.values(this.buttons).find((button) => button === document.activeElement);
    const again = this.upload.problem?.kind === "gone";
    const label = again ? "Start again" : "Continue";
    if (this.buttons.continue.textContent !== label) {
      this.buttons.continue.textContent = label;
      this.buttons.continue.setAttribute("aria-label", `${label}: ${this.upload.name}`);
    }
    for (const [name, button] of Object.entries(this.buttons)) button.hidden = !offered.includes(name);
    // After Pause is pressed with the keyboard, focus Continue and not the top of the page.
    if (!focused?.hidden) return;
    (this.upload.phase === "done" ? this.#parts.copy : this.buttons[offered[0]] ?? this.#parts.name).focus();
  }

  #remark() {
    const { upload } = this;
    if (upload.phase === "remembered") {
      return upload.fileHandle
        ? "Press Continue to resume."
        : "Choose or drop the same file again to resume.";
    }
    if (upload.found && upload.phase !== "failed") {
      return `Resumed: ${plural(upload.found, "part")} already sent.`;
    }
    return null;
  }

  #figures(now) {
    const { upload } = this;
    const { phase, sent, plan } = upload;
    const fraction = phase === "done" ? 1 : sent / upload.size;
    const bar = this.#parts.progress;
    this.#parts.figures.hidden = phase === "cancelled";
    bar.hidden = phase === "cancelled" || phase === "done" || (phase === "failed" && !plan);
    bar.value = fraction;
    this.#meterTick(now);
    const pace = phase === "uploading" && !upload.note ? this.#meter.rate : null;
    const left = pace ? (upload.size - sent) / pace : null;
    this.#parts.amount.textContent =
      plan && phase !== "done" ? `${percent(fraction)} · ${sizeOf(sent, upload.size)}` : size(upload.size);
    this.#parts.pace.textContent = pace ? `${rate(pace)} · ${duration(left)} left` : "";
    this.#parts.parts.textContent =
      plan && phase !== "done" ? `${upload.partsStored} of ${plural(plan.count, "part")}` : "";
  }

  #meterTick(now) {
    if (this.upload.phase !== this.#metered) {
      this.#meter.reset();
      this.#metered = this.upload.phase;
    }
    if (this.#metered === "uploading") this.#meter.add(now, this.upload.sent);
  }

  #show(name, text) {
    const element = this.#parts[name];
    if (element.textContent !== (text ?? "")) element.textContent = text ?? "";
    element.hidden = !text;
  }

  /** Announce each change of phase once, without numbers. Errors are announced by their own element. */
  #announce() {
    const { phase, name, note } = this.upload;
    const text = note ? NOTES[note] : PHASES[phase];
    const changed = this.#said !== null && text !== this.#said;
    if (changed && phase !== "failed" && phase !== "key") this.say(`${name}: ${text}`);
    this.#said = text;
  }

  async #copy() {
    const button = this.#parts.copy;
    try {
      await navigator.clipboard.writeText(this.upload.result.publicUrl);
    } catch {
      getSelection().selectAllChildren(this.#parts.link);
      this.say("Copying is not allowed here. The link is selected.");
      return;
    }
    button.textContent = "Copied";
    this.say("Link copied");
    setTimeout(() => (button.textContent = "Copy link"), COPIED_FOR);
  }
}
