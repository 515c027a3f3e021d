import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import type { Kv, Snapshot } from '../../engine/kv/kv.ts';
import { LmdbKv } from '../../engine/kv/lmdb-kv.ts';
import { MemoryKv } from '../../engine/kv/memory-kv.ts';
import { openTreeKv } from '../../engine/kv/tree-kv.ts';

/** Opens an engine in a directory of its own. */
const ENGINES: Record<string, (directory: string) => Promise<Kv>> = {
  memory: () => Promise.resolve(new MemoryKv()),
  lmdb: (directory) => LmdbKv.open({ path: join(directory, 'kv.mdb') }),
  'buffered memory': () => Promise.resolve(new BufferedKv(new MemoryKv())),
  'buffered lmdb': async (directory) => {
    return new BufferedKv(await LmdbKv.open({ path: join(directory, 'kv.mdb') }));
  },
  'buffered lmdb with a log': (directory) => openTreeKv(join(directory, 'kv.mdb')),
};

class Abort extends Error {}

type Op = { kind: 'put' | 'remove'; key: Uint8Array; value: Uint8Array };

const keyOf = fc.uint8Array({ minLength: 1, maxLength: 3, max: 5 });
const opOf: fc.Arbitrary<Op> = fc.record({
  kind: fc.constantFrom('put' as const, 'put' as const, 'remove' as const),
  key: keyOf,
  value: fc.uint8Array({ maxLength: 40 }),
});
const batchOf = fc.record({
  ops: fc.array(opOf, { maxLength: 12 }),
  aborts: fc.boolean(),
  nested: fc.boolean(),
  flushes: fc.boolean(),
  from: keyOf,
  to: keyOf,
});

async function withKv(engine: string, body: (kv: Kv) => Promise<void> | void): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-kv-'));
  const kv = await ENGINES[engine](directory);
  try {
    await body(kv);
  } finally {
    await kv.close();
    await rm(directory, { recursive: true });
  }
}

function contents(snapshot: Snapshot, from: Uint8Array, to: Uint8Array): [string, string][] {
  const found: [string, string][] = [];
  snapshot.scan(from, to, (key, value) => {
    found.push([Buffer.from(key).toString('hex'), Buffer.from(value).toString('hex')]);
    return true;
  });
  return found;
}

function expected(
  oracle: Map<string, string>,
  from: Uint8Array,
  to: Uint8Array,
): [string, string][] {
  const [low, high] = [Buffer.from(from).toString('hex'), Buffer.from(to).toString('hex')];
  return [...oracle]
    .filter(([key]) => key >= low && key < high)
    .sort(([a], [b]) => (a < b ? -1 : 1));
}

const FIRST = Uint8Array.of(0);
const LAST = Uint8Array.of(255);

for (const engine of Object.keys(ENGINES)) {
  test(`${engine}: agrees with a map, whatever is committed or thrown away`, async () => {
    await withKv(engine, (kv) => {
      let oracle = new Map<string, string>();
      const batch = fc.property(batchOf, ({ ops, aborts, nested, flushes, from, to }) => {
        const next = new Map(oracle);
        const run = (): void => {
          kv.transact((transaction) => {
            for (const { kind, key, value } of ops) {
              const hex = Buffer.from(key).toString('hex');
              if (kind === 'put') transaction.put(key, value);
              else transaction.remove(key);
              if (kind === 'put') next.set(hex, Buffer.from(value).toString('hex'));
              else next.delete(hex);
              const read = transaction.get(key);
              assert.equal(read && Buffer.from(read).toString('hex'), next.get(hex));
            }
            assert.deepEqual(contents(transaction, from, to), expected(next, from, to));
            if (aborts) throw new Abort();
          });
        };
        const start = nested ? () => kv.transact(run) : run;
        if (aborts) assert.throws(start, Abort);
        else start();
        if (!aborts) oracle = next;
        if (flushes && kv instanceof BufferedKv) kv.flush();
        kv.read((snapshot) => {
          assert.deepEqual(contents(snapshot, FIRST, LAST), expected(oracle, FIRST, LAST));
        });
      });
      fc.assert(batch, { numRuns: 150 });
    });
  });

  test(`${engine}: a nested body that throws takes the outer one with it`, async () => {
    await withKv(engine, (kv) => {
      const inner = (): void => {
        kv.transact((transaction) => {
          transaction.put(Uint8Array.of(2), Uint8Array.of(2));
          throw new Abort();
        });
      };
      const outer = (): void => {
        kv.transact((transaction) => {
          transaction.put(Uint8Array.of(1), Uint8Array.of(1));
          assert.throws(inner, Abort);
        });
      };
      assert.throws(outer, { code: 'INVARIANT' });
      kv.read((snapshot) => assert.deepEqual(contents(snapshot, FIRST, LAST), []));
    });
  });

  test(`${engine}: scans in byte order across many entries and stops when told`, async () => {
    await withKv(engine, (kv) => {
      const key = Buffer.alloc(4);
      const count = 3000;
      kv.transact((transaction) => {
        for (let i = 0; i < count; i++) {
          key.writeUInt32BE((i * 1009) % count);
          transaction.put(key, key);
        }
      });
      const seen: number[] = [];
      kv.read((snapshot) => {
        snapshot.scan(Uint8Array.of(0, 0, 1, 0), LAST, (found) => {
          seen.push(Buffer.from(found).readUInt32BE());
          return seen.length < 1000;
        });
      });
      assert.deepEqual(
        seen,
        Array.from({ length: 1000 }, (_, i) => 256 + i),
      );
    });
  });

  test(`${engine}: keeps values of any size`, async () => {
    await withKv(engine, (kv) => {
      for (const length of [0, 1, 4096, 65_536, 700_000, 3_000_000]) {
        const value = Buffer.alloc(length, length % 251);
        const same = (found: Uint8Array | undefined): boolean =>
          found !== undefined && value.equals(Buffer.from(found));
        kv.transact((transaction) => {
          transaction.put(FIRST, value);
          assert.ok(same(transaction.get(FIRST)));
        });
        assert.ok(kv.read((snapshot) => same(snapshot.get(FIRST))));
      }
    });
  });

  test(`${engine}: refuses changes outside of a transaction and use after close`, async () => {
    let leaked: { put(key: Uint8Array, value: Uint8Array): void } | undefined;
    let closed: Kv | undefined;
    await withKv(engine, async (kv) => {
      kv.transact((transaction) => {
        leaked = transaction;
      });
      assert.throws(() => leaked?.put(FIRST, FIRST), { code: 'INVARIANT' });
      await kv.sync();
      closed = kv;
    });
    assert.throws(() => closed?.transact(() => 0), { code: 'CLOSED' });
    assert.throws(() => closed?.read(() => 0), { code: 'CLOSED' });
  });
}
