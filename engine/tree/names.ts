import { ERRNO } from './errno.ts';
import { allOfInode, cookieOf, inodeOf, KEY, namesBehind } from './keys.ts';
import {
  isCreatable,
  isDevice,
  isDirectory,
  S_IFDIR,
  S_IFLNK,
  S_ISGID,
  S_PERMISSIONS,
  typeOf,
} from './mode.ts';
import { type Inode, NO_BYTES, type NameRecord } from './records.ts';
import type { Session } from './session.ts';
import type { Attributes, DirectoryEntry, Errno, Owner, Result, Time } from './types.ts';

/** Bytes of the longest name. */
export const NAME_BYTES_MAX: 255 = 255;
/** Bytes of the longest symbolic link target: PATH_MAX without its end. */
export const TARGET_BYTES_MAX: 4095 = 4095;
/** Names that one file may have; what ext4 allows, so that programs which rely on EMLINK see it. */
const LINKS_MAX = 65_000;
/** Size that a directory shows, in bytes. */
export const DIRECTORY_BYTES: 4096 = 4096;

const SLASH = 0x2f;

/** How a new inode looks. The process's umask has been applied to `mode` already. */
export interface Creation {
  /** Type and permission bits. */
  mode: number;
  /** Device number in the kernel's 32-bit encoding; only kept for devices. */
  rdev?: number;
  owner: Owner;
}

/** A name that exists, with its key (valid until the next name is looked up). */
export interface FoundName {
  key: Uint8Array;
  record: NameRecord;
}

/** 0, or why the bytes cannot be a name. */
export function checkName(name: Uint8Array): Errno {
  if (name.length > NAME_BYTES_MAX) return ERRNO.ENAMETOOLONG;
  if (name.length === 0) return ERRNO.ENOENT;
  return name.includes(SLASH) || name.includes(0) ? ERRNO.EINVAL : 0;
}

/** The name's entry; ENOENT, ENAMETOOLONG or EIO. */
export function findName(session: Session, parent: number, name: Uint8Array): Result<FoundName> {
  const errno = checkName(name);
  if (errno !== 0) return errno;
  const hash = session.nameHash(parent, name);
  if (session.isHashedMissing) return ERRNO.ENOENT;
  const key = session.keys.name(parent, hash);
  const record = session.getName(key);
  if (record === undefined) {
    session.isHashedMissing = true;
    return ERRNO.ENOENT;
  }
  return typeof record === 'number' ? record : { key, record };
}

/** The directory that a name is to be made in: it must be one, and must not be removed. */
export function loadParent(session: Session, ino: number): Inode | Errno {
  const parent = session.load(ino);
  if (typeof parent === 'number') return parent;
  if (!isDirectory(parent)) return ERRNO.ENOTDIR;
  return parent;
}

/** The inode that an existing name leads to; that it is missing is damage. */
export function loadNamed(session: Session, ino: number): Inode | Errno {
  const inode = session.load(ino);
  return inode === ERRNO.ENOENT ? session.damaged(session.keys.inode(ino), 'is missing') : inode;
}

export function putName(session: Session, parent: number, record: NameRecord): void {
  const key = session.keys.name(parent, session.nameHash(parent, record.name));
  session.put(key, session.codec.encodeName(record));
}

/** 0 when the name can be made in the directory. */
function checkFree(session: Session, parent: Inode, name: Uint8Array): Errno {
  const found = findName(session, parent.ino, name);
  if (typeof found !== 'number') return ERRNO.EEXIST;
  if (found !== ERRNO.ENOENT || name.length === 0) return found;
  return parent.nlink === 0 ? ERRNO.ENOENT : 0;
}

export function lookup(session: Session, parent: number, name: Uint8Array): Result<Attributes> {
  const found = findName(session, parent, name);
  if (found === ERRNO.ENOENT) {
    const directory = loadParent(session, parent);
    return typeof directory === 'number' ? directory : ERRNO.ENOENT;
  }
  return typeof found === 'number' ? found : loadNamed(session, found.record.ino);
}

