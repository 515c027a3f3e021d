/** What a run of one target came to, and where its inputs are kept. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { repositoryRoot } from '../support/repository.ts';

/** One line of the table. */
export interface FuzzRow {
  target: string;
  executions: number;
  seconds: number;
  /** Inputs that were found. */
  found: number;
  /** Coverage as its tool counts it: edges of native code, blocks of ours. */
  coverage: string;
  /** What broke a promise, in a line; undefined when nothing did. */
  failure?: string;
}

/** Inputs of earlier runs on this machine, of one target; made when it is not there. */
export function foundDirectory(target: string): string {
  return made(join(repositoryRoot(), '.setup/fuzz/found', target));
}

/** Inputs that broke something. */
export function crashDirectory(): string {
  return made(join(repositoryRoot(), '.setup/fuzz/crashes'));
}

function made(directory: string): string {
  mkdirSync(directory, { recursive: true });
  return directory;
}

/** Keeps an input in a directory, under a name that follows from its bytes; yields its path. */
export function keep(directory: string, input: Uint8Array, prefix = ''): string {
  const name = prefix + createHash('sha256').update(input).digest('hex').slice(0, 16);
  const path = join(directory, name);
  if (!existsSync(path)) writeFileSync(path, input);
  return path;
}

/** The files of a directory. */
export function inputsOf(directory: string): Buffer[] {
  return readdirSync(directory)
    .sort()
    .map((name) => readFileSync(join(directory, name)));
}

/** What was saved, how to run it again, and where it belongs once it is understood. */
export function crashText(target: string, path: string, corpus: string): string {
  const file = relative(process.cwd(), path);
  return [
    `${target}: broken by ${file}`,
    `  again:    npm run fuzz -- --replay ${file} ${target}`,
    `  when it is mended, keep it: cp ${file} ${corpus}/`,
  ].join('\n');
}

/** The rows as a table for people. */
export function table(rows: readonly FuzzRow[]): string {
  const head = ['target', 'inputs', 'per second', 'new', 'coverage', ''];
  const lines = rows.map((row) => [
    row.target,
    String(row.executions),
    (row.executions / Math.max(row.seconds, 0.001)).toFixed(0),
    String(row.found),
    row.coverage,
    row.failure ?? 'ok',
  ]);
  const widths = head.map((_, column) =>
    Math.max(...[head, ...lines].map((line) => line[column].length)),
  );
  const aligned = (line: readonly string[]): string =>
    line
      .map((word, column) =>
        column === 0 || column > 3 ? word.padEnd(widths[column]) : word.padStart(widths[column]),
      )
      .join('  ')
      .trimEnd();
  return [head, ...lines].map(aligned).join('\n');
}
