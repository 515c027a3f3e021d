import { INLINE_BYTES, REGION_BYTES } from '../layout.ts';
import { isValidExtent } from '../tree/content.ts';
import { inodeOf, KEY, regionOf } from '../tree/keys.ts';
import { S_IFREG, typeOf } from '../tree/mode.ts';
import type { Extent, RegionContent } from '../tree/types.ts';
import { type InodeTable, STATE } from './inode-table.ts';
import { type RecordReader, subjectOf } from './reader.ts';

/** Bytes of a key before the hash of the attribute's name. */
const HASH_AT = 9;
/** Bytes of plaintext of the largest chunk that the format allows. */
const CHUNK_BYTES_MAX = 2 ** 26;

/** What belongs to inodes, and the inodes. */
interface Belongings {
  reader: RecordReader;
  inodes: InodeTable;
}

/** Checks what lies in files, and what files count of it. */
export function checkRegions(
  belongings: Belongings & { onExtent: ((extent: Extent, isOrphan: boolean) => void) | undefined },
): void {
  new RegionCheck(belongings).run();
  checkAllocated(belongings);
}

class RegionCheck {
  readonly #reader: RecordReader;
  readonly #table: InodeTable;
  readonly #onExtent: (extent: Extent, isOrphan: boolean) => void;
  /** The file whose regions are being read, and its row where there is one. */
  #ino = 0;
  #row = -1;

  constructor(
    belongings: Belongings & {
      onExtent: ((extent: Extent, isOrphan: boolean) => void) | undefined;
    },
  ) {
    this.#reader = belongings.reader;
    this.#table = belongings.inodes;
    this.#onExtent = belongings.onExtent ?? ((): void => {});
  }

  run(): void {
    this.#reader.each(KEY.REGION, (key, sealed) => {
      this.#enter(key);
      const region = regionOf(key);
      const content = this.#reader.region(key, sealed);
      if (typeof content !== 'string') {
        this.#check(key, region, content);
        return;
      }
      const from = region * REGION_BYTES;
      const what = `the record of its bytes from ${from} to ${from + REGION_BYTES} ${content}`;
      this.#add('REGION_DAMAGED', what, key);
      if (this.#row >= 0) this.#table.mark(this.#row, STATE.CONTENT_UNKNOWN);
    });
  }

  #enter(key: Uint8Array): void {
    const ino = inodeOf(key);
    if (ino === this.#ino) return;
    this.#ino = ino;
    this.#row = this.#table.find(ino);
    const row = this.#row;
    if (row >= 0 && this.#table.has(row, STATE.DAMAGED)) return;
    if (row >= 0 && typeOf(this.#table.mode[row]) === S_IFREG) return;
    const what = row < 0 ? 'which is not there' : 'which is no file';
    this.#add('REGION_STRAY', `there is content of inode ${ino}, ${what}`, key);
  }

  #check(key: Uint8Array, region: number, content: RegionContent): void {
    const table = this.#table;
    const row = this.#row;
    const isFile = row >= 0 && !table.has(row, STATE.DAMAGED);
    const held = 'inline' in content ? content.inline.length : this.#extents(key, content.extents);
    if (!isFile) return;
    if (held < 0) {
      table.mark(row, STATE.CONTENT_UNKNOWN);
      return;
    }
    table.unaccounted[row] -= held;
    const isInline = 'inline' in content;
    if (isInline && (region !== 0 || held > INLINE_BYTES)) {
      this.#add('EXTENT_INVALID', 'it holds bytes inside of the tree that it cannot', key);
    }
    const last = isInline ? undefined : content.extents.at(-1);
    const end = last === undefined ? held : last.offset + last.length;
    if (end > table.size[row]) {
      const what = `it holds bytes up to ${end}, behind its end at ${table.size[row]}`;
      this.#add('CONTENT_BEHIND_END', what, key);
    }
  }

  /** Bytes that the extents hold; −1 where they are none. */
  #extents(key: Uint8Array, extents: readonly Extent[]): number {
    let held = 0;
    let end = 0;
    for (const extent of extents) {
      const { offset, length, chunkLength } = extent;
      if (!isValidExtent(extent) || offset < end || chunkLength > CHUNK_BYTES_MAX) {
        this.#add('EXTENT_INVALID', `it has an extent at ${offset} that no file can have`, key);
        return -1;
      }
      held += length;
      end = offset + length;
    }
    const isOrphan = this.#row >= 0 && this.#table.has(this.#row, STATE.ORPHAN);
    for (const extent of extents) this.#onExtent(extent, isOrphan);
    return held;
  }

  #add(
    code: 'EXTENT_INVALID' | 'REGION_DAMAGED' | 'REGION_STRAY' | 'CONTENT_BEHIND_END',
    what: string,
    key: Uint8Array,
  ): void {
    const inodes = [this.#ino];
    this.#reader.findings.add({ code, what, inodes, subject: subjectOf(key) });
  }
}

/** Files that count other bytes than they hold. */
function checkAllocated({ reader, inodes: table }: Belongings): void {
  for (let row = 0; row < table.length; row++) {
    const bytes = table.unaccounted[row];
    if (bytes === 0 || table.has(row, STATE.DAMAGED | STATE.CONTENT_UNKNOWN)) continue;
    const ino = table.ino[row];
    const finding = { inodes: [ino], subject: `i${ino}` };
    if (bytes > 0) {
      const what = `${bytes} bytes of its content are missing from the tree: EIO, or zeros where the file has holes`;
      reader.findings.add({ code: 'CONTENT_MISSING', what, ...finding });
    } else {
      const what = `it holds ${-bytes} bytes more than it counts`;
      reader.findings.add({ code: 'ALLOCATED_WRONG', what, ...finding });
    }
  }
}

/** Checks extended attributes, and how many inodes count. */
export function checkAttributes({ reader, inodes: table }: Belongings): void {
  let last = 0;
  let row = -1;
  let counts = false;
  reader.each(KEY.XATTR, (key, sealed) => {
    const ino = inodeOf(key);
    const subject = subjectOf(key);
    const inodes = [ino];
    if (ino !== last) {
      row = table.find(ino);
      // Attributes that an older version did not count are no finding.
      counts = row >= 0 && table.xattrs[row] !== 0;
    }
    if (counts) table.xattrs[row]--;
    if (ino !== last && row < 0) {
      const what = `there are extended attributes of inode ${ino}, which is not there`;
      reader.findings.add({ code: 'XATTR_STRAY', what, inodes, subject });
    }
    last = ino;
    const record = reader.xattr(key, sealed);
    const isRead = typeof record !== 'string';
    if (isRead && reader.isHashOf({ key, at: HASH_AT }, ino, record.name)) return;
    const how = isRead ? 'lies where another one belongs' : record;
    const what = `the record of an extended attribute ${how}`;
    reader.findings.add({ code: 'XATTR_DAMAGED', what, inodes, subject });
  });
  checkCounts(reader, table);
}

/** Inodes that count other attributes than they have. */
function checkCounts(reader: RecordReader, table: InodeTable): void {
  for (let row = 0; row < table.length; row++) {
    const missing = table.xattrs[row];
    if (missing === 0) continue;
    const inodes = [table.ino[row]];
    const subject = `i${table.ino[row]}`;
    if (missing > 0) {
      const what = `${missing} of its extended attributes are missing from the tree`;
      reader.findings.add({ code: 'XATTR_MISSING', what, inodes, subject });
    } else {
      const what = `it has ${-missing} extended attributes more than it counts`;
      reader.findings.add({ code: 'XATTR_COUNT_WRONG', what, inodes, subject });
    }
  }
}
