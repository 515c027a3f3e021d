/** What a process of a mount takes of the machine, and whether that has grown. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** At one moment. */
export interface Footprint {
  /** Resident memory in MiB, the slab included. */
  readonly memoryMib: number;
  /** Open descriptors, but for chunks: of those a bounded cache is kept. */
  readonly descriptors: number;
  /** Open chunks. */
  readonly chunks: number;
  readonly threads: number;
}

/** Memory that a process may take beyond what it took when it was warm, in MiB: heaps are collected when they like. */
const MEMORY_SLACK_MIB = 128;
/** Files that are opened at their first use: the log's two, the anchor's two, and what a mount under way holds. */
const DESCRIPTORS_SLACK = 8;

function numberAt(status: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
}

/** Where each descriptor leads; one that was closed meanwhile is left out. */
function targets(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((name) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${name}`)];
    } catch {
      return [];
    }
  });
}

/** What a process takes now. Only root may look at that of a mount. */
export function footprintOf(pid: number): Footprint {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  const all = targets(pid);
  const chunks = all.filter((target) => /\/chunks\/[0-9a-f]{2}\//.test(target)).length;
  return {
    memoryMib: Math.round(numberAt(status, 'VmRSS') / 1024),
    descriptors: all.length - chunks,
    chunks,
    threads: numberAt(status, 'Threads'),
  };
}

/** What has grown between two moments of one process, in words; undefined when nothing has. */
export function growth(from: Footprint, to: Footprint): string | undefined {
  const memory = to.memoryMib - from.memoryMib;
  const descriptors = to.descriptors - from.descriptors;
  if (memory > MEMORY_SLACK_MIB) return `${memory} MiB of memory`;
  if (descriptors > DESCRIPTORS_SLACK) return `${descriptors} descriptors`;
  return to.threads > from.threads ? `${to.threads - from.threads} threads` : undefined;
}
