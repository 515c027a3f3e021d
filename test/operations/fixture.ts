/** A tree over memory with the operations on top, and bodies as the kernel writes them. */

import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto';
import { OPCODE, ROOT_NODE } from '../../engine/fuse-protocol.ts';
import { MemoryKv } from '../../engine/kv/memory-kv.ts';
import { Tree } from '../../engine/tree/tree.ts';
import type { CopiedRange } from '../../engine/tree/copy.ts';
import type { Attributes, AttributesPatch, Sealer, Time } from '../../engine/tree/types.ts';
import { Answer } from '../../workers/tree/answer.ts';
import type { Access, Allocation, OpenInodes } from '../../workers/tree/open-inodes.ts';
import { Operations, type Outcome, PENDING } from '../../workers/tree/operations.ts';
import type { Request } from '../../workers/tree/request.ts';
import type { View } from '../../workers/tree/virtual/view.ts';

/** The time that every fixture takes for now. */
export const NOW: Time = { seconds: 1_800_000_000, nanoseconds: 123_000_000 };

/** The time at which the tree's clock stands. */
export const PAST: Time = { seconds: 1_700_000_000, nanoseconds: 0 };

/** One open inode of the fake. */
interface OpenInode {
  attributes: Attributes;
  size: number;
  mtime: Time;
  openers: number;
  writers: number;
}

/** Open inodes in an array instead of shared memory; records what it is told. */
export class FakeOpenInodes implements OpenInodes {
  readonly slots: OpenInode[] = [];
  readonly gone: number[] = [];
  readonly resized: AttributesPatch[] = [];
  synced = 0;
  /** What the next open fails with. */
  failure = 0;
  /** Resizes of open inodes are answered later. */
  readonly resizing: { slot: number; ino: number }[] = [];
  readonly #tree: Tree;
  readonly #operations: () => Operations;

  constructor(tree: Tree, operations: () => Operations) {
    this.#tree = tree;
    this.#operations = operations;
  }

  open(attributes: Attributes, access: Access): number {
    if (this.failure !== 0) return this.failure;
    let slot = this.slotOf(attributes.ino);
    if (slot < 0) {
      const { size, mtime } = attributes;
      slot = this.slots.push({ attributes, size, mtime, openers: 0, writers: 0 }) - 1;
    }
    this.slots[slot].openers += 1;
    this.slots[slot].writers += access.write ? 1 : 0;
    return slot;
  }

  release(slot: number, access: Access): void {
    const inode = this.slots[slot];
    if (inode === undefined || inode.openers === 0) return;
    inode.openers -= 1;
    inode.writers -= access.write ? 1 : 0;
    const stored = this.#tree.getattr(inode.attributes.ino);
    const orphan = typeof stored !== 'number' && stored.nlink === 0;
    if (inode.openers === 0 && orphan) this.#tree.reclaim(stored.ino);
  }

  slotOf(ino: number): number {
    return this.slots.findIndex((inode) => inode.attributes.ino === ino && inode.openers > 0);
  }

  sizeOf(slot: number): number {
    return this.slots[slot].size;
  }

  /** Bytes by slot that were written and not committed. */
  readonly unsettled: number[] = [];

  unsettledOf(slot: number): number {
    return this.unsettled[slot] ?? 0;
  }

  mtimeOf(slot: number): Time {
    return this.slots[slot].mtime;
  }

  setMtime(slot: number, time: Time): void {
    this.slots[slot].mtime = time;
  }

  /** Ranges that FALLOCATE asked for. */
  readonly allocated: Allocation[] = [];
  readonly copied: CopiedRange[] = [];

  allocate(_request: Request, _ino: number, range: Allocation): Outcome {
    this.allocated.push(range);
    return 0;
  }

  copy(_request: Request, range: CopiedRange): Outcome {
    this.copied.push(range);
    return PENDING;
  }

  resize(request: Request, ino: number, patch: AttributesPatch, answer: Answer): Outcome {
    this.resized.push(patch);
    const slot = this.slotOf(ino);
    const changed = this.#tree.setattr(ino, patch);
    if (typeof changed === 'number' && changed !== 0) return -changed;
    if (slot < 0) return this.#operations().answerAttributes(ino, answer);
    this.slots[slot].size = patch.size ?? 0;
    if (patch.mtime !== undefined) this.slots[slot].mtime = patch.mtime;
    this.resizing.push({ slot: request.slot, ino });
    return PENDING;
  }

