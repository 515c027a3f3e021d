/** Reads the words of the command line: sizes, counts and -o options, each with its range. */
import { InvalidArgumentError } from 'commander';
import { OPEN_FILES_MAX } from '../engine/limits.ts';
import { NAMESPACES_MAX, namespaceNameProblem } from '../engine/namespace-name.ts';

const SIZE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
};

/** An inclusive range; `step` is what a value must be a multiple of. */
export interface Range {
  min: number;
  max: number;
  step?: number;
}

/** 268435456 as 256M: the largest unit that leaves a whole number. */
export function formatSize(bytes: number): string {
  const unit = ['T', 'G', 'M', 'K'].find(
    (name) => bytes > 0 && bytes % (SIZE_UNITS[name] ?? 1) === 0,
  );
  return unit === undefined ? `${bytes}` : `${bytes / (SIZE_UNITS[unit] ?? 1)}${unit}`;
}

/** Bytes for people, such as 4.2 MiB. */
export function formatBytes(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let [value, unit] = [bytes, 0];
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit === 0 ? `${bytes} bytes` : `${value.toFixed(1)} ${units[unit]}`;
}

/** A parser of byte sizes such as 4096, 256M or 1G (powers of 1024, an i or iB after the unit is taken). */
export function sizeIn(range: Range): (text: string) => number {
  return (text) => {
    const match = /^(\d+)([KMGT]?)(?:i?B)?$/i.exec(text.trim());
    const bytes = match
      ? Number(match[1]) * (SIZE_UNITS[(match[2] ?? '').toUpperCase()] ?? 1)
      : NaN;
    if (!Number.isSafeInteger(bytes)) {
      throw new InvalidArgumentError('A size is a whole number with K, M, G or T, such as 256M.');
    }
    if (bytes < range.min || bytes > range.max) {
      throw new InvalidArgumentError(
        `It must be between ${formatSize(range.min)} and ${formatSize(range.max)}.`,
      );
    }
    if (range.step !== undefined && bytes % range.step !== 0) {
      throw new InvalidArgumentError(`It must be a multiple of ${formatSize(range.step)}.`);
    }
    return bytes;
  };
}

const DURATION_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  S: 1,
  M: 60,
  H: 3600,
  D: 86_400,
};
/** A hundred years. */
const DURATION_MAX_SECONDS = 3_155_760_000;

/** Seconds of a duration such as 90, 90s, 10m, 12h or 7d. */
export function durationSeconds(text: string): number {
  const match = /^(\d+)([smhd]?)$/i.exec(text.trim());
  const unit = DURATION_UNITS[(match?.[2] ?? '').toUpperCase()] ?? 1;
  const seconds = match ? Number(match[1]) * unit : NaN;
  if (seconds <= DURATION_MAX_SECONDS) return seconds;
  throw new InvalidArgumentError('A duration is a whole number with s, m, h or d, such as 12h.');
}

/** A parser of whole numbers within a range. */
export function countIn(range: Range): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : NaN;
    if (!(value >= range.min && value <= range.max)) {
      throw new InvalidArgumentError(
        `It must be a whole number from ${range.min} to ${range.max}.`,
      );
    }
    return value;
  };
}

/** Adds a namespace to those of the flags before it; throws for a name that none can have, or that was given. */
export function namespacesWith(name: string, before: readonly string[] | undefined): string[] {
  const problem = namespaceNameProblem(name);
  if (problem !== undefined) {
    throw new InvalidArgumentError(`"${name}" cannot be a namespace: ${problem}.`);
  }
  const names = before ?? [];
  if (names.includes(name)) throw new InvalidArgumentError(`"${name}" is named twice.`);
  if (names.length === NAMESPACES_MAX) {
    throw new InvalidArgumentError(`A mount shows ${NAMESPACES_MAX} namespaces at most.`);
  }
  return [...names, name];
}

/** The options of -o, as the engine takes them: `true` is an option without a value. */
export type MountFlags = Record<string, string | true>;

interface KnownOption {
  says: string;
  check: (value: string | true) => boolean;
  wants: string;
}

const milliseconds =
  (max: number) =>
  (value: string | true): boolean =>
    value !== true && /^\d+$/.test(value) && Number(value) <= max;

/** What -o knows. */
export const MOUNT_OPTIONS: Readonly<Record<string, KnownOption>> = {
  meta_ttl_ms: {
    says: 'how long names and attributes may be stale, in milliseconds (default 5000)',
    check: milliseconds(3_600_000),
    wants: 'milliseconds from 0 to 3600000',
  },
  commit_interval: {
    says: 'commit what is dirty after so many milliseconds (default 5000); 0: only when asked',
    check: (value) =>
      milliseconds(3_600_000)(value) && (Number(value) >= 10 || Number(value) === 0),
    wants: '0, or milliseconds from 10 to 3600000',
  },
  max_open_files: {
    says: `how many files may be open at once (default ${OPEN_FILES_MAX}); more get ENFILE`,
    check: (value) =>
      value !== true &&
      /^\d+$/.test(value) &&
      Number(value) >= 1 &&
      Number(value) <= OPEN_FILES_MAX,
    wants: `a number from 1 to ${OPEN_FILES_MAX}`,
  },
  shared_mmap: {
    says: 'deny or allow writable shared mappings of files (default deny); allow needs Linux 6.6',
    check: (value) => value === 'deny' || value === 'allow',
    wants: 'deny or allow',
  },
  allow_other: {
    says: 'let other users in (needs user_allow_other in /etc/fuse.conf unless root mounts)',
    check: (value) => value === true,
    wants: 'no value',
  },
  fsname: {
    says: 'the name that mount and df show',
    check: (value) => value !== true && /^[\w.:/@+-]{1,128}$/.test(value),
    wants: 'up to 128 letters, digits and . : / @ + - _',
  },
};

/** Adds the options of one -o to those of the ones before it; the last mention of a name wins. */
export function mountFlags(text: string, before: MountFlags): MountFlags {
  const flags: MountFlags = { ...before };
  for (const word of text.split(',')) {
    const cut = word.indexOf('=');
    const name = cut < 0 ? word : word.slice(0, cut);
    const value = cut < 0 ? true : word.slice(cut + 1);
    const option = Object.hasOwn(MOUNT_OPTIONS, name) ? MOUNT_OPTIONS[name] : undefined;
    if (option === undefined) {
      const known = Object.keys(MOUNT_OPTIONS).join(', ');
      throw new InvalidArgumentError(`Unknown option "${name}"; known are ${known}.`);
    }
    if (!option.check(value)) {
      throw new InvalidArgumentError(`${name} wants ${option.wants}.`);
    }
    flags[name] = value;
  }
  return flags;
}

/** The table of -o for a help page. */
export function mountOptionsHelp(): string {
  const rows = Object.entries(MOUNT_OPTIONS).map(
    ([name, option]) => `  ${name.padEnd(16)} ${option.says}`,
  );
  return ['', 'Options of -o:', ...rows].join('\n');
}
