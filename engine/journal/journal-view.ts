import { Buffer } from 'node:buffer';
import { displayName } from '../check/paths.ts';
import { BufferedKv } from '../kv/buffered-kv.ts';
import type { Kv } from '../kv/kv.ts';
import { inodeOf, KEY, regionOf } from '../tree/keys.ts';
import { isRegular } from '../tree/mode.ts';
import { RecordCodec, ROOT_INO } from '../tree/records.ts';
import { Tree } from '../tree/tree.ts';
import type { Attributes, Extent, RegionContent, Sealer, Time } from '../tree/types.ts';
import { GateKv } from './gate-kv.ts';
import type { Journal } from './journal-reader.ts';

/** Directories that one path is followed through. */
const DEPTH_MAX = 4096;

/** A range of a file, in bytes. */
export interface FileRange {
  readonly offset: number;
  readonly length: number;
}

/** A file whose content, size or times a journal holds. */
export interface JournaledFile {
  readonly ino: number;
  /** Names from its namespace's root on, that of a further namespace first; empty where nothing leads to it. */
  readonly names: readonly Uint8Array[];
  /** The same for people. */
  readonly path: string;
  readonly size: number;
  readonly mtime: Time;
  /** What the journal holds and the store does not. */
  readonly ranges: readonly FileRange[];
}

/** A name that a journal makes or removes. */
export interface JournaledName {
  readonly change: 'made' | 'removed';
  readonly path: string;
}

/**
 * The tree as it will be when a journal is replayed. Nothing is written to the store.
 *
 * Threads: one, which uses the store's Kv alone meanwhile.
 */
export class JournalView {
  readonly tree: Tree;
  readonly #journal: Journal;
  readonly #store: Tree;
  readonly #sealer: Sealer;
  readonly #codec = new RecordCodec();
  /** Names by the inode that they lead to, of those that the journal makes. */
  readonly #made = new Map<number, { parent: number; name: Uint8Array }>();
  /** Names of namespaces by their roots. */
  readonly #namespaces = new Map<number, Uint8Array>();

  constructor(journal: Journal, store: Kv, sealer: Sealer) {
    const gate = new GateKv(store);
    gate.shut();
    const kv = new BufferedKv(gate);
    kv.transact((transaction) => {
      for (const { key, value } of journal.changes) {
        if (value === undefined) transaction.remove(key);
        else transaction.put(key, value);
      }
    });
    this.#journal = journal;
    this.#sealer = sealer;
    this.#store = new Tree({ kv: store, sealer });
    this.tree = new Tree({ kv, sealer });
    for (const { key, value } of journal.changes) {
      const record = key[0] === KEY.NAME && value !== undefined ? this.#nameOf(key, value) : null;
      if (record) this.#made.set(record.ino, { parent: inodeOf(key), name: record.name });
    }
    const namespaces = this.tree.namespaces();
    for (const { name, root } of typeof namespaces === 'number' ? [] : namespaces) {
      this.#namespaces.set(root, name);
    }
  }

