// Files in: chosen, dropped (client/intake.js), pasted, from the camera. Each as {file, fileHandle, folderHandle, path}.

import { inOrder, isHidden } from "../client/intake.js";
import { pickerTypes } from "./media.js";

const plain = (file) => ({ file, fileHandle: null, path: file.webkitRelativePath || null });

export const fromInput = (input) => {
  const chosen = [...input.files].map(plain);
  input.value = ""; // so that the same file can be chosen again
  return inOrder(chosen.filter(({ file, path }) => !path || !isHidden(file.name)));
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

/** What was pasted: files, or web addresses of a text. */
export function pasted(data) {
  const chosen = [...data.files].map(plain);
  const lines = chosen.length ? [] : data.getData("text/plain").split(/\s+/);
  return { chosen, links: lines.filter((line) => /^https?:\/\/\S+$/i.test(line)) };
}
