/**
 * What one request costs the tree worker, without the kernel and the threads around it: the operations over the real
 * sealer, the collecting Kv and an LMDB file, each turn a transaction, each close a flush.
 *
 * Its directory should be memory: what is measured is code, not a disk.
 */
import { Buffer } from 'node:buffer';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { OPCODE } from '../../engine/fuse-protocol.ts';
import { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import { LmdbKv } from '../../engine/kv/lmdb-kv.ts';
import { INLINE_BYTES, OUT_BYTES } from '../../engine/layout.ts';
import { native } from '../../engine/native.ts';
import { allocateBuffers, SharedMemory } from '../../engine/shared-memory.ts';
import { ROOT_INO, Tree } from '../../engine/tree/tree.ts';
import type { Time } from '../../engine/tree/types.ts';
import { Answer } from '../../workers/tree/answer.ts';
import type { OpenInodes } from '../../workers/tree/open-inodes.ts';
import { Operations, PENDING } from '../../workers/tree/operations.ts';
import { VaultSealer } from '../../workers/tree/sealer.ts';

/** Microseconds of one operation: the median and the mean over all files. */
interface Cost {
  medianMicros: number;
  meanMicros: number;
}

/** Files of one directory that are made before they are removed again. */
const FILES_PER_ROUND = 1000;
/** Rounds whose times do not count: the compiler has not seen everything before. */
const WARM_UP_ROUNDS = 3;
const TTL_MS = 5000;
const REGULAR_CREATE = { flags: 0o101 | 0o1000, mode: 0o644 } as const;
const EPOCH: Time = { seconds: 0, nanoseconds: 0 };

/** An inode that is open while it is written, as far as the operations can tell. */
const OPEN_INODES: OpenInodes = {
  open: () => 0,
  release: () => undefined,
  slotOf: () => -1,
  sizeOf: () => 0,
  unsettledOf: () => 0,
  mtimeOf: () => EPOCH,
  setMtime: () => undefined,
  resize: () => PENDING,
  allocate: () => PENDING,
  copy: () => PENDING,
  unlinked: () => undefined,
  unnamed: () => undefined,
  isLinkable: () => false,
  linked: () => undefined,
  forgotten: () => undefined,
  setPrivileges: () => undefined,
  syncTree: () => PENDING,
};

/** Times of operations by name. */
class Stopwatch {
  readonly #nanoseconds = new Map<string, number[]>();
  isRunning = false;

  measure<T>(name: string, body: () => T): T {
    const start = process.hrtime.bigint();
    const result = body();
    const took = Number(process.hrtime.bigint() - start);
    if (!this.isRunning) return result;
    const times = this.#nanoseconds.get(name) ?? [];
    times.push(took);
    this.#nanoseconds.set(name, times);
    return result;
  }

  costs(): Record<string, Cost> {
    const costs: Record<string, Cost> = {};
    for (const [name, times] of this.#nanoseconds) {
      const sum = times.reduce((total, time) => total + time, 0);
      times.sort((a, b) => a - b);
      const median = times[Math.floor(times.length / 2)];
      costs[name] = { medianMicros: median / 1000, meanMicros: sum / times.length / 1000 };
    }
    return costs;
  }
}

/** The tree worker's operations, fed with requests that no kernel sent. */
class Driver {
  readonly #tree: Tree;
  readonly #kv: BufferedKv;
  readonly #operations: Operations;
  readonly #answer = new Answer(new Uint8Array(OUT_BYTES));
  readonly #content = Buffer.alloc(INLINE_BYTES, 7);
  readonly watch: Stopwatch = new Stopwatch();

  constructor(tree: Tree, kv: BufferedKv) {
    this.#tree = tree;
    this.#kv = kv;
    const statfs = (): never => {
      throw new Error('nobody asks for statistics');
    };
    this.#operations = new Operations({ tree, inodes: OPEN_INODES, ttl: TTL_MS, statfs });
  }

  /** Makes and closes files of 4 KiB in the root, and removes them. */
  round(round: number): void {
    const inodes: number[] = [];
    for (let index = 0; index < FILES_PER_ROUND; index++) {
      inodes.push(this.#make(Buffer.from(`file-${round}-${index}\0`)));
    }
    for (let index = 0; index < FILES_PER_ROUND; index++) {
      const name = Buffer.from(`file-${round}-${index}\0`);
      this.#serve('lookup, found', OPCODE.LOOKUP, ROOT_INO, name);
      this.#serve('getattr', OPCODE.GETATTR, inodes[index], Buffer.alloc(16));
      const xattr = Buffer.concat([Buffer.alloc(8), Buffer.from('security.capability\0')]);
      this.#serve('getxattr, missing', OPCODE.GETXATTR, inodes[index], xattr);
    }
    for (let index = 0; index < FILES_PER_ROUND; index++) {
      const name = Buffer.from(`file-${round}-${index}\0`);
      this.watch.measure('unlink', () => {
        this.#tree.transact(() => this.#handle(OPCODE.UNLINK, ROOT_INO, name));
      });
      if (this.#kv.size >= 512) this.watch.measure('flush of 512', () => this.#kv.flush());
    }
    for (let index = 0; index < FILES_PER_ROUND; index++) {
      this.watch.measure('reclaim', () => this.#tree.reclaim(inodes[index]));
    }
    this.#kv.flush();
  }

  #make(name: Buffer): number {
    this.#serve('lookup, missing', OPCODE.LOOKUP, ROOT_INO, name);
    const body = Buffer.concat([Buffer.alloc(16), name]);
    body.writeUInt32LE(REGULAR_CREATE.flags, 0);
    body.writeUInt32LE(REGULAR_CREATE.mode, 4);
    this.watch.measure('create', () => {
      this.#tree.transact(() => this.#handle(OPCODE.CREATE, ROOT_INO, body));
    });
    const found = this.#tree.lookup(ROOT_INO, name.subarray(0, -1));
    if (typeof found === 'number') throw new Error(`the file was not made: ${found}`);
    const { ino } = found;
    const changes = [{ kind: 'inline', bytes: this.#content }] as const;
    const mtime = { seconds: 1_700_000_000, nanoseconds: 5_000_000 };
    this.watch.measure('content', () => {
      this.#tree.transact(() =>
        this.#tree.applyContent(ino, changes, { size: INLINE_BYTES, mtime }),
      );
    });
    this.watch.measure('flush at close', () => this.#kv.flush());
    return ino;
  }

  #serve(name: string, opcode: number, node: number, body: Uint8Array): void {
    this.watch.measure(name, () => this.#handle(opcode, node, body));
  }

  #handle(opcode: number, node: number, body: Uint8Array): number {
    this.#answer.begin(0, OUT_BYTES);
    const request = { slot: 0, opcode, node, uid: 0, gid: 0, pid: 0, body };
    return this.#operations.handle(request, this.#answer);
  }
}

async function main(): Promise<void> {
  const values = new Command('tree')
    .description('Measures what one request costs the tree worker, without the kernel.')
    .option('--files <n>', 'files that are made and removed', '20000')
    .option('--directory <dir>', 'where; should be memory', '/dev/shm')
    .option('--json', 'prints JSON', false)
    .parse()
    .opts<{ files: string; directory: string; json: boolean }>();
  const directory = mkdtempSync(path.join(values.directory, 'millrace-tree-'));
  const keyFile = path.join(directory, 'key');
  const store = path.join(directory, 'store');
  writeFileSync(keyFile, '0123456789abcdef'.repeat(4), { mode: 0o600 });
  mkdirSync(store);
  const addon = native();
  const size = { frames: 8, dataWorkers: 1 };
  const memory = new SharedMemory(allocateBuffers({ ...size, skip: addon.skip }));
  const parts = { ...size, movers: 1, keyFile, keyRing: undefined, store };
  const engine = addon.open({ ...memory.views(), ...parts }, () => {});
  const kv = new BufferedKv(await LmdbKv.open({ path: path.join(directory, 'data.mdb') }));
  try {
    const tree = new Tree({ kv, sealer: new VaultSealer(engine) });
    tree.format({ uid: 0, gid: 0 });
    const driver = new Driver(tree, kv);
    const rounds = Math.ceil(Number(values.files) / FILES_PER_ROUND);
    for (let round = 0; round < rounds + WARM_UP_ROUNDS; round++) {
      driver.watch.isRunning = round >= WARM_UP_ROUNDS;
      driver.round(round);
      await kv.sync();
    }
    report(driver.watch.costs(), values.json);
  } finally {
    await kv.close();
    addon.stop(engine);
    addon.close(engine);
    rmSync(directory, { recursive: true });
  }
}

function report(costs: Record<string, Cost>, json: boolean): void {
  if (json) {
    console.log(JSON.stringify(costs));
    return;
  }
  for (const [name, { medianMicros, meanMicros }] of Object.entries(costs)) {
    const median = medianMicros.toFixed(1).padStart(8);
    console.log(
      `${name.padEnd(20)} ${median} µs median ${meanMicros.toFixed(1).padStart(8)} µs mean`,
    );
  }
}

await main();
