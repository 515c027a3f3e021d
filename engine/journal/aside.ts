import { Buffer } from 'node:buffer';
import { displayName } from '../check/paths.ts';
import { MillraceError } from '../errors.ts';
import type { Kv } from '../kv/kv.ts';
import { ERRNO } from '../tree/errno.ts';
import { isDirectory, S_IFDIR, S_IFREG } from '../tree/mode.ts';
import { ROOT_INO } from '../tree/records.ts';
import { Tree } from '../tree/tree.ts';
import type { ContentChange, Owner, RegionContent, Sealer } from '../tree/types.ts';
import type { Journal } from './journal-reader.ts';
import { type JournaledFile, JournalView } from './journal-view.ts';
import { shortId } from './places.ts';

const LOST_AND_FOUND = Buffer.from('lost+found');
const DIRECTORY_MODE = S_IFDIR | 0o700;
const FILE_MODE = S_IFREG | 0o600;
/** Names that are tried for one file. */
const NAMES_TRIED = 10_000;

/** What content is put aside with. */
export interface AsideTarget {
  readonly kv: Kv;
  readonly sealer: Sealer;
  readonly owner: Owner;
}

/** Where content went. */
export interface Aside {
  /** Directory in the default namespace. */
  readonly directory: string;
  /** Where each file was to be, and its name in that directory. */
  readonly files: readonly { path: string; name: string }[];
}

/**
 * Puts the content of a journal that does not fit into files of their own: what the journal has of
 * a file, at its offsets, and holes for the rest. One transaction; done once for each journal,
 * however often it is called. Throws STORE_IO when the store refuses it.
 */
export function putAside({ kv, sealer, owner }: AsideTarget, journal: Journal): Aside {
  const view = new JournalView(journal, kv, sealer);
  const planned = view.files().filter(({ ranges }) => ranges.length > 0);
  const name = Buffer.from(`journal-${shortId(journal.header.id)}`);
  const directory = `lost+found/${name.toString()}`;
  const tree = new Tree({ kv, sealer });
  tree.format(owner);
  return tree.transact(() => {
    const place = directoryIn(
      tree,
      directoryIn(tree, ROOT_INO, LOST_AND_FOUND, owner).ino,
      name,
      owner,
    );
    const files = planned.map((file) => {
      if (!place.isNew) return { path: file.path, name: '' };
      return { path: file.path, name: putFile(tree, place.ino, { view, file, owner }) };
    });
    return { directory, files };
  });
}

function directoryIn(
  tree: Tree,
  parent: number,
  name: Uint8Array,
  owner: Owner,
): { ino: number; isNew: boolean } {
  const found = tree.lookup(parent, name);
  if (typeof found !== 'number' && isDirectory(found)) return { ino: found.ino, isNew: false };
  const made = tree.mkdir(parent, name, { mode: DIRECTORY_MODE, owner });
  if (typeof made !== 'number') return { ino: made.ino, isNew: true };
  throw cannot(displayName(name), made);
}

/** What follows a name that is taken: the inode's number, which no other file of the journal has. */
function suffixOf({ ino }: JournaledFile, tried: number): Buffer {
  return Buffer.from(tried === 1 ? `~${ino}` : `~${ino}~${tried}`);
}

function putFile(
  tree: Tree,
  directory: number,
  { view, file, owner }: { view: JournalView; file: JournaledFile; owner: Owner },
): string {
  const wanted = file.names.at(-1) ?? Buffer.from(`#${file.ino}`);
  for (let tried = 0; tried < NAMES_TRIED; tried++) {
    const name =
      tried === 0 ? wanted : Buffer.concat([wanted.subarray(0, 220), suffixOf(file, tried)]);
    const made = tree.create(directory, name, { mode: FILE_MODE, owner });
    if (made === ERRNO.EEXIST) continue;
    if (typeof made === 'number') throw cannot(displayName(name), made);
    const changes = view.changedRegions(file.ino).flatMap(({ content }) => changesOf(content));
    const applied = tree.applyContent(made.ino, changes, { size: file.size, mtime: file.mtime });
    if (typeof applied === 'number') throw cannot(displayName(name), applied);
    return displayName(name);
  }
  throw cannot(displayName(wanted), ERRNO.EEXIST);
}

function changesOf(content: RegionContent): ContentChange[] {
  if ('inline' in content) return [{ kind: 'inline', bytes: content.inline }];
  return content.extents.map((extent) => ({ kind: 'extent', extent }));
}

function cannot(name: string, errno: number): MillraceError {
  return new MillraceError('STORE_IO', `content cannot be put aside as ${name} (errno ${errno})`);
}
