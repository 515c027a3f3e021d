/**
 * Nodes that the tree does not know: the kernel gets numbers for them that no inode ever has.
 *
 * ```text
 * 1                            the root of the mount: of the one namespace, or the directory of all
 * FIRST + 16 × view + item     view 0: the mount; view n: the n-th namespace of the mount
 * ```
 * Roots of namespaces have such numbers too, where there are several: inode 1 cannot be a node
 * below node 1, and whoever sees a number in this range knows that it needs a second look.
 */

/** Nodes from here on are virtual; inodes stay below. */
export const VIRTUAL_NODE_FIRST: number = 2 ** 52;
/** Node of the mount's root. */
export const MOUNT_NODE = 1;

const ITEMS = 16;

/** What a virtual node is. */
export const ITEM = {
  /** The root directory of a namespace; with view 0 the directory of all namespaces. */
  ROOT: 0,
  /** The control directory. */
  DIRECTORY: 1,
  COMMIT: 2,
  DIRTY: 3,
  HASH: 4,
  STATUS: 5,
} as const;

/** The node of a view's item. */
export function nodeOf(view: number, item: number): number {
  return VIRTUAL_NODE_FIRST + view * ITEMS + item;
}

/** The item of a virtual node. */
export function itemOf(node: number): number {
  return (node - VIRTUAL_NODE_FIRST) % ITEMS;
}

/** The view of a virtual node. */
export function viewOf(node: number): number {
  return Math.floor((node - VIRTUAL_NODE_FIRST) / ITEMS);
}

/** Whether the node is a control directory or file: nothing of the tree changes through it. */
export function isControl(node: number): boolean {
  return node >= VIRTUAL_NODE_FIRST && itemOf(node) !== ITEM.ROOT;
}

/** Whether the node is an inode of the tree. */
export function isInode(node: number): boolean {
  return node > MOUNT_NODE && node < VIRTUAL_NODE_FIRST;
}
