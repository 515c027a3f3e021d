/** Where Millrace keeps its things when it is not told: the XDG directories of the user who calls it. */
import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { Failure } from './failure.ts';

function xdg(variable: string, fallback: string): string {
  const value = process.env[variable];
  // The XDG specification has relative paths ignored.
  return value !== undefined && path.isAbsolute(value) ? value : path.join(homedir(), fallback);
}

/** The store: environment first, then the data directory. */
export function defaultStore(): string {
  const named = process.env['MILLRACE_STORE'];
  return named
    ? path.resolve(named)
    : path.join(xdg('XDG_DATA_HOME', '.local/share'), 'millrace/store');
}

/** The key file: environment first, then the configuration directory. */
export function defaultKeyFile(): string {
  const named = process.env['MILLRACE_KEY_FILE'];
  return named ? path.resolve(named) : path.join(xdg('XDG_CONFIG_HOME', '.config'), 'millrace/key');
}

/**
 * The mount point's one name: its parent directory resolved, its last component as given. The mount
 * point itself is not touched, so this works on a mount whose server is dead or stuck.
 */
export function mountPointPath(directory: string): string {
  const full = path.resolve(directory);
  if (full === '/') return full;
  try {
    return path.join(realpathSync(path.dirname(full)), path.basename(full));
  } catch {
    return full;
  }
}

/** A file name for a mount point: readable, and distinct by a hash of the whole path. */
export function mountName(mountPoint: string): string {
  const readable = mountPoint
    .replace(/[^\w.-]+/g, '-')
    .replace(/^-+/, '')
    .slice(-48);
  const digest = createHash('sha256').update(mountPoint).digest('hex').slice(0, 8);
  return `${readable || 'root'}-${digest}`;
}

/** Where recovery journals go: environment first, then the state directory. Each store has one of its own in it. */
export function defaultJournals(): string {
  const named = process.env['MILLRACE_JOURNAL_DIR'];
  return named ? path.resolve(named) : path.join(xdg('XDG_STATE_HOME', '.local/state'), 'millrace');
}

/** The log of a mount that runs in the background; its directory exists afterwards. */
export function logFile(mountPoint: string): string {
  const directory = path.join(xdg('XDG_STATE_HOME', '.local/state'), 'millrace');
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  return path.join(directory, `${mountName(mountPoint)}.log`);
}

/**
 * The directory of the serving records, private to the caller.
 * Throws when somebody else owns it: below /tmp anyone may have made that name first.
 */
export function runDirectory(): string {
  const uid = process.getuid?.() ?? 0;
  const base = process.env['XDG_RUNTIME_DIR'];
  const directory = path.join(base && path.isAbsolute(base) ? base : '/tmp', `millrace-${uid}`);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const stat = lstatSync(directory);
  if (!stat.isDirectory() || stat.uid !== uid || (stat.mode & 0o077) !== 0) {
    throw new Failure({
      message: `${directory} is not a private directory of yours`,
      hint: `remove it, or set XDG_RUNTIME_DIR to a directory that only you can write`,
    });
  }
  return directory;
}
