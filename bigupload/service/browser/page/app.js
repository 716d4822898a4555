// Connects the page: the key, chosen files and links, the list and its buttons. The client does the uploading.

import { Client } from "../client/index.js";
import { dropped } from "../client/intake.js";
import { Thumbs } from "../client/thumbs.js";
import { Account } from "./account.js";
import { Announcer } from "./announce.js";
import { isOver, sharedProblems } from "./describe.js";
import { canPick, fromInput, openAgain, pasted, pick } from "./intake.js";
import { Link, webAddress } from "./links.js";
import { List } from "./list.js";
import { ACCEPTED, anyType, contentType, limits, objection } from "./media.js";
import { Mirror } from "./mirror.js";
import { afterPress } from "./press.js";
import { showRefused } from "./refusals.js";
import { SERVICE, asked } from "./service.js";
import { keepAwake, put, showLeft, showProblems, showTotal } from "./summary.js";
import { Moved, sums } from "./totals.js";
import { few, later, problemText, t, translate } from "./words.js";

const RENDER_EVERY = 200; // milliseconds
const AGAIN_EVERY = 60_000; // milliseconds after which uploads that the network ended are tried again

const $ = (id) => document.getElementById(id);
const client = new Client({ ...SERVICE, onChange: changed, onUnfinished: meet });
const moved = new Moved();
const announcer = new Announcer($("said"));
const list = new List($("uploads"), new Thumbs(), act);
let account;
let mirror;
let chosenFor = null; // the row whose file is being chosen again, or ALL
const ALL = Symbol("all whose files are missing");

// --- showing

/** For what comes by itself; what a person does is shown at once. */
let due = null;
function renderSoon() {
  due ??= setTimeout(() => afterPress().then(render), RENDER_EVERY);
}

function changed(upload) {
  moved.note(upload);
  list.changed(upload);
  mirror?.tell(upload);
  renderSoon();
}

function render() {
  clearTimeout(due);
  due = null;
  list.render();
  const { items } = list;
  const shared = sharedProblems(items);
  for (const item of items) list.row(item).saidAbove(shared);
  showProblems(shared);
  const total = sums(items);
  for (const item of items) announcer.item(item, total.count);
  announcer.total(total);
  const unauthorized = items.find(({ state }) => state === "unauthorized")?.problem;
  const left = items.filter(isLeft);
  if (left.length > 1) total.needed -= left.length; // that is said once, below
  showTotal(total, moved.bytes, unauthorized);
  showLeft(left.length, left.every(({ fileHandle }) => fileHandle));
  $("list").hidden = items.length === 0;
  document.body.classList.toggle("with-uploads", items.length > 0);
  keepAwake(total.running > 0);
  if (unauthorized) account.refused(unauthorized);
}

// --- the buttons of a row

const BUTTONS = {
  pause: ({ item }) => item.pause(),
  continue: (row) => goOn(row),
  again: (row) => goOn(row),
  cancel: (row) => cancel(row),
  remove: ({ item }) => remove(item),
  async copy(row) {
    announcer.say(t((await row.copy()) ? "said_copied" : "said_not_copied"));
  },
  choose(row) {
    chosenFor = row;
    $("files").click();
  },
};

function act(name, row) {
  row.aside = null;
  list.changed(row.item);
  BUTTONS[name](row);
  render();
}

async function goOn(row) {
  const { item } = row;
  account.use();
  if (item.file) return item.resume();
  try {
    const file = await openAgain(item);
    if (file) takeUp(row, file, null);
    else row.aside = t("not_allowed");
  } catch {
    item.fileHandle = null;
    row.aside = t("moved");
  }
  list.changed(item);
  return render();
}

async function cancel(row) {
  const { item } = row;
  if (item.progress.sent > 0 || item.running) {
    if (!(await confirmed("ask", { name: item.name })) || item.state === "done" || item.state === "finishing") return; // too late
  }
  try {
    if (await item.cancel()) return;
    row.aside = t("abort_unheard");
  } catch (problem) {
    row.aside = problemText(problem);
  }
  list.changed(item);
  render();
}

function remove(...items) {
  for (const item of items) mirror?.tellRemoved(item);
  const next = list.remove(...items);
  for (const item of items) if (!item.isLink && !item.elsewhere) client.forget(item);
  render();
  if (document.activeElement === document.body) (next ?? $("files")).focus();
}

