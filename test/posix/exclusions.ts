/**
 * Cases of pjdfstest that are not asked to pass, and why. README.md says of each what a kernel file
 * system does there; the stage fails when it does not name one of these.
 */
export const EXCLUSIONS: ReadonlyMap<string, string> = new Map([
  ['link::link_count_max', 'glibc knows no LINK_MAX for the type that statfs(2) tells of FUSE'],
]);
