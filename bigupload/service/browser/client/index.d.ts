/** What an app may pass as a token: an upload token or API key, or a function that gets one. A function is called again
 * when the service refuses the token that it returned before. */
export type Token = string | (() => string | null | Promise<string | null>);

export type Headers = Record<string, string>;

export interface ClientOptions {
  /** The base URL of the service: "https://media.example.com/". A relative one counts from the page. */
  endpoint: string | URL;
  token?: Token | null;
  /** More headers for the service, for example where an app has users of its own. A function may be async. */
  headers?: Headers | (() => Headers | Promise<Headers>) | null;
  /** Whether requests to the service carry cookies. Default: "omit". */
  credentials?: RequestCredentials;
  /** Where unfinished uploads are remembered. true (the default): in IndexedDB. false: nowhere. */
  storage?: boolean | Storage;
  /** Called with an upload, often, when anything of it has changed. */
  onChange?: ((upload: Upload) => void) | null;
  /** Called when another tab has taken or left an unfinished upload: `unfinished` gives others now. */
  onUnfinished?: (() => void) | null;
}

export interface UploadOptions {
  /** The file's name, with its extension. Default: a File's own. A Blob needs one. */
  name?: string;
  /** Default: by the name's extension, else what the browser says. */
  contentType?: string;
  /** A handle of the File System Access API, by which the file can be opened again after a reload. */
  fileHandle?: FileSystemFileHandle | null;
  /** The chosen folder that the file is in: one question to the user opens all of its files again. */
  folderHandle?: FileSystemDirectoryHandle | null;
  /** Where the file is in that folder: "Holiday/Lake/a.jpg". It is remembered for the page, and not sent. */
  path?: string | null;
  /** Whether an unfinished upload of a file of the same name, size and date is resumed. Default: true. */
  resume?: boolean;
  /** Called at most ten times a second. */
  onProgress?: (progress: Progress, upload: Upload) => void;
  onState?: (state: State, upload: Upload) => void;
  /** A part is sent again whole, because the store did not respond to it. */
  onSentAgain?: (part: number, upload: Upload) => void;
  /** Aborting it cancels the upload. */
  signal?: AbortSignal;
}

export type State =
  | "remembered"
  | "waiting"
  | "starting"
  | "comparing"
  | "hashing"
  | "uploading"
  | "finishing"
  | "paused"
  | "unauthorized"
  | "failed"
  | "done"
  | "cancelled";

export interface Progress {
  /** Bytes that are stored or in flight. */
  sent: number;
  /** Bytes that the store has: a closed page keeps them. */
  stored: number;
  /** Bytes of unfinished parts that were accepted on the way to the store. A closed page loses them. */
  inFlight: number;
  size: number;
  /** Bytes a second that become stored, of the last seconds; null: too soon to tell. */
  rate: number | null;
  /** Seconds until everything is stored, by that rate. */
  left: number | null;
  /** Everything is sent, and something on the way to the store still passes it on. */
  waiting: boolean;
  /** null before the service has created the upload. */
  parts: number | null;
  partsStored: number;
  /** Parts that were in the store already when this upload was resumed. */
  found: number;
  /** Parts that were sent again whole, because the store did not respond. */
  sentAgain: number;
}

/** What the service answers to a completed upload. */
export interface Result {
  publicUrl: string;
  key: string;
  size: number;
  /** Signed by the service: what your server verifies instead of asking. */
  receipt?: string | null;
  [more: string]: unknown;
}

export type ProblemKind =
  | "network"
  | "busy"
  | "key"
  | "expired"
  | "damaged"
  | "part"
  | "gone"
  | "refused"
  | "file"
  | "cancelled"
  | "final";

/** Why an upload ended. `message` is for people, `code` is the service's, the store's, or null. */
export class Problem extends Error {
  constructor(
    kind: ProblemKind,
    message: string,
    options?: { code?: string | null; retryAfter?: number | null; cause?: unknown },
  );
  readonly kind: ProblemKind;
  readonly code: string | null;
  /** Milliseconds that the service asked to wait; null: it did not say. */
  readonly retryAfter: number | null;
  /** Whether a retry may succeed. */
  get passing(): boolean;
}

