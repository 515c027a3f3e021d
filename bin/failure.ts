/**
 * What the command line tells when it cannot do what was asked: one sentence, the next step, an exit status.
 * The engine's own errors have the same three parts and are told in the same way.
 */
import { CommanderError } from 'commander';

/** Exit statuses of every command; `journaled` is of mount and umount alone, `repaired` of fsck. */
export const EXIT = { ok: 0, failed: 1, usage: 2, journaled: 3, repaired: 4 } as const;

/** What a failure says and how the command ends. */
export interface FailureParts {
  /** One sentence: what is wrong, with the name of the thing that is wrong. */
  message: string;
  /** What to do next. */
  hint?: string;
  /** Default 1; 2 is for wrong usage. */
  exitStatus?: number;
  /** Of an error of the engine: its permanent code. */
  code?: string;
}

/** A failure of the command itself, before or beside the engine. */
export class Failure extends Error {
  readonly hint: string;
  readonly exitStatus: number;
  readonly code: string;

  constructor(parts: FailureParts, cause?: unknown) {
    super(parts.message, cause === undefined ? undefined : { cause });
    this.name = 'Failure';
    this.hint = parts.hint ?? '';
    this.exitStatus = parts.exitStatus ?? EXIT.failed;
    this.code = parts.code ?? '';
  }
}

/** The parts of anything that was thrown; the stack of what nobody foresaw goes into the hint. */
export function failureParts(thrown: unknown): Required<FailureParts> {
  if (thrown instanceof CommanderError) {
    const message = thrown.message.replace(/^error: /, '');
    const exitStatus = thrown.exitCode === 0 ? EXIT.ok : EXIT.usage;
    return { message, hint: 'see --help', exitStatus, code: '' };
  }
  if (!(thrown instanceof Error)) {
    return { message: String(thrown), hint: '', exitStatus: EXIT.failed, code: '' };
  }
  const { hint, exitStatus, code = '' } = thrown as Partial<Failure>;
  return {
    message: thrown.message,
    hint: hint ?? `this is a fault of Millrace, please report it: ${thrown.stack ?? ''}`,
    exitStatus: exitStatus ?? EXIT.failed,
    // Those of system calls say nothing that the message does not.
    code: hint === undefined ? '' : code,
  };
}

/** The lines that a person reads. */
export function failureText(parts: FailureParts): string {
  const next = parts.hint ? `\n  next: ${parts.hint}` : '';
  const code = parts.code ? ` [${parts.code}]` : '';
  return `millrace: ${parts.message}${code}${next}\n`;
}

/** The errno name of a system call's failure, or '' for anything else. */
export function errnoName(thrown: unknown): string {
  const code = (thrown as NodeJS.ErrnoException | undefined)?.code;
  return typeof code === 'string' ? code : '';
}
