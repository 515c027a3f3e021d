/** A tree whose every name, attribute and byte can be told from its size alone, and a reader that compares. */
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { ERRNO } from '../../engine/tree/errno.ts';
import { ROOT_INO, type Tree } from '../../engine/tree/tree.ts';
import type { ContentChange, Result } from '../../engine/tree/types.ts';
import { bytes, DIR, extent, FILE, OWNER, ok } from '../tree/fixture.ts';

const REGION_BYTES = 4 << 20;
const MTIME = { seconds: 7, nanoseconds: 0 };
const DIRECTORIES = 5;
/** Operations of one transaction. */
const BATCH = 16;

/** Bytes that look random and are always the same. */
function noise(seed: string, length: number): Buffer {
  const block = createHash('sha512').update(seed).digest();
  return Buffer.alloc(length, block);
}

interface Planned {
  directory: number;
  name: Buffer;
  size: number;
  changes: ContentChange[];
  xattr: { name: Buffer; value: Buffer } | undefined;
}

function plan(index: number): Planned {
  const written = index % 4 === 0 ? REGION_BYTES + 1000 + index : 1 + ((index * 37) % 3000);
  // In a file that ends with a hole, content that is gone looks like another one.
  const size = index % 8 === 4 ? 5 * REGION_BYTES : written;
  const changes: ContentChange[] =
    index % 4 === 0
      ? [
          { kind: 'extent', extent: extent(0, REGION_BYTES, 2 * index + 1) },
          { kind: 'extent', extent: extent(REGION_BYTES, written - REGION_BYTES, 2 * index + 2) },
        ]
      : [{ kind: 'inline', bytes: noise(`content ${index}`, size) }];
  const valueBytes = index % 50 === 0 ? 9000 : 1 + (index % 90);
  const xattr =
    index % 3 === 0
      ? { name: bytes(`user.n${index}`), value: noise(`value ${index}`, valueBytes) }
      : undefined;
  return { directory: index % DIRECTORIES, name: bytes(`file-${index}`), size, changes, xattr };
}

function nameOfDirectory(index: number): Buffer {
  return bytes(`directory-${index}`);
}

/** Makes the tree, in many transactions, and removes as much again as stays. */
export function plantTree(tree: Tree, files: number): void {
  tree.format(OWNER);
  const directories: number[] = [];
  for (let index = 0; index < DIRECTORIES; index++) {
    const creation = { mode: DIR, owner: OWNER };
    directories.push(ok(tree.mkdir(ROOT_INO, nameOfDirectory(index), creation)).ino);
  }
  for (let from = 0; from < files; from += BATCH) {
    tree.transact(() => {
      for (let index = from; index < Math.min(from + BATCH, files); index++) {
        const { directory, name, size, changes, xattr } = plan(index);
        const creation = { mode: FILE, owner: OWNER };
        const { ino } = ok(tree.create(directories[directory], name, creation));
        ok(tree.applyContent(ino, changes, { size, mtime: MTIME }));
        if (xattr !== undefined) tree.setxattr(ino, xattr.name, xattr.value, 0);
        const gone = ok(tree.create(directories[0], bytes(`gone-${index}`), creation)).ino;
        ok(tree.unlink(directories[0], bytes(`gone-${index}`)));
        tree.reclaim(gone);
      }
    });
  }
}

/** What a reader met: EIO where it was told of damage, wrong where it was told something else than was written. */
export interface Reading {
  eio: number;
  wrong: string[];
}

/** Reads everything as programs would, and compares. */
export function readTree(tree: Tree, files: number): Reading {
  const reading: Reading = { eio: 0, wrong: [] };
  /** The result where there is one; counts what was told in its place. */
  const told = <T extends object>(what: string, result: Result<T>): T | undefined => {
    if (typeof result !== 'number') return result;
    if (result === ERRNO.EIO) reading.eio++;
    else reading.wrong.push(`${what}: errno ${result}`);
    return undefined;
  };
  const same = (what: string, isSame: boolean): void => {
    if (!isSame) reading.wrong.push(`${what}: other than written`);
  };
  for (let index = 0; index < files; index++) {
    const { directory, name, size, changes, xattr } = plan(index);
    const what = name.toString();
    const above = told(what, tree.lookup(ROOT_INO, nameOfDirectory(directory)));
    const inode = above && told(what, tree.lookup(above.ino, name));
    if (inode === undefined) continue;
    same(what, inode.size === size && inode.mode === FILE && inode.uid === OWNER.uid);
    for (const [region, change] of changes.entries()) {
      const content = told(what, tree.region(inode.ino, region));
      if (content === undefined) continue;
      if (change.kind === 'inline') {
        same(what, 'inline' in content && Buffer.compare(content.inline, change.bytes) === 0);
      } else if (change.kind === 'extent') {
        const written = JSON.stringify([change.extent]);
        same(what, 'extents' in content && JSON.stringify(content.extents) === written);
      }
    }
    if (xattr === undefined) continue;
    const value = told(`attribute of ${what}`, tree.getxattr(inode.ino, xattr.name));
    if (value !== undefined) same(`attribute of ${what}`, xattr.value.equals(value));
  }
  return reading;
}
