// Connects the page: the key, chosen files, the queue and the buttons. upload.js does the uploading.

import { Api } from "./api.js";
import { Card } from "./card.js";
import { percent } from "./format.js";
import { PICKER_TYPES, objection } from "./media.js";
import { Memory } from "./memory.js";
import { Problem } from "./problem.js";
import { Upload } from "./upload.js";

const KEY = "bigupload key"; // in sessionStorage, which ends with the tab
const RENDER_EVERY = 200; // milliseconds
const TITLE = document.title;

const $ = (id) => document.getElementById(id);
const api = new Api();
const cards = []; // as they are listed
let memory;
let chosenFor = null; // the card whose file is being chosen again

// --- showing

function say(text) {
  $("said").textContent = text;
}

let due = null;
function renderSoon() {
  due ??= setTimeout(render, RENDER_EVERY);
}

function render() {
  clearTimeout(due);
  due = null;
  for (const card of cards) card.render();
  $("list").hidden = cards.length === 0;
  const active = cards.find(({ upload }) => upload.running)?.upload;
  document.title = active ? `${percent(active.sent / active.size)} · ${active.name}` : TITLE;
  keepAwake(Boolean(active));
  showKeyError(cards.find(({ upload }) => upload.phase === "key")?.upload.problem);
}

function add(options) {
  const upload = new Upload({ ...options, api, memory, onChange: renderSoon });
  const card = new Card(upload, $("card"), BUTTONS, say);
  cards.push(card);
  $("uploads").prepend(card.element);
  return card;
}

function remove(card) {
  const next = card.element.nextElementSibling ?? card.element.previousElementSibling;
  cards.splice(cards.indexOf(card), 1);
  card.element.remove();
  (next?.querySelector(".name") ?? $("files")).focus();
  render();
}

// A sleeping phone stops sending.
let awake = null;
async function keepAwake(wanted) {
  if (wanted && !awake && document.visibilityState === "visible" && navigator.wakeLock) {
    try {
      awake = navigator.wakeLock.request("screen");
      (await awake).addEventListener("release", () => (awake = null));
    } catch {
      awake = null; // low on battery, perhaps
    }
  } else if (!wanted && awake) {
    (await awake.catch(() => null))?.release();
  }
}

// --- one after another

function pump() {
  render();
  if (cards.some(({ upload }) => upload.running)) return;
  const next = cards.find(({ upload }) => upload.phase === "waiting");
  if (!next) return;
  next.upload.run().then(() => {
    if (next.upload.phase === "key") $("key").focus();
    pump();
  });
}

const BUTTONS = {
  pause(card) {
    card.upload.pause();
    pump();
  },

  async continue(card) {
    card.aside = null;
    const { upload } = card;
    if (upload.file) {
      upload.queue();
      return pump();
    }
    try {
      const file = await openAgain(upload.fileHandle);
      if (!file) card.aside = "The browser was not allowed to read the file. Press Continue to be asked again.";
      else if (takeUp(card, file, null)) pump();
    } catch {
      upload.fileHandle = null;
      card.aside = "The file was moved or deleted. Choose it again to continue.";
    }
    render();
  },

  choose(card) {
    chosenFor = card;
    $("files").click();
  },

  async cancel(card) {
    if (card.upload.record || card.upload.running) {
      if (!(await confirmed(card.upload.name))) return;
      if (card.upload.phase === "finishing" || card.upload.phase === "done") return; // too late: the object exists
    }
    card.aside = null;
    card.upload.cancel().then((known) => {
      if (!known) card.aside = "The service could not be reached. It deletes the parts within 7 days.";
      render();
    });
    pump();
  },

  remove,
};

/** The file of a stored handle; null if the user does not permit access. */
async function openAgain(fileHandle) {
  const permission = await fileHandle.requestPermission({ mode: "read" });
  return permission === "granted" ? fileHandle.getFile() : null;
}

