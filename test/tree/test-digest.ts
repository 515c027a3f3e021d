import { Buffer } from 'node:buffer';
import { createHmac } from 'node:crypto';
import { setImmediate as immediate } from 'node:timers/promises';
import type { TreeDigest, TreeHasher } from '../../engine/tree/hasher.ts';
import type { Tree } from '../../engine/tree/tree.ts';
import type { ContentChange, Extent } from '../../engine/tree/types.ts';
import { ok } from './fixture.ts';

/** A digest over node:crypto, and the chunks that extents of its trees lie in. */
export class TestDigest implements TreeDigest {
  readonly #chunks = new Map<string, Buffer>();
  /** Contents that had to be read. */
  reads = 0;

  hash(part: Uint8Array): Uint8Array {
    return createHmac('sha256', 'tree').update(part).digest();
  }

  contentId(bytes: Uint8Array, zeros: number): Uint8Array {
    return createHmac('sha256', 'content').update(bytes).update(Buffer.alloc(zeros)).digest();
  }

  async readContentId(
    extents: readonly Extent[],
    start: number,
    length: number,
  ): Promise<Uint8Array> {
    this.reads += 1;
    await immediate();
    const content = Buffer.alloc(length);
    for (const { offset, length: bytes, chunkOffset, id } of extents) {
      const chunk = this.#chunks.get(id.join());
      if (chunk === undefined) throw new Error('there is no such chunk');
      chunk.copy(content, offset - start, chunkOffset, chunkOffset + bytes);
    }
    return this.contentId(content, 0);
  }

  /** Stores a chunk; a change that puts `length` bytes of it, from `from` on, at `offset`. */
  extent(
    offset: number,
    chunk: Buffer,
    from: number = 0,
    length: number = chunk.length - from,
  ): ContentChange {
    const hash = Buffer.from(this.contentId(chunk, 0));
    const id = Uint32Array.from({ length: 8 }, (_, word) => hash.readUInt32LE(word * 4));
    this.#chunks.set(id.join(), chunk);
    const extent = { offset, length, chunkOffset: from, chunkLength: chunk.length, id };
    return { kind: 'extent', extent };
  }
}

/** What a hasher answers, in slices as short as they get. */
export async function answerOf(hasher: TreeHasher, root: number): Promise<string | number> {
  let answer: string | number | undefined;
  hasher.ask(root, (result) => {
    answer = typeof result === 'number' ? result : Buffer.from(result).toString('hex');
  });
  while (answer === undefined) {
    if (!hasher.work(0)) await immediate();
  }
  return answer;
}

/** The hash that a tree has for somebody who has never hashed it before. */
export function freshHash(tree: Tree, digest: TestDigest, root = 1): Promise<string | number> {
  return answerOf(
    tree.newHasher(digest, () => {}),
    root,
  );
}

/** Gives a file this content by changes. */
export function fill(tree: Tree, ino: number, size: number, changes: ContentChange[]): void {
  ok(tree.applyContent(ino, changes, { size, mtime: { seconds: 1, nanoseconds: 0 } }));
}