/** One upload. `Client.upload` and `upload` make it. */
export class Upload {
  private constructor();
  readonly id: string;
  readonly name: string;
  readonly size: number;
  readonly lastModified: number;
  readonly contentType: string | null;
  /** null: an earlier visit left the upload, and its file must be chosen again. */
  readonly file: File | null;
  readonly fileHandle: FileSystemFileHandle | null;
  readonly folderHandle: FileSystemDirectoryHandle | null;
  readonly path: string | null;
  /** Milliseconds since 1970; null before the service has created the upload. */
  get startedAt(): number | null;
  get state(): State;
  get running(): boolean;
  get progress(): Progress;
  /** What a running upload waits for. */
  readonly note: "offline" | "service" | "store" | "check" | "blocked" | null;
  readonly problem: Problem | null;
  readonly result: Result | null;
  readonly found: number;
  /** Resolves to the result. Rejects with a Problem if this attempt fails or is cancelled; `resume` makes another one. */
  get finished(): Promise<Result>;
  isOf(file: { name: string; size: number; lastModified: number }): boolean;
  couldBe(file: { name: string; size: number }): boolean;
  pause(): void;
  /** Go on. `file` is the file chosen again: needed if `file` is null. Throws a Problem if it is another one. */
  resume(file?: File | null, fileHandle?: FileSystemFileHandle | null): this;
  /** Abort the upload, and delete its parts. Resolves to whether the service was told. Rejects with a Problem if another
   * tab has the upload. */
  cancel(): Promise<boolean>;
}

/** The uploads to one service. */
export class Client {
  constructor(options: ClientOptions);
  get endpoint(): string;
  get token(): Token | null;
  /** Uploads that are "unauthorized" go on with the new token. */
  set token(token: Token | null);
  /** In order of arrival. */
  get uploads(): Upload[];
  /** Whether unfinished uploads are remembered over a reload. */
  get remembers(): Promise<boolean>;
  /** Throws a Problem of the kind "file" for what is no file. */
  upload(file: File, options?: UploadOptions): Upload;
  upload(blob: Blob, options: UploadOptions & { name: string }): Upload;
  /** What earlier visits of the token's user left unfinished, in the state "remembered", also what was only chosen
   * (`startedAt` is null then). It asks for the token. */
  unfinished(): Promise<Upload[]>;
  /** Leave an upload out of `uploads`. One that runs or waits is paused first. */
  forget(upload: Upload): void;
  /** Pause all that run or wait. Another tab may continue them. */
  close(): void;
}

/** Upload a file, or a Blob with a name. Calls with the same endpoint, token, headers and storage share a client.
 * Throws a Problem of the kind "file" for what is no file. */
export function upload(file: File, options: Omit<ClientOptions, "onChange"> & UploadOptions): Upload;
export function upload(blob: Blob, options: Omit<ClientOptions, "onChange"> & UploadOptions & { name: string }): Upload;

/** A place of the app's own for unfinished uploads. Rows are to be kept as they are; none has a token or a signed URL. */
export interface Storage {
  records(): Promise<StoredRecord[]>;
  parts(id: string): Promise<Map<number, StoredPart>>;
  save(record: StoredRecord): Promise<unknown>;
  /** Several at once, as when a folder is chosen. Default: `save` for each. */
  saveAll?(records: StoredRecord[]): Promise<unknown>;
  /** Those with the same name, size and lastModified. Default: of all `records`. */
  find?(file: { name: string; size: number; lastModified: number }): Promise<StoredRecord[]>;
  savePart(id: string, number: number, part: StoredPart): Promise<unknown>;
  forget(id: string): Promise<unknown>;
}

export interface StoredRecord {
  id: string;
  /** A digest of the owner and user of the token: for others, the upload does not exist. */
  who: string | null;
  name: string;
  size: number;
  lastModified: number;
  /** Milliseconds since 1970; null before the service has created the upload. After 7 days it has deleted what was sent. */
  startedAt: number | null;
  /** Milliseconds since 1970. */
  chosenAt: number;
  [more: string]: unknown;
}

export interface StoredPart {
  checksum: string;
  etag: string | null;
  earlier?: string[];
}
