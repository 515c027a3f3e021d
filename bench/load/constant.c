/*
 * constant - times single operations where much lies around them, and prints one JSON line.
 *
 *   constant DIR JOB [files=N] [from=N] [size=BYTES] [extents=N] [held=N] [count=N] [seed=N]
 *
 *   fill       names `from` to `files` in DIR by mknod(2)
 *   directory  DIR holds what `fill` left, `files` names: create + 4 KiB + close, stat with a cold dentry, readdir, unlink
 *   sparse     a file of `size` bytes with `extents` written pieces of 512 bytes, spread evenly: pwrite(2) of 4 KiB at
 *              random places, pread(2) of them verified (both O_DIRECT), ftruncate(2) by a block, statx(2) with FORCE_SYNC
 *   held       `held` files are open, each with 4 KiB written: create + 4 KiB + close of others, pwrite(2) to random ones
 *
 * For each operation: median and 99th percentile of single calls, and `whole`, which is the time of all calls, with the one
 * fsync(2) that makes them durable where one can, over their number: what was put off is in there. One thread: what is measured is a
 * latency. `directory` drops the kernel's dentries (drop_caches, root) and so makes every stat a LOOKUP; everything that
 * an operation made is removed before the next job. Exit status: 1 I/O error or wrong bytes, 2 usage.
 */
#define _GNU_SOURCE
#include "common.h"
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define PIECE 512
/* Names made between two looks at the others: few, so that the directory stays as large as it is told to be. */
#define BATCH 100
/* A fill holds at most so many dentries and inodes of the kernel. */
#define FILL_STEP 100000
#define LISTED_MIN 20000
#define LISTING_BYTES 4096
#define SPARE_FILES 64
#define OPERATIONS_MAX 4

const char *const program = "constant";

static uint64_t files = 1000, from_file, size = 1u << 30, extents = 1000, held = 1, count = 2000, seed = 1;
static const char *directory;

/* The times of one operation. */
struct operation {
    const char *name;
    uint32_t *ns;
    uint64_t samples, room;
    /* Seconds of all calls and of making them durable, and the units of work in them. */
    double whole;
    uint64_t units;
};

static struct operation operations[OPERATIONS_MAX];
static unsigned operation_count;

static struct operation *operation(const char *name) {
    struct operation *o = &operations[operation_count++];
    o->name = name;
    return o;
}

/* One call that did `units` of work, such as entries listed; the sample is the time for one of them. */
static void took(struct operation *o, double seconds, uint64_t units) {
    if (o->samples == o->room) {
        o->room = o->room ? o->room * 2 : 1024;
        o->ns = realloc(o->ns, o->room * sizeof *o->ns);
        if (!o->ns) fail("no memory for samples");
    }
    o->ns[o->samples++] = (uint32_t)(seconds * 1e9 / units);
    o->whole += seconds;
    o->units += units;
}

static void print_operations(void) {
    printf("{");
    for (unsigned i = 0; i < operation_count; i++) {
        struct operation *o = &operations[i];
        if (!o->samples) fail("%s was not measured", o->name);
        qsort(o->ns, o->samples, sizeof *o->ns, by_value);
        printf("%s\"%s\":{\"samples\":%llu,\"medianUs\":%.3f,\"p99Us\":%.3f,\"wholeUs\":%.3f}", i ? "," : "", o->name,
            (unsigned long long)o->samples, o->ns[o->samples / 2] / 1e3, percentile_99(o->ns, o->samples) / 1e3, o->whole * 1e6 / o->units);
    }
    printf("}\n");
}

static const char *path_of(const char *kind, uint64_t number) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s-%llu", directory, kind, (unsigned long long)number);
    return path;
}

static int open_path(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0) fail("open %s: %s", path, strerror(errno));
    return fd;
}

static void sync_directory(void) {
    int fd = open_path(directory, O_RDONLY | O_DIRECTORY);
    if (fsync(fd)) fail("fsync %s: %s", directory, strerror(errno));
    close(fd);
}

static void sync_after(struct operation *o, int fd) {
    double start = seconds_now();
    if (fd < 0) sync_directory();
    else if (fsync(fd)) fail("fsync: %s", strerror(errno));
    o->whole += seconds_now() - start;
}

static void remove_path(const char *path) {
    if (unlink(path)) fail("unlink %s: %s", path, strerror(errno));
}

/* Dentries and inodes that nobody uses leave the kernel. */
static void drop_dentries(void) {
    int fd = open_path("/proc/sys/vm/drop_caches", O_WRONLY);
    if (write(fd, "2", 1) != 1) fail("drop_caches: %s", strerror(errno));
    close(fd);
}

