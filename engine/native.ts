/** The only importer of the addon: what native code does for TypeScript, typed, with a next step when it is missing. */
import { createRequire } from 'node:module';
import { MillraceError } from './errors.ts';

/** Everything that the addon exports: see native/binding/src/lib.rs. Engines are numbers that every thread may use. */
export interface Native {
  /** Keeps keys out of core dumps and away from other processes of the user. Main thread only. */
  harden(): void;
  /** Bytes that a view lies before the next multiple of `alignment`. */
  skip(view: Uint8Array, alignment: number): number;
  keyCheck(keyFile: string): Buffer;
  /** Epochs whose objects the key opens, the current one first. */
  keyEpochs(keyFile: string, ring: KeyRing | undefined): number[];
  /** The key ring of the next epoch, under the key in another file; throws 'key reused' or 'too many epochs'. */
  rotateKey(keyFile: string, ring: KeyRing | undefined, uuid: string, newKeyFile: string): Buffer;
  /** The key ring without the keys of earlier epochs. */
  dropEpochs(keyFile: string, ring: KeyRing): Buffer;
  open(options: OpenOptions, report: (message: string) => void): number;
  stop(engine: number): void;
  close(engine: number): void;
  attach(engine: number, worker: number, commands: Uint8Array, out: Uint8Array): void;
  setWake(engine: number, wake: (() => void) | null): void;
  poll(
    engine: number,
    worker: number,
    consumed: number,
    words: number,
    timeoutMicros: number,
  ): number;
  arm(engine: number, worker: number): boolean;
  /** Memory of the calling thread for the five below: equal parts for the key, what goes in, and what comes out. */
  setScratch(view: Uint8Array): void;
  seal(engine: number, keyBytes: number, plainBytes: number): number;
  /** Bytes, or -1 when the value is not authentic. */
  unseal(engine: number, keyBytes: number, sealedBytes: number): number;
  nameHash(engine: number, ino: number, nameBytes: number): void;
  /** Keyed hash of what lies in the scratch memory: 32 bytes. */
  treeHash(engine: number, partBytes: number): void;
  /** Id of the chunk that holds what lies in the scratch memory, and so many zeros: 32 bytes. */
  chunkId(engine: number, plainBytes: number, zeros: number): void;
  /**
   * Id of the chunk that would hold these pieces, read on a thread of Node's pool. Ten words each:
   * offset, bytes, the chunk's id or, for zeros, eight zeros.
   */
  contentId(engine: number, pieces: Uint32Array): Promise<Buffer>;
  ChunkReferences: new (engine: number) => ChunkReferences;
  ChunkCollection: new (engine: number) => ChunkCollection;
  /**
   * Sets room aside for the first `bytes` of an open file, which does not become longer. 0 or an
   * errno; EOPNOTSUPP where the file system cannot.
   */
  reserveSpace(file: number, bytes: number): number;
  /**
   * Looks at every page of an LMDB file that is in use, before LMDB follows what is in it. `metas`
   * are meta pages to begin from in place of the file's own. Throws when the file cannot be opened.
   */
  surveyPages(path: string, metas?: Uint8Array): PageSurvey;
  /**
   * Every record of such a file that can still be read, in blocks: bytes of the key u16, bytes of
   * the value u32 (little-endian), key, value. A key may come twice; the first is the newer one.
   * Memory: all records.
   */
  salvagePages(path: string, metas?: Uint8Array): Buffer[];
  AllChunks: new (engine: number) => AllChunks;
  /** Reads the key of a store and all that come from it, and the keys of further files. */
  KeyWitness: new (
    keyFile: string,
    ring: KeyRing | undefined,
    others: string[],
  ) => KeyWitness;
  space(engine: number): number[];
  needsSync(engine: number): boolean;
  /** Begins a recovery journal: from now on what the store refuses goes there. 0, or an errno. */
  journalBegin(engine: number, path: string, header: Uint8Array): number;
  journalAppend(engine: number, kind: number, body: Uint8Array): number;
  /** The journal takes no further object; how many there are, and their bytes. */
  journalEndObjects(engine: number): number[];
  /** Makes the journal durable under its final name. */
  journalFinish(engine: number, name: string): number;
  journalDiscard(engine: number): void;
  /** Objects of a journal are read as if the store had them: ids, then offset and bytes of each in the file. */
  journalAttach(engine: number, path: string, ids: Uint8Array, places: Float64Array): number;
  journalDetach(engine: number): void;
  /** Bytes of plaintext of an object that is the chunk of its id, -EBADMSG when it is not, -ENOKEY when no key at hand opens it, or -errno. */
  journalVerify(engine: number, chunk: Uint8Array): number;
  /** Puts an object of the attached journal into the store: 0 or an errno. */
  journalRestore(engine: number, chunk: Uint8Array): number;
  /** Whether the store itself has a chunk: 1, 0 or -errno. */
  storeHas(engine: number, chunk: Uint8Array): number;
  /** The store's barrier, on this thread: 0 or an errno. */
  storeSync(engine: number): number;
  /** Fills `out` with a chunk's plaintext from an offset on: 0 or an errno. */
  readChunk(engine: number, chunk: Uint8Array, offset: number, out: Uint8Array): number;
  mount(engine: number, options: KernelMountOptions, ended: () => void): void;
  unmount(engine: number, lazy: boolean): Promise<string | null>;
  abort(engine: number): Promise<string | null>;
  /** Loads a library for what is loaded later; null, or why not. */
  loadLibrary(file: string): string | null;
  bridgeStart(engine: number, lanes: number, replied: () => void, room: () => void): void;
  bridgeMounted(engine: number, directory: string, record: Uint8Array, ended: () => void): void;
  /** Lets buffered reads run ahead, once the mount has answered a request. */
  widenReadahead(engine: number, kibibytes: number): void;
  /** Bytes of an answer that is there already, -errno, or a number below those: see native/fuse/src/bridge.rs. */
  bridgeSubmit(
    engine: number,
    lane: number,
    order: BridgeOrder,
    body: Uint8Array,
    payload: Uint8Array | undefined,
    destination: Uint8Array,
  ): number;
  /** Pairs of lane and result; how many. */
  bridgeCompleted(engine: number, out: Int32Array): number;
  bridgeAbandon(engine: number): void;
  /** Text of a call of fuse-native: see CALL_TEXT. Its bytes, which may be more than fit. */
  callText(call: Uint8Array, which: number, out: Uint8Array): number;
  callOpenFlags(call: Uint8Array): number;
  callOpened(call: Uint8Array, handle: number, openFlags: number): void;
  /** Gives a call what it asked for: see CALL_FILL. False where it takes no more. */
  callFill(call: Uint8Array, what: number, answer: Uint8Array): boolean;
}

