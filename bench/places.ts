/** Where this package's files lie, seen from its compiled code in dist/bench. */
import { fileURLToPath } from 'node:url';

/** The package's root directory. */
export const ROOT: string = fileURLToPath(new URL('../../', import.meta.url));
/** The command line. */
export const MILLRACE: string = `${ROOT}bin/millrace`;
/** The load generator: `npm run setup` compiles it from bench/load/load.c. */
export const LOAD: string = `${ROOT}dist/bench/load/load`;
/** The program that times single operations, of bench/load/constant.c. */
export const CONSTANT: string = `${ROOT}dist/bench/load/constant`;
