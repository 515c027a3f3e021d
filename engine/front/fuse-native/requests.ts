/** From paths to inodes, and the requests that need more than a few numbers. */
import { constants } from 'node:os';
import { CALL_TEXT, native } from '../../native.ts';
import type { Lane, Lanes } from './lanes.ts';
import type { Names } from './names.ts';
import { ENTRY, IN_BYTES, OPCODE, ROOT_NODE, SETATTR } from './protocol.ts';

const { EINVAL, ENAMETOOLONG, ENOENT, ESTALE } = constants.errno;
const SLASH = 0x2f;

/** A name in a directory; its bytes lie in the lane. */
export interface Place {
  readonly parent: number;
  /** Empty for the root itself. */
  readonly name: Uint8Array;
}

/** New attributes, as far as they are given; times in milliseconds. */
export interface Patch {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly times?: { readonly atime: number; readonly mtime: number };
}

/** Asks the engine on lanes, and keeps what it learns about names. Errors are -errno. */
export class Requests {
  readonly #lanes: Lanes;
  readonly #names: Names;

  constructor(lanes: Lanes, names: Names) {
    this.#lanes = lanes;
    this.#names = names;
  }

  /** Lets go of what the lane's request referred to. */
  finish(lane: Lane): void {
    for (const node of lane.held) this.#names.release(node);
    lane.held.length = 0;
  }

  /** Refers to an inode until the request is finished. */
  hold(lane: Lane, node: number): void {
    this.#names.hold(node);
    lane.held.push(node);
  }

  /** Where a call's first path leads, without its last step. */
  place(lane: Lane, call: Buffer): Promise<Place | number> {
    return this.#walk(lane, textOf(call, CALL_TEXT.PATH, lane.path));
  }

  /** Where a call's second path leads. */
  secondPlace(lane: Lane, call: Buffer): Promise<Place | number> {
    return this.#walk(lane, textOf(call, CALL_TEXT.SECOND_PATH, lane.secondPath));
  }

  /** The inode of a call's first path. */
  async node(lane: Lane, call: Buffer): Promise<number> {
    const place = await this.place(lane, call);
    return typeof place === 'number' ? place : this.nodeAt(lane, place);
  }

  /** The inode at a place. */
  async nodeAt(lane: Lane, { parent, name }: Place): Promise<number> {
    if (name.length === 0) return parent;
    const known = this.known(lane, { parent, name });
    if (known !== 0) return known;
    const found = await this.lookup(lane, { parent, name });
    return found < 0 ? found : lane.answerLong(ENTRY.NODE_AT);
  }

  /** The inode at a place if it is remembered, else 0. */
  known(lane: Lane, { parent, name }: Place): number {
    if (name.length === 0) return parent;
    const node = this.#names.find(parent, name);
    if (node !== 0) this.hold(lane, node);
    return node;
  }

