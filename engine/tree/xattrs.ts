import { Buffer } from 'node:buffer';
import { ERRNO } from './errno.ts';
import { allOfInode, KEY } from './keys.ts';
import type { XattrRecord } from './records.ts';
import type { Session } from './session.ts';
import type { Errno, Result, Time } from './types.ts';

/** What setxattr(2) may be told. */
export const XATTR = {
  /** Fail with EEXIST when it is there. */
  CREATE: 1,
  /** Fail with ENODATA when it is not. */
  REPLACE: 2,
} as const;

/** Bytes of the longest name of an attribute. */
export const XATTR_NAME_BYTES_MAX: 255 = 255;
/** Bytes of the largest value. */
export const XATTR_VALUE_BYTES_MAX: 65_536 = 65_536;
/** Bytes of all names of an inode with their ends: the largest list that the kernel hands on. */
export const XATTR_LIST_BYTES_MAX: 65_536 = 65_536;

/**
 * The kernel checks modes, not access control lists; so that nobody relies on them, there are
 * none.
 */
const ACL_PREFIX = Buffer.from('system.posix_acl_');

interface Found {
  key: Uint8Array;
  record: XattrRecord;
}

function checkXattrName(name: Uint8Array): Errno {
  if (name.length === 0 || name.length > XATTR_NAME_BYTES_MAX) return ERRNO.ERANGE;
  const isAcl = ACL_PREFIX.compare(name, 0, Math.min(name.length, ACL_PREFIX.length)) === 0;
  return isAcl ? ERRNO.EOPNOTSUPP : 0;
}

/** The attribute; ENODATA when there is none, or why there can be none. */
function find(session: Session, ino: number, name: Uint8Array): Result<Found> {
  const errno = checkXattrName(name);
  if (errno !== 0) return errno;
  const key = session.keys.xattr(ino, session.nameHash(ino, name));
  const record = session.getXattr(key) ?? ERRNO.ENODATA;
  return typeof record === 'number' ? record : { key, record };
}

export function getxattr(session: Session, ino: number, name: Uint8Array): Result<Uint8Array> {
  const found = find(session, ino, name);
  if (typeof found !== 'number') return found.record.value;
  if (found !== ERRNO.ENODATA) return found;
  // One that is lost is not one that never was.
  const inode = session.load(ino);
  if (typeof inode === 'number' || inode.xattrs === 0) return ERRNO.ENODATA;
  // Counted, not opened: values may be large, and programs ask for what is not there.
  let stored = 0;
  session.scan(allOfInode(KEY.XATTR, ino), () => ++stored < inode.xattrs);
  return stored < inode.xattrs ? lacksAttributes(session, ino) : ERRNO.ENODATA;
}

function lacksAttributes(session: Session, ino: number): Errno {
  return session.damaged(session.keys.inode(ino), 'counts attributes that are not there');
}

export interface XattrChange {
  ino: number;
  name: Uint8Array;
  value: Uint8Array;
  /** 0 or one of {@link XATTR}. */
  flags: number;
  now: Time;
}

export function setxattr(session: Session, change: XattrChange): Errno {
  const { ino, name, value, flags, now } = change;
  if (flags !== 0 && flags !== XATTR.CREATE && flags !== XATTR.REPLACE) return ERRNO.EINVAL;
  if (value.length > XATTR_VALUE_BYTES_MAX) return ERRNO.E2BIG;
  const inode = session.load(ino);
  if (typeof inode === 'number') return inode;
  const found = find(session, ino, name);
  let { xattrs } = inode;
  if (found === ERRNO.ENODATA) {
    if (flags === XATTR.REPLACE) return ERRNO.ENODATA;
    const listed = namesOf(session, ino);
    if (typeof listed === 'number') return listed;
    if (listed.length + name.length + 1 > XATTR_LIST_BYTES_MAX) return ERRNO.ENOSPC;
    xattrs = 1 + countNames(listed);
  } else if (typeof found === 'number') {
    return found;
  } else if (flags === XATTR.CREATE) {
    return ERRNO.EEXIST;
  }
  const key = session.keys.xattr(ino, session.nameHash(ino, name));
  session.put(key, session.codec.encodeXattr({ name, value }));
  session.save({ ...inode, xattrs, ctime: now });
  return 0;
}

/** Names in a list, each of which a NUL ends. */
function countNames(list: Uint8Array): number {
  let names = 0;
  for (const byte of list) names += byte === 0 ? 1 : 0;
  return names;
}

export function removexattr(
  session: Session,
  { ino, name, now }: { ino: number; name: Uint8Array; now: Time },
): Errno {
  const inode = session.load(ino);
  if (typeof inode === 'number') return inode;
  const found = find(session, ino, name);
  if (typeof found === 'number') return found;
  session.remove(found.key);
  session.save({ ...inode, xattrs: Math.max(0, inode.xattrs - 1), ctime: now });
  return 0;
}

/**
 * The names of all attributes, each ended by a NUL, in the order of their hashes. EIO where there
 * are fewer than the inode counts.
 */
export function listxattr(session: Session, ino: number): Result<Uint8Array> {
  const inode = session.load(ino);
  if (typeof inode === 'number') return inode;
  const names = namesOf(session, ino);
  if (typeof names === 'number' || countNames(names) >= inode.xattrs) return names;
  return lacksAttributes(session, ino);
}

function namesOf(session: Session, ino: number): Result<Uint8Array> {
  const parts: Uint8Array[] = [];
  const end = Uint8Array.of(0);
  const errno = session.scanXattrs(allOfInode(KEY.XATTR, ino), (record) => {
    parts.push(record.name, end);
    return true;
  });
  return errno === 0 ? Buffer.concat(parts) : errno;
}