/** Which text of a call of fuse-native is meant. */
export const CALL_TEXT = { PATH: 0, SECOND_PATH: 1, NAME: 2 } as const;
/** What a call of fuse-native is given. */
export const CALL_FILL = { ATTRIBUTES: 0, STATISTICS: 1, LINK: 2, DIRECTORY: 3 } as const;

/**
 * Chunks that a tree refers to, collected by one thread and then held against the store on threads
 * of Node's pool.
 */
export interface ChunkReferences {
  /** Nine words each: the chunk's id, and the bytes of its plaintext. */
  add(words: Uint32Array): void;
  /** No more will be added; how many different ones there are. */
  seal(): number;
  /** Chunks that were looked at so far, and bytes that were opened. */
  progress(): number[];
  /** Looks for all of them; with threads above 0 opens each and hashes its plaintext. */
  scrub(threads: number): Promise<ScrubReport>;
}

/**
 * A collection of garbage: from its making on, the store remembers what is put and what is found
 * present, and the sweep leaves that alone, too. Its making throws while another one runs.
 */
export interface ChunkCollection {
  /** Has the sweep leave these chunks alone: eight words each. */
  keep(words: Uint32Array): void;
  /** Deletes, on a thread of Node's pool, what is not kept and older than so many seconds. */
  sweep(graceSeconds: number, dryRun: boolean): Promise<SweepReport>;
  /** Has the sweep fail soon. */
  cancel(): void;
  /** The collection is over, and no sweep of it runs. */
  end(): void;
}

/** What a survey of the pages of an LMDB file found. */
export interface PageSurvey {
  /** Flaws; the first 1000 of them are named. */
  flawed: number;
  flaws: { page: number; what: string }[];
  /** The transaction whose state was read; 0 where there is none. */
  transaction: number;
  records: number;
}

