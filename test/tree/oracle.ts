import { ERRNO } from '../../engine/tree/errno.ts';
import type { Extent } from '../../engine/tree/types.ts';

/** Bytes of a file that the model looks at. */
export const SPAN = 48;

/** A file, directory or link as the oracle knows it: plain objects that point at each other. */
export interface Node {
  kind: 'file' | 'directory' | 'link';
  /** Permission bits. */
  mode: number;
  nlink: number;
  size: number;
  parent: Node | undefined;
  names: Map<string, Node>;
  xattrs: Map<string, string>;
  target: string;
  /** What each byte of the file comes from; '' is a hole. */
  cells: string[];
}

export type Outcome = number | 'ok';

export function newNode(kind: Node['kind'], mode: number): Node {
  return {
    kind,
    mode,
    nlink: kind === 'directory' ? 2 : 1,
    size: kind === 'directory' ? 4096 : 0,
    parent: undefined,
    names: new Map(),
    xattrs: new Map(),
    target: '',
    cells: new Array<string>(SPAN).fill(''),
  };
}

/** A file system as simple as it can be; operations answer 'ok' or an errno. */
export class Oracle {
  readonly root: Node = newNode('directory', 0o755);

  constructor() {
    this.root.parent = this.root;
  }

  /** Puts a new node under a free name. */
  add(parent: Node, name: string, node: Node): Outcome {
    if (parent.kind !== 'directory') return ERRNO.ENOTDIR;
    if (parent.names.has(name)) return ERRNO.EEXIST;
    if (parent.nlink === 0) return ERRNO.ENOENT;
    parent.names.set(name, node);
    if (node.kind === 'directory') {
      node.parent = parent;
      parent.nlink++;
    }
    return 'ok';
  }

  link(node: Node, parent: Node, name: string): Outcome {
    if (parent.kind !== 'directory') return ERRNO.ENOTDIR;
    if (parent.names.has(name)) return ERRNO.EEXIST;
    if (parent.nlink === 0) return ERRNO.ENOENT;
    if (node.kind === 'directory') return ERRNO.EPERM;
    if (node.nlink === 0) return ERRNO.ENOENT;
    parent.names.set(name, node);
    node.nlink++;
    return 'ok';
  }

  unlink(parent: Node, name: string): Outcome {
    if (parent.kind !== 'directory') return ERRNO.ENOTDIR;
    const node = parent.names.get(name);
    if (node === undefined) return ERRNO.ENOENT;
    if (node.kind === 'directory') return ERRNO.EISDIR;
    parent.names.delete(name);
    node.nlink--;
    return 'ok';
  }

  rmdir(parent: Node, name: string): Outcome {
    if (parent.kind !== 'directory') return ERRNO.ENOTDIR;
    const node = parent.names.get(name);
    if (node === undefined) return ERRNO.ENOENT;
    if (node.kind !== 'directory') return ERRNO.ENOTDIR;
    if (node.names.size > 0) return ERRNO.ENOTEMPTY;
    parent.names.delete(name);
    node.nlink = 0;
    parent.nlink--;
    return 'ok';
  }

  rename(from: Node, name: string, to: Node, newName: string, flags: number): Outcome {
    if (flags > 2) return ERRNO.EINVAL;
    if (from.kind !== 'directory') return ERRNO.ENOTDIR;
    const node = from.names.get(name);
    if (node === undefined) return ERRNO.ENOENT;
    if (to.kind !== 'directory') return ERRNO.ENOTDIR;
    const other = to.names.get(newName);
    const errno = forbidden(node, from, to, other, flags);
    if (errno !== 0) return errno;
    if (node === other) return 'ok';
    if (flags === 2 && other !== undefined) {
      to.names.set(newName, node);
      from.names.set(name, other);
      adopt(other, to, from);
    } else {
      from.names.delete(name);
      to.names.set(newName, node);
      if (other?.kind === 'directory') {
        other.nlink = 0;
        to.nlink--;
      } else if (other !== undefined) {
        other.nlink--;
      }
    }
    adopt(node, from, to);
    return 'ok';
  }

  /** Writes, or with '' discards, bytes of a file; the size is what it is told. */
  write(node: Node, at: number, length: number, chunk: string, size: number): Outcome {
    if (node.kind !== 'file') return node.kind === 'directory' ? ERRNO.EISDIR : ERRNO.EINVAL;
    for (let i = at; i < Math.min(SPAN, at + length); i++) {
      node.cells[i] = chunk === '' ? '' : `${chunk}:${i - at}`;
    }
    node.size = size;
    return 'ok';
  }

  truncate(node: Node, size: number): Outcome {
    const keeps = node.size;
    const outcome = this.write(node, 0, 0, '', size);
    if (outcome === 'ok' && size < keeps) node.cells.fill('', size);
    return outcome;
  }
}

function forbidden(
  node: Node,
  from: Node,
  to: Node,
  other: Node | undefined,
  flags: number,
): number {
  if (flags === 1 && other !== undefined) return ERRNO.EEXIST;
  if (flags === 2 && other === undefined) return ERRNO.ENOENT;
  if (to.nlink === 0) return ERRNO.ENOENT;
  if (isWithin(to, node)) return ERRNO.EINVAL;
  if (other === undefined || other === node) return 0;
  if (flags === 2) return isWithin(from, other) ? ERRNO.EINVAL : 0;
  if (node.kind === 'directory' && other.kind !== 'directory') return ERRNO.ENOTDIR;
  if (node.kind !== 'directory' && other.kind === 'directory') return ERRNO.EISDIR;
  return other.names.size > 0 ? ERRNO.ENOTEMPTY : 0;
}

/** Whether a directory is the other one, or lies somewhere in it. */
function isWithin(directory: Node, outer: Node): boolean {
  for (let at = directory; ; at = at.parent as Node) {
    if (at === outer) return true;
    if (at.parent === at) return false;
  }
}

/** Moves a directory's link from one parent to another. */
function adopt(node: Node, from: Node, to: Node): void {
  if (node.kind !== 'directory') return;
  node.parent = to;
  from.nlink--;
  to.nlink++;
}

/** The cells that a list of extents means. */
export function cellsOf(extents: readonly Extent[]): string[] {
  const cells = new Array<string>(SPAN).fill('');
  for (const { offset, length, chunkOffset, id } of extents) {
    for (let i = 0; i < length; i++) cells[offset + i] = `${id[0]}:${chunkOffset + i}`;
  }
  return cells;
}
