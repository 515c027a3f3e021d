import { ERRNO } from './errno.ts';
import { isDirectory } from './mode.ts';
import { dropLink, findName, isEmpty, loadNamed, loadParent, putName } from './names.ts';
import type { Inode, NameRecord } from './records.ts';
import type { Session } from './session.ts';
import type { Errno, Result, Time } from './types.ts';

/** What rename(2) may be told. */
export const RENAME = {
  /** Fail with EEXIST rather than replace. */
  NOREPLACE: 1,
  /** Let the two names trade places. */
  EXCHANGE: 2,
} as const;

/**
 * Directories above one another, at most; a longer way up is a ring, which only damage can make.
 */
const DEPTH_MAX = 65_536;

export interface Renaming {
  parent: number;
  name: Uint8Array;
  newParent: number;
  newName: Uint8Array;
  /** 0 or one of {@link RENAME}. */
  flags: number;
  now: Time;
}

/** One end of a rename: the directory, and the name in it with its inode, when it exists. */
interface End {
  directory: Inode;
  name: Uint8Array;
  record: NameRecord | undefined;
  inode: Inode | undefined;
}

/**
 * Moves a name, replacing or exchanging what is there; `replaced` is the inode that became an
 * orphan, or 0.
 */
export function rename(session: Session, request: Renaming): Result<{ replaced: number }> {
  const { flags, now } = request;
  if (flags !== 0 && flags !== RENAME.NOREPLACE && flags !== RENAME.EXCHANGE) return ERRNO.EINVAL;
  const source = findEnd(session, request.parent, request.name);
  if (typeof source === 'number') return source;
  if (source.record === undefined || source.inode === undefined) return ERRNO.ENOENT;
  const target = findEnd(session, request.newParent, request.newName);
  if (typeof target === 'number') return target;
  if (source.directory.namespace !== target.directory.namespace) return ERRNO.EXDEV;
  const errno = check(session, { source: source.inode, from: source, to: target, flags });
  if (errno !== 0) return errno;
  if (source.record.ino === target.record?.ino) return { replaced: 0 };
  if (flags === RENAME.EXCHANGE) return exchange(session, source, target, now);
  return move(session, source, target, now);
}

function findEnd(session: Session, parent: number, name: Uint8Array): Result<End> {
  const directory = loadParent(session, parent);
  if (typeof directory === 'number') return directory;
  const found = findName(session, parent, name);
  if (typeof found === 'number') {
    if (found !== ERRNO.ENOENT || name.length === 0) return found;
    return { directory, name, record: undefined, inode: undefined };
  }
  const inode = loadNamed(session, found.record.ino);
  if (typeof inode === 'number') return inode;
  return { directory, name, record: found.record, inode };
}

/** Everything that can forbid the rename, in the order in which Linux asks. */
function check(
  session: Session,
  { source, from, to, flags }: { source: Inode; from: End; to: End; flags: number },
): Errno {
  const replaced = to.inode;
  if (flags === RENAME.NOREPLACE && replaced !== undefined) return ERRNO.EEXIST;
  if (flags === RENAME.EXCHANGE && replaced === undefined) return ERRNO.ENOENT;
  if (to.directory.nlink === 0) return ERRNO.ENOENT;
  if (isDirectory(source)) {
    const errno = checkNotBelow(session, to.directory, source.ino);
    if (errno !== 0) return errno;
  }
  if (replaced === undefined || replaced.ino === source.ino) return 0;
  if (flags === RENAME.EXCHANGE) {
    return isDirectory(replaced) ? checkNotBelow(session, from.directory, replaced.ino) : 0;
  }
  if (isDirectory(source) && !isDirectory(replaced)) return ERRNO.ENOTDIR;
  if (!isDirectory(source) && isDirectory(replaced)) return ERRNO.EISDIR;
  return isDirectory(replaced) && !isEmpty(session, replaced.ino) ? ERRNO.ENOTEMPTY : 0;
}

/** EINVAL when the directory is `above` or lies somewhere below it. */
function checkNotBelow(session: Session, directory: Inode, above: number): Errno {
  let at = directory;
  for (let depth = 0; depth < DEPTH_MAX; depth++) {
    if (at.ino === above) return ERRNO.EINVAL;
    if (at.parent === at.ino) return 0;
    const parent = loadNamed(session, at.parent);
    if (typeof parent === 'number') return parent;
    at = parent;
  }
  return session.damaged(session.keys.inode(directory.ino), 'lies below itself');
}

function move(session: Session, from: End, to: End, now: Time): Result<{ replaced: number }> {
  const record = from.record as NameRecord;
  const inode = from.inode as Inode;
  const isDir = isDirectory(inode);
  session.remove(session.keys.name(from.directory.ino, hashOf(session, from)));
  putName(session, to.directory.ino, { ...record, name: to.name });
  session.save({ ...inode, parent: parentOf(inode, from.directory, to.directory), ctime: now });
  let replaced = 0;
  if (to.inode !== undefined) {
    replaced = dropLink(session, to.inode, now).nlink === 0 ? to.inode.ino : 0;
  }
  const replacedDirectory = to.inode !== undefined && isDirectory(to.inode);
  touchParents(session, {
    from: from.directory,
    to: to.directory,
    fromLinks: isDir ? -1 : 0,
    toLinks: (isDir ? 1 : 0) - (replacedDirectory ? 1 : 0),
    now,
  });
  return { replaced };
}

function exchange(session: Session, from: End, to: End, now: Time): Result<{ replaced: number }> {
  const source = from.inode as Inode;
  const target = to.inode as Inode;
  putName(session, to.directory.ino, { ...(from.record as NameRecord), name: to.name });
  putName(session, from.directory.ino, { ...(to.record as NameRecord), name: from.name });
  session.save({ ...source, parent: parentOf(source, from.directory, to.directory), ctime: now });
  session.save({ ...target, parent: parentOf(target, to.directory, from.directory), ctime: now });
  const links = Number(isDirectory(target)) - Number(isDirectory(source));
  touchParents(session, {
    from: from.directory,
    to: to.directory,
    fromLinks: links,
    toLinks: -links,
    now,
  });
  return { replaced: 0 };
}

/**
 * The parent of an inode that moved. The hint of a file with several names changes only with the
 * name that it means: whoever relies on it hears of a change of that directory.
 */
function parentOf(inode: Inode, from: Inode, to: Inode): number {
  return isDirectory(inode) || inode.parent === from.ino ? to.ino : inode.parent;
}

/** Saves both directories; they may be the same one. */
function touchParents(
  session: Session,
  change: { from: Inode; to: Inode; fromLinks: number; toLinks: number; now: Time },
): void {
  const { from, to, fromLinks, toLinks, now } = change;
  const times = { mtime: now, ctime: now };
  if (from.ino === to.ino) {
    session.save({ ...from, nlink: from.nlink + fromLinks + toLinks, ...times });
    return;
  }
  session.save({ ...from, nlink: from.nlink + fromLinks, ...times });
  session.save({ ...to, nlink: to.nlink + toLinks, ...times });
}

function hashOf(session: Session, end: End): Uint8Array {
  return session.nameHash(end.directory.ino, end.name);
}
