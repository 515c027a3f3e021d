/** What a check of a store can find, and what to do about each of it. */

const RESTORE = 'Remove the file, and restore it from a backup.';
/** Neither removing nor replacing works where the inode cannot be read. */
const BESIDE = 'Restore it from a backup beside the damaged name, which cannot be removed.';
/** A damaged object would be taken for the one that is to be stored. */
const AGAIN =
  'Move its object out of chunks/, then store the same content again, under any name: ' +
  'every file that needs it is whole then.';
const BACKUP = 'Restore the store from a backup if there is one; what is listed is lost otherwise.';
const REPAIR = 'Run fsck with --repair.';
const REPORT = 'Report this: Millrace itself must have written it.';

/** What a finding may be; {@link ADVICE} says what each means. Permanent: programs match these. */
export type FindingCode =
  | 'TREE_PAGE_DAMAGED'
  | 'ROOT_MISSING'
  | 'NAMESPACE_DAMAGED'
  | 'NAMESPACE_LOST'
  | 'NAMESPACE_WRONG'
  | 'INODE_DAMAGED'
  | 'INODE_INVALID'
  | 'INODE_MISSING'
  | 'INODE_UNREACHABLE'
  | 'DIRECTORY_CYCLE'
  | 'DIRECTORY_NAMES'
  | 'DIRECTORY_PARENT_WRONG'
  | 'NAME_DAMAGED'
  | 'NAME_INVALID'
  | 'NAME_STRAY'
  | 'NAME_TYPE_WRONG'
  | 'LINK_COUNT_WRONG'
  | 'ORPHAN_DAMAGED'
  | 'ORPHAN_STRAY'
  | 'ORPHAN_NAMED'
  | 'REGION_DAMAGED'
  | 'REGION_STRAY'
  | 'EXTENT_INVALID'
  | 'CONTENT_MISSING'
  | 'CONTENT_BEHIND_END'
  | 'ALLOCATED_WRONG'
  | 'XATTR_DAMAGED'
  | 'XATTR_STRAY'
  | 'XATTR_MISSING'
  | 'XATTR_COUNT_WRONG'
  | 'COUNTERS_DAMAGED'
  | 'COUNTERS_WRONG'
  | 'KEY_UNKNOWN'
  | 'CHUNK_MISSING'
  | 'CHUNK_LENGTH'
  | 'CHUNK_UNREADABLE'
  | 'CHUNK_DAMAGED';

