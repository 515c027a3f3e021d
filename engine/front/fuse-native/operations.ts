/**
 * The operations of libfuse 2.9 as requests of the kernel's protocol: what each handler does with the binding's call.
 * A handler only queues; the call ends when the answer comes, on this same thread.
 */
import { constants as fs } from 'node:fs';
import { constants } from 'node:os';
import {
  ATTR_OUT_AT,
  ENTRY_AT,
  IN_STRUCT_BYTES,
  OPCODE,
  OUT_STRUCT_BYTES,
} from '../../fuse-protocol.ts';
import { CALL_FILL, CALL_TEXT, native } from '../../native.ts';
import { type Binding, type Handler, OPERATION, OPERATION_COUNT } from './binding.ts';
import { Handles } from './handles.ts';
import type { Lane, Lanes } from './lanes.ts';
import type { Names } from './names.ts';
import { type Patch, type Place, Requests, textOf } from './requests.ts';

const { EBADF, EIO, ENOSYS } = constants.errno;

/** Bytes of a listing that are asked for at once. */
const LISTING_BYTES = 32_768;
/** Flags of open(2) that OPEN does not carry. */
const NOT_OPENED = fs.O_CREAT | fs.O_EXCL | fs.O_NOCTTY | fs.O_TRUNC;
/** Where the record of a call has numbers: see native/fuse/src/libfuse2.rs. */
const CALL = { OFFSET: 64, ATIME: 104, MTIME: 112, FLAGS: 164 } as const;

/** What one operation does with its lane: the call's result, or -errno. */
type Work = (lane: Lane) => number | Promise<number>;

/** With which means operations are served. */
export interface OperationsOptions {
  readonly binding: Binding;
  readonly lanes: Lanes;
  readonly names: Names;
  /** libfuse is there: the mount stands. */
  readonly onInit: () => void;
  /** The kernel makes its first request behind that. */
  readonly onServing: () => void;
  /** Told of what must never happen; the program gets EIO. */
  readonly onError: (error: unknown) => void;
}

/** Serves the calls of one mount. */
export class Operations {
  /** What the binding calls, by its numbers. */
  readonly handlers: readonly Handler[];
  /** Which of them libfuse shall use, likewise. */
  readonly implemented: Uint32Array = new Uint32Array(OPERATION_COUNT);
  readonly #options: OperationsOptions;
  readonly #lanes: Lanes;
  readonly #names: Names;
  readonly #requests: Requests;
  readonly #handles = new Handles();
  /** Calls that wait for a lane, in order. */
  readonly #queue: (() => void)[] = [];
  #serving = false;

  constructor(options: OperationsOptions) {
    this.#options = options;
    this.#lanes = options.lanes;
    this.#names = options.names;
    this.#requests = new Requests(options.lanes, options.names, this.#handles);
    const handlers: Handler[] = new Array(OPERATION_COUNT - 1).fill((call: Buffer) => {
      options.binding.fuse_native_signal_flush(call, -ENOSYS);
    });
    const own = { ...this.#lifecycle(), ...this.#onAttributes(), ...this.#onNames() };
    for (const [name, handler] of Object.entries({
      ...own,
      ...this.#onFiles(),
      ...this.#onXattrs(),
    })) {
      const number = OPERATION[name as keyof typeof OPERATION];
      handlers[number] = handler;
      this.implemented[number] = 1;
    }
    this.handlers = handlers;
  }

  // ---- a call from its beginning to its end ----

  /** Runs `work` with a lane, as soon as there is one. `memory` is what the call came with. */
  #serve(call: Buffer, work: Work, memory?: Buffer): void {
    if (this.#lanes.hasFailed) return this.#end(call, -EIO, memory);
    if (!this.#serving) {
      this.#serving = true;
      this.#options.onServing();
    }
    const lane = this.#lanes.take();
    if (lane === undefined) {
      this.#queue.push(() => this.#serve(call, work, memory));
      return;
    }
    const finish = (result: number): void => this.#finish(lane, call, result, memory);
    try {
      const result = work(lane);
      if (typeof result === 'number') finish(result);
      else result.then(finish).catch((error: unknown) => this.#fail(lane, call, error, memory));
    } catch (error) {
      this.#fail(lane, call, error, memory);
    }
  }

  #fail(lane: Lane, call: Buffer, error: unknown, memory: Buffer | undefined): void {
    this.#options.onError(error);
    this.#finish(lane, call, -EIO, memory);
  }

  #finish(lane: Lane, call: Buffer, result: number, memory: Buffer | undefined): void {
    this.#end(call, result, memory);
    this.#requests.finish(lane);
    this.#lanes.give(lane);
    this.#queue.shift()?.();
  }

