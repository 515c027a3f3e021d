/** Searches every file of a directory, and the names of the files, for bytes that must not be there. */
import { closeSync, openSync, readdirSync, readSync } from 'node:fs';
import path from 'node:path';

const WINDOW_BYTES = 8 * 2 ** 20;

/** What to look for: a name to report it by, and its bytes. */
export interface Needle {
  name: string;
  bytes: Buffer;
}

/** What was searched, and every find as "needle in file". */
export interface ScanResult {
  files: number;
  bytes: number;
  found: string[];
}

function* filesBelow(directory: string): Generator<string> {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const full = path.join(directory, entry.name);
    if (entry.isDirectory()) yield* filesBelow(full);
    else if (entry.isFile()) yield full;
  }
}

/** Windows overlap by the longest needle, so that none hides on a border. */
function scanFile(file: string, needles: readonly Needle[], window: Buffer): ScanResult {
  const overlap = Math.max(...needles.map(({ bytes }) => bytes.length)) - 1;
  const result: ScanResult = { files: 1, bytes: 0, found: [] };
  const fd = openSync(file, 'r');
  try {
    let kept = 0;
    for (;;) {
      const got = readSync(fd, window, kept, window.length - kept, null);
      if (got === 0) return result;
      result.bytes += got;
      const text = window.subarray(0, kept + got);
      for (const { name, bytes } of needles) {
        if (text.includes(bytes)) result.found.push(`${name} in ${file}`);
      }
      kept = Math.min(overlap, text.length);
      text.copy(window, 0, text.length - kept);
    }
  } finally {
    closeSync(fd);
  }
}

/** Searches the whole directory; takes about a second for each GB. */
export function scanForPlaintext(directory: string, needles: readonly Needle[]): ScanResult {
  const window = Buffer.allocUnsafe(WINDOW_BYTES);
  const total: ScanResult = { files: 0, bytes: 0, found: [] };
  for (const file of filesBelow(directory)) {
    const one = scanFile(file, needles, window);
    total.files += one.files;
    total.bytes += one.bytes;
    total.found.push(...one.found);
    const inName = needles.filter(({ bytes }) => Buffer.from(file).includes(bytes));
    total.found.push(...inName.map(({ name }) => `${name} in the name of ${file}`));
  }
  return total;
}
