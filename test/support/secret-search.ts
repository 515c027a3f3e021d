import { closeSync, lstatSync, openSync, readdirSync, readSync } from 'node:fs';

const STEP_BYTES = 4 * 1_048_576;

/** A byte string that must be nowhere, and what to call it when it is found. */
export interface Secret {
  name: string;
  bytes: Buffer;
}

/** A secret as itself and as the texts that programs like to write it in. */
export function spellings(name: string, bytes: Buffer): Secret[] {
  const hex = bytes.toString('hex');
  const base64 = bytes.toString('base64').replace(/=+$/, '');
  return [
    { name, bytes },
    { name: `${name} in hexadecimal`, bytes: Buffer.from(hex) },
    { name: `${name} in upper-case hexadecimal`, bytes: Buffer.from(hex.toUpperCase()) },
    { name: `${name} in base64`, bytes: Buffer.from(base64) },
    { name: `${name} in base64url`, bytes: Buffer.from(bytes.toString('base64url')) },
  ];
}

/** The names of the secrets that the bytes hold. */
export function secretsIn(bytes: Buffer, secrets: readonly Secret[]): string[] {
  return secrets.filter((secret) => bytes.includes(secret.bytes)).map(({ name }) => name);
}

/** The names of the secrets that a file holds, however large it is. */
export function secretsInFile(path: Buffer | string, secrets: readonly Secret[]): Set<string> {
  const found = new Set<string>();
  const overlap = Math.max(...secrets.map(({ bytes }) => bytes.length)) - 1;
  const buffer = Buffer.alloc(overlap + STEP_BYTES);
  const file = openSync(path, 'r');
  try {
    for (let kept = 0; ; ) {
      const got = readSync(file, buffer, kept, STEP_BYTES, null);
      if (got === 0) return found;
      const filled = kept + got;
      for (const name of secretsIn(buffer.subarray(0, filled), secrets)) found.add(name);
      kept = Math.min(overlap, filled);
      buffer.copy(buffer, 0, filled - kept, filled);
    }
  } finally {
    closeSync(file);
  }
}

/** Paths below a directory, as bytes: names in a store need not be text. */
function pathsBelow(directory: Buffer): Buffer[] {
  return readdirSync(directory, { encoding: 'buffer' }).flatMap((name) => {
    const path = Buffer.concat([directory, Buffer.from('/'), name]);
    return lstatSync(path).isDirectory() ? [path, ...pathsBelow(path)] : [path];
  });
}

/** What was found where below a directory, in file names and in content; and how much was read. */
export function searchDirectory(
  directory: string,
  secrets: readonly Secret[],
): { found: string[]; files: number; bytes: number } {
  const result = { found: [] as string[], files: 0, bytes: 0 };
  const root = Buffer.from(directory);
  for (const path of pathsBelow(root)) {
    const name = path.subarray(root.length + 1);
    const shown = name.toString('latin1');
    for (const secret of secretsIn(name, secrets)) result.found.push(`${secret}: name ${shown}`);
    const info = lstatSync(path);
    if (!info.isFile()) continue;
    result.files += 1;
    result.bytes += info.size;
    for (const secret of secretsInFile(path, secrets)) result.found.push(`${secret}: in ${shown}`);
  }
  return result;
}