function confirmed(name) {
  const dialog = $("ask");
  $("ask-name").textContent = name;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

// --- files in

/** Resume the upload of `card` if this is, or could be, its file. */
function takeUp(card, file, fileHandle) {
  if (!card.upload.couldBe(file)) {
    card.aside = `That is another file (other name or size): this upload needs ${card.upload.name} as it was.`;
    return false;
  }
  card.aside = card.upload.isOf(file)
    ? null
    : "The file's date has changed, so the parts already sent are compared with it. Only equal parts are kept.";
  card.upload.give(file, fileHandle);
  return true;
}

const idle = ({ upload }) => ["remembered", "paused", "failed"].includes(upload.phase);

function addOne({ file, fileHandle }) {
  const reason = objection(file);
  if (reason) return reason;
  const same = cards.filter((card) => card.upload.isOf(file));
  if (same.some(({ upload }) => upload.running || upload.phase === "waiting" || upload.phase === "key")) {
    return "It is already in the list.";
  }
  const interrupted = same.find(idle);
  if (interrupted) {
    takeUp(interrupted, file, fileHandle);
    return null;
  }
  const namesake = cards.find((card) => card.upload.name === file.name && idle(card));
  const card = add({ file, fileHandle });
  if (namesake) {
    card.aside = "This file is not that of the unfinished upload (other size or date), so a new upload starts.";
  }
  return null;
}

function addFiles(chosen) {
  const expecting = chosenFor;
  chosenFor = null;
  const refused = [];
  if (expecting && cards.includes(expecting) && chosen.length === 1) {
    takeUp(expecting, chosen[0].file, chosen[0].fileHandle);
  } else {
    for (const each of chosen) {
      const reason = addOne(each);
      if (reason) refused.push([each.file.name, reason]);
    }
  }
  showRefused(refused);
  pump();
}

function showRefused(refused) {
  $("refused").replaceChildren(
    ...refused.map(([name, reason]) => {
      const line = document.createElement("p");
      const strong = document.createElement("strong");
      strong.textContent = name;
      line.append(strong, ` was not accepted. ${reason}`);
      return line;
    }),
  );
}

const plainly = (files) => [...files].map((file) => ({ file, fileHandle: null }));

/** Use the File System Access API if the browser has it: its handles can be opened again after a restart. */
async function pick() {
  let handles;
  try {
    handles = await showOpenFilePicker({ multiple: !chosenFor, types: PICKER_TYPES });
  } catch (error) {
    chosenFor = null;
    if (error.name !== "AbortError") throw error;
    return;
  }
  addFiles(await Promise.all(handles.map(async (fileHandle) => ({ file: await fileHandle.getFile(), fileHandle }))));
}

async function dropped(transfer) {
  const items = [...transfer.items].filter(({ kind }) => kind === "file");
  // All before the first await: the items disappear after the event.
  const files = items.map((item) => item.getAsFile());
  const handles = items.map((item) => item.getAsFileSystemHandle?.().catch(() => null) ?? null);
  const chosen = [];
  for (const [index, file] of files.entries()) {
    const fileHandle = await handles[index];
    if (file && fileHandle?.kind !== "directory") chosen.push({ file, fileHandle });
  }
  addFiles(chosen);
  if (items.length && !chosen.length) showRefused([["A folder", "Open it and drop its files."]]);
}

function wireFiles() {
  const input = $("files");
  input.addEventListener("click", (event) => {
    if (!("showOpenFilePicker" in window)) return;
    event.preventDefault();
    pick();
  });
  input.addEventListener("change", () => {
    const chosen = plainly(input.files);
    input.value = ""; // so that the same file can be chosen again
    addFiles(chosen);
  });
  input.addEventListener("cancel", () => (chosenFor = null));

  let depth = 0; // the pointer also enters and leaves the children
  const over = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dragging", depth > 0);
  };
  addEventListener("dragenter", () => over(1));
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(-depth);
    chosenFor = null;
    dropped(event.dataTransfer);
  });
}

// --- the key

function showKeyError(problem) {
  const error = $("key-error");
  const text = problem?.message ?? "";
  if (error.textContent !== text) error.textContent = text;
  error.hidden = !text;
  $("key").setAttribute("aria-invalid", String(Boolean(text)));
}

function useKey() {
  api.key = $("key").value.trim();
  sessionStorage.setItem(KEY, api.key);
}

function wireKey() {
  const input = $("key");
  input.value = api.key = sessionStorage.getItem(KEY) ?? "";
  input.addEventListener("input", useKey);
  // Enter, or leaving the field: uploads that wait for a key continue.
  const changed = () => {
    useKey();
    if (!api.key) return;
    for (const { upload } of cards) if (upload.phase === "key") upload.queue();
    pump();
  };
  input.addEventListener("change", changed);
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    changed();
  });
  $("key-show").addEventListener("click", ({ currentTarget }) => {
    const shown = input.type === "password";
    input.type = shown ? "text" : "password";
    currentTarget.textContent = shown ? "Hide" : "Show";
    currentTarget.setAttribute("aria-pressed", String(shown));
  });
}

// --- start

function unfit(text) {
  $("unfit").textContent = text;
  $("unfit").hidden = false;
}

async function start() {
  $("ask-yes").addEventListener("click", () => $("ask").close("yes"));
  $("ask-no").addEventListener("click", () => $("ask").close("no"));
  wireKey();
  if (!globalThis.crypto?.subtle) {
    unfit(
      "Open this page over https (or on localhost): otherwise the browser does not let it compute the " +
        "checksums that protect your files.",
    );
    $("drop").inert = true;
    return;
  }
  memory = await Memory.open();
  for (const { record, parts } of await memory.all()) add({ record, parts });
  if (!memory.works) {
    unfit("This browser does not let the page store anything: uploads end when the page is closed.");
  }
  wireFiles();
  addEventListener("online", render);
  addEventListener("offline", render);
  addEventListener("beforeunload", (event) => {
    if (cards.some(({ upload }) => upload.running)) event.preventDefault();
  });
  document.addEventListener("visibilitychange", renderSoon);
  // A rate falls even without events.
  setInterval(() => cards.some(({ upload }) => upload.running) && renderSoon(), 1000);
  render();
  document.documentElement.dataset.ready = "";
}

start();
