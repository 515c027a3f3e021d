/** The answers that Rust writes to vectors.json, opened and made again by the second codec. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { blake3 } from '@noble/hashes/blake3.js';
import { repositoryRoot } from '../support/repository.ts';
import { NotAuthentic, openChunk, openValue } from './decoder.ts';
import { sealChunk } from './encoder.ts';
import { Keys } from './keys.ts';
import { FIELDS_BYTES, HEADER_BYTES, SEGMENT_BYTES, TAG_BYTES } from './layout.ts';

interface Vectors {
  kek: string;
  check: string;
  chunks: { plainBytes: number; id: string; object: string }[];
  chunkDigests: { plainBytes: number; id: string; blake3: string }[];
  values: { key: string; plain: string; sealed: string }[];
  names: { ino: string; name: string; hash: string }[];
  /** The same tenant's store after its key was rotated. */
  rotated: {
    kek: string;
    check: string;
    uuid: string;
    epoch: number;
    keyRing: string;
    chunks: { plainBytes: number; id: string; object: string }[];
    values: { key: string; plain: string; sealed: string }[];
    /** Values of either epoch in the first version of their layout. */
    firstValues: { key: string; plain: string; sealed: string }[];
  };
}

const path = join(repositoryRoot(), 'test', 'format', 'vectors.json');
const vectors = JSON.parse(readFileSync(path, 'utf8')) as Vectors;
const hex = (text: string): Buffer => Buffer.from(text, 'hex');
const keys = new Keys(hex(vectors.kek));
const { rotated } = vectors;
const rotatedKeys = new Keys(hex(rotated.kek), rotated);
const strangers = new Keys(Buffer.alloc(32, 0xee));

/** The plaintext of the vectors. */
function plain(bytes: number): Buffer {
  const made = Buffer.alloc(bytes);
  for (let i = 0; i < bytes; i++) made[i] = (i * 31) ^ (i >> 8) ^ (i >> 14);
  return made;
}

/** Calls `body` with every copy of the bytes that differs in one bit of one byte. */
function forEachFlip(bytes: Buffer, body: (changed: Buffer, at: number) => void): void {
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes);
    changed[at] ^= 1 << (at % 8);
    body(changed, at);
  }
}

function chunkOf(plainBytes: number): { id: Buffer; object: Buffer } {
  const vector = vectors.chunks.find((each) => each.plainBytes === plainBytes);
  assert.ok(vector !== undefined, `the vectors have no chunk of ${plainBytes} bytes`);
  return { id: hex(vector.id), object: hex(vector.object) };
}

test('the key check and the hashes of names are derived as written', () => {
  assert.equal(keys.check.toString('hex'), vectors.check);
  assert.ok(vectors.names.length > 0);
  for (const { ino, name, hash } of vectors.names) {
    assert.equal(keys.nameHash(BigInt(ino), hex(name)).toString('hex'), hash, name);
  }
});

test('every chunk object opens to its plaintext', () => {
  assert.ok(vectors.chunks.length > 0);
  for (const { plainBytes, id, object } of vectors.chunks) {
    assert.ok(openChunk(keys, hex(id), hex(object)).equals(plain(plainBytes)), `${plainBytes}`);
  }
});

test('a second writer makes the same objects, byte by byte', () => {
  for (const { plainBytes, id, object } of vectors.chunks) {
    const made = sealChunk(keys, plain(plainBytes));
    assert.equal(made.id.toString('hex'), id);
    assert.equal(made.object.toString('hex'), object);
  }
  assert.ok(vectors.chunkDigests.some(({ plainBytes }) => plainBytes === 4 * 1_048_576));
  for (const { plainBytes, id, blake3: digest } of vectors.chunkDigests) {
    const made = sealChunk(keys, plain(plainBytes));
    assert.equal(made.id.toString('hex'), id);
    assert.equal(Buffer.from(blake3(made.object)).toString('hex'), digest, `${plainBytes}`);
  }
});

test('every changed byte of an object is refused', () => {
  const { id, object } = chunkOf(1000);
  forEachFlip(object, (changed, at) => {
    assert.throws(() => openChunk(keys, id, changed), NotAuthentic, `byte ${at}`);
  });
});

test('an object that is cut, longer, misplaced or under another key is refused', () => {
  const { id, object } = chunkOf(1000);
  for (let length = 0; length < object.length; length++) {
    assert.throws(() => openChunk(keys, id, object.subarray(0, length)), NotAuthentic, `${length}`);
  }
  const longer = Buffer.concat([object, Buffer.of(0)]);
  assert.throws(() => openChunk(keys, id, longer), NotAuthentic);
  assert.throws(() => openChunk(keys, chunkOf(1).id, object), NotAuthentic);
  assert.throws(() => openChunk(strangers, id, object), NotAuthentic);
});

