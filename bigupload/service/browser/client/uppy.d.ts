import { BasePlugin, type Body, type Meta, type PluginOpts, type Uppy, type UppyFile } from "@uppy/core";
import type { Client, ClientOptions } from "./index.js";

export interface BigUploadOptions<M extends Meta, B extends Body> extends PluginOpts, Omit<ClientOptions, "onChange"> {
  /** The content type to declare for a file. Default: by its name's extension. */
  contentType?: (file: UppyFile<M, B>) => string | undefined;
}

/** An uploader for Uppy: `new Uppy().use(BigUpload, { endpoint, token })`. */
export default class BigUpload<M extends Meta, B extends Body> extends BasePlugin<BigUploadOptions<M, B>, M, B> {
  constructor(uppy: Uppy<M, B>, options: BigUploadOptions<M, B>);
  readonly client: Client;
}
