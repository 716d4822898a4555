// Files in: chosen, dropped (folders, too), pasted, from the camera. Each as {file, fileHandle, folderHandle, path}.
//
// A file handle (File System Access API) can be opened again after a restart; not every browser has them.

import { isHidden, pickerTypes } from "./media.js";

const plain = (file) => ({ file, fileHandle: null, path: file.webkitRelativePath || null });

export const fromInput = (input) => {
  const chosen = [...input.files].map(plain);
  input.value = ""; // so that the same file can be chosen again
  return inOrder(chosen.filter(({ file, path }) => !path || !isHidden(file.name)));
};

/** As a person counts: 2.jpg before 10.jpg. */
const inOrder = (chosen) => {
  const place = ({ path, file }) => path ?? file.name;
  return chosen.sort((a, b) => place(a).localeCompare(place(b), undefined, { numeric: true }));
};

export const canPick = "showOpenFilePicker" in globalThis;

/** The browser's dialogue. Resolves to null if the user closed it. */
export async function pick(multiple) {
  let handles;
  try {
    handles = await showOpenFilePicker({ multiple, types: pickerTypes() });
  } catch (error) {
    if (error.name === "AbortError") return null;
    throw error;
  }
  const opened = async (fileHandle) => ({ file: await fileHandle.getFile(), fileHandle, path: null });
  return inOrder(await Promise.all(handles.map(opened)));
}

/** The file of stored handles; null if the user does not permit access. Who permits a folder permits its files. */
export async function openAgain({ fileHandle, folderHandle }) {
  const permission = await (folderHandle ?? fileHandle).requestPermission({ mode: "read" });
  return permission === "granted" ? fileHandle.getFile() : null;
}

/** What was dropped. Resolves to {chosen, empty: names of folders without a file, unread: names}. */
export async function dropped(transfer) {
  const items = [...transfer.items].filter(({ kind }) => kind === "file");
  // All before the first await: the items disappear after the event.
  const roots = items.map((item) => ({
    file: item.getAsFile(),
    entry: item.webkitGetAsEntry?.() ?? null,
    handle: item.getAsFileSystemHandle?.().catch(() => null) ?? null,
  }));
  const found = { chosen: [], empty: [], unread: [] };
  for (const { file, entry, handle } of roots) {
    const fileHandle = await handle;
    if (fileHandle?.kind === "directory") await folder(fileHandle.name, handles(fileHandle, ""), found, fileHandle);
    else if (entry?.isDirectory) await folder(entry.name, entries(entry, ""), found);
    else if (file) found.chosen.push({ file, fileHandle, path: null });
  }
  return found;
}

async function folder(name, files, found, folderHandle = null) {
  const chosen = [];
  try {
    for await (const { path, open } of files) {
      try {
        chosen.push({ ...(await open()), folderHandle, path });
      } catch {
        found.unread.push(path);
      }
    }
  } catch {
    found.unread.push(name);
    return;
  }
  found.chosen.push(...inOrder(chosen));
  if (!chosen.length) found.empty.push(name);
}

/** The files of a folder and of those in it, by handles. */
async function* handles(directory, above) {
  for await (const fileHandle of directory.values()) {
    if (isHidden(fileHandle.name)) continue;
    const path = `${above}${directory.name}/${fileHandle.name}`;
    if (fileHandle.kind === "directory") yield* handles(fileHandle, `${above}${directory.name}/`);
    else yield { path, open: async () => ({ file: await fileHandle.getFile(), fileHandle }) };
  }
}

const called = (action) => new Promise((resolve, reject) => action(resolve, reject));

/** The same by the older interface, which all browsers have. */
async function* entries(directory, above) {
  const reader = directory.createReader();
  for (;;) {
    const some = await called((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100 at a time
    if (!some.length) return;
    for (const entry of some) {
      if (isHidden(entry.name)) continue;
      const path = `${above}${directory.name}/${entry.name}`;
      if (entry.isDirectory) yield* entries(entry, `${above}${directory.name}/`);
      else {
        const open = async () => ({ file: await called((resolve, reject) => entry.file(resolve, reject)), fileHandle: null });
        yield { path, open };
      }
    }
  }
}

/** What was pasted: files, or web addresses of a text. */
export function pasted(data) {
  const chosen = [...data.files].map(plain);
  const lines = chosen.length ? [] : data.getData("text/plain").split(/\s+/);
  return { chosen, links: lines.filter((line) => /^https?:\/\/\S+$/i.test(line)) };
}
