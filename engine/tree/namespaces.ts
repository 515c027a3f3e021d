import { Buffer } from 'node:buffer';
import { DEFAULT_NAMESPACE, namespaceNameProblem } from '../namespace-name.ts';
import { ERRNO } from './errno.ts';
import { allOf, KEY } from './keys.ts';
import { S_IFDIR } from './mode.ts';
import { DIRECTORY_BYTES } from './names.ts';
import { type Inode, NO_BYTES, ROOT_INO } from './records.ts';
import type { Session } from './session.ts';
import type { Owner, Result, Time } from './types.ts';

/**
 * Namespaces: trees beside one another in one store, each with a root directory of its own. Nothing
 * can be moved or linked from one to another.
 *
 * The default one has the root that every store has; the others are names of a directory that has
 * no inode, number 0.
 */

/** A namespace and its root directory. */
export interface Namespace {
  readonly name: Uint8Array;
  readonly root: number;
}

/** Whose names the namespaces' are when they are hashed: no inode has this number. */
const NO_INO = 0;
const DEFAULT: Namespace = { name: Buffer.from(DEFAULT_NAMESPACE), root: ROOT_INO };

/** A root directory that holds nothing yet. */
export function newRoot(ino: number, owner: Owner, now: Time): Inode {
  return {
    ino,
    mode: S_IFDIR | 0o755,
    nlink: 2,
    uid: owner.uid,
    gid: owner.gid,
    rdev: 0,
    size: DIRECTORY_BYTES,
    allocated: 0,
    atime: now,
    mtime: now,
    ctime: now,
    btime: now,
    parent: ino,
    target: NO_BYTES,
    namespace: ino,
    xattrs: 0,
  };
}

/** Finds a namespace, or makes it. Within a transaction. */
export function open(
  session: Session,
  { name, owner, now }: { name: Uint8Array; owner: Owner; now: Time },
): Result<Namespace> {
  if (Buffer.compare(name, DEFAULT.name) === 0) return DEFAULT;
  const text = Buffer.from(name).toString();
  if (namespaceNameProblem(text) !== undefined || !Buffer.from(text).equals(name)) {
    return ERRNO.EINVAL;
  }
  const key = session.keys.namespace(session.nameHash(NO_INO, name));
  const known = session.getName(key);
  if (typeof known === 'number') return known;
  if (known !== undefined) return { name: known.name, root: known.ino };
  const root = session.allocate();
  if (root === undefined) return ERRNO.EIO;
  session.save(newRoot(root, owner, now));
  session.put(key, session.codec.encodeName({ name, ino: root, type: S_IFDIR }));
  return { name: new Uint8Array(name), root };
}

/** All namespaces: the default one, then the others in the order of their names. */
export function list(session: Session): Result<Namespace[]> {
  const found: Namespace[] = [];
  const errno = session.scanNames(allOf(KEY.NAMESPACE), (record) => {
    found.push({ name: record.name, root: record.ino });
    return true;
  });
  if (errno !== 0) return errno;
  return [DEFAULT, ...found.sort((a, b) => Buffer.compare(a.name, b.name))];
}