/** What a scrub found: objects, and their bytes. */
export interface ScrubReport {
  used: number;
  usedBytes: number;
  unused: number;
  unusedBytes: number;
  /** References that lead to no usable chunk; the first of them are named. */
  damaged: number;
  named: ChunkFlaw[];
}

/** A chunk that cannot be used. */
export interface ChunkFlaw {
  /** 64 hexadecimal digits. */
  id: string;
  plainBytes: number;
  flaw: 'missing' | 'length' | 'unreadable' | 'damaged' | 'epoch' | 'other-content';
  /** Why it is unreadable, or the epoch of a key that is not there; else empty. */
  reason: string;
}

/** All chunks of a store, worked on by threads of their own. */
export interface AllChunks {
  /** Chunks of the store, chunks that were looked at so far, and bytes that were worked on. */
  progress(): number[];
  /** Seals anew what earlier keys have sealed. */
  reseal(threads: number): Promise<ResealReport>;
  /** Authenticates the head of each under the key of its epoch; deep: all of it. */
  census(threads: number, deep: boolean): Promise<CensusReport>;
}

/** Under which keys chunks are sealed. */
export interface CensusReport {
  /** In order; bytes are of plaintext. */
  epochs: { epoch: number; chunks: number; bytes: number }[];
  /** Chunks that no key at hand opens; the first of them are named. */
  unopened: number;
  named: ChunkFlaw[];
}

/** Remembers a store's keys in native memory, to search for them where none may be any more. */
export interface KeyWitness {
  /** How many are looked for. */
  keys(): number;
  /** Files that were searched so far, and bytes of them. */
  progress(): number[];
  /** Looks for them in every file below a directory. */
  search(directory: string, threads: number): Promise<SearchReport>;
  /** Wipes them. */
  forget(): void;
}

/** What a search for keys found. */
export interface SearchReport {
  files: number;
  bytes: number;
  /** `name: path` of each. */
  found: string[];
}

/** What was sealed anew. */
export interface ResealReport {
  resealed: number;
  /** Of plaintext. */
  resealedBytes: number;
  /** Chunks that were of the current epoch already. */
  current: number;
  /** Chunks that could not be opened, and stay as they are; the first of them are named. */
  unopened: number;
  named: ChunkFlaw[];
}

/** What a sweep deleted and kept: objects, and their bytes. */
export interface SweepReport {
  used: number;
  usedBytes: number;
  young: number;
  youngBytes: number;
  deleted: number;
  deletedBytes: number;
}

/** Who asks for what. */
export interface BridgeOrder {
  opcode: number;
  node: number;
  uid: number;
  gid: number;
}

/** The key ring of a store whose key was rotated, as its superblock holds it. */
export interface KeyRing {
  uuid: string;
  epoch: number;
  sealed: Buffer;
}

/** What an engine is opened with. The views stay referenced by the addon until `close`. */
export interface OpenOptions {
  control: Uint8Array;
  shards: Uint8Array[];
  inline: Uint8Array;
  frames: number;
  dataWorkers: number;
  movers: number;
  keyFile: string;
  /** undefined: the key was never rotated. */
  keyRing: KeyRing | undefined;
  store: string;
}

/** What the kernel front mounts. */
export interface KernelMountOptions {
  directory: string;
  source: string;
  allowOther: boolean;
  sharedMmap: boolean;
  threads: number;
}

/** What `poll` yields instead of a count of descriptors. */
export const POLL = { STOPPED: -1, MALFORMED: -2 } as const;

let loaded: Native | undefined;

/** The addon. Throws MillraceError ADDON_MISSING when it is not built or does not load here. */
export function native(): Native {
  loaded ??= load();
  return loaded;
}

function load(): Native {
  const libc = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  const flavour = libc.header?.glibcVersionRuntime === undefined ? 'musl' : 'gnu';
  const file = `native/addon/index.${process.platform}-${process.arch}-${flavour}.node`;
  try {
    return createRequire(import.meta.url)(`../../${file}`) as Native;
  } catch (cause) {
    throw new MillraceError('ADDON_MISSING', `the native addon ${file} cannot be loaded`, {
      hint: 'Run `npm run setup` in the checkout to build it.',
      cause,
    });
  }
}