  unlinked(ino: number): void {
    this.gone.push(ino);
  }

  /** Inodes without a name that may get one. */
  readonly linkable: Set<number> = new Set<number>();

  unnamed(ino: number): void {
    this.linkable.add(ino);
  }

  isLinkable(ino: number): boolean {
    return this.linkable.has(ino);
  }

  linked(ino: number): void {
    this.linkable.delete(ino);
  }

  forgotten(ino: number): void {
    if (this.slotOf(ino) < 0) this.#tree.reclaim(ino);
  }

  /** Privileges by slot, as the fronts would see them. */
  readonly privileges: number[] = [];

  setPrivileges(slot: number, privileges: number): void {
    this.privileges[slot] = privileges;
  }

  syncTree(): Outcome {
    this.synced += 1;
    return PENDING;
  }
}

/** Seals with node:crypto, so that nothing of the addon is needed. */
class CryptoSealer implements Sealer {
  readonly #key = Buffer.alloc(32, 7);
  #counter = 0;

  nameHash(ino: number, name: Uint8Array): Uint8Array {
    return createHmac('sha256', this.#key).update(`${ino}/`).update(name).digest().subarray(0, 16);
  }

  seal(key: Uint8Array, plain: Uint8Array): Uint8Array {
    const nonce = Buffer.alloc(12);
    nonce.writeUInt32LE(this.#counter++);
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonce).setAAD(key);
    return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  }

  open(key: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
    const end = sealed.length - 16;
    const cipher = createDecipheriv('aes-256-gcm', this.#key, sealed.subarray(0, 12));
    cipher.setAAD(key).setAuthTag(sealed.subarray(end));
    try {
      return Buffer.concat([cipher.update(sealed.subarray(12, end)), cipher.final()]);
    } catch {
      return undefined;
    }
  }
}

/** What `Fixture.send` may say beyond opcode and body. */
export interface Caller {
  node?: number;
  uid?: number;
  gid?: number;
}

/** An answer: its outcome, and the bytes that it wrote when it succeeded. */
export interface Reply {
  outcome: Outcome;
  bytes: Buffer;
}

/** One file system without a kernel. */
export class Fixture {
  readonly kv: MemoryKv = new MemoryKv();
  readonly sealer: Sealer = new CryptoSealer();
  readonly tree: Tree;
  readonly inodes: FakeOpenInodes;
  readonly operations: Operations;
  readonly buffer: Buffer = Buffer.alloc(1 << 18, 0xee);
  readonly answer: Answer = new Answer(this.buffer);

  constructor(ttl = 1500, view: (tree: Tree) => View | undefined = () => undefined) {
    this.tree = new Tree({ kv: this.kv, sealer: this.sealer, clock: () => PAST });
    this.tree.format({ uid: 0, gid: 0 });
    this.inodes = new FakeOpenInodes(this.tree, () => this.operations);
    this.operations = new Operations({
      tree: this.tree,
      inodes: this.inodes,
      ttl,
      view: view(this.tree),
      statfs: () => ({
        blocks: 2 ** 40 + 1,
        bfree: 5,
        bavail: 4,
        files: 1000,
        ffree: 900,
        bsize: 1 << 20,
        namelen: 255,
        frsize: 4096,
      }),
      now: () => NOW,
    });
  }

  /** Serves one request. */
  send(opcode: number, body: Uint8Array, caller: Caller = {}): Reply {
    const { node = ROOT_NODE, uid = 1000, gid = 100 } = caller;
    this.answer.begin(0, this.buffer.length);
    const request = { slot: 1, opcode, node, uid, gid, pid: 42, body };
    const outcome = this.operations.handle(request, this.answer);
    return { outcome, bytes: Buffer.from(this.buffer.subarray(0, Math.max(outcome, 0))) };
  }

  /** Makes an empty file that nobody holds open; its inode number. */
  file(name: string, node: number = ROOT_NODE): number {
    const body = join(words(0o100644, 0, 0, 0), cstring(name));
    return nodeOf(this.send(OPCODE.MKNOD, body, { node }));
  }

  /** Makes a directory; its inode number. */
  directory(name: string, node: number = ROOT_NODE): number {
    return nodeOf(this.send(OPCODE.MKDIR, join(words(0o755, 0), cstring(name)), { node }));
  }

  /** The attributes that GETATTR answers. */
  stat(node: number): Attr {
    return attrAt(this.send(OPCODE.GETATTR, words(0, 0, 0, 0), { node }).bytes, 16);
  }
}

/** Little-endian 32-bit numbers, one behind the other. */
export function words(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, index) => {
    bytes.writeUInt32LE(value >>> 0, index * 4);
  });
  return bytes;
}

