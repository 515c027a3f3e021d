import { inodeOf, KEY } from '../tree/keys.ts';
import { S_IFDIR, typeOf } from '../tree/mode.ts';
import { checkName } from '../tree/names.ts';
import type { NameRecord } from '../tree/records.ts';
import type { FindingCode } from './finding.ts';
import { type InodeTable, STATE } from './inode-table.ts';
import { type RecordReader, subjectOf } from './reader.ts';

/** Bytes of a key before the hash of the name. */
const HASH_AT = 9;

/** Reads all names and counts, for each inode, those that lead to it. */
export class NameCheck {
  /** Names, those that lead nowhere included. */
  count = 0;
  /** The largest inode number that a name or its directory mentions. */
  largestIno = 0;
  readonly #reader: RecordReader;
  readonly #table: InodeTable;
  /** The directory whose names are being read: its row where it can be used, else −1. */
  #parent = 0;
  #parentRow = -1;

  constructor(reader: RecordReader, table: InodeTable) {
    this.#reader = reader;
    this.#table = table;
  }

  run(): void {
    this.#reader.each(KEY.NAME, (key, sealed) => {
      this.count++;
      this.#enter(inodeOf(key));
      const record = this.#reader.name(key, sealed);
      if (typeof record !== 'string') this.#check(key, record);
      else this.#add('NAME_DAMAGED', `the record of a name in this directory ${record}`, { key });
    });
  }

  #enter(parent: number): void {
    if (parent === this.#parent) return;
    const table = this.#table;
    this.#parent = parent;
    this.largestIno = Math.max(this.largestIno, parent);
    const row = table.find(parent);
    const isUsable =
      row >= 0 &&
      typeOf(table.mode[row]) === S_IFDIR &&
      !table.has(row, STATE.DAMAGED | STATE.ORPHAN);
    this.#parentRow = isUsable ? row : -1;
  }

  #check(key: Uint8Array, record: NameRecord): void {
    this.largestIno = Math.max(this.largestIno, record.ino);
    const isPlaced = this.#reader.isHashOf({ key, at: HASH_AT }, this.#parent, record.name);
    if (!isPlaced || checkName(record.name) !== 0) {
      const what = isPlaced ? 'no name looks like this' : 'it lies where another name belongs';
      this.#add('NAME_INVALID', what, { key, record });
    }
    if (this.#parentRow < 0) {
      const what = `it lies in inode ${this.#parent}, which is no directory that can be used`;
      this.#add('NAME_STRAY', what, { key, record });
      return;
    }
    if (record.type === S_IFDIR) this.#table.subdirectories[this.#parentRow]++;
    const row = this.#table.find(record.ino);
    if (row >= 0) this.#count(row, key, record);
    else this.#add('INODE_MISSING', `inode ${record.ino} is not there`, { key, record });
  }

  #count(row: number, key: Uint8Array, record: NameRecord): void {
    const table = this.#table;
    const above = this.#parentRow;
    table.names[row]++;
    if (table.above[row] < 0) table.above[row] = above;
    if (table.has(row, STATE.DAMAGED)) return;
    const type = typeOf(table.mode[row]);
    if (type !== record.type) {
      this.#add('NAME_TYPE_WRONG', `it says another type than inode ${record.ino}`, {
        key,
        record,
      });
    }
    if (table.namespace[row] !== table.namespace[above]) {
      this.#add('NAMESPACE_WRONG', `inode ${record.ino} belongs to another namespace`, {
        key,
        record,
      });
    }
    if (type !== S_IFDIR) return;
    if (table.names[row] > 1 || table.has(row, STATE.ROOT)) {
      this.#add('DIRECTORY_NAMES', `directory ${record.ino} has a name already`, { key, record });
    } else if (table.parent[row] !== this.#parent) {
      const what = `directory ${record.ino} says that it lies in inode ${table.parent[row]}`;
      this.#add('DIRECTORY_PARENT_WRONG', what, { key, record });
    }
  }

  #add(
    code: FindingCode,
    what: string,
    { key, record }: { key: Uint8Array; record?: NameRecord },
  ): void {
    const place = { parent: this.#parent, name: record?.name };
    this.#reader.findings.add({ code, what, inodes: [], place, subject: subjectOf(key) });
  }
}
