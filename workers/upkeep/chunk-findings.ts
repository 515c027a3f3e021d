import { Buffer } from 'node:buffer';
import { type FindingCode, type Findings, FINDINGS_MAX } from '../../engine/check/finding.ts';
import type { RecordReader } from '../../engine/check/reader.ts';
import type { ChunkFlaw, ScrubReport } from '../../engine/native.ts';
import { inodeOf, KEY } from '../../engine/tree/keys.ts';
import type { Extent } from '../../engine/tree/types.ts';

/** Files that are named for one chunk. */
const FILES_MAX = 100;

const CODES: Readonly<Record<ChunkFlaw['flaw'], FindingCode>> = {
  missing: 'CHUNK_MISSING',
  length: 'CHUNK_LENGTH',
  unreadable: 'CHUNK_UNREADABLE',
  damaged: 'CHUNK_DAMAGED',
  epoch: 'CHUNK_DAMAGED',
  'other-content': 'CHUNK_DAMAGED',
};

const SENTENCES: Readonly<Record<ChunkFlaw['flaw'], string>> = {
  missing: 'is not in the store',
  length: 'is shorter or longer than it was',
  unreadable: 'cannot be read',
  damaged: 'is not what was stored: header, tags, padding or ciphertext are damaged',
  epoch: 'says that it is sealed under a key that this store does not have',
  'other-content': 'holds other content than its id says',
};

/** A damaged chunk and the files that need it. */
interface Damaged {
  readonly flaw: ChunkFlaw;
  readonly inodes: Set<number>;
  /** Bytes of files that lie in it. */
  bytes: number;
}

/** Adds a finding for each damaged chunk, with the files that need it: reads all regions once more. */
export function addChunkFindings(
  report: ScrubReport,
  findings: Findings,
  reader: RecordReader,
): void {
  if (report.damaged === 0) return;
  const all = new Map<string, Damaged>();
  for (const flaw of report.named) {
    all.set(nameOf(flaw.id, flaw.plainBytes), { flaw, inodes: new Set(), bytes: 0 });
  }
  reader.each(KEY.REGION, (key, sealed) => {
    const content = reader.region(key, sealed);
    if (typeof content === 'string' || 'inline' in content) return;
    for (const extent of content.extents) {
      const damaged = all.get(nameOf(hexOf(extent), extent.chunkLength));
      if (damaged === undefined) continue;
      damaged.bytes += extent.length;
      if (damaged.inodes.size < FILES_MAX) damaged.inodes.add(inodeOf(key));
    }
  });
  for (const { flaw, inodes, bytes } of all.values()) {
    const reason = flaw.reason === '' ? '' : ` (${flaw.reason})`;
    const what = `chunk ${flaw.id} ${SENTENCES[flaw.flaw]}${reason}: ${bytes} bytes cannot be read`;
    findings.add({ code: CODES[flaw.flaw], what, inodes: [...inodes], subject: flaw.id });
  }
  for (let unnamed = report.damaged - report.named.length; unnamed > 0; unnamed--) {
    const what = `more than ${FINDINGS_MAX} chunks are damaged; this one is not named`;
    findings.add({ code: 'CHUNK_DAMAGED', what, inodes: [], subject: '' });
  }
}

function nameOf(id: string, plainBytes: number): string {
  return `${id}:${plainBytes}`;
}

function hexOf({ id }: Extent): string {
  return Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString('hex');
}
