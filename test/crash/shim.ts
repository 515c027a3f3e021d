import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { repositoryRoot } from '../support/repository.ts';

/** Compiles a library of this directory for LD_PRELOAD, with the C compiler; the path of what was made in `directory`. */
export function compileShim(name: 'synced' | 'failing', directory: string): string {
  const [source, shim] = [
    join(repositoryRoot(), 'test', 'crash', `${name}.c`),
    join(directory, `${name}.so`),
  ];
  execFileSync('cc', ['-O2', '-Wall', '-shared', '-fPIC', '-o', shim, source, '-ldl']);
  return shim;
}