export interface NewName {
  parent: number;
  name: Uint8Array;
  creation: Creation;
  /** Target of a symbolic link. */
  target?: Uint8Array | undefined;
  now: Time;
}

/** An inode as it starts, with the links that its type has under one name. */
function newInode(
  directory: Inode,
  { ino, creation, target, now }: Omit<NewName, 'parent' | 'name'> & { ino: number },
): Inode {
  const isDir = isDirectory(creation);
  const inherits = (directory.mode & S_ISGID) !== 0;
  return {
    ino,
    mode: isDir && inherits ? creation.mode | S_ISGID : creation.mode,
    nlink: isDir ? 2 : 1,
    uid: creation.owner.uid,
    gid: inherits ? directory.gid : creation.owner.gid,
    rdev: isDevice(creation.mode) ? (creation.rdev ?? 0) : 0,
    size: isDir ? DIRECTORY_BYTES : (target?.length ?? 0),
    allocated: 0,
    atime: now,
    mtime: now,
    ctime: now,
    btime: now,
    parent: directory.ino,
    target: target === undefined ? NO_BYTES : new Uint8Array(target),
    namespace: directory.namespace,
    xattrs: 0,
  };
}

/** Makes an inode of any type under a new name. */
function make(session: Session, { parent, name, creation, target, now }: NewName): Result<Inode> {
  const directory = loadParent(session, parent);
  if (typeof directory === 'number') return directory;
  const errno = checkFree(session, directory, name);
  if (errno !== 0) return errno;
  const ino = session.allocate();
  if (ino === undefined) return ERRNO.EIO;
  const isDir = isDirectory(creation);
  const inode = newInode(directory, { ino, creation, target, now });
  putName(session, parent, { name, ino, type: typeOf(creation.mode) });
  session.save(inode);
  session.save({
    ...directory,
    nlink: directory.nlink + (isDir ? 1 : 0),
    mtime: now,
    ctime: now,
  });
  return inode;
}

export function create(session: Session, request: NewName): Result<Attributes> {
  return isCreatable(request.creation.mode) ? make(session, request) : ERRNO.EINVAL;
}

/** Makes an inode without a name: the directory gives its group and stays as it is. */
export function createUnnamed(
  session: Session,
  { parent, creation, now }: Omit<NewName, 'name'>,
): Result<Attributes> {
  const directory = loadParent(session, parent);
  if (typeof directory === 'number') return directory;
  if (!isCreatable(creation.mode)) return ERRNO.EINVAL;
  if (directory.nlink === 0) return ERRNO.ENOENT;
  const ino = session.allocate();
  if (ino === undefined) return ERRNO.EIO;
  const inode: Inode = { ...newInode(directory, { ino, creation, now }), nlink: 0, parent: 0 };
  session.put(session.keys.orphan(ino), session.codec.encodeOrphan());
  session.save(inode);
  return inode;
}

export function mkdir(session: Session, request: NewName): Result<Attributes> {
  const mode = (request.creation.mode & S_PERMISSIONS) | S_IFDIR;
  return make(session, { ...request, creation: { ...request.creation, mode } });
}

export function symlink(
  session: Session,
  request: NewName & { target: Uint8Array },
): Result<Attributes> {
  if (request.target.length === 0) return ERRNO.ENOENT;
  if (request.target.length > TARGET_BYTES_MAX) return ERRNO.ENAMETOOLONG;
  const creation = { ...request.creation, mode: S_IFLNK | 0o777 };
  return make(session, { ...request, creation });
}

/** One more name for an inode; `unnamed`: its first one, as `createUnnamed` left it. */
interface NewLink {
  ino: number;
  parent: number;
  name: Uint8Array;
  now: Time;
  unnamed?: boolean;
}