/** Every code that a finding may carry, with the next step. */
export const ADVICE: Readonly<Record<FindingCode, string>> = {
  /** A page of the tree's file: nobody can mount the store, and what lay there may be missing. */
  TREE_PAGE_DAMAGED:
    'Run fsck with --repair: what can be read becomes a new file, and the damaged one is kept beside it.',
  /** A root directory is gone, and with it the way to all that lay below. */
  ROOT_MISSING: `${REPAIR} What it held keeps its names; who may use it must be set again.`,
  /** The record of a namespace cannot be read, or is not where its name puts it. */
  NAMESPACE_DAMAGED: BACKUP,
  /** A root directory that no namespace leads to. */
  NAMESPACE_LOST: 'Run fsck with --repair: it becomes the namespace lost-NUMBER.',
  /** An inode's namespace is not that of the directory that it lies in. */
  NAMESPACE_WRONG: REPORT,
  /** The record of an inode is not authentic, or cannot be understood. */
  INODE_DAMAGED: BESIDE,
  /** The record of an inode can be read but makes no sense. */
  INODE_INVALID: REPORT,
  /** A name leads to an inode that is not there. */
  INODE_MISSING: BESIDE,
  /** No name leads to an inode that was not deleted. */
  INODE_UNREACHABLE: 'Run fsck with --repair: it gets a name in lost+found.',
  /** Directories that lie in one another. */
  DIRECTORY_CYCLE: REPORT,
  /** A directory has more than one name. */
  DIRECTORY_NAMES: REPORT,
  /** A directory says that it lies in another one than the one with its name. */
  DIRECTORY_PARENT_WRONG: REPAIR,
  /** The record of a name is not authentic, or cannot be understood. */
  NAME_DAMAGED: `What it led to is found as INODE_UNREACHABLE. ${REPAIR}`,
  /** A record of a name lies where another name belongs, or is no name. */
  NAME_INVALID: REPORT,
  /** A name lies in what is no directory that can be used. */
  NAME_STRAY: 'Run fsck with --repair: what it leads to gets a name in lost+found.',
  /** A name says another type than its inode. */
  NAME_TYPE_WRONG: REPORT,
  /** A link count is not the number of names or subdirectories. */
  LINK_COUNT_WRONG: REPAIR,
  /** A mark of a deleted inode cannot be read. */
  ORPHAN_DAMAGED: 'Nothing is lost: the inode is deleted by the next mount.',
  /** A mark of a deleted inode that is not there. */
  ORPHAN_STRAY: REPAIR,
  /** An inode that has names is marked as deleted: the next mount would delete it. */
  ORPHAN_NAMED: 'Run fsck with --repair before the next mount.',
  /** The record of a region is not authentic, or cannot be understood. */
  REGION_DAMAGED: RESTORE,
  /** A region belongs to what is no file, or is not there. */
  REGION_STRAY: BACKUP,
  /** An extent that no file can have. */
  EXTENT_INVALID: RESTORE,
  /** A file holds fewer bytes than it has counted: they are EIO, or zeros where the file has holes. */
  CONTENT_MISSING: RESTORE,
  /** A file holds bytes behind its end. */
  CONTENT_BEHIND_END: REPORT,
  /** A file holds more bytes than it has counted. */
  ALLOCATED_WRONG: REPAIR,
  /** The record of an extended attribute is not authentic, or cannot be understood. */
  XATTR_DAMAGED: 'Copy the file, remove it, and set the attribute of the copy.',
  /** An extended attribute of an inode that is not there. */
  XATTR_STRAY: BACKUP,
  /** An inode has fewer extended attributes than it counts. */
  XATTR_MISSING: 'Set the attribute again; which one it was, a backup tells.',
  /** An inode has more extended attributes than it counts. */
  XATTR_COUNT_WRONG: REPAIR,
  /** The counters are missing or cannot be read. */
  COUNTERS_DAMAGED: REPAIR,
  /** The counters are not what the inodes say. */
  COUNTERS_WRONG: REPAIR,
  /** A record of no kind that is known. */
  KEY_UNKNOWN: 'Use a version of Millrace that knows it.',
  /** A chunk that files need is not there. */
  CHUNK_MISSING: 'Store the same content again, under any name: it comes back for every file.',
  /** A chunk is shorter or longer than the files that need it say. */
  CHUNK_LENGTH: AGAIN,
  /** The disk refuses to read a chunk. */
  CHUNK_UNREADABLE: `Check the disk. ${AGAIN}`,
  /** A chunk is not what was stored. */
  CHUNK_DAMAGED: AGAIN,
};

/** Something that is wrong, before its paths are known. */
export interface Finding {
  readonly code: FindingCode;
  /** What is wrong, without the path. */
  readonly what: string;
  /** What it is about: inodes, whose paths are to be told. */
  readonly inodes: readonly number[];
  /** Instead of those: a name in a directory; without bytes one that cannot be read. */
  readonly place?: { readonly parent: number; readonly name: Uint8Array | undefined };
  /** Hexadecimal digits of the record or chunk that it is about; tells two findings apart. */
  readonly subject: string;
}

/** Something that is wrong, as it is told. */
export interface ReportedFinding {
  readonly code: FindingCode;
  /** Paths below the root of the default namespace, or behind the name of another one. */
  readonly paths: readonly string[];
  readonly what: string;
  /** The record or chunk, in hexadecimal digits. */
  readonly subject: string;
  readonly advice: string;
  /** It was found, and then put right. */
  readonly repaired: boolean;
}

/** Findings that are told one by one; the others are counted. */
export const FINDINGS_MAX: 10_000 = 10_000;

/** What was found, in the order in which it was. Memory: 10,000 findings at most. */
export class Findings {
  readonly list: Finding[] = [];
  readonly counts: Map<FindingCode, number> = new Map();
  total = 0;

  add(finding: Finding): void {
    this.total++;
    this.counts.set(finding.code, (this.counts.get(finding.code) ?? 0) + 1);
    if (this.list.length < FINDINGS_MAX) this.list.push(finding);
  }
}

/** What makes a finding of one check the same as one of another. */
export function identityOf({ code, subject, inodes, place }: Finding): string {
  return `${code}:${subject}:${inodes[0] ?? place?.parent ?? 0}`;
}