test('a consistent header of another length is refused, for want of its check', () => {
  const { id, object } = chunkOf(1000);
  const shorter = sealChunk(strangers, plain(999)).object.subarray(0, FIELDS_BYTES);
  const forged = Buffer.concat([shorter, object.subarray(FIELDS_BYTES, -1)]);
  assert.throws(() => openChunk(keys, id, forged), /check/);
});

test('segments of one chunk cannot change places', () => {
  const { id, object } = sealChunk(keys, plain(2 * SEGMENT_BYTES));
  const data = object.length - 2 * SEGMENT_BYTES;
  const swapped = Buffer.from(object);
  const swap = (at: number, bytes: number): void => {
    object.copy(swapped, at, at + bytes, at + 2 * bytes);
    object.copy(swapped, at + bytes, at, at + bytes);
  };
  swap(HEADER_BYTES, TAG_BYTES);
  swap(data, SEGMENT_BYTES);
  assert.ok(!swapped.equals(object));
  assert.throws(() => openChunk(keys, id, swapped), /tag/);
});

test('every value opens under its own key, and no other', () => {
  assert.ok(vectors.values.length > 1);
  for (const { key, plain: expected, sealed } of vectors.values) {
    assert.equal(openValue(keys, hex(key), hex(sealed)).toString('hex'), expected);
    assert.throws(() => openValue(strangers, hex(key), hex(sealed)), NotAuthentic);
    for (const other of vectors.values) {
      if (other.key === key) continue;
      assert.throws(() => openValue(keys, hex(other.key), hex(sealed)), NotAuthentic);
    }
  }
});

test('every changed byte of a value is refused, and every cut', () => {
  for (const { key, sealed } of [...vectors.values, ...rotated.firstValues]) {
    forEachFlip(hex(sealed), (changed, at) => {
      assert.throws(() => openValue(rotatedKeys, hex(key), changed), NotAuthentic, `byte ${at}`);
    });
    for (let length = 0; length < sealed.length / 2; length++) {
      const cut = hex(sealed).subarray(0, length);
      assert.throws(() => openValue(rotatedKeys, hex(key), cut), NotAuthentic, `${length} bytes`);
    }
  }
});

test('a rotated key opens the ring, and what both epochs sealed', () => {
  assert.equal(rotatedKeys.check.toString('hex'), rotated.check);
  assert.deepEqual(rotatedKeys.epochs, [1, 2]);
  assert.ok(rotated.chunks.length > 0 && rotated.values.length > 0);
  for (const { plainBytes, id, object } of [...vectors.chunks, ...rotated.chunks]) {
    assert.ok(openChunk(rotatedKeys, hex(id), hex(object)).equals(plain(plainBytes)), object);
  }
  const sealedValues = [...vectors.values, ...rotated.values, ...rotated.firstValues];
  assert.equal(rotated.firstValues.length, 4);
  for (const { key, plain: expected, sealed } of sealedValues) {
    assert.equal(openValue(rotatedKeys, hex(key), hex(sealed)).toString('hex'), expected);
  }
  for (const { ino, name, hash } of vectors.names) {
    assert.equal(rotatedKeys.nameHash(BigInt(ino), hex(name)).toString('hex'), hash, name);
  }
});

test('a rotated key gives the same ids, and seals as the second writer does', () => {
  for (const { plainBytes, id, object } of rotated.chunks) {
    const made = sealChunk(rotatedKeys, plain(plainBytes));
    assert.equal(made.id.toString('hex'), id);
    assert.equal(made.object.toString('hex'), object);
    assert.equal(keys.chunkId(plain(plainBytes)).toString('hex'), id);
  }
});

test('an earlier key opens nothing of a later epoch, and no ring', () => {
  for (const { id, object } of rotated.chunks) {
    assert.throws(() => openChunk(keys, hex(id), hex(object)), NotAuthentic);
    // Nor when the object is passed off as one of the first epoch.
    const forged = hex(object);
    forged.writeUInt32LE(1, 12);
    assert.throws(() => openChunk(keys, hex(id), forged), NotAuthentic);
    assert.throws(() => openChunk(rotatedKeys, hex(id), forged), NotAuthentic);
  }
  for (const { key, sealed } of rotated.values) {
    assert.throws(() => openValue(keys, hex(key), hex(sealed)), NotAuthentic);
    const forged = hex(sealed);
    forged.writeUInt32LE(1, 1);
    assert.throws(() => openValue(rotatedKeys, hex(key), forged), NotAuthentic);
  }
  assert.throws(() => new Keys(hex(vectors.kek), rotated));
  const elsewhere = { ...rotated, uuid: 'ffffffff-4455-4677-8899-aabbccddeeff' };
  assert.throws(() => new Keys(hex(rotated.kek), elsewhere));
  forEachFlip(hex(rotated.keyRing), (changed, at) => {
    const ring = { ...rotated, keyRing: changed.toString('hex') };
    assert.throws(() => new Keys(hex(rotated.kek), ring), `byte ${at}`);
  });
});
