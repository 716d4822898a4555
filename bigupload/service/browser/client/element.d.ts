import type { Headers, Token, Upload } from "./index.js";

/** The words of `<big-upload>`: states and buttons. */
export type Texts = Record<string, string>;

/** What the events of `<big-upload>` carry. */
export interface UploadDetail {
  upload: Upload;
}

export interface BigUploadEventMap extends HTMLElementEventMap {
  "upload-progress": CustomEvent<UploadDetail>;
  "upload-done": CustomEvent<UploadDetail>;
  "upload-error": CustomEvent<UploadDetail>;
}

/** `<big-upload endpoint token name multiple accept required disabled>`. */
export class BigUploadElement extends HTMLElement {
  get token(): Token | null;
  set token(token: Token | null);
  get headers(): Headers | (() => Headers | Promise<Headers>) | null;
  set headers(headers: Headers | (() => Headers | Promise<Headers>) | null);
  get texts(): Texts;
  set texts(texts: Texts);
  get uploads(): Upload[];
  /** The public URLs of what is uploaded. */
  get value(): string[];
  get endpoint(): string | null;
  set endpoint(value: string | URL | null);
  get name(): string | null;
  set name(value: string | null);
  /** The name of the form's field of receipts, one for each URL. */
  get receiptName(): string | null;
  set receiptName(value: string | null);
  get accept(): string | null;
  set accept(value: string | null);
  get credentials(): string | null;
  set credentials(value: string | null);
  get multiple(): boolean;
  set multiple(value: boolean);
  get required(): boolean;
  set required(value: boolean);
  get disabled(): boolean;
  set disabled(value: boolean);
  get form(): HTMLFormElement | null;
  get validity(): ValidityState;
  get validationMessage(): string;
  checkValidity(): boolean;
  reportValidity(): boolean;
  /** Upload files, as if they were chosen. */
  add(files: Iterable<File>): void;
  addEventListener<K extends keyof BigUploadEventMap>(
    type: K,
    listener: (event: BigUploadEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "big-upload": BigUploadElement;
  }
}
