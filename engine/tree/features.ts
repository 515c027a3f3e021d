import type { Kv } from '../kv/kv.ts';
import { FEATURES_KEY } from './keys.ts';
import { RecordCodec } from './records.ts';
import type { Sealer } from './types.ts';

/**
 * What a tree may need of whoever reads or changes it, beyond what every version knows. A store that
 * uses one says so in its record of features, for good; this version knows none.
 */
const KNOWN: ReadonlySet<string> = new Set<string>();

/**
 * The features that a tree uses and this version does not know: it must be left alone then. Undefined
 * where the record of features cannot be read.
 */
export function unknownFeatures(kv: Kv, sealer: Sealer): string[] | undefined {
  return kv.read((snapshot) => {
    const sealed = snapshot.get(FEATURES_KEY);
    if (sealed === undefined) return [];
    const plain = sealer.open(FEATURES_KEY, sealed);
    const features = plain === undefined ? undefined : new RecordCodec().decodeFeatures(plain);
    return features?.filter((feature) => !KNOWN.has(feature));
  });
}