export function link(
  session: Session,
  { ino, parent, name, now, unnamed = false }: NewLink,
): Result<Attributes> {
  const inode = session.load(ino);
  if (typeof inode === 'number') return inode;
  const directory = loadParent(session, parent);
  if (typeof directory === 'number') return directory;
  const errno = checkFree(session, directory, name);
  if (errno !== 0) return errno;
  if (isDirectory(inode)) return ERRNO.EPERM;
  if (inode.namespace !== directory.namespace) return ERRNO.EXDEV;
  if (inode.nlink === 0 && !unnamed) return ERRNO.ENOENT;
  if (inode.nlink >= LINKS_MAX) return ERRNO.EMLINK;
  const hint = inode.nlink === 0 ? directory.ino : inode.parent;
  const linked: Inode = { ...inode, nlink: inode.nlink + 1, ctime: now, parent: hint };
  if (inode.nlink === 0) session.remove(session.keys.orphan(ino));
  putName(session, parent, { name, ino, type: typeOf(inode.mode) });
  session.save(linked);
  session.save({ ...directory, mtime: now, ctime: now });
  return linked;
}

/**
 * The inode after it lost one name; at the last one it becomes an orphan. A directory loses all of
 * its links.
 */
export function dropLink(session: Session, inode: Inode, now: Time): Inode {
  const nlink = isDirectory(inode) ? 0 : Math.max(0, inode.nlink - 1);
  const dropped: Inode = { ...inode, nlink, ctime: now };
  if (nlink === 0) session.put(session.keys.orphan(inode.ino), session.codec.encodeOrphan());
  session.save(dropped);
  return dropped;
}

export function unlink(
  session: Session,
  { parent, name, now }: { parent: number; name: Uint8Array; now: Time },
): Result<{ ino: number; nlink: number }> {
  const directory = loadParent(session, parent);
  if (typeof directory === 'number') return directory;
  const found = findName(session, parent, name);
  if (typeof found === 'number') return found;
  if (found.record.type === S_IFDIR) return ERRNO.EISDIR;
  const inode = loadNamed(session, found.record.ino);
  if (typeof inode === 'number') return inode;
  session.remove(found.key);
  const { ino, nlink } = dropLink(session, inode, now);
  session.save({ ...directory, mtime: now, ctime: now });
  return { ino, nlink };
}

export function rmdir(
  session: Session,
  { parent, name, now }: { parent: number; name: Uint8Array; now: Time },
): Result<{ ino: number }> {
  const directory = loadParent(session, parent);
  if (typeof directory === 'number') return directory;
  const found = findName(session, parent, name);
  if (typeof found === 'number') return found;
  if (found.record.type !== S_IFDIR) return ERRNO.ENOTDIR;
  const inode = loadNamed(session, found.record.ino);
  if (typeof inode === 'number') return inode;
  if (!isEmpty(session, inode.ino)) return ERRNO.ENOTEMPTY;
  session.remove(found.key);
  dropLink(session, inode, now);
  session.save({ ...directory, nlink: directory.nlink - 1, mtime: now, ctime: now });
  return { ino: inode.ino };
}

/** Whether no name lies in the directory. */
export function isEmpty(session: Session, ino: number): boolean {
  let empty = true;
  session.scan(allOfInode(KEY.NAME, ino), () => {
    empty = false;
    return false;
  });
  return empty;
}

/**
 * Lists a directory behind a cookie, in the order of the names' hashes.
 *
 * A name that stays is listed exactly once, whatever else comes and goes meanwhile. Two names of
 * one directory share a cookie with a probability of n² / 2^53 for n names; only where a listing
 * is interrupted exactly between these two does it miss the second.
 */
export function readdir(
  session: Session,
  { ino, cookie }: { ino: number; cookie: number },
  visit: (entry: DirectoryEntry) => boolean,
): Errno {
  const directory = loadParent(session, ino);
  if (typeof directory === 'number') return directory;
  return session.scanNames(namesBehind(ino, cookie), ({ name, ino: entry, type }, key) =>
    visit({ name, ino: entry, type, cookie: cookieOf(key) }),
  );
}

/** Calls `visit` for each inode that no name leads to, until it returns false. */
export function orphans(session: Session, visit: (ino: number) => boolean): void {
  const from = Uint8Array.of(KEY.ORPHAN);
  const to = Uint8Array.of(KEY.ORPHAN + 1);
  session.scan({ from, to }, (key) => visit(inodeOf(key)));
}
