import { constants } from 'node:fs';

/** Type bits of a mode. */
export const S_IFMT: number = constants.S_IFMT;
export const S_IFDIR: number = constants.S_IFDIR;
export const S_IFREG: number = constants.S_IFREG;
export const S_IFLNK: number = constants.S_IFLNK;
/** A directory hands its group to what is made in it. */
export const S_ISGID: number = 0o2000;
/** Everything of a mode that chmod may change. */
export const S_PERMISSIONS: number = 0o7777;

/** Types that `create` makes: everything but directories and symbolic links. */
const CREATABLE: ReadonlySet<number> = new Set([
  constants.S_IFREG,
  constants.S_IFIFO,
  constants.S_IFSOCK,
  constants.S_IFCHR,
  constants.S_IFBLK,
]);

export function typeOf(mode: number): number {
  return mode & S_IFMT;
}

export function isDirectory(inode: { readonly mode: number }): boolean {
  return (inode.mode & S_IFMT) === S_IFDIR;
}

export function isRegular(inode: { readonly mode: number }): boolean {
  return (inode.mode & S_IFMT) === S_IFREG;
}

export function isCreatable(mode: number): boolean {
  return CREATABLE.has(typeOf(mode));
}

/** Whether the mode's type is a device, whose number matters. */
export function isDevice(mode: number): boolean {
  const type = typeOf(mode);
  return type === constants.S_IFCHR || type === constants.S_IFBLK;
}
