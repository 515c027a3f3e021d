/** The tenant's key file: made on first use, checked before every mount, never printed.
 * Whoever opens one is hardened before: no core dump, no other process that looks in. */
import { randomFillSync } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readdirSync,
  readSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { flushDirectorySync, makeDurableDirectory } from '../engine/durable-directory.ts';
import { pass } from '../engine/kill-points.ts';
import { native } from '../engine/native.ts';
import { SUPERBLOCK_FILE } from '../engine/store/superblock.ts';
import { errnoName, Failure } from './failure.ts';

const KEY_BYTES = 32;
const KEY_DIGITS = 2 * KEY_BYTES;
const DIGITS = Buffer.from('0123456789abcdef', 'latin1');
const NEWLINE = 10;

function isDigit(byte: number): boolean {
  const lower = byte | 0x20;
  return (byte >= 48 && byte <= 57) || (lower >= 97 && lower <= 102);
}

function isSpace(byte: number): boolean {
  return byte === 32 || (byte >= 9 && byte <= 13);
}

/** Whether bytes are a key as text. Looks at bytes alone: a string of them could never be wiped again. */
function isKeyText(text: Uint8Array): boolean {
  return (
    text.length >= KEY_DIGITS &&
    text.subarray(0, KEY_DIGITS).every(isDigit) &&
    text.subarray(KEY_DIGITS).every(isSpace)
  );
}

/** A key as text, written to `text` without a string in between: its digits and a newline. */
function writeDigits(key: Uint8Array, text: Uint8Array): void {
  for (let i = 0; i < KEY_BYTES; i++) {
    const byte = key[i] as number;
    text[2 * i] = DIGITS[byte >> 4] as number;
    text[2 * i + 1] = DIGITS[byte & 15] as number;
  }
  text[KEY_DIGITS] = NEWLINE;
}

/** Whether there is a store to lose: a directory with anything in it. */
export function storeExists(store: string): boolean {
  try {
    // A process that was killed as it made the store leaves a superblock that never got its name.
    return readdirSync(store).some((name) => !name.startsWith(`${SUPERBLOCK_FILE}.`));
  } catch (error) {
    if (errnoName(error) === 'ENOENT') return false;
    if (errnoName(error) === 'ENOTDIR') {
      throw new Failure({
        message: `the store ${store} is not a directory`,
        hint: 'name a directory with --store',
      });
    }
    throw new Failure(
      {
        message: `the store ${store} cannot be read (${errnoName(error)})`,
        hint: 'check the permissions of the directory and of those above it',
      },
      error,
    );
  }
}

/**
 * Makes a new key file and makes it durable before it has its name, so that no crash leaves half a key
 * and no two mounts make two. Returns false when somebody else was first.
 */
function createKeyFile(keyFile: string): boolean {
  native().harden();
  const directory = path.dirname(keyFile);
  makeDurableDirectory(directory);
  const fresh = `${keyFile}.new-${process.pid}`;
  const key = Buffer.alloc(KEY_BYTES);
  const text = Buffer.alloc(KEY_DIGITS + 1);
  const fd = openSync(fresh, 'wx', 0o600);
  try {
    randomFillSync(key);
    writeDigits(key, text);
    writeSync(fd, text);
    fsyncSync(fd);
    linkSync(fresh, keyFile);
  } catch (error) {
    if (errnoName(error) === 'EEXIST') return false;
    throw error;
  } finally {
    key.fill(0);
    text.fill(0);
    closeSync(fd);
    unlinkSync(fresh);
  }
  flushDirectorySync(directory);
  return true;
}

