import { constants } from 'node:os';

const { errno } = constants;

/** An errno that the tree answers with. */
export type ErrnoName =
  | 'EPERM'
  | 'ENOENT'
  | 'EIO'
  | 'E2BIG'
  | 'EEXIST'
  | 'ENOTDIR'
  | 'EISDIR'
  | 'EINVAL'
  | 'EFBIG'
  | 'ENOSPC'
  | 'EMLINK'
  | 'ERANGE'
  | 'ENAMETOOLONG'
  | 'ENOTEMPTY'
  | 'ENODATA'
  | 'EOPNOTSUPP'
  | 'ENXIO'
  | 'EXDEV'
  | 'EAGAIN';

/** The errnos that the tree answers with, as this machine numbers them. */
export const ERRNO: Readonly<Record<ErrnoName, number>> = {
  EPERM: errno.EPERM,
  ENOENT: errno.ENOENT,
  EIO: errno.EIO,
  E2BIG: errno.E2BIG,
  EEXIST: errno.EEXIST,
  ENOTDIR: errno.ENOTDIR,
  EISDIR: errno.EISDIR,
  EINVAL: errno.EINVAL,
  EFBIG: errno.EFBIG,
  ENOSPC: errno.ENOSPC,
  EMLINK: errno.EMLINK,
  ERANGE: errno.ERANGE,
  ENAMETOOLONG: errno.ENAMETOOLONG,
  ENOTEMPTY: errno.ENOTEMPTY,
  ENODATA: errno.ENODATA,
  EOPNOTSUPP: errno.EOPNOTSUPP,
  ENXIO: errno.ENXIO,
  EXDEV: errno.EXDEV,
  EAGAIN: errno.EAGAIN,
};
