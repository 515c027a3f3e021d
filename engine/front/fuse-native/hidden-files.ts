/**
 * Files that were unlinked or replaced while they were open. libfuse 2 renames them to `.fuse_hidden…` and unlinks that
 * name behind the last close, because it knows files by their paths. Here no such name ever reaches the tree: the name is
 * a nickname of the inode, and the real name is taken away.
 *
 * When libfuse is about to replace an open file by rename(2), it hides the target first, and only then renames. Taking
 * the name away at the first step would leave a moment without any file of that name, for a crash to keep. So the name is
 * *doomed* first: a rename onto it replaces it in one step; whatever else looks at it, and a moment of silence, takes it
 * away before.
 */
const PREFIX = Buffer.from('.fuse_hidden');
/** The prefix and two numbers of eight hexadecimal digits. */
const NAME_BYTES = 28;

/** A name that a program has unlinked, but that stands in the tree for a moment longer. */
export interface Doomed {
  readonly parent: number;
  readonly name: Uint8Array;
}

/** Nicknames and doomed names of one mount. */
export class HiddenFiles {
  readonly #nodes = new Map<string, number>();
  readonly #doomed = new Map<string, Doomed>();

  /** The inode of a nickname, or 0. */
  find(name: Uint8Array): number {
    return isHiddenName(name) ? (this.#nodes.get(textOf(name)) ?? 0) : 0;
  }

  /** Gives an inode a nickname, and dooms the name that it has. */
  hide(node: number, nickname: Uint8Array, place: Doomed): void {
    this.#nodes.set(textOf(nickname), node);
    const { parent } = place;
    const name = place.name.slice();
    this.#doomed.set(keyOf(parent, name), { parent, name });
  }

  /** Takes a nickname away: the inode that had it, or 0. */
  reveal(name: Uint8Array): number {
    const node = this.find(name);
    if (node !== 0) this.#nodes.delete(textOf(name));
    return node;
  }

  /** Takes the nicknames of an inode away; how many there were. */
  revealNode(node: number): number {
    let count = 0;
    for (const [nickname, each] of this.#nodes) {
      if (each !== node) continue;
      this.#nodes.delete(nickname);
      count += 1;
    }
    return count;
  }

  /** Whether an inode has a nickname and any name is doomed: then its count of names is not yet what it will be. */
  isDoomed(node: number): boolean {
    if (this.#doomed.size === 0) return false;
    for (const each of this.#nodes.values()) if (each === node) return true;
    return false;
  }

  /** A doomed name, which is the caller's to take away then. */
  take(parent: number, name: Uint8Array): Doomed | undefined {
    if (this.#doomed.size === 0) return undefined;
    const key = keyOf(parent, name);
    const doomed = this.#doomed.get(key);
    this.#doomed.delete(key);
    return doomed;
  }

  /** Any doomed name, likewise. */
  takeAny(): Doomed | undefined {
    for (const [key, doomed] of this.#doomed) {
      this.#doomed.delete(key);
      return doomed;
    }
    return undefined;
  }
}

/** Whether a name is one that libfuse gives to what it hides. */
export function isHiddenName(name: Uint8Array): boolean {
  if (name.length !== NAME_BYTES) return false;
  for (let i = 0; i < PREFIX.length; i++) if (name[i] !== PREFIX[i]) return false;
  for (let i = PREFIX.length; i < NAME_BYTES; i++) if (!isHexDigit(name[i])) return false;
  return true;
}

function isHexDigit(byte: number): boolean {
  return (byte >= 0x30 && byte <= 0x39) || (byte >= 0x61 && byte <= 0x66);
}

function textOf(name: Uint8Array): string {
  return Buffer.from(name.buffer, name.byteOffset, name.length).toString('latin1');
}

function keyOf(parent: number, name: Uint8Array): string {
  return `${parent}/${textOf(name)}`;
}
