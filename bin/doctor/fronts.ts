/** Rows about the fronts: which of them this host and this user can mount with. */
import { accessSync, constants, statSync } from 'node:fs';
import { BINDING_VERSION, loadBinding } from '../../engine/front/fuse-native/binding.ts';
import { failureParts } from '../failure.ts';
import { findProgram } from './find-program.ts';
import { readText } from './read-text.ts';
import { type DoctorRow, okRow } from './row.ts';

/** Why this user cannot mount through a setuid helper of that name; undefined when that works, and for root. */
function helperProblem(name: string): string | undefined {
  if (process.geteuid?.() === 0) return undefined;
  const file = findProgram(name);
  if (file === undefined) return `${name} is not installed`;
  const { uid, mode } = statSync(file);
  return uid === 0 && (mode & 0o4000) !== 0 ? undefined : `${file} is not setuid root`;
}

function deviceProblem(): string | undefined {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return undefined;
  } catch {
    return '/dev/fuse cannot be opened';
  }
}

function kernelRow(): DoctorRow {
  const problem = deviceProblem() ?? helperProblem('fusermount3');
  if (problem === undefined) return okRow('front kernel', 'works: the default, and the fastest');
  return {
    name: 'front kernel',
    state: 'absent',
    detail: problem,
    advice: 'see the rows of /dev/fuse and fusermount3',
  };
}

/** The libfuse 2 that this process has loaded. */
function loadedLibrary(): string {
  const found = /\s(\/\S*libfuse\.so\S*)$/m.exec(readText('/proc/self/maps') ?? '');
  return found?.[1] ?? 'libfuse 2';
}

function fuseNativeRow(): DoctorRow {
  const name = 'front fuse-native';
  try {
    loadBinding();
  } catch (error) {
    const { message } = failureParts(error);
    const advice = 'nothing, where the front kernel works; else npm run setup, and on Debian: ';
    return { name, state: 'absent', detail: message, advice: `${advice}apt-get install libfuse2` };
  }
  const problem = deviceProblem() ?? helperProblem('fusermount');
  if (problem !== undefined) {
    const advice = 'as root: apt-get install fuse3 (or fuse), which brings fusermount';
    return { name, state: 'absent', detail: problem, advice };
  }
  const version = `fuse-native ${BINDING_VERSION} on ${loadedLibrary()}`;
  return okRow(name, `works: ${version}; for hosts without fusermount3`);
}

/** Rows about the fronts. */
export function frontRows(): DoctorRow[] {
  const rows = [kernelRow(), fuseNativeRow()];
  const first = rows[0];
  if (first !== undefined && rows.every((row) => row.state !== 'ok')) first.state = 'fail';
  return rows;
}
