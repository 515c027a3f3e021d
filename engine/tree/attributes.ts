import { ERRNO } from './errno.ts';
import { allOfInode, KEY } from './keys.ts';
import { isDirectory, isRegular, S_PERMISSIONS } from './mode.ts';
import type { Inode } from './records.ts';
import { applyContent } from './regions.ts';
import type { Session } from './session.ts';
import type { Attributes, AttributesPatch, ContentChange, Result, Time } from './types.ts';

/**
 * Keys that one call of `reclaim` deletes at most, so that a huge file does not hold up the
 * worker.
 */
const RECLAIM_KEYS_MAX = 256;

/** Changes attributes; the type bits of a mode cannot change. */
export function setattr(
  session: Session,
  { ino, patch, now }: { ino: number; patch: AttributesPatch; now: Time },
): Result<Attributes> {
  const inode = session.load(ino);
  if (typeof inode === 'number') return inode;
  let base = inode;
  if (patch.size !== undefined) {
    if (isDirectory(inode)) return ERRNO.EISDIR;
    if (!isRegular(inode)) return ERRNO.EINVAL;
    const resized = resize(session, { inode, size: patch.size, now });
    if (typeof resized === 'number') return resized;
    base = resized;
  }
  const changed: Inode = {
    ...base,
    mode:
      patch.mode === undefined
        ? base.mode
        : (base.mode & ~S_PERMISSIONS) | (patch.mode & S_PERMISSIONS),
    uid: patch.uid ?? base.uid,
    gid: patch.gid ?? base.gid,
    atime: patch.atime ?? base.atime,
    mtime: patch.mtime ?? base.mtime,
    ctime: patch.ctime ?? now,
  };
  session.save(changed);
  return changed;
}

function resize(
  session: Session,
  { inode, size, now }: { inode: Inode; size: number; now: Time },
): Inode | number {
  const changes: ContentChange[] =
    size < inode.size ? [{ kind: 'discard', offset: size, length: Infinity }] : [];
  return applyContent(session, { ino: inode.ino, changes }, { size, mtime: now });
}

/** Deletes up to 256 keys of an orphan; true when nothing of it is left. */
export function reclaim(session: Session, ino: number): boolean {
  const orphanKey = session.keys.orphan(ino);
  if (session.get(orphanKey) === undefined) return true;
  const doomed: Uint8Array[] = [];
  for (const kind of [KEY.REGION, KEY.XATTR]) {
    session.scan(allOfInode(kind, ino), (key) => {
      if (doomed.length === RECLAIM_KEYS_MAX) return false;
      doomed.push(new Uint8Array(key));
      return true;
    });
  }
  for (const key of doomed) session.remove(key);
  if (doomed.length === RECLAIM_KEYS_MAX) return false;
  session.erase(ino);
  session.remove(session.keys.orphan(ino));
  return true;
}