/* 4 KiB that only this block of this run holds: random words behind a stamp. */
static const unsigned char *block_of(uint64_t number) {
    static unsigned char *block;
    uint64_t state = seed;
    if (!block) {
        block = memory(BLOCK);
        for (unsigned at = 0; at < BLOCK; at += 8) {
            uint64_t word = next_random(&state);
            memcpy(block + at, &word, 8);
        }
    }
    state = seed ^ (number + 1) * 0x100000001b3u;
    uint64_t stamp = next_random(&state);
    memcpy(block, &stamp, 8);
    memcpy(block + BLOCK - 8, &stamp, 8);
    return block;
}

static void create(struct operation *o, const char *kind, uint64_t number) {
    const char *path = path_of(kind, number);
    const unsigned char *block = block_of(number);
    double start = seconds_now();
    int fd = open_path(path, O_WRONLY | O_CREAT | O_EXCL);
    write_all(fd, block, BLOCK, 0);
    if (close(fd)) fail("close: %s", strerror(errno));
    took(o, seconds_now() - start, 1);
}

static void fill(void) {
    for (uint64_t file = from_file; file < files; file++) {
        const char *path = path_of("file", file);
        double start = seconds_now();
        if (mknod(path, S_IFREG | 0600, 0)) fail("mknod %s: %s", path, strerror(errno));
        took(&operations[0], seconds_now() - start, 1);
        if (file % FILL_STEP == FILL_STEP - 1) drop_dentries();
    }
    sync_after(&operations[0], -1);
    drop_dentries();
}

static void job_fill(void) {
    operation("mknod");
    fill();
    /* What the kernel forgets, it says to the file system behind its back. */
    sleep(1);
}

/* Names that differ within a batch, from all over the directory. */
static void stat_batch(struct operation *o, uint64_t start_file) {
    for (uint64_t i = 0; i < BATCH; i++) {
        struct stat info;
        const char *path = path_of("file", (start_file + i * (files / BATCH)) % files);
        double start = seconds_now();
        if (stat(path, &info)) fail("stat %s: %s", path, strerror(errno));
        took(o, seconds_now() - start, 1);
    }
}

static uint64_t list_part(int fd, struct operation *o) {
    static char *records;
    if (!records) records = memory(LISTING_BYTES);
    double start = seconds_now();
    long bytes = syscall(SYS_getdents64, fd, records, LISTING_BYTES);
    double seconds = seconds_now() - start;
    if (bytes < 0) fail("getdents %s: %s", directory, strerror(errno));
    uint64_t entries = 0;
    for (long at = 0; at < bytes; entries++) {
        uint16_t length;
        memcpy(&length, records + at + 16, sizeof length);
        at += length;
    }
    if (entries) took(o, seconds, entries);
    return entries;
}

static void list(struct operation *o) {
    for (uint64_t all = 0; all < LISTED_MIN;) {
        uint64_t entries = 0;
        drop_dentries();
        int fd = open_path(directory, O_RDONLY | O_DIRECTORY);
        for (uint64_t part = 1; part; entries += part) part = list_part(fd, o);
        close(fd);
        if (entries != files + 2) fail("listed %llu entries of %llu", (unsigned long long)entries, (unsigned long long)files + 2);
        all += entries;
    }
}

static void job_directory(void) {
    struct operation *creates = operation("create+write+close"), *stats = operation("stat (cold)");
    struct operation *lists = operation("readdir (an entry)"), *unlinks = operation("unlink");
    uint64_t random = seed;
    for (uint64_t done = 0; done < count; done += BATCH) {
        for (uint64_t i = 0; i < BATCH; i++) create(creates, "new", i);
        sync_after(creates, -1);
        drop_dentries();
        stat_batch(stats, next_random(&random) % files);
        for (uint64_t i = 0; i < BATCH; i++) {
            const char *path = path_of("new", i);
            double start = seconds_now();
            remove_path(path);
            took(unlinks, seconds_now() - start, 1);
        }
        sync_after(unlinks, -1);
    }
    list(lists);
}

static void write_extents(int fd) {
    for (uint64_t i = 0; i < extents; i++) write_all(fd, block_of(i), PIECE, size / extents / PIECE * PIECE * i);
    if (fsync(fd)) fail("fsync: %s", strerror(errno));
}

static void truncate_in_turn(struct operation *o, int fd) {
    for (uint64_t i = 0; i < BATCH; i++) {
        double start = seconds_now();
        if (ftruncate(fd, i % 2 ? size : size - BLOCK)) fail("ftruncate: %s", strerror(errno));
        took(o, seconds_now() - start, 1);
    }
    sync_after(o, fd);
}

