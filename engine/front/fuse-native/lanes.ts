/**
 * Requests in flight between this thread and the engine: one lane each, with memory for its body and its answer. Nothing
 * here waits and nothing polls: answers and room are announced through the event loop.
 */
import { constants } from 'node:os';
import { IN_STRUCT_BYTES, OPCODE } from '../../fuse-protocol.ts';
import { native } from '../../native.ts';

/** Requests in flight at most; further calls of libfuse wait for a lane, in order. */
const LANES = 64;
/** The longest body without a WRITE's or xattr's bytes: two names, or a name and a link's target. */
const BODY_BYTES = 8192;
/** The longest answer that is not read straight into libfuse's memory: an xattr's size is, a listing is not. */
const ANSWER_BYTES = 65_536;
/** Longest path that is understood. */
const PATH_BYTES = 8192;

/** What native code yields in place of a result: see native/fuse/src/bridge.rs. */
const PENDING = -4096;
const FULL = -4097;

/** One request at a time, and the memory for it. */
export class Lane {
  readonly number: number;
  readonly body: Uint8Array;
  readonly view: DataView;
  readonly answer: Uint8Array;
  readonly answerView: DataView;
  readonly path: Uint8Array;
  readonly secondPath: Uint8Array;
  /** Inodes that the request in flight refers to. */
  readonly held: number[] = [];

  constructor(number: number) {
    this.number = number;
    const memory = new ArrayBuffer(BODY_BYTES + ANSWER_BYTES + 2 * PATH_BYTES);
    this.body = new Uint8Array(memory, 0, BODY_BYTES);
    this.view = new DataView(memory, 0, BODY_BYTES);
    this.answer = new Uint8Array(memory, BODY_BYTES, ANSWER_BYTES);
    this.answerView = new DataView(memory, BODY_BYTES, ANSWER_BYTES);
    this.path = new Uint8Array(memory, BODY_BYTES + ANSWER_BYTES, PATH_BYTES);
    this.secondPath = new Uint8Array(memory, BODY_BYTES + ANSWER_BYTES + PATH_BYTES, PATH_BYTES);
  }

  /** Sets so many bytes of the body to zero. */
  blank(bytes: number): this {
    this.body.fill(0, 0, bytes);
    return this;
  }

  /** Writes a 64-bit number of the body. */
  long(at: number, value: number): this {
    this.view.setUint32(at, value >>> 0, true);
    this.view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
    return this;
  }

  /** Writes bytes and a NUL; where it ends, or -ENAMETOOLONG. */
  text(at: number, bytes: Uint8Array): number {
    const end = at + bytes.length;
    if (end >= BODY_BYTES) return -constants.errno.ENAMETOOLONG;
    this.body.set(bytes, at);
    this.body[end] = 0;
    return end + 1;
  }

  /** Reads a 64-bit number of the answer, exact below 2^53. */
  answerLong(at: number): number {
    const high = this.answerView.getUint32(at + 4, true);
    return high * 0x1_0000_0000 + this.answerView.getUint32(at, true);
  }
}

/** A request that the engine had no room for yet. */
interface Retry {
  readonly lane: Lane;
  readonly opcode: number;
  readonly node: number;
  readonly bytes: number;
  readonly payload: Uint8Array | undefined;
  readonly destination: Uint8Array;
}

/** The lanes of one engine, whose only front this is. */
export class Lanes {
  readonly #engine: number;
  readonly #owner: { uid: number; gid: number };
  readonly #free: Lane[] = [];
  readonly #resolve: (((result: number) => void) | undefined)[] = [];
  readonly #retries: Retry[] = [];
  readonly #completed = new Int32Array(2 * LANES);
  readonly #forgets = new Map<number, number>();
  #failed = false;

  /** Requests are made in the name of `owner`: libfuse's binding does not say who calls. */
  constructor(engine: number, owner: { uid: number; gid: number }) {
    this.#engine = engine;
    this.#owner = owner;
    for (let number = LANES - 1; number >= 0; number--) {
      this.#free.push(new Lane(number));
      this.#resolve.push(undefined);
    }
    native().bridgeStart(
      engine,
      LANES,
      () => this.#onReplies(),
      () => this.#onRoom(),
    );
  }

  /** Whether nothing is answered any more. */
  get hasFailed(): boolean {
    return this.#failed;
  }

  /** A lane, to be given back; undefined when all are in use. */
  take(): Lane | undefined {
    return this.#free.pop();
  }

  give(lane: Lane): void {
    this.#sendForgets(lane);
    this.#free.push(lane);
  }

  /**
   * Sends what the lane's body holds, with `payload` behind it: the bytes of the answer, which lie in `destination`, or
   * -errno. At once where the engine answers at once.
   */
  ask(
    lane: Lane,
    opcode: number,
    node: number,
    bytes: number,
    payload?: Uint8Array,
    destination: Uint8Array = lane.answer,
  ): number | Promise<number> {
    const request: Retry = { lane, opcode, node, bytes, payload, destination };
    // Behind what waits already: requests stay in order.
    const result = this.#retries.length > 0 ? FULL : this.#submit(request);
    if (result > PENDING) return result;
    return new Promise((resolve) => {
      this.#resolve[lane.number] = resolve;
      if (result === FULL) this.#retries.push(request);
    });
  }

  /** Gives look-ups of an inode back, when a lane is at hand. */
  forget(node: number, lookups: number): void {
    this.#forgets.set(node, (this.#forgets.get(node) ?? 0) + lookups);
  }

  /** Answers what is in flight and all that comes with EIO. */
  fail(): void {
    if (this.#failed) return;
    this.#failed = true;
    native().bridgeAbandon(this.#engine);
    this.#retries.length = 0;
    for (let number = 0; number < LANES; number++) this.#settle(number, -constants.errno.EIO);
  }

  #submit(request: Retry): number {
    if (this.#failed) return -constants.errno.EIO;
    const { lane, opcode, node, bytes, payload, destination } = request;
    const order = { opcode, node, ...this.#owner };
    const body = lane.body.subarray(0, bytes);
    return native().bridgeSubmit(this.#engine, lane.number, order, body, payload, destination);
  }

  #settle(number: number, result: number): void {
    const resolve = this.#resolve[number];
    this.#resolve[number] = undefined;
    resolve?.(result);
  }

  #onReplies(): void {
    if (this.#failed) return;
    const count = native().bridgeCompleted(this.#engine, this.#completed);
    for (let i = 0; i < count; i++)
      this.#settle(this.#completed[2 * i], this.#completed[2 * i + 1]);
  }

  #onRoom(): void {
    while (this.#retries.length > 0) {
      const result = this.#submit(this.#retries[0]);
      if (result === FULL) return;
      const lane = this.#retries.shift()?.lane;
      if (lane !== undefined && result !== PENDING) this.#settle(lane.number, result);
    }
  }

  #sendForgets(lane: Lane): void {
    if (this.#failed) return;
    for (const [node, lookups] of this.#forgets) {
      lane.long(0, lookups);
      const { answer } = lane;
      const request = { lane, opcode: OPCODE.FORGET, node, bytes: IN_STRUCT_BYTES.FORGET };
      if (this.#submit({ ...request, payload: undefined, destination: answer }) === FULL) return;
      this.#forgets.delete(node);
    }
  }
}
