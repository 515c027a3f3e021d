/*
 * What a power loss leaves of a directory, recorded as a program works in it: loaded by LD_PRELOAD.
 *
 * An fsync or fdatasync below MILLRACE_SYNCED_ROOT is not passed on; instead what it makes durable is kept in
 * MILLRACE_SYNCED_RECORD: f-INODE has a file's bytes, d-INODE a directory's names, a line each. Everything else is
 * what the disk need not have. The boot id is read from MILLRACE_SYNCED_BOOT.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BOOT_ID "/proc/sys/kernel/random/boot_id"

static const char *root, *record, *boot;

__attribute__((constructor)) static void begin(void) {
  root = getenv("MILLRACE_SYNCED_ROOT");
  record = getenv("MILLRACE_SYNCED_RECORD");
  boot = getenv("MILLRACE_SYNCED_BOOT");
}

static int open_raw(const char *path, int flags, int mode) {
  return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, mode);
}

/* Puts a whole record in place of the one before. */
static int publish(const char *temporary, char kind, ino_t inode) {
  char name[4096];
  snprintf(name, sizeof name, "%s/%c-%lu", record, kind, (unsigned long)inode);
  return rename(temporary, name);
}

static int keep_directory(const char *path, const char *temporary, ino_t inode) {
  DIR *directory = opendir(path);
  FILE *out = fopen(temporary, "we");
  if (directory == NULL || out == NULL) abort();
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    fprintf(out, "%lu %s\n", (unsigned long)entry->d_ino, entry->d_name);
  }
  closedir(directory);
  if (fclose(out) != 0) abort();
  return publish(temporary, 'd', inode);
}

/* A descriptor of its own, so that a file that is open for writing only can be read. */
static int keep_file(const char *path, const char *temporary, ino_t inode) {
  size_t room = 1 << 16;
  char *buffer = malloc(room);
  int from = open_raw(path, O_RDONLY, 0);
  int to = open_raw(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (from < 0 || to < 0 || buffer == NULL) abort();
  for (ssize_t bytes; (bytes = read(from, buffer, room)) != 0;) {
    if (bytes < 0 || write(to, buffer, (size_t)bytes) != bytes) abort();
  }
  free(buffer);
  close(from);
  close(to);
  return publish(temporary, 'f', inode);
}

/*
 * An object is never written again once it was flushed: another name for it is its record. It takes the place of what a
 * removed file with this number has left.
 */
static int keep_object(const char *path, const char *temporary, ino_t inode) {
  if (link(path, temporary) != 0 || publish(temporary, 'f', inode) != 0) abort();
  /* Two names of one file stay both. */
  return unlink(temporary) == 0 || errno == ENOENT ? 0 : -1;
}

/* True: what is open lies below the root, and is recorded. */
static int kept(int file, int *result) {
  char link_name[64], path[4096], temporary[4096];
  struct stat status;
  if (root == NULL || record == NULL) return 0;
  snprintf(link_name, sizeof link_name, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link_name, path, sizeof path - 1);
  if (length < 0 || fstat(file, &status) < 0) return 0;
  path[length] = 0;
  size_t below = strlen(root);
  if (strncmp(path, root, below) != 0 || (path[below] != 0 && path[below] != '/')) return 0;
  snprintf(temporary, sizeof temporary, "%s/t-%ld", record, syscall(SYS_gettid));
  if (S_ISDIR(status.st_mode)) *result = keep_directory(path, temporary, status.st_ino);
  else if (strncmp(path + below, "/tmp/", 5) == 0) *result = keep_object(path, temporary, status.st_ino);
  else *result = keep_file(path, temporary, status.st_ino);
  return 1;
}

int fsync(int file) {
  int result;
  return kept(file, &result) ? result : (int)syscall(SYS_fsync, file);
}

int fdatasync(int file) {
  int result;
  return kept(file, &result) ? result : (int)syscall(SYS_fdatasync, file);
}

static const char *instead(const char *path) {
  return boot != NULL && strcmp(path, BOOT_ID) == 0 ? boot : path;
}

#define OPEN(name)                                                                     \
  int name(const char *path, int flags, ...) {                                         \
    va_list rest;                                                                      \
    va_start(rest, flags);                                                             \
    int mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(rest, int) : 0;          \
    va_end(rest);                                                                      \
    return (int)syscall(SYS_openat, AT_FDCWD, instead(path), flags, mode);             \
  }

OPEN(open)
OPEN(open64)
