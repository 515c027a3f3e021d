/** The front under test, and what it cannot do: engine/front/README.md has the same list in words. */
import { loadBinding } from '../../engine/front/fuse-native/binding.ts';
import { FRONTS, type FrontKind } from '../../engine/front/front.ts';

/** What a case may need of its front. */
export type Need =
  | 'nanoseconds'
  | 'one time'
  | 'names of one inode'
  | 'renameat2'
  | 'cookies'
  | 'holes'
  | 'copies'
  | 'what is gone'
  | 'unnamed files'
  | 'birth'
  | 'shared mappings'
  | 'other users'
  | 'front threads';

/** What only some fronts can, and why the others cannot. */
const LACKS: Readonly<Record<FrontKind, Partial<Record<Need, string>>>> = {
  kernel: {},
  'fuse-native': {
    nanoseconds: 'fuse-native passes times in milliseconds',
    'one time': 'libfuse 2 ignores a call that sets one time and leaves the other',
    'names of one inode':
      'libfuse 2 has an inode for each name, whose attributes are remembered apart',
    renameat2: 'libfuse 2 knows no flags of rename',
    cookies: 'libfuse 2 numbers the names of each listing anew',
    holes: 'fuse-native knows no fallocate',
    copies: 'fuse-native knows no copy_file_range: the kernel copies the bytes',
    'what is gone': 'libfuse 2 knows directories, and what is held by O_PATH, by their paths',
    'unnamed files': 'libfuse 2 knows no O_TMPFILE',
    birth: 'libfuse 2 knows no statx',
    'shared mappings':
      'libfuse 2 cannot ask for shared mappings of files that are open for writing',
    'other users': 'fuse-native does not tell who calls: allow_other is refused',
    'front threads': 'over fuse-native the main thread is the front: it dies with the process',
  },
};

/** The front under test: MILLRACE_TEST_FRONT, or the kernel front. */
export function testFront(): FrontKind {
  const wanted = process.env['MILLRACE_TEST_FRONT'] ?? 'kernel';
  const front = FRONTS.find((each) => each === wanted);
  if (front === undefined) throw new Error(`MILLRACE_TEST_FRONT names no front: ${wanted}`);
  return front;
}

/** Why a case cannot run on the front under test; undefined when it can. */
export function frontProblem(need: Need | undefined): string | undefined {
  return need === undefined ? undefined : LACKS[testFront()][need];
}

/** Why no mount can be served over fuse-native here; undefined when one can. */
export function bindingProblem(): string | undefined {
  try {
    loadBinding();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