static void stat_fresh(struct operation *o, int fd) {
    for (uint64_t i = 0; i < count; i++) {
        struct statx info;
        double start = seconds_now();
        if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &info)) fail("statx: %s", strerror(errno));
        took(o, seconds_now() - start, 1);
        if (info.stx_size != size) fail("statx told a size of %llu", (unsigned long long)info.stx_size);
    }
}

static void job_sparse(void) {
    struct operation *writes = operation("pwrite 4 KiB"), *reads = operation("pread 4 KiB");
    struct operation *truncates = operation("ftruncate"), *stats = operation("fstat");
    unsigned char *buffer = memory(BLOCK);
    const char *path = path_of("sparse", seed);
    int fd = open_path(path, O_RDWR | O_CREAT | O_EXCL | O_DIRECT);
    if (ftruncate(fd, size)) fail("ftruncate %s: %s", path, strerror(errno));
    write_extents(fd);
    uint64_t random = seed;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t number = next_random(&random) % (size / BLOCK);
        const unsigned char *block = block_of(number);
        double start = seconds_now();
        write_all(fd, block, BLOCK, number * BLOCK);
        took(writes, seconds_now() - start, 1);
    }
    sync_after(writes, fd);
    random = seed;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t number = next_random(&random) % (size / BLOCK);
        double start = seconds_now();
        read_all(fd, buffer, BLOCK, number * BLOCK);
        took(reads, seconds_now() - start, 1);
        if (memcmp(buffer, block_of(number), BLOCK)) fail("wrong bytes in block %llu", (unsigned long long)number);
    }
    stat_fresh(stats, fd);
    truncate_in_turn(truncates, fd);
    close(fd);
    remove_path(path_of("sparse", seed));
    free(buffer);
}

static void allow_files(uint64_t number) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) fail("getrlimit: %s", strerror(errno));
    if (limit.rlim_cur >= number) return;
    limit.rlim_cur = number;
    if (limit.rlim_max < number) limit.rlim_max = number;
    if (setrlimit(RLIMIT_NOFILE, &limit)) fail("no %llu open files here: %s", (unsigned long long)number, strerror(errno));
}

static void job_held(void) {
    struct operation *creates = operation("create+write+close"), *writes = operation("pwrite 4 KiB");
    uint64_t random = seed;
    allow_files(held + SPARE_FILES);
    int *fds = memory(held * sizeof *fds);
    for (uint64_t i = 0; i < held; i++) {
        fds[i] = open_path(path_of("held", i), O_RDWR | O_CREAT | O_EXCL);
        write_all(fds[i], block_of(i), BLOCK, 0);
    }
    sync_directory();
    for (uint64_t i = 0; i < count; i++) create(creates, "new", i);
    sync_after(creates, -1);
    for (uint64_t i = 0; i < count; i++) {
        int fd = fds[next_random(&random) % held];
        const unsigned char *block = block_of(held + i);
        double start = seconds_now();
        write_all(fd, block, BLOCK, 0);
        took(writes, seconds_now() - start, 1);
    }
    for (uint64_t i = 0; i < count; i++) remove_path(path_of("new", i));
    for (uint64_t i = 0; i < held; i++) {
        if (close(fds[i])) fail("close: %s", strerror(errno));
        remove_path(path_of("held", i));
    }
    free(fds);
}

static const struct job {
    const char *name;
    void (*run)(void);
} jobs[] = { { "fill", job_fill }, { "directory", job_directory }, { "sparse", job_sparse }, { "held", job_held } };

static int usage(const char *what) {
    fprintf(stderr, "constant: %s; usage: constant DIR fill|directory|sparse|held [name=number ...]\n", what);
    return 2;
}

int main(int argc, char **argv) {
    const struct setting known[] = {
        { "files", &files }, { "from", &from_file }, { "size", &size }, { "extents", &extents },
        { "held", &held }, { "count", &count }, { "seed", &seed },
    };
    if (argc < 3) return usage("a directory and a job, please");
    directory = argv[1];
    const char *unknown = read_numbers(known, sizeof known / sizeof *known, argc - 3, argv + 3);
    if (unknown) return usage(unknown);
    if (files < BATCH || !extents || size / extents < 2 * PIECE || !held || !count) return usage("a number is too small");
    for (unsigned j = 0; j < sizeof jobs / sizeof *jobs; j++) {
        if (strcmp(jobs[j].name, argv[2])) continue;
        jobs[j].run();
        print_operations();
        return 0;
    }
    return usage("there is no such job");
}
