/** What a namespace may be called. */
import { Buffer } from 'node:buffer';

/** The namespace that every store has. */
export const DEFAULT_NAMESPACE: 'default' = 'default';
/** The hidden directory at the root of each namespace, which no namespace may be called. */
export const CONTROL_DIRECTORY: '.millrace' = '.millrace';
/** Bytes of the longest name, in UTF-8. */
const NAMESPACE_BYTES_MAX = 255;
/** Namespaces that one mount shows at most. */
export const NAMESPACES_MAX: 1024 = 1024;

const RESERVED: readonly string[] = ['.', '..', CONTROL_DIRECTORY];

/** Why a namespace cannot have this name, as the end of a sentence; undefined when it can. */
export function namespaceNameProblem(name: string): string | undefined {
  if (name === '') return 'it is empty';
  if (name.includes('/')) return 'it contains a slash';
  if (name.includes('\0')) return 'it contains a NUL';
  if (RESERVED.includes(name)) return 'it is reserved';
  if (Buffer.byteLength(name) > NAMESPACE_BYTES_MAX) {
    return `it is longer than ${NAMESPACE_BYTES_MAX} bytes`;
  }
  return undefined;
}