/** Throws unless the file is a key that nobody but its owner can read. */
function checkKeyFile(keyFile: string): void {
  native().harden();
  const fd = openSync(keyFile, 'r');
  const text = Buffer.alloc(128);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) {
      throw new Failure({
        message: `the key file ${keyFile} is not a regular file`,
        hint: 'name the right file with --key-file',
      });
    }
    if ((stat.mode & 0o077) !== 0) {
      throw new Failure({
        message: `the key file ${keyFile} can be read by others (mode ${(stat.mode & 0o777).toString(8)})`,
        hint: `chmod 600 ${keyFile}; where others may have read it already, take it for known`,
      });
    }
    const bytes = readSync(fd, text, 0, text.length, 0);
    if (bytes !== stat.size || !isKeyText(text.subarray(0, bytes))) {
      throw new Failure({
        message: `the key file ${keyFile} has the wrong shape: it must be 64 hexadecimal digits and a newline`,
        hint: 'restore it from your backup, or name another file with --key-file',
      });
    }
  } finally {
    text.fill(0);
    closeSync(fd);
  }
}

/** What was thrown, as a failure that names the file. */
function keyFailure(keyFile: string, error: unknown): Failure {
  if (error instanceof Failure) return error;
  return new Failure(
    {
      message: `the key file ${keyFile} cannot be used (${errnoName(error) || String(error)})`,
      hint: 'check the permissions of the file and of its directory',
    },
    error,
  );
}

/** Throws unless there is a sound key file. */
export function requireKeyFile(keyFile: string): void {
  try {
    if (existsSync(keyFile)) return checkKeyFile(keyFile);
  } catch (error) {
    throw keyFailure(keyFile, error);
  }
  throw new Failure({
    message: `there is no key file ${keyFile}`,
    hint: 'restore it from your backup, or name the right file with --key-file',
  });
}

/** Leaves a sound and durable key file behind, new unless it is there. Returns whether it was made now. */
export function makeKeyFile(keyFile: string): { created: boolean } {
  try {
    if (!existsSync(keyFile) && createKeyFile(keyFile)) return { created: true };
    checkKeyFile(keyFile);
    // Whoever made it may not have flushed it.
    const fd = openSync(keyFile, 'r');
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    flushDirectorySync(path.dirname(keyFile));
    return { created: false };
  } catch (error) {
    throw keyFailure(keyFile, error);
  }
}

/**
 * Destroys a key file: overwrites it where it lies, with every name that it has, flushes that, and
 * takes this name away. What the disk or the file system wrote elsewhere before is beyond reach.
 */
export function destroyKeyFile(keyFile: string): void {
  try {
    const fd = openSync(keyFile, 'r+');
    try {
      const zeros = Buffer.alloc(fstatSync(fd).size);
      for (let done = 0; done < zeros.length; ) {
        done += writeSync(fd, zeros, done, zeros.length - done, done);
      }
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    pass('shred-key-overwritten');
    unlinkSync(keyFile);
    flushDirectorySync(path.dirname(keyFile));
  } catch (error) {
    throw keyFailure(keyFile, error);
  }
}

/** Whether a key file is gone, or overwritten by a process that was killed before it took the name away. */
export function isKeyDestroyed(keyFile: string): boolean {
  if (!existsSync(keyFile)) return true;
  native().harden();
  const text = Buffer.alloc(KEY_DIGITS);
  const fd = openSync(keyFile, 'r');
  try {
    const bytes = readSync(fd, text, 0, text.length, 0);
    return bytes === text.length && text.every((byte) => byte === 0);
  } finally {
    text.fill(0);
    closeSync(fd);
  }
}

/**
 * Leaves a sound key file behind. Makes one only where neither key nor store exists yet: a new key
 * cannot open an old store. Returns whether it was made now.
 */
export function ensureKeyFile(options: { keyFile: string; store: string }): { created: boolean } {
  const { keyFile, store } = options;
  try {
    if (existsSync(keyFile)) {
      checkKeyFile(keyFile);
      return { created: false };
    }
    if (storeExists(store)) {
      throw new Failure({
        message: `the store ${store} exists, but its key file ${keyFile} does not`,
        hint:
          'restore that file from your backup or name it with --key-file; ' +
          'for a new store give another directory with --store',
      });
    }
    const created = createKeyFile(keyFile);
    if (!created) checkKeyFile(keyFile);
    return { created };
  } catch (error) {
    throw keyFailure(keyFile, error);
  }
}