/** One little-endian 64-bit number. */
export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(BigInt.asIntN(64, BigInt(value)));
  return bytes;
}

/** A string and its NUL. */
export function cstring(value: string): Buffer {
  return Buffer.from(`${value}\0`);
}

/** One body of several parts. */
export function join(...parts: Uint8Array[]): Buffer {
  return Buffer.concat(parts);
}

/** struct fuse_read_in of a READDIR. */
export function readBody(offset: bigint, size: number): Buffer {
  return join(u64(0), u64(offset), words(size, 0), u64(0), words(0, 0));
}

/** The fields of struct fuse_setattr_in that a test sets. */
export interface SetattrFields {
  valid: number;
  size?: number | bigint;
  atime?: readonly [number, number];
  mtime?: readonly [number, number];
  mode?: number;
  uid?: number;
  gid?: number;
}

/** struct fuse_setattr_in. */
export function setattrBody(fields: SetattrFields): Buffer {
  const { valid, size = 0, atime = [0, 0], mtime = [0, 0], mode = 0, uid = 0, gid = 0 } = fields;
  return join(
    words(valid, 0),
    u64(0),
    u64(size),
    u64(0),
    u64(atime[0]),
    u64(mtime[0]),
    u64(0),
    words(atime[1], mtime[1], 0, mode, 0, uid, gid, 0),
  );
}

/** struct fuse_attr. */
export interface Attr {
  ino: number;
  size: number;
  blocks: number;
  atime: [number, number];
  mtime: [number, number];
  ctime: [number, number];
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  rdev: number;
  blksize: number;
  flags: number;
}

/** Decodes a struct fuse_attr. */
export function attrAt(bytes: Buffer, at: number): Attr {
  const word = (offset: number): number => bytes.readUInt32LE(at + offset);
  const long = (offset: number): number => Number(bytes.readBigInt64LE(at + offset));
  return {
    ino: long(0),
    size: long(8),
    blocks: long(16),
    atime: [long(24), word(48)],
    mtime: [long(32), word(52)],
    ctime: [long(40), word(56)],
    mode: word(60),
    nlink: word(64),
    uid: word(68),
    gid: word(72),
    rdev: word(76),
    blksize: word(80),
    flags: word(84),
  };
}

/** The nodeid of a struct fuse_entry_out. */
export function nodeOf(reply: Reply): number {
  if (reply.outcome < 0) throw new Error(`expected an entry, got ${reply.outcome}`);
  return Number(reply.bytes.readBigUInt64LE(0));
}

/** The attributes of a struct fuse_entry_out. */
export function entryAttr(reply: Reply): Attr {
  return attrAt(reply.bytes, 40);
}

/** One record of a listing. */
export interface Dirent {
  ino: number;
  offset: bigint;
  type: number;
  name: string;
  /** Of READDIRPLUS: the nodeid in front. */
  node: number;
  attr: Attr | undefined;
}

/** Decodes a listing; `plus` when there is a struct fuse_entry_out in front of each record. */
export function dirents(bytes: Buffer, plus = false): Dirent[] {
  const found: Dirent[] = [];
  const front = plus ? 128 : 0;
  let at = 0;
  while (at < bytes.length) {
    const record = at + front;
    const nameBytes = bytes.readUInt32LE(record + 16);
    found.push({
      ino: Number(bytes.readBigUInt64LE(record)),
      offset: bytes.readBigUInt64LE(record + 8),
      type: bytes.readUInt32LE(record + 20),
      name: bytes.toString('utf8', record + 24, record + 24 + nameBytes),
      node: plus ? Number(bytes.readBigUInt64LE(at)) : 0,
      attr: plus ? attrAt(bytes, at + 40) : undefined,
    });
    at = record + Math.ceil((24 + nameBytes) / 8) * 8;
  }
  return found;
}
