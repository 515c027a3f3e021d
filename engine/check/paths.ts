import { Buffer } from 'node:buffer';
import { inodeOf, KEY } from '../tree/keys.ts';
import { ROOT_INO } from '../tree/records.ts';
import type { Finding } from './finding.ts';
import type { InodeTable } from './inode-table.ts';
import type { RecordReader } from './reader.ts';

/** Paths that are told of one inode. */
const PATHS_MAX = 16;
/** Directories that one path is followed through: above what any path of Linux has. */
const DEPTH_MAX = 4096;

interface Name {
  readonly parent: number;
  readonly name: string;
}

/**
 * Paths of inodes, for people: names that are no UTF-8 or that a terminal would act on are escaped.
 *
 * Made for the inodes that findings are about, by reading all names twice. Memory: these inodes
 * and the directories above them.
 */
export class Paths {
  /** Names of the inodes that are asked for; empty where there is none. */
  readonly #names = new Map<number, Name[]>();
  /** Roots of namespaces, and what their paths begin with. */
  readonly #roots = new Map<number, string>([[ROOT_INO, '']]);

  constructor(
    { reader, inodes }: { reader: RecordReader; inodes: InodeTable },
    findings: readonly Finding[],
  ) {
    for (const finding of findings) {
      for (const ino of finding.inodes) this.#want(ino, inodes);
      if (finding.place !== undefined) this.#want(finding.place.parent, inodes);
    }
    if (this.#names.size === 0) return;
    this.#readNamespaces(reader);
    this.#readNames(reader);
    // Further names of a file lie in directories that nobody asked for yet.
    const before = this.#names.size;
    for (const names of [...this.#names.values()]) {
      for (const { parent } of names) this.#want(parent, inodes);
    }
    if (this.#names.size > before) this.#readNames(reader);
  }

  /** The paths that a finding is about. */
  of({ inodes, place }: Finding): string[] {
    const paths = inodes.flatMap((ino) => this.#pathsOf(ino));
    if (paths.length > 0 || place === undefined) return paths.slice(0, PATHS_MAX);
    const name = place.name === undefined ? '<a name that is lost>' : displayName(place.name);
    return [`${this.#directory(place.parent)}${name}`];
  }

  /** An inode and all directories above it. */
  #want(ino: number, inodes: InodeTable): void {
    let wanted = ino;
    for (let depth = 0; depth < DEPTH_MAX && !this.#names.has(wanted); depth++) {
      this.#names.set(wanted, []);
      const row = inodes.find(wanted);
      const above = row < 0 ? -1 : inodes.above[row];
      if (above < 0) return;
      wanted = inodes.ino[above];
    }
  }

  #readNamespaces(reader: RecordReader): void {
    reader.each(KEY.NAMESPACE, (key, sealed) => {
      const record = reader.name(key, sealed);
      if (typeof record !== 'string') this.#roots.set(record.ino, `${displayName(record.name)}:`);
    });
  }

  #readNames(reader: RecordReader): void {
    reader.each(KEY.NAME, (key, sealed) => {
      const record = reader.name(key, sealed);
      if (typeof record === 'string') return;
      const names = this.#names.get(record.ino);
      if (names === undefined || names.length === PATHS_MAX) return;
      const parent = inodeOf(key);
      const name = displayName(record.name);
      const isKnown = names.some((other) => other.parent === parent && other.name === name);
      if (!isKnown) names.push({ parent, name });
    });
  }

  #pathsOf(ino: number): string[] {
    const root = this.#roots.get(ino);
    if (root !== undefined) return [`${root}/`];
    const names = this.#names.get(ino) ?? [];
    return names.map(({ parent, name }) => `${this.#directory(parent)}${name}`);
  }

  /** Path of a directory, with a slash at its end. What no root leads to begins with its inode. */
  #directory(ino: number): string {
    const parts: string[] = [];
    const passed = new Set<number>();
    let at = ino;
    while (!passed.has(at)) {
      passed.add(at);
      const root = this.#roots.get(at);
      const above = this.#names.get(at)?.[0];
      if (root !== undefined) parts.push(root);
      if (root !== undefined || above === undefined) break;
      parts.push(above.name);
      at = above.parent;
    }
    if (!this.#roots.has(at)) parts.push(`<inode ${at}>`);
    return `${parts.reverse().join('/')}/`;
  }
}

/** A name as it can be shown: what is no printable UTF-8 becomes \xNN. */
export function displayName(name: Uint8Array): string {
  const text = Buffer.from(name).toString();
  if (Buffer.from(text).equals(name) && !/[\p{C}\\]/u.test(text)) return text;
  let shown = '';
  for (const byte of name) {
    const isPlain = byte > 0x20 && byte < 0x7f && byte !== 0x5c;
    shown += isPlain ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`;
  }
  return shown;
}