  #end(call: Buffer, result: number, memory: Buffer | undefined): void {
    const { binding } = this.#options;
    if (memory === undefined) binding.fuse_native_signal_flush(call, result);
    else binding.fuse_native_signal_read(call, result, 0, memory.buffer);
  }

  async #ask(lane: Lane, opcode: number, node: number, bytes: number): Promise<number> {
    return this.#requests.checked(await this.#lanes.ask(lane, opcode, node, bytes));
  }

  /** Runs `work` with the inode of the call's path. */
  #withNode(
    call: Buffer,
    work: (lane: Lane, node: number) => Promise<number>,
    memory?: Buffer,
  ): void {
    const run = async (lane: Lane): Promise<number> => {
      const node = await this.#requests.node(lane, call);
      return node < 0 ? node : work(lane, node);
    };
    this.#serve(call, run, memory);
  }

  /** Runs `work` with the place of the call's path. */
  #withPlace(call: Buffer, work: (lane: Lane, place: Place) => Promise<number>): void {
    this.#serve(call, async (lane) => {
      const place = await this.#requests.place(lane, call);
      return typeof place === 'number' ? place : work(lane, place);
    });
  }

  // ---- the mount ----

  #lifecycle(): Record<string, Handler> {
    return {
      init: (call) => {
        this.#options.binding.fuse_native_signal_init(call, 0);
        this.#options.onInit();
      },
      statfs: (call) =>
        this.#serve(call, async (lane) => {
          const bytes = await this.#ask(lane, OPCODE.STATFS, 1, 0);
          return bytes < 0 ? bytes : filled(call, CALL_FILL.STATISTICS, lane, 0, bytes);
        }),
    };
  }

  // ---- attributes ----

  #onAttributes(): Record<string, Handler> {
    return {
      getattr: (call) =>
        this.#withPlace(call, (lane, place) => this.#attributesAt(call, lane, place)),
      fgetattr: (call, _operation, _path, handle: number) =>
        this.#serve(call, (lane) => this.#attributes(call, lane, this.#handles.node(handle))),
      truncate: (call, _operation, _path, low: number, high: number) =>
        this.#patch(call, { size: double(low, high) }),
      ftruncate: (call, _operation, _path, handle: number, low: number, high: number) =>
        this.#serve(call, (lane) => {
          const node = this.#handles.node(handle);
          return this.#requests.setAttributes(lane, node, { size: double(low, high) });
        }),
      chmod: (call, _operation, _path, mode: number) => this.#patch(call, { mode }),
      chown: (call, _operation, _path, uid: number, gid: number) =>
        this.#patch(call, { ...(uid !== NOBODY && { uid }), ...(gid !== NOBODY && { gid }) }),
      // The binding passes the one time twice; its record has both.
      utimens: (call) =>
        this.#patch(call, {
          times: {
            atime: Number(call.readBigInt64LE(CALL.ATIME)),
            mtime: Number(call.readBigInt64LE(CALL.MTIME)),
          },
        }),
    };
  }

  #patch(call: Buffer, patch: Patch): void {
    this.#withNode(call, (lane, node) => this.#requests.setAttributes(lane, node, patch));
  }

  async #attributes(call: Buffer, lane: Lane, node: number): Promise<number> {
    await this.#requests.settleNames(lane, node);
    lane.blank(IN_STRUCT_BYTES.GETATTR);
    const bytes = await this.#ask(lane, OPCODE.GETATTR, node, IN_STRUCT_BYTES.GETATTR);
    return bytes < 0
      ? bytes
      : filled(call, CALL_FILL.ATTRIBUTES, lane, ATTR_OUT_AT.ATTR, OUT_STRUCT_BYTES.ATTR);
  }

  /** LOOKUP answers with attributes too. */
  async #attributesAt(call: Buffer, lane: Lane, place: Place): Promise<number> {
    const node = this.#requests.known(lane, place);
    if (node !== 0) return this.#attributes(call, lane, node);
    const found = await this.#requests.lookup(lane, place);
    return found < 0
      ? found
      : filled(call, CALL_FILL.ATTRIBUTES, lane, ENTRY_AT.ATTR, OUT_STRUCT_BYTES.ATTR);
  }

  // ---- names ----

  #onNames(): Record<string, Handler> {
    return {
      unlink: (call) =>
        this.#serve(call, (lane) => this.#requests.remove(lane, call, OPCODE.UNLINK)),
      rmdir: (call) => this.#serve(call, (lane) => this.#requests.remove(lane, call, OPCODE.RMDIR)),
      rename: (call) => this.#serve(call, (lane) => this.#requests.rename(lane, call)),
      link: (call) =>
        this.#serve(call, async (lane) => done(await this.#requests.link(lane, call))),
      symlink: (call) =>
        this.#serve(call, async (lane) => done(await this.#requests.symlink(lane, call))),
      mkdir: (call, _operation, _path, mode: number) =>
        this.#make(call, OPCODE.MKDIR, IN_STRUCT_BYTES.MKDIR, mode, 0),
      mknod: (call, _operation, _path, mode: number, device: number) =>
        this.#make(call, OPCODE.MKNOD, IN_STRUCT_BYTES.MKNOD, mode, device),
      readlink: (call) =>
        this.#withNode(call, async (lane, node) => {
          const bytes = await this.#ask(lane, OPCODE.READLINK, node, 0);
          return bytes < 0 ? bytes : filled(call, CALL_FILL.LINK, lane, 0, bytes);
        }),
      readdir: (call) => this.#withNode(call, (lane, node) => this.#list(call, lane, node)),
      fsyncdir: (call) =>
        this.#withNode(call, async (lane, node) => {
          await this.#requests.takeAllAway(lane);
          return this.#ask(
            lane.blank(IN_STRUCT_BYTES.FSYNC),
            OPCODE.FSYNCDIR,
            node,
            IN_STRUCT_BYTES.FSYNC,
          );
        }),
    };
  }

  #make(call: Buffer, opcode: number, bytes: number, mode: number, device: number): void {
    this.#withPlace(call, async (lane, place) => {
      lane.blank(bytes).view.setUint32(0, mode, true);
      if (opcode === OPCODE.MKNOD) lane.view.setUint32(4, device, true);
      return done(await this.#requests.make(lane, opcode, place, bytes));
    });
  }

  /** Hands entries over until libfuse has no room for more or there are none. */
  async #list(call: Buffer, lane: Lane, node: number): Promise<number> {
    await this.#requests.takeAllAway(lane);
    for (;;) {
      const { view } = lane.blank(IN_STRUCT_BYTES.READ);
      view.setUint32(8, call.readUInt32LE(CALL.OFFSET), true);
      view.setUint32(12, call.readUInt32LE(CALL.OFFSET + 4), true);
      view.setUint32(16, LISTING_BYTES, true);
      const bytes = await this.#ask(lane, OPCODE.READDIR, node, IN_STRUCT_BYTES.READ);
      if (bytes <= 0) return bytes;
      if (!native().callFill(call, CALL_FILL.DIRECTORY, lane.answer.subarray(0, bytes))) return 0;
    }
  }

  // ---- open files ----

  #onFiles(): Record<string, Handler> {
    return {
      open: (call) => this.#withNode(call, (lane, node) => this.#open(call, lane, node)),
      create: (call, _operation, _path, mode: number) =>
        this.#withPlace(call, (lane, place) => this.#create(call, lane, place, mode)),
      release: (call, _operation, _path, handle: number) =>
        this.#serve(call, (lane) => this.#release(lane, handle)),
      flush: (call, _operation, _path, handle: number) =>
        this.#serve(call, (lane) => this.#sync(lane, OPCODE.FLUSH, IN_STRUCT_BYTES.FLUSH, handle)),
      fsync: (call, _operation, _path, _dataOnly, handle: number) =>
        this.#serve(call, (lane) => this.#sync(lane, OPCODE.FSYNC, IN_STRUCT_BYTES.FSYNC, handle)),
      read: (
        call,
        _operation,
        _path,
        handle: number,
        memory: Buffer,
        bytes: number,
        low: number,
        high: number,
      ) =>
        this.#serve(
          call,
          (lane) => {
            const node = this.#transfer(lane, handle, bytes, low, high);
            const body = IN_STRUCT_BYTES.READ;
            return this.#lanes.ask(lane, OPCODE.READ, node, body, undefined, memory);
          },
          memory,
        ),
      write: (
        call,
        _operation,
        _path,
        handle: number,
        memory: Buffer,
        bytes: number,
        low: number,
        high: number,
      ) =>
        this.#serve(
          call,
          (lane) => {
            const node = this.#transfer(lane, handle, bytes, low, high);
            const result = this.#lanes.ask(lane, OPCODE.WRITE, node, IN_STRUCT_BYTES.READ, memory);
            if (typeof result === 'number') return written(lane, result);
            return result.then((later) => written(lane, later));
          },
          memory,
        ),
    };
  }

  /** Writes the body of a READ or WRITE and yields the inode. */
  #transfer(lane: Lane, handle: number, bytes: number, low: number, high: number): number {
    const { view } = lane.blank(IN_STRUCT_BYTES.READ);
    view.setUint32(0, this.#handles.low(handle), true);
    view.setUint32(4, this.#handles.high(handle), true);
    view.setUint32(8, low, true);
    view.setUint32(12, high, true);
    view.setUint32(16, bytes, true);
    return this.#handles.node(handle);
  }

  async #open(call: Buffer, lane: Lane, node: number): Promise<number> {
    const flags = native().callOpenFlags(call) & ~NOT_OPENED;
    lane.blank(IN_STRUCT_BYTES.OPEN).view.setUint32(0, flags, true);
    const opened = await this.#ask(lane, OPCODE.OPEN, node, IN_STRUCT_BYTES.OPEN);
    return opened < 0 ? opened : this.#opened(call, lane, node, 0);
  }

  async #create(call: Buffer, lane: Lane, place: Place, mode: number): Promise<number> {
    const { view } = lane.blank(IN_STRUCT_BYTES.CREATE);
    view.setUint32(0, native().callOpenFlags(call), true);
    view.setUint32(4, mode, true);
    const made = await this.#requests.make(lane, OPCODE.CREATE, place, IN_STRUCT_BYTES.CREATE);
    if (made < 0) return made;
    return this.#opened(call, lane, lane.answerLong(ENTRY_AT.NODE), OUT_STRUCT_BYTES.ENTRY);
  }

  /** Takes the `fuse_open_out` of an answer in. */
  #opened(call: Buffer, lane: Lane, node: number, at: number): number {
    const { answerView } = lane;
    const low = answerView.getUint32(at, true);
    const high = answerView.getUint32(at + 4, true);
    const handle = this.#handles.open(node, low, high);
    this.#names.hold(node);
    native().callOpened(call, handle, answerView.getUint32(at + 8, true));
    return 0;
  }

  #handleBody(lane: Lane, bytes: number, handle: number): void {
    const { view } = lane.blank(bytes);
    view.setUint32(0, this.#handles.low(handle), true);
    view.setUint32(4, this.#handles.high(handle), true);
  }

  async #release(lane: Lane, handle: number): Promise<number> {
    const node = this.#handles.node(handle);
    if (node === 0) return -EBADF;
    this.#handleBody(lane, IN_STRUCT_BYTES.RELEASE, handle);
    const result = await this.#ask(lane, OPCODE.RELEASE, node, IN_STRUCT_BYTES.RELEASE);
    this.#handles.close(handle);
    this.#requests.closed(node);
    this.#names.release(node);
    return result;
  }

  #sync(lane: Lane, opcode: number, bytes: number, handle: number): Promise<number> {
    this.#handleBody(lane, bytes, handle);
    return this.#ask(lane, opcode, this.#handles.node(handle), bytes);
  }

  // ---- extended attributes ----

  #onXattrs(): Record<string, Handler> {
    return {
      setxattr: (call, _operation, _path, _name, value: Buffer) =>
        this.#withNode(
          call,
          async (lane, node) => {
            const { view } = lane.blank(IN_STRUCT_BYTES.SETXATTR);
            view.setUint32(0, value.length, true);
            view.setUint32(4, call.readUInt32LE(CALL.FLAGS), true);
            const bytes = xattrName(call, lane, IN_STRUCT_BYTES.SETXATTR);
            return bytes < 0 ? bytes : this.#lanes.ask(lane, OPCODE.SETXATTR, node, bytes, value);
          },
          value,
        ),
      getxattr: (call, _operation, _path, _name, value: Buffer) =>
        this.#withNode(
          call,
          async (lane, node) => {
            lane.blank(IN_STRUCT_BYTES.GETXATTR).view.setUint32(0, value.length, true);
            const bytes = xattrName(call, lane, IN_STRUCT_BYTES.GETXATTR);
            return bytes < 0 ? bytes : this.#sized(lane, OPCODE.GETXATTR, node, bytes, value);
          },
          value,
        ),
      listxattr: (call, _operation, _path, list: Buffer) =>
        this.#withNode(
          call,
          (lane, node) => {
            lane.blank(IN_STRUCT_BYTES.GETXATTR).view.setUint32(0, list.length, true);
            return this.#sized(lane, OPCODE.LISTXATTR, node, IN_STRUCT_BYTES.GETXATTR, list);
          },
          list,
        ),
      removexattr: (call) =>
        this.#withNode(call, async (lane, node) => {
          const bytes = xattrName(call, lane, 0);
          return bytes < 0 ? bytes : this.#ask(lane, OPCODE.REMOVEXATTR, node, bytes);
        }),
    };
  }

  /** A value or list straight into libfuse's memory; without memory, its size. */
  async #sized(
    lane: Lane,
    opcode: number,
    node: number,
    bytes: number,
    memory: Buffer,
  ): Promise<number> {
    if (memory.length > 0) return this.#lanes.ask(lane, opcode, node, bytes, undefined, memory);
    const result = await this.#ask(lane, opcode, node, bytes);
    return result < 0 ? result : lane.answerView.getUint32(0, true);
  }
}

/** A user or group that chown(2) leaves alone. */
const NOBODY = 0xffff_ffff;

function double(low: number, high: number): number {
  return high * 0x1_0000_0000 + low;
}

/** A result of which libfuse wants to know no more than that it went well. */
function done(result: number): number {
  return Math.min(result, 0);
}

/** The answer of WRITE: how many bytes were taken. */
function written(lane: Lane, result: number): number {
  return result < 0 ? result : lane.answerView.getUint32(0, true);
}

/** Gives a call a part of the lane's answer. */
function filled(call: Buffer, what: number, lane: Lane, at: number, bytes: number): number {
  return native().callFill(call, what, lane.answer.subarray(at, at + bytes)) ? 0 : -EIO;
}

/** Writes the name of an xattr to the body; where it ends, or -errno. */
function xattrName(call: Buffer, lane: Lane, at: number): number {
  const name = textOf(call, CALL_TEXT.NAME, lane.path);
  return typeof name === 'number' ? name : lane.text(at, name);
}
