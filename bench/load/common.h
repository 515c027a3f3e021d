/* What the programs of this folder share: time, random numbers, memory, whole reads and writes, percentiles. */
#ifndef MILLRACE_BENCH_COMMON_H
#define MILLRACE_BENCH_COMMON_H

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096

/* Each program says who fails: its own name. */
extern const char *const program;

/* A number that is given as name=number. */
struct setting {
    const char *name;
    uint64_t *value;
};

static inline void fail(const char *format, ...) {
    va_list words;
    va_start(words, format);
    fprintf(stderr, "%s: ", program);
    vfprintf(stderr, format, words);
    fprintf(stderr, "\n");
    va_end(words);
    exit(1);
}

static inline double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

/* splitmix64 */
static inline uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline void *memory(size_t bytes) {
    void *p = NULL;
    if (posix_memalign(&p, BLOCK, bytes)) fail("no memory for %zu bytes", bytes);
    return p;
}

static inline void write_all(int fd, const unsigned char *from, uint64_t bytes, uint64_t offset) {
    while (bytes) {
        ssize_t n = pwrite(fd, from, bytes, offset);
        if (n <= 0) fail("write at %llu: %s", (unsigned long long)offset, n ? strerror(errno) : "nothing taken");
        from += n, bytes -= n, offset += n;
    }
}

static inline void read_all(int fd, unsigned char *to, uint64_t bytes, uint64_t offset) {
    while (bytes) {
        ssize_t n = pread(fd, to, bytes, offset);
        if (n <= 0) fail("read at %llu: %s", (unsigned long long)offset, n ? strerror(errno) : "end of file");
        to += n, bytes -= n, offset += n;
    }
}

static inline int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The sample that a share of 1/100 of `count` sorted ones lies behind. */
static inline uint32_t percentile_99(const uint32_t *sorted, uint64_t count) { return sorted[count - 1 - count / 100]; }

/* Takes name=number words; the first word that is none of them, or NULL. */
static inline const char *read_numbers(const struct setting *known, unsigned known_count, int count, char **words) {
    for (int w = 0; w < count; w++) {
        char *value = strchr(words[w], '='), *end = NULL;
        unsigned found = 0;
        for (unsigned k = 0; value && k < known_count; k++) {
            if (strlen(known[k].name) != (size_t)(value - words[w]) || strncmp(words[w], known[k].name, value - words[w])) continue;
            *known[k].value = strtoull(value + 1, &end, 10);
            found = end && !*end && end != value + 1;
        }
        if (!found) return words[w];
    }
    return NULL;
}

#endif
