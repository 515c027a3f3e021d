/**
 * What lies between the kernel's nodes and the tree's inodes: namespaces, the directory that shows
 * several of them, and the control directory at the root of each.
 *
 * Requests on ordinary inodes do not come here: their numbers say so.
 */
import { Buffer } from 'node:buffer';
import { constants } from 'node:os';
import { IN_STRUCT_BYTES, OPCODE } from '../../../engine/fuse-protocol.ts';
import { S_IFDIR, S_IFMT } from '../../../engine/tree/mode.ts';
import { CONTROL_DIRECTORY } from '../../../engine/namespace-name.ts';
import type { Namespace } from '../../../engine/tree/namespaces.ts';
import { ROOT_INO } from '../../../engine/tree/tree.ts';
import type { Attributes, Time } from '../../../engine/tree/types.ts';
import type { Answer } from '../answer.ts';
import { type Context, FAILURE, type NodeMap } from '../context.ts';
import { entryName, text, u32 } from '../decode.ts';
import type { Outcome, Request } from '../request.ts';
import { CONTROL_FILES, type ControlFile, ControlFiles } from './control-files.ts';
import { type ListedName, list, listed, virtualAttributes } from './listing.ts';
import type { View } from './view.ts';
import { ITEM, isInode, itemOf, MOUNT_NODE, nodeOf, viewOf } from './numbers.ts';

/** The request is an ordinary one, about the inode that now is in `node`. Below PENDING. */
export const ADMITTED: Outcome = -4097;

const { EBADF, EBUSY, EEXIST, EINVAL, ENODATA, ENOENT, ENOTDIR, EPERM, EXDEV } = constants.errno;

const DEFAULT_VIEW: View = {
  namespaces: [{ name: Buffer.from('default'), root: ROOT_INO }],
  owner: { uid: 0, gid: 0 },
  control: undefined,
};

const HIDDEN: Uint8Array = Buffer.from(CONTROL_DIRECTORY);
const DIRECTORY_MODE = S_IFDIR | 0o555;

/** Where the first name lies in the bodies of the operations that have one, by opcode. */
const NAME_AT: ReadonlyMap<number, number> = new Map([
  [OPCODE.LOOKUP, 0],
  [OPCODE.SYMLINK, 0],
  [OPCODE.UNLINK, 0],
  [OPCODE.RMDIR, 0],
  [OPCODE.MKNOD, IN_STRUCT_BYTES.MKNOD],
  [OPCODE.MKDIR, IN_STRUCT_BYTES.MKDIR],
  [OPCODE.CREATE, IN_STRUCT_BYTES.CREATE],
  [OPCODE.LINK, IN_STRUCT_BYTES.LINK],
  [OPCODE.RENAME, IN_STRUCT_BYTES.RENAME],
  [OPCODE.RENAME2, IN_STRUCT_BYTES.RENAME2],
]);

/** Operations that take a name away. */
const REMOVING = new Set<number>([OPCODE.UNLINK, OPCODE.RMDIR, OPCODE.RENAME, OPCODE.RENAME2]);

/** Operations that would change what cannot be changed. */
const CHANGING = new Set<number>([
  OPCODE.SETATTR,
  OPCODE.SYMLINK,
  OPCODE.MKNOD,
  OPCODE.MKDIR,
  OPCODE.UNLINK,
  OPCODE.RMDIR,
  OPCODE.RENAME,
  OPCODE.RENAME2,
  OPCODE.LINK,
  OPCODE.SETXATTR,
  OPCODE.REMOVEXATTR,
  OPCODE.CREATE,
  OPCODE.TMPFILE,
  OPCODE.FALLOCATE,
]);

/** Serves what is not in the tree, and finds the inodes of what is. Threads: the tree worker's. */
export class Gate implements NodeMap {
  readonly #context: Context;
  readonly #view: View;
  readonly #files: ControlFiles | undefined;
  /** When the mount began: the time of everything that is not in the tree. */
  readonly #time: Time;
  /** Several namespaces: the mount's root is the directory of all. */
  readonly #shared: boolean;
  readonly #shown: readonly ListedName[];
  readonly #listings = new Map<number, ListedName[]>();

