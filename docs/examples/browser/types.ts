// How the package is used from TypeScript.

import Uppy from "@uppy/core";
import { Client, Problem, upload, type Progress, type State, type Upload } from "bigupload";
import BigUpload from "bigupload/uppy";
import type { BigUploadElement } from "bigupload/element";

export async function send(file: File): Promise<string> {
  const handle: Upload = upload(file, {
    endpoint: new URL("https://media.example.com/"),
    token: async () => (await (await fetch("/upload-token", { method: "POST" })).json()).token,
    onProgress: ({ sent, size, left }: Progress) => console.log(sent / size, left ?? "soon"),
    onState: (state: State) => console.log(state),
    signal: AbortSignal.timeout(3_600_000),
  });
  try {
    const { publicUrl } = await handle.finished;
    return publicUrl;
  } catch (error) {
    if (error instanceof Problem && error.kind === "file") handle.resume(file);
    throw error;
  }
}

export async function resumeAll(files: File[]): Promise<void> {
  const client = new Client({ endpoint: "/uploads/", headers: () => ({ "X-User": "ada" }), credentials: "same-origin" });
  for (const left of await client.unfinished()) {
    const file = files.find((each) => left.isOf(each));
    if (file) left.resume(file);
  }
  client.token = null;
}

export const uppy = new Uppy<{ album: string }, Record<string, unknown>>().use(BigUpload, {
  endpoint: "https://media.example.com/",
  token: "eyJ",
  contentType: (file) => file.type,
});

export function translate(element: BigUploadElement): void {
  element.texts = { choose: "Dateien wählen" };
  element.token = async () => "eyJ";
  element.addEventListener("upload-done", ({ detail }) => console.log(detail.upload.result?.publicUrl));
}

export const recorded = (blob: Blob): Upload => new Client({ endpoint: "/uploads/" }).upload(blob, { name: "talk.webm" });
// @ts-expect-error a Blob has no name
export const nameless = (blob: Blob): Upload => upload(blob, { endpoint: "/uploads/" });
// @ts-expect-error a choice may be cleared
export const cleared = (input: HTMLInputElement): Upload => upload(input.files?.item(0), { endpoint: "/uploads/" });
// @ts-expect-error the endpoint is needed
export const without = new Client({});
// @ts-expect-error there is no such state
export const never: State = "sleeping";