/** Ask in the words that begin with `name`. Resolves to whether the answer is yes. */
async function confirmed(name, values) {
  const dialog = $("ask");
  if (dialog.open) return false;
  for (const part of ["title", "text", "yes", "no"]) put(`ask-${part}`, t(`${name}_${part}`, values));
  $("ask-yes").className = name === "ask" ? "danger" : "primary";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

// --- files and links in

/** Resume the upload of `row` if this is, or could be, its file. */
function takeUp(row, file, fileHandle) {
  const { item } = row;
  list.changed(item);
  if (!item.couldBe(file)) row.aside = t("other_file", { name: item.name });
  else {
    row.aside = item.isOf(file) ? null : t("date_changed");
    item.resume(file, fileHandle);
  }
}

/** Earlier visits left it, and its file is not open. */
const isLeft = ({ state, elsewhere, file }) => state === "remembered" && !elsewhere && !file;

/** Open what the browser has handles of; else the user chooses all files at once, and each finds its upload. */
async function goOnWithAll() {
  account.use();
  const left = list.items.filter(isLeft);
  if (left.some(({ fileHandle }) => !fileHandle)) {
    chosenFor = ALL;
    return $("files").click();
  }
  for (const item of left) await goOn(list.row(item)); // the browser asks once for a folder
}

const idle = ({ state }) => ["remembered", "paused", "failed"].includes(state);

const AGAIN = () => ""; // it is uploaded already: that is asked about

/** Returns why it is not added, as a function of how many are not, or null. */
function addOne({ file, fileHandle, folderHandle, path }, again) {
  const reason = objection(file, account.limits);
  if (reason) return reason;
  if (mirror?.sending(file)) return later("refused_elsewhere");
  const own = list.items.filter((item) => !item.isLink && !item.elsewhere);
  const same = own.filter((item) => item.isOf(file));
  const busy = (item) => item.running || ["waiting", "unauthorized"].includes(item.state);
  if (same.some(busy)) return later("refused_twice");
  const interrupted = same.find((item) => idle(item) && item.problem?.kind !== "refused");
  if (interrupted) {
    takeUp(list.row(interrupted), file, fileHandle);
    return null;
  }
  if (!again && same.some(({ state }) => state === "done")) return AGAIN;
  const namesake = own.find((item) => item.name === file.name && item.state === "remembered");
  const upload = client.upload(file, { contentType: contentType(file.name), fileHandle, folderHandle, path });
  if (!list.has(upload)) list.add(upload, path);
  if (namesake) list.row(upload).aside = t("new_upload");
  return null;
}

async function askAgain(chosen) {
  const names = chosen.map(({ file }) => file.name);
  const values = { count: names.length, name: names[0], names: few(names) };
  if (await confirmed("ask_again", values)) addFiles(chosen, [], true);
}

function addFiles(chosen, refused = [], again = false) {
  const expecting = chosenFor;
  chosenFor = null;
  account.use();
  if (expecting && expecting !== ALL && list.has(expecting.item) && chosen.length === 1) {
    takeUp(expecting, chosen[0].file, chosen[0].fileHandle);
  } else {
    let added = 0;
    const uploaded = [];
    for (const each of chosen) {
      const left = expecting === ALL && list.items.find((item) => isLeft(item) && item.couldBe(each.file));
      if (left) takeUp(list.row(left), each.file, each.fileHandle);
      const reason = left ? null : addOne(each, again);
      if (reason === AGAIN) uploaded.push(each);
      else if (reason) refused.push([each.path ?? each.file.name, reason]);
      else added += 1;
    }
    if (added) announcer.say(t("said_added", { count: added }));
    showRefused(refused);
    if (uploaded.length) askAgain(uploaded);
  }
  render();
  if (!account.known) account.ask();
}

function addLink(text) {
  const url = webAddress(text);
  const known = url && list.items.some((item) => item.url === url);
  put("link-error", url ? (known ? t("link_twice") : "") : t("link_invalid"));
  $("link-error").hidden = Boolean(url) && !known;
  if (!url || known) return false;
  account.use();
  const link = new Link(url);
  list.add(link);
  checkAgain(link);
  if (!account.known) account.ask();
  return true;
}

function checkAgain(link) {
  const shown = () => {
    list.changed(link);
    renderSoon();
  };
  link.run((url) => asked(account.key).check(url)).then(shown);
  shown();
}

function wireFiles() {
  const input = $("files");
  input.addEventListener("click", async (event) => {
    if (!canPick) return;
    event.preventDefault();
    const chosen = await pick(!chosenFor || chosenFor === ALL);
    if (chosen) addFiles(chosen);
    else chosenFor = null;
  });
  input.addEventListener("cancel", () => (chosenFor = null));
  for (const id of ["files", "folder", "camera"]) {
    $(id).addEventListener("change", ({ currentTarget }) => addFiles(fromInput(currentTarget)));
  }
  let depth = 0; // the pointer also enters and leaves the children
  const over = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dragging", depth > 0);
  };
  addEventListener("dragenter", () => over(1));
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", async (event) => {
    event.preventDefault();
    over(-depth);
    chosenFor = null;
    const { chosen, empty, unread } = await dropped(event.dataTransfer);
    const names = (all, reason) => all.map((name) => [name, later(reason)]);
    addFiles(chosen, [...names(empty, "refused_folder"), ...names(unread, "refused_unread")]);
  });
  addEventListener("paste", (event) => {
    if (event.target.closest?.("input")) return;
    const { chosen, links } = pasted(event.clipboardData);
    if (chosen.length) addFiles(chosen);
    if (links.length) openLinkForm(true);
    for (const link of links) addLink(link);
  });
}

