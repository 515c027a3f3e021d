/** Runs bin/demo/checkpoint.py: real libraries that save and load a checkpoint in a process of their own. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { ROOT } from '../../bench/places.ts';
import { Failure } from '../failure.ts';

const SCRIPT = `${ROOT}bin/demo/checkpoint.py`;
const VENV_PYTHON = `${ROOT}.setup/venv/bin/python`;
const OUTPUT_BYTES_MAX = 16 * 2 ** 20;

const execute = promisify(execFile);

/** A library that saves checkpoints, and the Python that can import it. */
export interface CheckpointLibrary {
  name: 'safetensors' | 'torch';
  python: string;
  /** Makes the tensors of one library differ from those of the other. */
  seed: number;
}

/** What the script prints of a save or a load. */
export interface CheckpointReport {
  path: string;
  bytes: number;
  seconds: number;
  /** Names of tensors that did not come back as they were saved; only after a load. */
  wrong?: string[];
}

/** safetensors from the environment that setup made, and torch where the system's Python has it. */
export async function checkpointLibraries(): Promise<CheckpointLibrary[]> {
  if (!existsSync(VENV_PYTHON)) {
    throw new Failure({
      message: 'the Python environment of the demo is missing',
      hint: 'bash bin/setup.sh --demo',
    });
  }
  const libraries: CheckpointLibrary[] = [{ name: 'safetensors', python: VENV_PYTHON, seed: 1 }];
  for (const python of ['/usr/bin/python3', 'python3'].filter(
    (p) => !p.startsWith('/') || existsSync(p),
  )) {
    try {
      await execute(python, ['-c', 'import torch, numpy']);
      libraries.push({ name: 'torch', python, seed: 2 });
      break;
    } catch {
      // This Python has no torch.
    }
  }
  return libraries;
}

async function script<T>(library: CheckpointLibrary, words: readonly string[]): Promise<T> {
  const { stdout } = await execute(
    library.python,
    [SCRIPT, ...words, '--library', library.name, '--seed', `${library.seed}`],
    { maxBuffer: OUTPUT_BYTES_MAX },
  );
  return JSON.parse(stdout) as T;
}

/** Saves so many bytes of random tensors into the directory and syncs the file. */
export function saveCheckpoint(
  library: CheckpointLibrary,
  where: { directory: string; bytes: number },
): Promise<CheckpointReport> {
  return script(library, ['save', where.directory, '--bytes', `${where.bytes}`]);
}

/** Loads through the library and compares every tensor; rejects when one differs. */
export function verifyCheckpoint(
  library: CheckpointLibrary,
  where: { directory: string; bytes: number },
): Promise<CheckpointReport> {
  return script(library, ['verify', where.directory, '--bytes', `${where.bytes}`]);
}

/** Slices of the tensors' bytes, 32 bytes each, from the start, middle and end of every tensor. */
export async function tensorSlices(library: CheckpointLibrary, bytes: number): Promise<Buffer[]> {
  const { slices } = await script<{ slices: string[] }>(library, ['sample', '--bytes', `${bytes}`]);
  return slices.map((hex) => Buffer.from(hex, 'hex'));
}
