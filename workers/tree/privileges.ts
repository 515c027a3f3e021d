/**
 * Set-id bits and capabilities, which a file loses when it is written, cut or given away.
 *
 * The kernel leaves this to us (FUSE_HANDLE_KILLPRIV_V2), so that a WRITE needs no request besides.
 * Fronts see in the inode's slot whether a WRITE has anything to take off, and hardly ever has it.
 */
import { S_ISGID, S_ISUID, S_IXGRP, S_PERMISSIONS } from '../../engine/tree/mode.ts';
import { privilege } from '../../engine/layout.ts';
import type { Tree } from '../../engine/tree/tree.ts';
import type { Attributes } from '../../engine/tree/types.ts';
import type { Context } from './context.ts';

/** The xattr that holds a program's capabilities. */
const CAPABILITY: Uint8Array = new TextEncoder().encode('security.capability');
const EXECUTE = 0o111;

/** Permission bits without privileges: set-group-id without group execution is none. */
export function withoutSetId(permissions: number): number {
  const kept = permissions & ~S_ISUID;
  return (permissions & S_IXGRP) !== 0 ? kept & ~S_ISGID : kept;
}

/** Whether anybody may execute it: nothing else has capabilities that matter. */
export function isExecutable({ mode }: { readonly mode: number }): boolean {
  return (mode & EXECUTE) !== 0;
}

/** What a WRITE takes from an inode, as bits of `privilege`. Only what can be executed is looked at twice. */
export function privilegesOf(tree: Tree, { ino, mode }: Attributes): number {
  const permissions = mode & S_PERMISSIONS;
  const setId = withoutSetId(permissions) !== permissions ? privilege.SET_ID : 0;
  if (!isExecutable({ mode })) return setId;
  const capable = typeof tree.getxattr(ino, CAPABILITY) !== 'number';
  return setId | (capable ? privilege.CAPABILITY : 0);
}

/** Takes capabilities off an inode; whether there are any does not matter. */
export function stripCapabilities(tree: Tree, ino: number): void {
  tree.removexattr(ino, CAPABILITY);
}

/** Takes privileges, bits of `privilege`, off an inode; what is not there does not matter. */
export function stripPrivileges(tree: Tree, ino: number, privileges: number): void {
  if ((privileges & privilege.CAPABILITY) !== 0) stripCapabilities(tree, ino);
  if ((privileges & privilege.SET_ID) === 0) return;
  const attributes = tree.getattr(ino);
  if (typeof attributes === 'number') return;
  tree.setattr(ino, { mode: withoutSetId(attributes.mode) });
}

/** Takes off what a change of content takes; `keepsSetId` for who may leave set-id bits (CAP_FSETID). */
export function takePrivileges(context: Context, ino: number, keepsSetId: boolean): void {
  const attributes = context.tree.getattr(ino);
  if (typeof attributes === 'number') return;
  const there = privilegesOf(context.tree, attributes);
  const due = keepsSetId ? there & privilege.CAPABILITY : there;
  if (due === 0) return;
  stripPrivileges(context.tree, ino, due);
  noticePrivileges(context, ino);
}

/** Tells the fronts of an open inode whose mode or capabilities may have changed. */
export function noticePrivileges(context: Context, ino: number): void {
  const slot = context.inodes.slotOf(ino);
  if (slot < 0) return;
  const attributes = context.tree.getattr(ino);
  if (typeof attributes === 'number') return;
  context.inodes.setPrivileges(slot, privilegesOf(context.tree, attributes));
}

/** Whether an xattr's name is that of capabilities. */
export function isCapability(name: Uint8Array): boolean {
  return name.length === CAPABILITY.length && name.every((byte, at) => byte === CAPABILITY[at]);
}
