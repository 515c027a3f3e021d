import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { ReportedFinding } from '../../engine/check/finding.ts';
import {
  type CommandResult,
  type Mount,
  runMillrace,
  temporaryDirectory,
  withMount,
  writeKey,
} from './mount.ts';

/** A store that is not mounted, and what a check of it says. */
export interface Ground {
  readonly store: string;
  readonly key: string;
  mounted(body: (mount: Mount) => void | Promise<void>): Promise<Mount>;
  fsck(...flags: string[]): Promise<Checked>;
  gc(...flags: string[]): Promise<CommandResult>;
}

/** What `millrace fsck` said. */
export interface Checked {
  readonly status: number;
  readonly findings: ReportedFinding[];
  readonly chunks: { used: number; usedBytes: number; unused: number; unusedBytes: number };
  readonly leftovers: { files: number; bytes: number };
}

/** Runs the body over a store of its own, which is removed in the end. */
export async function onStore(body: (ground: Ground) => Promise<void>): Promise<void> {
  const base = temporaryDirectory('fsck');
  const [store, key] = [join(base, 'store'), join(base, 'key')];
  writeKey(key);
  const upkeep = (command: string, flags: readonly string[]): Promise<CommandResult> =>
    runMillrace([command, '--store', store, '--key-file', key, ...flags]);
  try {
    await body({
      store,
      key,
      mounted: (use) =>
        withMount({ storeDir: store }, async (mount) => {
          await use(mount);
          assert.equal(await mount.umount(), 0, mount.stderr());
          return mount;
        }),
      fsck: async (...flags) => {
        const { status, stdout, stderr } = await upkeep('fsck', [...flags, '--json']);
        assert.notEqual(stdout, '', stderr);
        return { status, ...(JSON.parse(stdout) as Omit<Checked, 'status'>) };
      },
      gc: (...flags) => upkeep('gc', flags),
    });
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
}

/** The id of the chunk that an object holds. */
export function chunkOf(object: string): string {
  return object.slice(-65).replace('/', '');
}
