/** From paths to inodes, and the requests that need more than a few numbers. */
import { constants } from 'node:os';
import {
  ENTRY_AT,
  FATTR,
  IN_STRUCT_BYTES,
  OPCODE,
  ROOT_NODE,
  SETATTR_AT,
} from '../../fuse-protocol.ts';
import { CALL_TEXT, native } from '../../native.ts';
import type { Handles } from './handles.ts';
import { HiddenFiles, isHiddenName } from './hidden-files.ts';
import type { Lane, Lanes } from './lanes.ts';
import type { Names } from './names.ts';

const { EINVAL, ENAMETOOLONG, ENOENT, ESTALE } = constants.errno;
const SLASH = 0x2f;
/** How long a doomed name may stand when nobody looks at it: much longer than libfuse's next step takes. */
const SILENCE_MS = 50;

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
  readonly #handles: Handles;
  readonly #hidden = new HiddenFiles();
  #timer: NodeJS.Timeout | undefined;

  constructor(lanes: Lanes, names: Names, handles: Handles) {
    this.#lanes = lanes;
    this.#names = names;
    this.#handles = handles;
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
    const known = this.known(lane, { parent, name });
    if (known !== 0) return known;
    const found = await this.lookup(lane, { parent, name });
    return found < 0 ? found : lane.answerLong(ENTRY_AT.NODE);
  }

  /** The inode at a place if it is remembered, else 0. */
  known(lane: Lane, { parent, name }: Place): number {
    if (name.length === 0) return parent;
    const node = this.#hidden.find(name) || this.#names.find(parent, name);
    if (node !== 0) this.hold(lane, node);
    return node;
  }

  /** Asks for a name; the answer is a `fuse_entry_out` then. */
  async lookup(lane: Lane, place: Place): Promise<number> {
    await this.#takeAway(lane, place);
    const { changes } = this.#names;
    const bytes = lane.text(0, place.name);
    if (bytes < 0) return bytes;
    const found = await this.#lanes.ask(lane, OPCODE.LOOKUP, place.parent, bytes);
    if (found < 0) return this.checked(found);
    if (lane.answerLong(ENTRY_AT.NODE) === 0) return -ENOENT;
    this.entered(lane, place, changes === this.#names.changes);
    return found;
  }

  /** Takes in the `fuse_entry_out` of an answer that made or found a name. */
  entered(lane: Lane, { parent, name }: Place, remember: boolean): void {
    const node = lane.answerLong(ENTRY_AT.NODE);
    this.hold(lane, node);
    this.#names.counted(node);
    const seconds = lane.answerLong(ENTRY_AT.ENTRY_SECONDS);
    const ttlMs =
      seconds * 1000 + lane.answerView.getUint32(ENTRY_AT.ENTRY_NANOSECONDS, true) / 1e6;
    if (remember && ttlMs > 0) this.#names.enter(parent, name, node, ttlMs);
  }

  /** Sends a body that is a structure, already written, and the place's name; and takes the new entry in. */
  async make(lane: Lane, opcode: number, place: Place, structBytes: number): Promise<number> {
    await this.#takeAway(lane, place, structBytes);
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
    const hidden = this.#hidden.reveal(place.name);
    if (hidden !== 0) return this.#unhide(lane, hidden);
    // A directory is not empty while a doomed name stands in it.
    await (opcode === OPCODE.RMDIR ? this.takeAllAway(lane) : this.#takeAway(lane, place));
    const node = await this.#meet(lane, place);
    if (node < 0) return node;
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
    if (from.parent === to.parent && isHiddenName(to.name)) {
      const node = await this.nodeAt(lane, from);
      if (node < 0) return node;
      if (this.#handles.isOpen(node)) return this.#hide(node, to.name, from);
    }
    await this.#takeAway(lane, from);
    // A doomed target is replaced in one step; where it cannot be replaced, it goes first.
    const doomed = this.#hidden.take(to.parent, to.name);
    if (doomed === undefined) await this.#meet(lane, to);
    const renamed = await this.#rename(lane, from, to);
    if (renamed >= 0 || doomed === undefined) return renamed;
    await this.#unlink(lane, doomed);
    return this.#rename(lane, from, to);
  }

  async #rename(lane: Lane, from: Place, to: Place): Promise<number> {
    lane.long(0, to.parent);
    const middle = lane.text(IN_STRUCT_BYTES.RENAME, from.name);
    const bytes = middle < 0 ? middle : lane.text(middle, to.name);
    if (bytes < 0) return bytes;
    const renamed = await this.#lanes.ask(lane, OPCODE.RENAME, from.parent, bytes);
    this.#names.drop(from.parent, from.name);
    this.#names.drop(to.parent, to.name);
    return this.checked(renamed);
  }

  /**
   * Sees to it that an inode which is about to lose a name is one that FORGET will be sent for: an inode without a name
   * lives until then. Yields it, or -errno.
   */
  #meet(lane: Lane, place: Place): Promise<number> {
    return this.nodeAt(lane, place);
  }

  // ---- files that are open and have lost their name ----

  #hide(node: number, nickname: Uint8Array, place: Place): number {
    this.#names.hold(node);
    this.#hidden.hide(node, nickname, place);
    this.#names.drop(place.parent, place.name);
    this.#timer ??= setTimeout(() => this.#onSilence(), SILENCE_MS);
    return 0;
  }

  /** The last close of a hidden file, when libfuse could not unlink its nickname: its directory is gone. */
  closed(node: number): void {
    if (this.#handles.isOpen(node)) return;
    for (let count = this.#hidden.revealNode(node); count > 0; count--) this.#names.release(node);
  }

  async #unhide(lane: Lane, node: number): Promise<number> {
    this.#names.release(node);
    await this.takeAllAway(lane);
    return 0;
  }

  #onSilence(): void {
    this.#timer = undefined;
    const lane = this.#lanes.take();
    if (lane === undefined) {
      this.#timer = setTimeout(() => this.#onSilence(), SILENCE_MS);
      return;
    }
    const give = (): void => this.#lanes.give(lane);
    this.takeAllAway(lane).then(give, give);
  }

  /** Takes a name away before somebody looks at it, if it is doomed. Keeps so many bytes of the lane's body. */
  async #takeAway(lane: Lane, { parent, name }: Place, keep = 0): Promise<void> {
    const doomed = this.#hidden.take(parent, name);
    if (doomed === undefined) return;
    const kept = lane.body.slice(0, keep);
    await this.#unlink(lane, doomed);
    lane.body.set(kept);
  }

  /** Takes the names of an inode away that programs have unlinked, before somebody asks how many it has. */
  async settleNames(lane: Lane, node: number): Promise<void> {
    if (this.#hidden.isDoomed(node)) await this.takeAllAway(lane);
  }

  /** Takes every doomed name away: before a directory is listed or synced. */
  async takeAllAway(lane: Lane): Promise<void> {
    for (let doomed = this.#hidden.takeAny(); doomed; doomed = this.#hidden.takeAny()) {
      await this.#unlink(lane, doomed);
    }
  }

  async #unlink(lane: Lane, { parent, name }: Place): Promise<void> {
    await this.#lanes.ask(lane, OPCODE.UNLINK, parent, lane.text(0, name));
    this.#names.drop(parent, name);
  }

  /** A further name (the second path) for what the first path names. */
  async link(lane: Lane, call: Buffer): Promise<number> {
    const node = await this.node(lane, call);
    if (node < 0) return node;
    const place = await this.secondPlace(lane, call);
    if (typeof place === 'number') return place;
    lane.long(0, node);
    return this.make(lane, OPCODE.LINK, place, IN_STRUCT_BYTES.LINK);
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
    await this.#takeAway(lane, place, bytes);
    const made = this.checked(await this.#lanes.ask(lane, OPCODE.SYMLINK, place.parent, bytes));
    if (made >= 0) this.entered(lane, place, true);
    return made;
  }

  /** Changes attributes of an inode: 0 or -errno. */
  async setAttributes(lane: Lane, node: number, patch: Patch): Promise<number> {
    const { view } = lane.blank(IN_STRUCT_BYTES.SETATTR);
    let valid = 0;
    const word = (flag: number, at: number, value: number | undefined): void => {
      if (value === undefined) return;
      valid |= flag;
      view.setUint32(at, value, true);
    };
    word(FATTR.MODE, SETATTR_AT.MODE, patch.mode);
    word(FATTR.UID, SETATTR_AT.UID, patch.uid);
    word(FATTR.GID, SETATTR_AT.GID, patch.gid);
    if (patch.size !== undefined) {
      valid |= FATTR.SIZE;
      lane.long(SETATTR_AT.SIZE, patch.size);
    }
    if (patch.times !== undefined) {
      valid |= FATTR.ATIME | FATTR.MTIME;
      time(lane, SETATTR_AT.ATIME, SETATTR_AT.ATIME_NANOSECONDS, patch.times.atime);
      time(lane, SETATTR_AT.MTIME, SETATTR_AT.MTIME_NANOSECONDS, patch.times.mtime);
    }
    view.setUint32(0, valid, true);
    const changed = await this.#lanes.ask(lane, OPCODE.SETATTR, node, IN_STRUCT_BYTES.SETATTR);
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