  /** Asks for a name; the answer is a `fuse_entry_out` then. */
  async lookup(lane: Lane, place: Place): Promise<number> {
    const { changes } = this.#names;
    const bytes = lane.text(0, place.name);
    if (bytes < 0) return bytes;
    const found = await this.#lanes.ask(lane, OPCODE.LOOKUP, place.parent, bytes);
    if (found < 0) return this.checked(found);
    if (lane.answerLong(ENTRY.NODE_AT) === 0) return -ENOENT;
    this.entered(lane, place, changes === this.#names.changes);
    return found;
  }

  /** Takes in the `fuse_entry_out` of an answer that made or found a name. */
  entered(lane: Lane, { parent, name }: Place, remember: boolean): void {
    const node = lane.answerLong(ENTRY.NODE_AT);
    this.hold(lane, node);
    this.#names.counted(node);
    const seconds = lane.answerLong(ENTRY.SECONDS_AT);
    const ttlMs = seconds * 1000 + lane.answerView.getUint32(ENTRY.NANOSECONDS_AT, true) / 1e6;
    if (remember && ttlMs > 0) this.#names.enter(parent, name, node, ttlMs);
  }

  /** Sends a body that is a structure, already written, and the place's name; and takes the new entry in. */
  async make(lane: Lane, opcode: number, place: Place, structBytes: number): Promise<number> {
    const bytes = lane.text(structBytes, place.name);
    if (bytes < 0) return bytes;
    const made = this.checked(await this.#lanes.ask(lane, opcode, place.parent, bytes));
    if (made >= 0) this.entered(lane, place, true);
    return made;
  }

  /** Takes a name away: UNLINK or RMDIR. */
  async remove(lane: Lane, call: Buffer, opcode: number): Promise<number> {
    const place = await this.place(lane, call);
    if (typeof place === 'number') return place;
    const bytes = lane.text(0, place.name);
    if (bytes < 0) return bytes;
    const removed = await this.#lanes.ask(lane, opcode, place.parent, bytes);
    this.#names.drop(place.parent, place.name);
    return this.checked(removed);
  }

  async rename(lane: Lane, call: Buffer): Promise<number> {
    const from = await this.place(lane, call);
    if (typeof from === 'number') return from;
    const to = await this.secondPlace(lane, call);
    if (typeof to === 'number') return to;
    lane.long(0, to.parent);
    const middle = lane.text(IN_BYTES.RENAME, from.name);
    const bytes = middle < 0 ? middle : lane.text(middle, to.name);
    if (bytes < 0) return bytes;
    const renamed = await this.#lanes.ask(lane, OPCODE.RENAME, from.parent, bytes);
    this.#names.drop(from.parent, from.name);
    this.#names.drop(to.parent, to.name);
    return this.checked(renamed);
  }

  /** A further name (the second path) for what the first path names. */
  async link(lane: Lane, call: Buffer): Promise<number> {
    const node = await this.node(lane, call);
    if (node < 0) return node;
    const place = await this.secondPlace(lane, call);
    if (typeof place === 'number') return place;
    lane.long(0, node);
    return this.make(lane, OPCODE.LINK, place, IN_BYTES.LINK);
  }

  /** A symbolic link at the second path; the first is its target. */
  async symlink(lane: Lane, call: Buffer): Promise<number> {
    const place = await this.secondPlace(lane, call);
    if (typeof place === 'number') return place;
    const target = textOf(call, CALL_TEXT.PATH, lane.path);
    if (typeof target === 'number') return target;
    const middle = lane.text(0, place.name);
    const bytes = middle < 0 ? middle : lane.text(middle, target);
    if (bytes < 0) return bytes;
    const made = this.checked(await this.#lanes.ask(lane, OPCODE.SYMLINK, place.parent, bytes));
    if (made >= 0) this.entered(lane, place, true);
    return made;
  }

  /** Changes attributes of an inode: 0 or -errno. */
  async setAttributes(lane: Lane, node: number, patch: Patch): Promise<number> {
    const { view } = lane.blank(IN_BYTES.SETATTR);
    let valid = 0;
    const word = (flag: number, at: number, value: number | undefined): void => {
      if (value === undefined) return;
      valid |= flag;
      view.setUint32(at, value, true);
    };
    word(SETATTR.MODE, SETATTR.MODE_AT, patch.mode);
    word(SETATTR.UID, SETATTR.UID_AT, patch.uid);
    word(SETATTR.GID, SETATTR.GID_AT, patch.gid);
    if (patch.size !== undefined) {
      valid |= SETATTR.SIZE;
      lane.long(SETATTR.SIZE_AT, patch.size);
    }
    if (patch.times !== undefined) {
      valid |= SETATTR.ATIME | SETATTR.MTIME;
      time(lane, SETATTR.ATIME_AT, SETATTR.ATIME_NANOSECONDS_AT, patch.times.atime);
      time(lane, SETATTR.MTIME_AT, SETATTR.MTIME_NANOSECONDS_AT, patch.times.mtime);
    }
    view.setUint32(0, valid, true);
    const changed = await this.#lanes.ask(lane, OPCODE.SETATTR, node, IN_BYTES.SETATTR);
    return Math.min(this.checked(changed), 0);
  }

  /** A result as it is; an inode that is gone takes what is remembered of names with it. */
  checked(result: number): number {
    if (result === -ESTALE) this.#names.clear();
    return result;
  }

  /** Follows a path to the directory of its last step. */
  async #walk(lane: Lane, path: Uint8Array | number): Promise<Place | number> {
    if (typeof path === 'number') return path;
    if (path[0] !== SLASH) return -EINVAL;
    let parent = ROOT_NODE;
    let from = 1;
    for (;;) {
      const cut = path.indexOf(SLASH, from);
      if (cut < 0) return { parent, name: path.subarray(from) };
      parent = await this.nodeAt(lane, { parent, name: path.subarray(from, cut) });
      if (parent < 0) return parent;
      from = cut + 1;
    }
  }
}

/** A text of a call, or -ENAMETOOLONG. */
export function textOf(call: Buffer, which: number, into: Uint8Array): Uint8Array | number {
  const bytes = native().callText(call, which, into);
  return bytes <= into.length ? into.subarray(0, bytes) : -ENAMETOOLONG;
}

function time(lane: Lane, secondsAt: number, nanosecondsAt: number, milliseconds: number): void {
  const seconds = Math.floor(milliseconds / 1000);
  lane.long(secondsAt, seconds);
  lane.view.setUint32(nanosecondsAt, (milliseconds - seconds * 1000) * 1e6, true);
}
