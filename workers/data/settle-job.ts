/** Chunks on their way to the store, by the numbers under which movers report them. */
import { REGION_BYTES } from '../../engine/layout.ts';
import type { PieceList } from './pieces.ts';
import type { Region } from './region.ts';

/** What a settle job will have stored, in region offsets. */
export interface Range {
  readonly start: number;
  readonly end: number;
  readonly chunkOffset: number;
}

/** A region that becomes one chunk. */
export const WHOLE_REGION: readonly Range[] = [{ start: 0, end: REGION_BYTES, chunkOffset: 0 }];

/** A chunk on its way to the store. */
export class SettleJob {
  readonly number: number;
  region: Region;
  /** Plaintext bytes of the chunk. */
  bytes = 0;
  /** Discards trim them while the job runs: by another list, because lists are shared. */
  ranges: readonly Range[] = WHOLE_REGION;
  /** What was to be stored did not fit into one job: another one must follow. */
  isCut = false;
  /** Stored content is stored again with what is dirty. */
  joins = false;
  /** Pieces whose frames are sealed in place; they are unreadable until the job is done. */
  inPlace: PieceList | undefined;
  /** Frames of pieces that were dropped while the job may still read them. */
  readonly deferred: number[] = [];
  /** The next job that nobody uses. */
  nextIdle: SettleJob | undefined;
  isRunning = true;

  constructor(number: number, region: Region) {
    this.number = number;
    this.region = region;
  }

  /** Has the job store nothing in the bytes from `start` to `end` of its region. */
  trim(start: number, end: number): void {
    const kept: Range[] = [];
    for (const range of this.ranges) {
      if (range.end <= start || range.start >= end) {
        kept.push(range);
        continue;
      }
      if (range.start < start) kept.push({ ...range, end: start });
      if (range.end > end) {
        const chunkOffset = range.chunkOffset + end - range.start;
        kept.push({ start: end, end: range.end, chunkOffset });
      }
    }
    this.ranges = kept;
  }
}

/** The settle jobs of one worker; there are as many as ever ran at once, and their numbers come again. */
export class SettleJobs {
  readonly #jobs: SettleJob[] = [];
  #idle: SettleJob | undefined;

  /** A job for `region`, which must have none. It has a number, and is to be filled in. */
  begin(region: Region): SettleJob {
    let job = this.#idle;
    if (job === undefined) {
      job = new SettleJob(this.#jobs.length, region);
      this.#jobs.push(job);
    } else {
      this.#idle = job.nextIdle;
      job.nextIdle = undefined;
      job.region = region;
      job.isRunning = true;
    }
    region.job = job;
    return job;
  }

  /** The running job of this number. */
  get(number: number): SettleJob {
    const job = this.#jobs[number];
    if (job === undefined || !job.isRunning) throw new Error(`settle job ${number} is not known`);
    return job;
  }

  /** Lets go of a job that is done; its pieces must have been taken out. */
  end(job: SettleJob): void {
    job.isRunning = false;
    job.ranges = WHOLE_REGION;
    job.isCut = false;
    job.joins = false;
    if (job.deferred.length > 0) job.deferred.length = 0;
    job.nextIdle = this.#idle;
    this.#idle = job;
  }
}
