/** Shows, replays or exports the recovery journals of a store that is not mounted. */
import { exportJournals } from '../../engine/journal/export.ts';
import { GateKv } from '../../engine/journal/gate-kv.ts';
import { replayJournals } from '../../engine/journal/replay.ts';
import { showJournals } from '../../engine/journal/show.ts';
import { visitLogged } from '../../engine/journal/logged-changes.ts';
import { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import type { Kv } from '../../engine/kv/kv.ts';
import { LmdbKv } from '../../engine/kv/lmdb-kv.ts';
import { refuseDamaged } from '../../engine/tree-file.ts';
import type { RecoverOutcome, RecoverTask, UpkeepFailure } from '../task.ts';
import { VaultSealer } from '../tree/sealer.ts';
import { withTree } from './tree-file.ts';

/** Does what the task asks for. What is thrown comes back as a sentence. */
export async function recoverJournals(task: RecoverTask): Promise<RecoverOutcome | UpkeepFailure> {
  const { engine, treeFile, journal, action, owner } = task;
  if (action === 'replay') {
    return withTree(task, async (kv, sealer) => ({
      notices: await replayJournals({ engine, kv, sealer, owner, ...journal }),
    }));
  }
  const sealer = new VaultSealer(engine);
  try {
    const lmdb = await LmdbKv.open({ path: treeFile, inspect: refuseDamaged });
    try {
      const source = { engine, kv: readOnly(lmdb, treeFile), sealer, ...journal };
      if (action === 'show') return { journals: showJournals(source) };
      return { exported: exportJournals(source, task.target) };
    } finally {
      await lmdb.close().catch(() => undefined);
    }
  } catch (error) {
    return { failure: error instanceof Error ? error.message : String(error) };
  }
}

/** A tree as its next opening will make it, with what is in its log; nothing is written. */
function readOnly(below: Kv, treeFile: string): Kv {
  const gate = new GateKv(below);
  gate.shut();
  const kv = new BufferedKv(gate);
  kv.transact((transaction) => {
    visitLogged(treeFile, below, (key, value) => {
      if (value === undefined) transaction.remove(key);
      else transaction.put(key, value);
    });
  });
  return kv;
}
