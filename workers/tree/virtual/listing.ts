/** Listings of directories that are not in the tree, and their attributes. */
import { IN_STRUCT_BYTES, OPCODE, OUT_STRUCT_BYTES } from '../../../engine/fuse-protocol.ts';
import { S_IFDIR } from '../../../engine/tree/mode.ts';
import type { Attributes, Owner, Time } from '../../../engine/tree/types.ts';
import { type Answer, direntBytes } from '../answer.ts';
import { FAILURE } from '../context.ts';
import { u32, u64 } from '../decode.ts';
import type { Outcome, Request } from '../request.ts';

/** One name of a directory that is not in the tree. */
export interface ListedName {
  readonly name: Uint8Array;
  readonly ino: number;
  readonly type: number;
}

const DOT: Uint8Array = Uint8Array.of(0x2e);
const DOT_DOT: Uint8Array = Uint8Array.of(0x2e, 0x2e);

/** `.`, `..` and the names, all with the cookie that their place gives. */
export function listed(ino: number, names: readonly ListedName[]): ListedName[] {
  const type = S_IFDIR;
  return [{ name: DOT, ino, type }, { name: DOT_DOT, ino, type }, ...names];
}

/** Answers READDIR and READDIRPLUS; the kernel looks up the attributes by itself. */
export function list(
  names: readonly ListedName[],
  request: Request,
  { answer, validity }: { answer: Answer; validity: Time },
): Outcome {
  const { body, opcode } = request;
  if (body.length < IN_STRUCT_BYTES.READ) return FAILURE.EIO;
  const front = opcode === OPCODE.READDIRPLUS ? OUT_STRUCT_BYTES.ENTRY : 0;
  const limit = Math.min(u32(body, 16), answer.room);
  const first = u64(body, 8);
  for (let place = first; place < names.length; place++) {
    const { name, ino, type } = names[place];
    if (answer.length + front + direntBytes(name.length) > limit) {
      return answer.length === 0 ? FAILURE.EINVAL : answer.length;
    }
    if (front > 0) answer.entryAt(answer.reserveEntry(), undefined, validity);
    answer.dirent({ name, ino, type, cookie: place + 1 }, 0);
  }
  return answer.length;
}

/** Attributes of a node that is not in the tree. */
export function virtualAttributes(node: {
  ino: number;
  mode: number;
  nlink: number;
  owner: Owner;
  time: Time;
}): Attributes {
  const { ino, mode, nlink, owner, time } = node;
  const times = { atime: time, mtime: time, ctime: time, btime: time };
  return { ino, mode, nlink, ...owner, rdev: 0, size: 0, allocated: 0, ...times };
}
