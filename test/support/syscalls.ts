/**
 * A process of its own that makes system calls for a test: what Node's fs cannot say, and what must
 * not block Node's threads when a mount stops answering.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { repositoryRoot } from './repository.ts';

/** What a call yielded, or the name of the errno that it failed with. */
export type Outcome = { value: unknown } | { errno: string };

/** Content by recipe: pseudo-random by seed, zeros, a repeated string, or the bytes themselves. */
export type Content =
  | string
  | { seed: number; length: number }
  | { zeros: number }
  | { repeat: string; length: number };

/** One call: the operation of syscalls.py and its arguments. */
export type Request = readonly [operation: string, ...arguments_: unknown[]];

/** How a Syscalls process is started. */
export interface SyscallsOptions {
  /** Milliseconds that one call may take before `onStuck` is called; 60,000 unless given. */
  deadlineMs?: number;
  /** Called once when a call is late; it should make the call fail (abort the mount). */
  onStuck?: () => void;
  /** Run as this user and group, with no further groups; needs root. */
  user?: { uid: number; gid: number };
}

/** Milliseconds between onStuck and the kill of a process that is still stuck. */
const GRACE_MS = 5_000;

interface Waiter {
  resolve: (outcome: Outcome) => void;
  reject: (error: Error) => void;
  timer: NodeJS.Timeout;
  label: string;
}

function pythonPath(): string {
  return existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3';
}

function commandLine(user: SyscallsOptions['user']): string[] {
  const script = join(repositoryRoot(), 'test', 'support', 'syscalls.py');
  const python = [pythonPath(), '-B', script];
  if (user === undefined) return python;
  const identity = ['--reuid', String(user.uid), '--regid', String(user.gid), '--clear-groups'];
  return ['setpriv', ...identity, ...python];
}

/** A process that makes system calls, one after the other, in the order of `call`. */
export class Syscalls {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #waiting: Waiter[] = [];
  readonly #options: SyscallsOptions;
  #ended: string | undefined;

  constructor(options: SyscallsOptions = {}) {
    this.#options = options;
    const [program, ...rest] = commandLine(options.user);
    this.#child = spawn(program as string, rest, { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#answered(line));
    this.#child.stdin.on('error', () => undefined);
    this.#child.on('error', (error) => this.#fail(`it did not start: ${error.message}`));
    this.#child.on('exit', (code, signal) => this.#fail(`it ended with ${signal ?? code}`));
  }

  /** The process that makes the calls. */
  get pid(): number {
    return this.#child.pid as number;
  }

  /**
   * Makes one call and yields its value or errno.
   * Throws when the test itself is at fault, and when the call is late.
   */
  call(...request: Request): Promise<Outcome> {
    const label = JSON.stringify(request).slice(0, 160);
    if (this.#ended !== undefined) return Promise.reject(new Error(`${label}: ${this.#ended}`));
    return new Promise((resolve, reject) => {
      const deadlineMs = this.#options.deadlineMs ?? 60_000;
      const timer = setTimeout(() => this.#late(), deadlineMs);
      this.#waiting.push({ resolve, reject, timer, label });
      this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    });
  }

  /** Makes one call that must succeed and yields its value. */
  async ok(...request: Request): Promise<unknown> {
    const outcome = await this.call(...request);
    if ('value' in outcome) return outcome.value;
    throw new Error(`${JSON.stringify(request).slice(0, 300)} failed with ${outcome.errno}`);
  }

  /** Ends the process; what it holds open is closed by the kernel. */
  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => this.#child.once('exit', () => resolve()));
    const timer = setTimeout(() => {
      this.#options.onStuck?.();
      this.#child.kill('SIGKILL');
    }, GRACE_MS);
    this.#child.stdin.end();
    await ended;
    clearTimeout(timer);
  }

  #answered(line: string): void {
    const waiter = this.#waiting.shift();
    if (waiter === undefined) return;
    clearTimeout(waiter.timer);
    const outcome = JSON.parse(line) as Outcome | { fault: string };
    if ('fault' in outcome) waiter.reject(new Error(`${waiter.label}: ${outcome.fault}`));
    else waiter.resolve(outcome);
  }

  #late(): void {
    const label = this.#waiting[0]?.label ?? 'a call';
    this.#options.onStuck?.();
    this.#fail(`${label} was not answered in time`);
    setTimeout(() => this.#child.kill('SIGKILL'), GRACE_MS).unref();
  }

  #fail(reason: string): void {
    this.#ended ??= reason;
    for (const waiter of this.#waiting.splice(0)) {
      clearTimeout(waiter.timer);
      waiter.reject(new Error(`${waiter.label}: ${reason}`));
    }
  }
}
