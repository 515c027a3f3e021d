import { REQUEST_BODY_BYTES, request as requestCell } from '../../engine/layout.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import type { Request } from './request.ts';

/** Room for a body: the longest, an xattr's name and value, is far shorter. */
const BODY_ROOM_BYTES = 1 << 20;

/** Reads requests from their slots in shared memory. Threads: the tree worker's own. */
export class RequestReader {
  readonly #memory: SharedMemory;
  /** Bodies that lie in two places are put together here. */
  readonly #large = new Uint8Array(BODY_ROOM_BYTES);
  readonly #request: Request;

  constructor(memory: SharedMemory) {
    this.#memory = memory;
    const body = memory.control.subarray(0, 0);
    this.#request = { slot: 0, opcode: 0, node: 0, uid: 0, gid: 0, pid: 0, body };
  }

  /** The request in a slot; the object is only valid until the next call. */
  read(slot: number): Request {
    const { doubles, words } = this.#memory;
    const base = this.#memory.requestWord(slot, 0);
    const request = this.#request;
    request.slot = slot;
    request.opcode = words[base + (requestCell.OPCODE >>> 2)];
    request.node = doubles[(base + (requestCell.NODE >>> 2)) >>> 1];
    request.uid = words[base + (requestCell.UID >>> 2)];
    request.gid = words[base + (requestCell.GID >>> 2)];
    request.pid = words[base + (requestCell.PID >>> 2)];
    request.body = this.#body(slot, words[base + (requestCell.BODY_LENGTH >>> 2)]);
    return request;
  }

  #body(slot: number, bytes: number): Uint8Array {
    const start = this.#memory.bodyByte(slot);
    const near = Math.min(bytes, REQUEST_BODY_BYTES);
    const body = this.#memory.control.subarray(start, start + near);
    if (near === bytes) return body;
    const frame = this.#memory.words[this.#memory.requestWord(slot, requestCell.FRAME)];
    this.#large.set(body);
    this.#large.set(this.#memory.frameBytes(frame, bytes - near), near);
    return this.#large.subarray(0, bytes);
  }
}
