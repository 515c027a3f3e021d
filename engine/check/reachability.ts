import { S_IFDIR, typeOf } from '../tree/mode.ts';
import type { Findings } from './finding.ts';
import { type InodeTable, STATE } from './inode-table.ts';

/** No row of a table. */
const NO_ROW = -1;

const KNOWN = STATE.REACHABLE | STATE.UNREACHABLE;

/**
 * Marks every directory as reachable or not, and reports those that lie in one another. Cost: each
 * directory is passed once. Memory: the depth of the tree.
 */
export function checkReachability(table: InodeTable, findings: Findings): void {
  const way: number[] = [];
  for (let start = 0; start < table.length; start++) {
    if (typeOf(table.mode[start]) !== S_IFDIR) continue;
    let row = start;
    while (row !== NO_ROW && !table.has(row, KNOWN | STATE.ROOT | STATE.ON_THE_WAY)) {
      table.mark(row, STATE.ON_THE_WAY);
      way.push(row);
      row = table.above[row];
    }
    if (row !== NO_ROW && table.has(row, STATE.ON_THE_WAY)) {
      const ino = table.ino[row];
      const what = `directory ${ino} lies in itself: no root directory leads to it`;
      findings.add({ code: 'DIRECTORY_CYCLE', what, inodes: [], subject: `i${ino}` });
    }
    const isReachable = row !== NO_ROW && table.has(row, STATE.ROOT | STATE.REACHABLE);
    const state = isReachable ? STATE.REACHABLE : STATE.UNREACHABLE;
    for (const each of way) {
      table.unmark(each, STATE.ON_THE_WAY);
      table.mark(each, state);
    }
    way.length = 0;
  }
}
