/** What became of a recovery journal, for people. */
import type { ReplayNotice } from '../engine/journal/replay.ts';

/** One line, and a second one where there is something to do. */
export function noticeText({ message, hint, file }: ReplayNotice): string {
  const next = hint === '' ? '' : `\n  next: ${hint}`;
  return `${message} (${file})${next}`;
}
