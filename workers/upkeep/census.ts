/** Under which keys what is in a store is sealed. */
import type { Kv } from '../../engine/kv/kv.ts';
import { native } from '../../engine/native.ts';
import type { Sealer } from '../../engine/tree/types.ts';
import type { CensusOutcome, CensusTask, UpkeepFailure } from '../task.ts';
import {
  BEHIND_EVERY_KEY,
  RECORDS_PER_REPORT,
  tellRecords,
  walkChunks,
  withTree,
} from './tree-file.ts';

/** Where in a sealed value its epoch stands: a little-endian u32. */
const EPOCH_AT = 1;
/** Keys below are no values of the tree: see engine/kv/buffered-kv.ts. */
const FIRST_KEY = Uint8Array.of(1);

/** Opens every value of a store, and authenticates every chunk, under the key of its epoch. */
export function takeCensus(task: CensusTask): Promise<CensusOutcome | UpkeepFailure> {
  const { engine, port } = task;
  return withTree(task, async (kv, sealer) => {
    let records = 0;
    const counted = countValues(kv, sealer, () => {
      records += 1;
      if (records % RECORDS_PER_REPORT === 0) tellRecords(port, records);
    });
    const all = new (native().AllChunks)(engine);
    const chunks = await walkChunks(port, records, all, all.census(task.threads, task.deep));
    return { chunks, ...counted };
  });
}

function countValues(
  kv: Kv,
  sealer: Sealer,
  onValue: () => void,
): Pick<CensusOutcome, 'values' | 'unopenedValues'> {
  const epochs = new Map<number, number>();
  let unopenedValues = 0;
  kv.read((snapshot) =>
    snapshot.scan(FIRST_KEY, BEHIND_EVERY_KEY, (key, sealed) => {
      onValue();
      if (sealer.open(key, sealed) === undefined) {
        unopenedValues += 1;
        return true;
      }
      const epoch = new DataView(sealed.buffer, sealed.byteOffset).getUint32(EPOCH_AT, true);
      epochs.set(epoch, (epochs.get(epoch) ?? 0) + 1);
      return true;
    }),
  );
  const values = [...epochs].map(([epoch, values]) => ({ epoch, values }));
  return { values: values.sort((a, b) => a.epoch - b.epoch), unopenedValues };
}
