/** What one `millrace mount` was asked to do, after defaults and environment. */
import path from 'node:path';
import type { FrontKind } from '../engine/front/front.ts';
import { DEFAULT_NAMESPACE } from '../engine/namespace-name.ts';
import type { MountFlags } from './flags.ts';
import { formatSize } from './flags.ts';
import { defaultJournals, defaultKeyFile, defaultStore, mountPointPath } from './paths.ts';

/** The flags of `millrace mount` as commander hands them over. */
export interface MountArguments {
  store?: string;
  keyFile?: string;
  journalDir?: string;
  dataWorkers?: number;
  front: FrontKind;
  fuseThreads?: number;
  slab?: number;
  namespace?: string[];
  gcInterval?: number;
  option: MountFlags;
  foreground?: boolean;
  json?: boolean;
  progress?: boolean;
  readyFd?: number;
}

/** A mount with every path absolute; what is undefined is the engine's to choose. */
export interface MountSettings {
  mountPoint: string;
  store: string;
  keyFile: string;
  /** Directory of recovery journals. */
  journals: string;
  dataWorkers: number | undefined;
  front: FrontKind;
  fuseThreads: number | undefined;
  slabBytes: number | undefined;
  /** Namespaces to show; at least one. */
  namespaces: readonly string[];
  /** Seconds between two collections of garbage; 0: only when asked. */
  gcIntervalSeconds: number | undefined;
  options: MountFlags;
}

/** Flags override the environment, the environment overrides the defaults. */
export function mountSettings(directory: string, flags: MountArguments): MountSettings {
  return {
    mountPoint: mountPointPath(directory),
    store: flags.store === undefined ? defaultStore() : path.resolve(flags.store),
    keyFile: flags.keyFile === undefined ? defaultKeyFile() : path.resolve(flags.keyFile),
    journals: flags.journalDir === undefined ? defaultJournals() : path.resolve(flags.journalDir),
    dataWorkers: flags.dataWorkers,
    front: flags.front,
    fuseThreads: flags.fuseThreads,
    slabBytes: flags.slab,
    namespaces: flags.namespace ?? [DEFAULT_NAMESPACE],
    gcIntervalSeconds: flags.gcInterval,
    options: flags.option,
  };
}

/** The command line that asks for the same mount, wherever it is run from. */
export function mountCommandLine(settings: MountSettings): string[] {
  const words = ['mount', '--store', settings.store, '--key-file', settings.keyFile];
  const add = (flag: string, value: string | number | undefined): void => {
    if (value !== undefined) words.push(flag, `${value}`);
  };
  add('--journal-dir', settings.journals);
  add('--data-workers', settings.dataWorkers);
  add('--front', settings.front);
  add('--fuse-threads', settings.fuseThreads);
  add('--slab', settings.slabBytes === undefined ? undefined : formatSize(settings.slabBytes));
  add('--gc-interval', settings.gcIntervalSeconds);
  for (const namespace of settings.namespaces) words.push(`--namespace=${namespace}`);
  for (const [name, value] of Object.entries(settings.options)) {
    words.push('-o', value === true ? name : `${name}=${value}`);
  }
  return words;
}
