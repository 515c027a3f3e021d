/**
 * A power loss of a store's directory: what was synced stays, of everything else a part that chance picks. The shim
 * `synced.c` records what is synced; it has to be compiled, so this needs a C compiler.
 */
import { randomUUID } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Draws } from '../support/random.ts';
import { compileShim } from './shim.ts';

const PAGE_BYTES = 4096;

/** Where the files of the current directory lie, by inode. */
type Places = ReadonlyMap<number, string>;

/** Records what a program makes durable in a directory, and takes away the rest. */
export class PowerLoss {
  readonly #store: string;
  readonly #base: string;
  readonly #shim: string;
  readonly #draws: Draws;

  /** For the store in a directory; `base` is a directory on the same file system, for records. */
  constructor(store: string, base: string, draws: Draws) {
    this.#store = store;
    this.#base = base;
    this.#draws = draws;
    this.#shim = compileShim('synced', base);
    this.#startBoot();
  }

  /** What the mount's environment must hold. */
  get environment(): Record<string, string> {
    return {
      LD_PRELOAD: this.#shim,
      MILLRACE_SYNCED_ROOT: this.#store,
      MILLRACE_SYNCED_RECORD: this.#record,
      MILLRACE_SYNCED_BOOT: join(this.#base, 'boot'),
    };
  }

  get #record(): string {
    return join(this.#base, 'record');
  }

  /** The machine goes off and on again; nobody may use the store. */
  strike(): void {
    const places = new Map<number, string>();
    findPlaces(this.#store, places);
    const image = join(this.#base, 'image');
    this.#restore(statSync(this.#store).ino, image, places);
    rmSync(this.#store, { recursive: true });
    renameSync(image, this.#store);
    this.#startBoot();
  }

  /** A new boot id; and everything that is there is durable. */
  #startBoot(): void {
    writeFileSync(join(this.#base, 'boot'), `${randomUUID()}\n`);
    rmSync(this.#record, { recursive: true, force: true });
    mkdirSync(this.#record);
    this.#keepAll(this.#store);
  }

  #keepAll(directory: string): void {
    const lines = readdirSync(directory).map((name) => {
      const path = join(directory, name);
      const status = statSync(path);
      const record = join(this.#record, `f-${status.ino}`);
      if (status.isDirectory()) this.#keepAll(path);
      else if (isObject(path)) linkSync(path, record);
      else copyFileSync(path, record);
      return `${status.ino} ${name}\n`;
    });
    writeFileSync(join(this.#record, `d-${statSync(directory).ino}`), lines.join(''));
  }

  /** Makes `target` what the disk has of the directory with this inode. */
  #restore(inode: number, target: string, places: Places): void {
    mkdirSync(target, { mode: 0o700 });
    for (const [name, child] of this.#namesOf(inode, places)) {
      const path = places.get(child);
      const record = join(this.#record, `f-${child}`);
      if (path !== undefined && statSync(path).isDirectory()) {
        this.#restore(child, join(target, name), places);
      } else if (path !== undefined && isObject(path)) {
        if (existsSync(record)) linkSync(record, join(target, name));
        else writeFileSync(join(target, name), '');
      } else {
        writeFileSync(join(target, name), this.#mixed(record, path), { mode: 0o600 });
      }
    }
  }

  /** Names that were synced and still are; of others, made or removed since, each by chance. */
  #namesOf(inode: number, places: Places): Map<string, number> {
    const synced = new Map<string, number>();
    const record = join(this.#record, `d-${inode}`);
    const lines = existsSync(record) ? readFileSync(record, 'utf8').split('\n') : [];
    for (const line of lines) {
      const [child, name] = line.split(' ');
      if (name !== undefined) synced.set(name, Number(child));
    }
    const directory = places.get(inode);
    const now = directory === undefined ? [] : readdirSync(directory);
    for (const name of [...synced.keys()]) {
      if (!now.includes(name) && this.#chance()) synced.delete(name);
    }
    for (const name of now) {
      const child = statSync(join(directory as string, name)).ino;
      if (synced.get(name) !== child && this.#chance()) synced.set(name, child);
    }
    return synced;
  }

  /** The bytes as they were synced, with some of the pages that were written since. */
  #mixed(record: string, path: string | undefined): Buffer {
    const synced = existsSync(record) ? readFileSync(record) : Buffer.alloc(0);
    if (path === undefined) return synced;
    const later = readFileSync(path);
    const bytes = Buffer.alloc(this.#chance() ? synced.length : later.length);
    synced.copy(bytes);
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
      if (at < later.length && this.#chance()) later.copy(bytes, at, at, at + PAGE_BYTES);
    }
    // A file that was made longer and synced is as long as it was then, at least.
    return bytes.length >= synced.length
      ? bytes
      : Buffer.concat([bytes, synced.subarray(bytes.length)]);
  }

  #chance(): boolean {
    return this.#draws.below(2) === 0;
  }
}

/** Objects are flushed before they get a name among the chunks, and never change. */
function isObject(path: string): boolean {
  return path.includes('/chunks/');
}

function findPlaces(directory: string, places: Map<number, string>): void {
  places.set(statSync(directory).ino, directory);
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) findPlaces(path, places);
    else places.set(statSync(path).ino, path);
  }
}
