import { constants } from 'node:fs';

/** Type bits of a mode. */
export const S_IFMT: number = constants.S_IFMT;
export const S_IFDIR: number = constants.S_IFDIR;
export const S_IFREG: number = constants.S_IFREG;
export const S_IFLNK: number = constants.S_IFLNK;
export const S_IFIFO: number = constants.S_IFIFO;
export const S_IFSOCK: number = constants.S_IFSOCK;
export const S_IFCHR: number = constants.S_IFCHR;
export const S_IFBLK: number = constants.S_IFBLK;
export const S_ISUID: number = 0o4000;
/** A directory hands its group to what is made in it. */
export const S_ISGID: number = 0o2000;
export const S_IXGRP: number = 0o010;
/** Everything of a mode that chmod may change. */
export const S_PERMISSIONS: number = 0o7777;

/** Types that `create` makes: everything but directories and symbolic links. */
const CREATABLE: ReadonlySet<number> = new Set([S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK]);

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
  return type === S_IFCHR || type === S_IFBLK;
}
