/**
 * The life of small files, played before the first program comes.
 *
 * V8 compiles what has run some thousand times; until then a request costs this thread twice as much and more. So the
 * tree worker serves the requests of a program that makes, stats, opens and removes files, over a tree in memory that
 * is thrown away. What it would tell others is discarded, and the shared memory is left as it was.
 */
import { Buffer } from 'node:buffer';
import { OPCODE, OUT_STRUCT_BYTES } from '../../engine/fuse-protocol.ts';
import { uncounted } from '../../engine/kill-points.ts';
import { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import { MemoryKv } from '../../engine/kv/memory-kv.ts';
import { WriteAheadLog } from '../../engine/kv/write-ahead-log.ts';
import {
  descriptor,
  INLINE_BYTES,
  inode,
  kind,
  NONE,
  request as requestCell,
  TREE_WORKER,
} from '../../engine/layout.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import { ROOT_INO, Tree } from '../../engine/tree/tree.ts';
import type { Sealer } from '../../engine/tree/types.ts';
import type { Commands } from '../commands.ts';
import { TreeWorker } from './tree-worker.ts';

/** Files that are played with at most, each in an inode slot of its own. */
const FILES_MAX = 1500;
/** The request slot that every request of the play uses. */
const SLOT = 0;
const NOBODY = { uid: 0, gid: 0 } as const;
const CREATE_FLAGS = 0o101;
const CREATE_MODE = 0o100644;

/** What a rehearsal needs of the tree worker. */
export interface RehearsalOptions {
  memory: SharedMemory;
  commands: Commands;
  sealer: Sealer;
  /** The tree worker that will serve: it is only asked what changes nothing. */
  worker: TreeWorker;
  /** How long it may take, in milliseconds. */
  limitMs: number;
}

/**
 * Plays until the time is over or the compiler has seen enough; how many files it made.
 *
 * Threads: the tree worker's, before any front and before its own first turn.
 */
export function rehearse(options: RehearsalOptions): number {
  return uncounted(() => playAll(options));
}

function playAll(options: RehearsalOptions): number {
  const play = new Play(options);
  const end = performance.now() + options.limitMs;
  let files = 0;
  while (files < FILES_MAX && performance.now() < end) play.file(files++);
  play.end(files);
  return files;
}

class Play {
  readonly #memory: SharedMemory;
  readonly #commands: Commands;
  readonly #real: TreeWorker;
  /** Serves the tree in memory. */
  readonly #player: TreeWorker;
  #worker: TreeWorker;
  /** Written as the real one is, to nowhere. It must never be removed with its records. */
  readonly #log = new WriteAheadLog({ paths: ['/dev/null', '/dev/null'], isVolatile: true });
  readonly #name: Buffer = Buffer.alloc(16);
  readonly #create: Buffer = Buffer.alloc(16 + 16);
  readonly #handle: Buffer = Buffer.alloc(24);
  readonly #nothing: Buffer = Buffer.alloc(16);
  #descriptors = 0;

  constructor({ memory, commands, sealer, worker }: RehearsalOptions) {
    this.#memory = memory;
    this.#commands = commands;
    const kv = new BufferedKv(new MemoryKv(), this.#log);
    const tree = new Tree({ kv, sealer });
    tree.format(NOBODY);
    this.#real = worker;
    this.#player = new TreeWorker({
      memory,
      commands,
      kv,
      tree,
      ttlMs: 5000,
      commitIntervalMs: 0,
      storeNeedsSync: false,
      statfs: () => {
        throw new Error('nobody asks for statistics in a rehearsal');
      },
      wake: () => {},
    });
    this.#worker = this.#player;
  }

  /** Makes a file, writes and closes it, looks at it, opens it again and removes it. */
  file(index: number): void {
    const name = this.#name;
    name.write(`file-${1_000_000 + index}\0`);
    this.#worker = this.#real;
    this.#request(OPCODE.GETATTR, ROOT_INO, this.#nothing);
    this.#request(OPCODE.LOOKUP, ROOT_INO, name);
    this.#worker = this.#player;
    this.#request(OPCODE.GETATTR, ROOT_INO, this.#nothing);
    this.#request(OPCODE.LOOKUP, ROOT_INO, name);
    this.#create.writeUInt32LE(CREATE_FLAGS, 0);
    this.#create.writeUInt32LE(CREATE_MODE, 4);
    name.copy(this.#create, 16);
    this.#request(OPCODE.CREATE, ROOT_INO, this.#create);
    const { out } = this.#commands;
    const view = new DataView(out.buffer, out.byteOffset);
    const ino = view.getUint32(0, true);
    const slot = view.getUint32(OUT_STRUCT_BYTES.ENTRY, true);
    this.#write(slot);
    this.#flush(slot);
    this.#release(slot, ino);
    this.#request(OPCODE.LOOKUP, ROOT_INO, name);
    this.#request(OPCODE.GETATTR, ino, this.#nothing);
    this.#request(OPCODE.OPEN, ino, this.#nothing);
    this.#release(slot, ino);
    this.#request(OPCODE.UNLINK, ROOT_INO, name);
    this.#forget(ino);
  }

  /** Leaves nothing behind where others will look. */
  end(files: number): void {
    this.#player.stop();
    this.#log.close(false);
    const { words } = this.#memory;
    const inodes = this.#memory.inodeWord(0, 0);
    words.fill(0, inodes, this.#memory.inodeWord(files, 0));
    const cells = this.#memory.requestWord(SLOT, 0);
    words.fill(0, cells, this.#memory.requestWord(SLOT + 1, 0));
  }

  /** As a front does when the program writes. */
  #write(slot: number): void {
    const { doubles, words } = this.#memory;
    doubles[this.#memory.inodeWord(slot, inode.SIZE) >>> 1] = INLINE_BYTES;
    words[this.#memory.inodeWord(slot, inode.WRITES)] += 1;
    this.#descriptor(kind.PIECE, slot, 0, INLINE_BYTES);
    this.#serve();
  }

  /** As a front does when the program closes: this thread owns the region and commits at once. */
  #flush(slot: number): void {
    this.#fillRequest(OPCODE.FLUSH, ROOT_INO, this.#nothing);
    this.#descriptor(kind.SYNC, slot, SLOT, 0);
    this.#serve();
  }

  #release(slot: number, ino: number): void {
    this.#handle.writeUInt32LE(slot, 0);
    this.#request(OPCODE.RELEASE, ino, this.#handle);
  }

  /** As a front does when the kernel lets go of what was removed. */
  #forget(ino: number): void {
    const word = this.#descriptor(kind.FORGET, NONE, 0, 0);
    this.#memory.doubles[(word + descriptor.OFFSET) >>> 1] = ino;
    this.#serve();
  }

  #request(opcode: number, node: number, body: Uint8Array): void {
    this.#fillRequest(opcode, node, body);
    this.#descriptor(kind.REQUEST, NONE, SLOT, 0);
    this.#serve();
  }

  #fillRequest(opcode: number, node: number, body: Uint8Array): void {
    const { control, doubles, words } = this.#memory;
    const base = this.#memory.requestWord(SLOT, 0);
    words[base + (requestCell.OPCODE >>> 2)] = opcode;
    words[base + (requestCell.ERRNO >>> 2)] = 0;
    words[base + (requestCell.BODY_LENGTH >>> 2)] = body.length;
    doubles[(base + (requestCell.NODE >>> 2)) >>> 1] = node;
    control.set(body, this.#memory.bodyByte(SLOT));
  }

  /** Puts a descriptor where the ring would have it, unpublished; its first word. */
  #descriptor(what: number, slot: number, a: number, length: number): number {
    const word = this.#memory.descriptorWord(TREE_WORKER, this.#descriptors++);
    const { words } = this.#memory;
    words.fill(0, word + 1, word + descriptor.WORDS);
    words[word + descriptor.KIND] = what;
    words[word + descriptor.INODE] = slot;
    words[word + descriptor.A] = a;
    words[word + descriptor.LENGTH] = length;
    if (what === kind.SYNC) words[word + descriptor.B] = 1;
    return word;
  }

  #serve(): void {
    this.#worker.serve(0, this.#descriptors);
    this.#worker.rest();
    this.#commands.discard();
    this.#descriptors = 0;
  }
}
