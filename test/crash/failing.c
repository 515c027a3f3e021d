/*
 * A disk that refuses what a program writes to some of its files, or takes its time: loaded by LD_PRELOAD.
 *
 * Files whose paths begin with MILLRACE_FAILING_PREFIX fail as the file MILLRACE_FAILING_FILE says, which is read anew
 * each time: "write ERRNO N" fails one write or truncation of N, "space ERRNO N" one fallocate, "flush ERRNO N" one
 * fsync or fdatasync; "slow MS N" has one of N of all these calls take so much longer; anything else, nothing. A write
 * that fails has written nothing; a flush that fails has flushed nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *prefix, *control;
static atomic_ulong calls;

__attribute__((constructor)) static void begin(void) {
  prefix = getenv("MILLRACE_FAILING_PREFIX");
  control = getenv("MILLRACE_FAILING_FILE");
}

/* The errno that the control file has for one kind of call, which it may delay; 0: none now. */
static int ordered(const char *kind) {
  char text[64], name[16];
  int number, one_of;
  int file = (int)syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC, 0);
  if (file < 0) return 0;
  ssize_t length = read(file, text, sizeof text - 1);
  close(file);
  if (length <= 0) return 0;
  text[length] = 0;
  if (sscanf(text, "%15s %d %d", name, &number, &one_of) != 3 || one_of <= 0 || number <= 0) return 0;
  int is_slow = strcmp(name, "slow") == 0;
  if (!is_slow && strcmp(name, kind) != 0) return 0;
  if (atomic_fetch_add(&calls, 1) % (unsigned long)one_of != 0) return 0;
  if (is_slow) usleep((useconds_t)number * 1000);
  return is_slow ? 0 : number;
}

/* True, with errno set, when a call on an open file is to fail. */
static int fails(int file, const char *kind) {
  char link_name[64], path[4096];
  if (prefix == NULL || control == NULL) return 0;
  int before = errno;
  snprintf(link_name, sizeof link_name, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link_name, path, sizeof path - 1);
  int error = 0;
  if (length > 0) {
    path[length] = 0;
    if (strncmp(path, prefix, strlen(prefix)) == 0) error = ordered(kind);
  }
  errno = error == 0 ? before : error;
  return error != 0;
}

#define REFUSE(name, kind, result, arguments, number, ...) \
  result name arguments {                                  \
    if (fails(file, kind)) return -1;                      \
    return (result)syscall(number, __VA_ARGS__);           \
  }

REFUSE(write, "write", ssize_t, (int file, const void *from, size_t bytes), SYS_write, file, from, bytes)
REFUSE(pwrite, "write", ssize_t, (int file, const void *from, size_t bytes, off_t at), SYS_pwrite64, file, from, bytes, at)
REFUSE(pwrite64, "write", ssize_t, (int file, const void *from, size_t bytes, off_t at), SYS_pwrite64, file, from, bytes, at)
REFUSE(writev, "write", ssize_t, (int file, const struct iovec *parts, int count), SYS_writev, file, parts, count)
REFUSE(pwritev, "write", ssize_t, (int file, const struct iovec *parts, int count, off_t at), SYS_pwritev, file, parts, count, at, 0)
REFUSE(pwritev64, "write", ssize_t, (int file, const struct iovec *parts, int count, off_t at), SYS_pwritev, file, parts, count, at, 0)
REFUSE(ftruncate, "write", int, (int file, off_t size), SYS_ftruncate, file, size)
REFUSE(ftruncate64, "write", int, (int file, off_t size), SYS_ftruncate, file, size)
REFUSE(fallocate, "space", int, (int file, int mode, off_t at, off_t bytes), SYS_fallocate, file, mode, at, bytes)

/* synced.c may be behind this. */
#define REFUSE_FLUSH(name)                                         \
  int name(int file) {                                             \
    if (fails(file, "flush")) return -1;                           \
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, #name);      \
    return next(file);                                             \
  }

REFUSE_FLUSH(fsync)
REFUSE_FLUSH(fdatasync)
