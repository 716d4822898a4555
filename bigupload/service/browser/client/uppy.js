// An uploader for Uppy (https://uppy.io): its Dashboard's progress, pause, resume, retry and cancel act on this client's
// uploads. After a reload, choose the same file again, or let @uppy/golden-retriever restore it: the upload is resumed.

import { BasePlugin, EventManager } from "@uppy/core";
import { Client } from "./client.js";

export default class BigUpload extends BasePlugin {
  constructor(uppy, options) {
    super(uppy, options);
    this.type = "uploader";
    this.id = options.id ?? "BigUpload";
    this.title = "bigupload";
    this.client = new Client(options);
  }

  install() {
    this.#resumable(true);
    this.uppy.addUploader(this.#uploadAll);
  }

  uninstall() {
    this.#resumable(false);
    this.uppy.removeUploader(this.#uploadAll);
    this.client.close();
  }

  setOptions(options) {
    super.setOptions(options);
    if ("token" in options) this.client.token = options.token;
  }

  #resumable(resumableUploads) {
    this.uppy.setState({ capabilities: { ...this.uppy.getState().capabilities, resumableUploads } });
  }

  #uploadAll = async (ids) => {
    const files = this.uppy.getFilesByIds(ids).filter((file) => !file.error && !file.progress.uploadComplete);
    this.uppy.emit("upload-start", files.filter(({ progress, isRestored }) => !progress.uploadStarted || !isRestored));
    await Promise.all(files.map((file) => this.#upload(file)));
  };

  /** Never rejects: Uppy has the outcome of each file by its events. */
  #upload({ id }) {
    const current = () => this.uppy.getFile(id);
    const file = current();
    if (file.isRemote || !file.data) {
      this.uppy.emit("upload-error", file, new Error(`${file.name} is not on this device: bigupload can't send it.`));
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      const events = new EventManager(this.uppy);
      const end = (upload) => {
        events.remove();
        this.client.forget(upload); // a retry takes it up again
        resolve();
      };
      const upload = this.client.upload(file.data, {
        name: file.meta.name ?? file.name,
        contentType: this.opts.contentType?.(file),
        onProgress: ({ sent, size }) => {
          const latest = current();
          if (latest) {
            const { uploadStarted } = latest.progress;
            this.uppy.emit("upload-progress", latest, { uploadStarted, bytesUploaded: sent, bytesTotal: size });
          }
        },
        onState: (state, of) => {
          if (state === "done") {
            const { publicUrl } = of.result;
            this.uppy.emit("upload-success", current(), { status: 200, uploadURL: publicUrl, body: of.result });
          } else if (state === "failed" || state === "unauthorized") {
            this.uppy.emit("upload-error", current(), of.problem);
          } else if (state !== "cancelled") return;
          end(of);
        },
      });
      const pauseOrResume = (pause) => (pause ? upload.pause() : upload.resume());
      events.onPause(id, pauseOrResume);
      events.onPauseAll(id, () => upload.pause());
      events.onResumeAll(id, () => upload.resume());
      events.onFileRemove(id, () => upload.cancel());
      events.onCancelAll(id, () => upload.cancel());
      if (file.isPaused) upload.pause();
    });
  }
}
