// Files of a drop, those of folders, too. Each as {file, fileHandle, folderHandle, path}.
//
// A file handle (File System Access API) can be opened again after a restart; not every browser has them.

const SYSTEM = /^(\.|~\$)|^(thumbs\.db|desktop\.ini)$/i; // files that a system puts into folders

/** Files of a folder that nobody means to upload. */
export const isHidden = (name) => SYSTEM.test(name);

/** As a person counts: 2.jpg before 10.jpg. */
export function inOrder(chosen) {
  const place = ({ path, file }) => path ?? file.name;
  return chosen.sort((a, b) => place(a).localeCompare(place(b), undefined, { numeric: true }));
}

/** Whether an input with this attribute `accept` takes the file. Empty: all files. */
export function accepts(accept, { name, type }) {
  const wanted = accept.split(",").map((each) => each.trim().toLowerCase()).filter(Boolean);
  if (!wanted.length) return true;
  return wanted.some((each) => {
    if (each.startsWith(".")) return name.toLowerCase().endsWith(each);
    return each.endsWith("/*") ? type.startsWith(each.slice(0, -1)) : type === each;
  });
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
  const single = [];
  for (const { file, entry, handle } of roots) {
    const fileHandle = await handle;
    if (fileHandle?.kind === "directory") await folder(fileHandle.name, handles(fileHandle, ""), found, fileHandle);
    else if (entry?.isDirectory) await folder(entry.name, entries(entry, ""), found);
    else if (file) single.push({ file, fileHandle, path: null });
  }
  found.chosen.push(...inOrder(single));
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
