/**
 * The hash of a directory as `.millrace/hash` tells it, from what programs see of the directory and
 * from engine/tree/README.md alone: Node's crypto and @noble/hashes, nothing of this project.
 */
import { execFile } from 'node:child_process';
import { hkdfSync } from 'node:crypto';
import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { blake3 } from '@noble/hashes/blake3.js';

const REGION_BYTES = 4 * 2 ** 20;
const PART = { XATTR: 1, REGION: 2, ENTRY: 3, NODE: 4, TARGET: 5 } as const;

const run = promisify(execFile);

/** Hashes directories under one tenant's key. */
export class TreeHash {
  readonly #tree: Buffer;
  readonly #id: Buffer;

  constructor(kek: Uint8Array) {
    const derive = (info: string): Buffer =>
      Buffer.from(hkdfSync('sha256', kek, 'millrace v1', info, 32));
    this.#tree = derive('millrace v1 tree key');
    this.#id = derive('millrace v1 id key');
  }

  /** 64 hexadecimal digits. */
  async of(directory: string): Promise<string> {
    return (await this.#node(directory)).toString('hex');
  }

  async #node(path: string): Promise<Buffer> {
    const { mode, size, rdev } = await lstat(path);
    const node = Buffer.alloc(81);
    node[0] = PART.NODE;
    node.writeUInt32LE(mode, 1);
    node.writeUInt32LE(rdev, 5);
    this.#sum(await this.#xattrs(path)).copy(node, 17);
    switch (mode & 0o170000) {
      case 0o040000: {
        const entries = await this.#entries(path);
        node.writeBigUInt64LE(BigInt(entries.length), 9);
        this.#sum(entries).copy(node, 49);
        break;
      }
      case 0o120000: {
        const target = await readlink(path, 'buffer');
        node.writeBigUInt64LE(BigInt(target.length), 9);
        this.#hash(Uint8Array.of(PART.TARGET), target).copy(node, 49);
        break;
      }
      case 0o100000:
        node.writeBigUInt64LE(BigInt(size), 9);
        this.#sum(this.#regions(await readFile(path))).copy(node, 49);
        break;
      default:
    }
    return this.#hash(node);
  }

  async #entries(path: string): Promise<Buffer[]> {
    const names = await readdir(path);
    return Promise.all(
      names.map(async (name) =>
        this.#hash(
          Uint8Array.of(PART.ENTRY),
          await this.#node(join(path, name)),
          Buffer.from(name),
        ),
      ),
    );
  }

  #regions(content: Buffer): Buffer[] {
    const regions: Buffer[] = [];
    for (let start = 0; start < content.length; start += REGION_BYTES) {
      const region = content.subarray(start, start + REGION_BYTES);
      const isLast = start + REGION_BYTES >= content.length;
      if (!isLast && region.every((byte) => byte === 0)) continue;
      const part = Buffer.alloc(5);
      part[0] = PART.REGION;
      part.writeUInt32LE(start / REGION_BYTES, 1);
      regions.push(this.#hash(part, blake3(region, { key: this.#id })));
    }
    return regions;
  }

  async #xattrs(path: string): Promise<Buffer[]> {
    const program = [
      'import os, sys, json',
      'p = sys.argv[1]',
      'names = os.listxattr(p, follow_symlinks=False)',
      'print(json.dumps([[n, os.getxattr(p, n, follow_symlinks=False).hex()] for n in names]))',
    ];
    const { stdout } = await run('python3', ['-c', program.join('\n'), path]);
    const found = JSON.parse(stdout) as [name: string, value: string][];
    return found.map(([name, value]) => {
      const bytes = Buffer.from(name);
      const head = Uint8Array.of(PART.XATTR, bytes.length);
      return this.#hash(head, bytes, Buffer.from(value, 'hex'));
    });
  }

  #hash(...parts: Uint8Array[]): Buffer {
    return Buffer.from(blake3(Buffer.concat(parts), { key: this.#tree }));
  }

  #sum(hashes: readonly Buffer[]): Buffer {
    let total = 0n;
    for (const hash of hashes) {
      total += BigInt(`0x${Buffer.from(hash).reverse().toString('hex')}`);
    }
    const digits = (total % 2n ** 256n).toString(16).padStart(64, '0');
    return Buffer.from(digits, 'hex').reverse();
  }
}