  #nameOf(key: Uint8Array, value: Uint8Array): { ino: number; name: Uint8Array } | undefined {
    const plain = this.#sealer.open(key, value);
    return plain === undefined ? undefined : this.#codec.decodeName(plain);
  }

  /** The regular files of which the journal has content or attributes, in the order of their paths. */
  files(): JournaledFile[] {
    const inodes = new Map<number, FileRange[]>();
    for (const { key, value } of this.#journal.changes) {
      if (value === undefined) continue;
      if (key[0] === KEY.INODE && !inodes.has(inodeOf(key))) inodes.set(inodeOf(key), []);
      if (key[0] !== KEY.REGION) continue;
      const ranges = inodes.get(inodeOf(key)) ?? [];
      ranges.push(...this.#newRanges(inodeOf(key), regionOf(key)));
      inodes.set(inodeOf(key), ranges);
    }
    const files: JournaledFile[] = [];
    for (const [ino, ranges] of inodes) {
      const file = this.#file(ino, ranges);
      if (file !== undefined) files.push(file);
    }
    return files.sort((a, b) => (a.path < b.path ? -1 : 1));
  }

  #file(ino: number, ranges: FileRange[]): JournaledFile | undefined {
    const attributes = this.tree.getattr(ino);
    if (typeof attributes === 'number' || !isRegular(attributes)) return undefined;
    const { size, mtime } = attributes;
    ranges.sort((a, b) => a.offset - b.offset);
    const { names, path } = this.pathOf(ino);
    return { ino, names, path, size, mtime, ranges: joined(ranges, size) };
  }

  /** The bytes of a region that the store has otherwise, or not at all. */
  #newRanges(ino: number, region: number): FileRange[] {
    const content = this.tree.region(ino, region);
    if (typeof content === 'number') return [];
    if ('inline' in content) return [{ offset: 0, length: content.inline.length }];
    const stored = this.#store.region(ino, region);
    const known = typeof stored !== 'number' && 'extents' in stored ? stored.extents : [];
    return content.extents.filter((extent) => !known.some((other) => isSame(extent, other)));
  }

  /** Names that the journal makes and removes. */
  names(): JournaledName[] {
    const names: JournaledName[] = [];
    for (const { key, value } of this.#journal.changes) {
      if (key[0] !== KEY.NAME) continue;
      const record = value === undefined ? this.#storedName(key) : this.#nameOf(key, value);
      if (record === undefined) continue;
      const directory = this.pathOf(inodeOf(key)).path;
      const path = `${directory === '/' ? '' : directory}/${displayName(record.name)}`;
      names.push({ change: value === undefined ? 'removed' : 'made', path });
    }
    return names;
  }

  #storedName(key: Uint8Array): { name: Uint8Array } | undefined {
    let found: { name: Uint8Array } | undefined;
    this.#store.readdir(inodeOf(key), 0, ({ name }) => {
      const hash = this.#sealer.nameHash(inodeOf(key), name);
      if (Buffer.from(hash).equals(key.subarray(key.length - hash.length))) found = { name };
      return found === undefined;
    });
    return found;
  }

  /** What leads to an inode. */
  pathOf(ino: number): { names: Uint8Array[]; path: string } {
    const names: Uint8Array[] = [];
    let at = ino;
    for (let depth = 0; depth < DEPTH_MAX && at !== ROOT_INO; depth++) {
      const above = this.#above(at);
      if (above === undefined) break;
      names.unshift(above.name);
      at = above.parent;
    }
    const namespace = at === ROOT_INO ? undefined : this.#namespaces.get(at);
    const start = namespace === undefined ? `<inode ${at}>` : `${displayName(namespace)}:`;
    const path = `${at === ROOT_INO ? '' : start}/${names.map(displayName).join('/')}`;
    return { names: namespace === undefined ? names : [namespace, ...names], path };
  }

  #above(ino: number): { parent: number; name: Uint8Array } | undefined {
    const made = this.#made.get(ino);
    if (made !== undefined) return made;
    const parent = this.tree.parentOf(ino);
    if (parent === undefined || parent === ino) return undefined;
    let found: Uint8Array | undefined;
    this.tree.readdir(parent, 0, (entry) => {
      if (entry.ino === ino) found = entry.name.slice();
      return found === undefined;
    });
    return found === undefined ? undefined : { parent, name: found };
  }

  attributes(ino: number): Attributes | undefined {
    const attributes = this.tree.getattr(ino);
    return typeof attributes === 'number' ? undefined : attributes;
  }

  /** The regions of a file that the journal changes. */
  changedRegions(ino: number): { region: number; content: RegionContent }[] {
    const found: { region: number; content: RegionContent }[] = [];
    for (const { key, value } of this.#journal.changes) {
      if (key[0] !== KEY.REGION || inodeOf(key) !== ino || value === undefined) continue;
      const content = this.tree.region(ino, regionOf(key));
      if (typeof content !== 'number') found.push({ region: regionOf(key), content });
    }
    return found;
  }
}

/** Chunks that the journal's content refers to: their ids as 32 bytes. */
export function chunksOf(journal: Journal, sealer: Sealer): Map<string, Uint8Array> {
  const codec = new RecordCodec();
  const ids = new Map<string, Uint8Array>();
  for (const { key, value } of journal.changes) {
    if (key[0] !== KEY.REGION || value === undefined) continue;
    const plain = sealer.open(key, value);
    const content = plain === undefined ? undefined : codec.decodeRegion(plain, regionOf(key));
    if (content === undefined || 'inline' in content) continue;
    for (const extent of content.extents) {
      const id = idBytes(extent);
      ids.set(Buffer.from(id).toString('hex'), id);
    }
  }
  return ids;
}

/** An extent's chunk as native code takes it. */
export function idBytes({ id }: Pick<Extent, 'id'>): Uint8Array {
  const bytes = Buffer.alloc(id.length * 4);
  for (const [index, word] of id.entries()) bytes.writeUInt32LE(word, index * 4);
  return bytes;
}

function isSame(one: Extent, other: Extent): boolean {
  return (
    one.offset === other.offset &&
    one.length === other.length &&
    one.chunkOffset === other.chunkOffset &&
    one.id.every((word, index) => word === other.id[index])
  );
}

/** Ranges in order, neighbours as one, nothing behind the end of the file. */
function joined(ranges: readonly FileRange[], size: number): FileRange[] {
  const result: { offset: number; length: number }[] = [];
  for (const { offset, length } of ranges) {
    const bytes = Math.min(length, size - offset);
    if (bytes <= 0) continue;
    const last = result.at(-1);
    if (last !== undefined && last.offset + last.length === offset) last.length += bytes;
    else result.push({ offset, length: bytes });
  }
  return result;
}
