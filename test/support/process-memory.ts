/** The memory of another process, mapping by mapping, as the kernel would or would not dump it. */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { type Secret, secretsIn } from './secret-search.ts';

const STEP_BYTES = 4 * 1_048_576;

/** A stretch of a process' address space that has pages in memory. */
export interface Mapping {
  start: number;
  end: number;
  name: string;
  /** False when madvise(MADV_DONTDUMP) keeps it out of core dumps. */
  dumped: boolean;
}

/** The mappings of a process that can be read and hold anything. Needs root when it is not dumpable. */
export function mappingsOf(pid: number): Mapping[] {
  const text = readFileSync(`/proc/${pid}/smaps`, 'latin1');
  return text.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m).flatMap((entry) => {
    const head = /^([0-9a-f]+)-([0-9a-f]+) (r?)\S+ \S+ \S+ \S+ *(.*)/.exec(entry);
    const flags = /^VmFlags:(.*)$/m.exec(entry)?.[1]?.trim().split(' ') ?? [];
    const empty = /^Rss: +0 kB$/m.test(entry);
    if (head === null || head[3] === '' || empty || head[4] === '[vsyscall]') return [];
    const [start, end] = [head[1], head[2]].map((digits) => Number.parseInt(digits as string, 16));
    const dumped = !flags.includes('dd');
    return [{ start: start as number, end: end as number, name: head[4] as string, dumped }];
  });
}

/** The names of the secrets that the mappings hold, and how many bytes were searched. */
export function secretsInMemory(
  pid: number,
  mappings: readonly Mapping[],
  secrets: readonly Secret[],
): { found: string[]; bytes: number } {
  const found = new Set<string>();
  const overlap = Math.max(...secrets.map(({ bytes }) => bytes.length)) - 1;
  const buffer = Buffer.alloc(STEP_BYTES + overlap);
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  let bytes = 0;
  const search = ({ start, end, name }: Mapping): void => {
    for (let at = start; at < end; at += STEP_BYTES) {
      const length = Math.min(buffer.length, end - at);
      const got = readSync(memory, buffer, 0, length, at);
      bytes += Math.min(got, STEP_BYTES);
      for (const secret of secretsIn(buffer.subarray(0, got), secrets)) {
        found.add(`${secret} in ${name || 'memory without a name'}`);
      }
      if (got < length) return;
    }
  };
  try {
    for (const mapping of mappings) {
      try {
        search(mapping);
      } catch (error) {
        // Memory of a device, or gone in the meantime.
        if (!['EIO', 'EFAULT'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
      }
    }
  } finally {
    closeSync(memory);
  }
  return { found: [...found].sort(), bytes };
}