function openLinkForm(open) {
  $("link-form").hidden = !open;
  $("link-open").setAttribute("aria-expanded", String(open));
}

function wireLinks() {
  $("link-open").addEventListener("click", () => {
    openLinkForm($("link-form").hidden);
    if (!$("link-form").hidden) $("link").focus();
  });
  $("link-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (addLink($("link").value)) $("link").value = "";
  });
}

// --- all at once, and going on by itself

const own = () => client.uploads.filter((upload) => list.has(upload));

function wireTotals() {
  $("pause-all").addEventListener("click", () => {
    for (const upload of own()) if (upload.running || upload.state === "waiting") upload.pause();
    render();
    $("continue-all").focus();
  });
  $("continue-all").addEventListener("click", () => {
    for (const upload of own()) if (upload.state === "paused" && upload.file) upload.resume();
    render();
    $("pause-all").focus();
  });
  $("left-button").addEventListener("click", () => goOnWithAll());
  $("clear").addEventListener("click", () => {
    remove(...list.items.filter(isOver));
  });
  $("banner-key").addEventListener("click", () => account.ask());
}

/** Go on with uploads that ended for this reason. */
function resume(reason) {
  for (const upload of own()) if (upload.state === "failed" && upload.file && reason(upload.problem)) upload.resume();
}

const forNetwork = ({ kind }) => kind === "network" || kind === "busy";

function wireReturn() {
  const back = () => {
    if (navigator.onLine) resume(forNetwork);
    renderSoon();
  };
  addEventListener("online", back);
  addEventListener("offline", renderSoon);
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && back());
  setInterval(back, AGAIN_EVERY); // a browser does not always notice that the network is back
  // A rate falls even without events.
  setInterval(() => own().some(({ running }) => running) && renderSoon(), 1000);
  addEventListener("beforeunload", (event) => {
    if (own().some(({ running, state }) => running || state === "waiting")) event.preventDefault();
  });
}

// --- start

/** Show what the user left unfinished, and what other tabs do for the same one; nothing of somebody else's. */
async function meet() {
  const who = await client.who();
  if (who === null) return;
  if (who !== mirror?.who) {
    mirror?.close();
    mirror = new Mirror(who, list, client, renderSoon);
  }
  const unfinished = await client.unfinished();
  list.remove(...list.items.filter((item) => item.state === "remembered" && !item.elsewhere && !unfinished.includes(item)));
  for (const upload of unfinished) mirror.adopt(upload);
  renderSoon();
}

function unfit(name) {
  $("unfit").textContent = t(name);
  $("unfit").hidden = false;
}

async function start() {
  translate();
  put("drop-title", t(anyType ? "drop_any" : "drop"));
  $("limits").append(...limits().map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  $("files").accept = ACCEPTED;
  $("ask-yes").addEventListener("click", () => $("ask").close("yes"));
  $("ask-no").addEventListener("click", () => $("ask").close("no"));
  account = new Account({
    key: (text) => (client.token = text),
    valid() {
      meet();
      resume(({ code }) => code === "not_your_upload");
      for (const item of list.items) if (item.isLink && item.state === "unauthorized") checkAgain(item);
      renderSoon();
    },
  });
  client.token = account.key;
  if (!globalThis.crypto?.subtle) {
    unfit("unfit_https");
    $("drop").inert = true;
    return;
  }
  if (!(await client.remembers)) unfit("unfit_storage");
  wireFiles();
  wireLinks();
  wireTotals();
  wireReturn();
  render();
  document.documentElement.dataset.ready = "";
}

start();