  constructor(context: Context, view: View = DEFAULT_VIEW) {
    this.#context = context;
    this.#view = view;
    this.#files = view.control === undefined ? undefined : new ControlFiles(view.control);
    this.#time = context.now();
    this.#shared = view.namespaces.length > 1;
    this.#shown = listed(
      nodeOf(0, ITEM.ROOT),
      view.namespaces.map(({ name, root }) => ({ name, ino: root, type: S_IFDIR })),
    );
  }

  /**
   * Serves a request on a node that is no inode. ADMITTED: it is about the root of a namespace,
   * `request.node` is its inode now, and the tree is to serve it.
   */
  admit(request: Request, answer: Answer): Outcome {
    // The root of a mount with one namespace: common, so it takes no arithmetic.
    if (request.node === MOUNT_NODE && !this.#shared) return this.#admitRoot(1, request, answer);
    const node = this.#known(request.node);
    if (node < 0) return FAILURE.ESTALE;
    request.node = node;
    if (itemOf(node) !== ITEM.ROOT) return this.#serveControl(node, request, answer);
    if (viewOf(node) === 0) return this.#serveMount(request, answer);
    return this.#admitRoot(viewOf(node), request, answer);
  }

  /** The inode of a directory that a body names: itself, or -errno for what is none. */
  directory(node: number): number {
    if (isInode(node)) return node;
    const known = this.#known(node);
    if (known < 0) return FAILURE.ESTALE;
    if (itemOf(known) !== ITEM.ROOT || viewOf(known) === 0) return -EPERM;
    return this.#namespaceOf(known).root;
  }

  /** Whether a name in a directory is the hidden one, and not the tree's. */
  isHidden(node: number, name: Uint8Array): boolean {
    if (isInode(node) || this.#files === undefined || !isHiddenName(name)) return false;
    const directory = this.directory(node);
    return directory > 0 && this.#isFree(directory, name);
  }

  /** The virtual number of a node that is no inode, or -1 when there is no such node. */
  #known(node: number): number {
    if (node === MOUNT_NODE) return nodeOf(this.#shared ? 0 : 1, ITEM.ROOT);
    if (!Number.isSafeInteger(node) || isInode(node) || node < MOUNT_NODE) return -1;
    const [view, item] = [viewOf(node), itemOf(node)];
    if (view > this.#view.namespaces.length || item > ITEM.STATUS) return -1;
    if (item === ITEM.ROOT) return view > 0 || this.#shared ? node : -1;
    return view > 0 && this.#files !== undefined ? node : -1;
  }

  /** Whether the tree has no such name: what has one wins. */
  #isFree(directory: number, name: Uint8Array): boolean {
    return this.#context.tree.lookup(directory, name) === ENOENT;
  }

  #namespaceOf(node: number): Namespace {
    return this.#view.namespaces[viewOf(node) - 1];
  }

  // ---- the root of a namespace ----

  #admitRoot(view: number, request: Request, answer: Answer): Outcome {
    request.node = this.#view.namespaces[view - 1].root;
    const { body, opcode } = request;
    const at = this.#files === undefined ? undefined : NAME_AT.get(opcode);
    if (at === undefined || body[at] !== HIDDEN[0]) return ADMITTED;
    const name = text(body, at);
    if (typeof name === 'number' || !isHiddenName(name)) return ADMITTED;
    // What was called so before this version had its own stays what it is.
    if (!this.#isFree(request.node, name)) return ADMITTED;
    if (opcode === OPCODE.LOOKUP) {
      return this.#answerEntry(nodeOf(view, ITEM.DIRECTORY), answer);
    }
    return REMOVING.has(opcode) ? -EPERM : -EEXIST;
  }

  // ---- the directory of all namespaces ----

  #serveMount(request: Request, answer: Answer): Outcome {
    const { body, opcode } = request;
    if (opcode === OPCODE.LOOKUP || REMOVING.has(opcode)) {
      const name = entryName(body, NAME_AT.get(opcode) ?? 0);
      if (typeof name === 'number') return -name;
      const index = this.#view.namespaces.findIndex((each) => isSame(each.name, name));
      if (index < 0) return FAILURE.ENOENT;
      if (opcode !== OPCODE.LOOKUP) return -EBUSY;
      return this.#answerRoot(index + 1, answer);
    }
    if (opcode === OPCODE.READDIR || opcode === OPCODE.READDIRPLUS) {
      return this.#list(this.#shown, request, answer);
    }
    return this.#serveAny(request.node, request, answer);
  }

  #answerRoot(view: number, answer: Answer): Outcome {
    const { tree, validity } = this.#context;
    const attributes = tree.getattr(this.#view.namespaces[view - 1].root);
    if (typeof attributes === 'number') return -attributes;
    const at = answer.length;
    answer.entry(this.#context.current(attributes), validity);
    answer.setNode(at, nodeOf(view, ITEM.ROOT));
    return answer.length;
  }

  // ---- the control directory and its files ----

  #serveControl(node: number, request: Request, answer: Answer): Outcome {
    if (itemOf(node) === ITEM.DIRECTORY) return this.#serveDirectory(node, request, answer);
    const files = this.#files;
    if (files === undefined) return FAILURE.ESTALE;
    const file = this.#fileOf(node);
    switch (request.opcode) {
      case OPCODE.OPEN:
        return files.open(file, request, answer);
      case OPCODE.READ:
        return files.read(file, request, answer);
      case OPCODE.WRITE:
        return files.write(file, request);
      case OPCODE.SETATTR:
        return files.touch(file, request, (to) => this.#answerAttributes(node, to));
      case OPCODE.RELEASE:
        return files.release(request);
      case OPCODE.FLUSH:
      case OPCODE.FSYNC:
        return 0;
      case OPCODE.LSEEK:
        return -EINVAL;
      default:
        return this.#serveAny(node, request, answer);
    }
  }

  #fileOf(node: number): ControlFile {
    const { name, root } = this.#namespaceOf(node);
    return { item: itemOf(node), namespace: Buffer.from(name).toString(), root };
  }

  #serveDirectory(node: number, request: Request, answer: Answer): Outcome {
    const { body, opcode } = request;
    if (opcode === OPCODE.LOOKUP) {
      const name = entryName(body, 0);
      if (typeof name === 'number') return -name;
      const file = CONTROL_FILES.find((each) => isSame(each.name, name));
      if (file === undefined) return FAILURE.ENOENT;
      return this.#answerEntry(nodeOf(viewOf(node), file.item), answer);
    }
    if (opcode === OPCODE.READDIR || opcode === OPCODE.READDIRPLUS) {
      return this.#list(this.#filesOf(viewOf(node)), request, answer);
    }
    return this.#serveAny(node, request, answer);
  }

  #filesOf(view: number): readonly ListedName[] {
    const known = this.#listings.get(view);
    if (known !== undefined) return known;
    const names = CONTROL_FILES.map(({ name, item, mode }) => {
      return { name, ino: nodeOf(view, item), type: mode & S_IFMT };
    });
    const listing = listed(nodeOf(view, ITEM.DIRECTORY), names);
    this.#listings.set(view, listing);
    return listing;
  }

  // ---- what they have in common ----

  /** Reads attributes, and refuses changes; what does not depend on the node is the tree's to serve. */
  #serveAny(node: number, request: Request, answer: Answer): Outcome {
    const { opcode, body } = request;
    switch (opcode) {
      case OPCODE.GETATTR:
        return this.#answerAttributes(node, answer);
      case OPCODE.STATX:
        answer.statx(this.#attributes(node), this.#context.validity);
        return answer.length;
      case OPCODE.GETXATTR:
        return -ENODATA;
      case OPCODE.LISTXATTR:
        if (body.length >= IN_STRUCT_BYTES.GETXATTR && u32(body, 0) === 0) answer.xattrSize(0);
        return answer.length;
      case OPCODE.READLINK:
        return -EINVAL;
      case OPCODE.COPY_FILE_RANGE:
        return -EXDEV;
      case OPCODE.LOOKUP:
        return -ENOTDIR;
      case OPCODE.READ:
      case OPCODE.WRITE:
        return -EBADF;
      default:
        return CHANGING.has(opcode) ? -EPERM : ADMITTED;
    }
  }

  #list(names: readonly ListedName[], request: Request, answer: Answer): Outcome {
    return list(names, request, { answer, validity: this.#context.validity });
  }

  #answerEntry(node: number, answer: Answer): Outcome {
    answer.entry(this.#attributes(node), this.#context.validity);
    return answer.length;
  }

  #answerAttributes(node: number, answer: Answer): Outcome {
    answer.attributes(this.#attributes(node), this.#context.validity);
    return answer.length;
  }

  #attributes(node: number): Attributes {
    const item = itemOf(node);
    const file = CONTROL_FILES.find((each) => each.item === item);
    const below = item === ITEM.ROOT ? this.#view.namespaces.length : 0;
    const nlink = file === undefined ? 2 + below : 1;
    const mode = file?.mode ?? DIRECTORY_MODE;
    return virtualAttributes({ ino: node, mode, nlink, owner: this.#view.owner, time: this.#time });
  }
}

function isHiddenName(name: Uint8Array): boolean {
  return name.length === HIDDEN.length && isSame(name, HIDDEN);
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
