/*
 * load - puts one kind of load on a directory and prints one JSON line.
 *
 *   load DIR JOB [threads=1] [size=BYTES] [bs=BYTES] [seconds=N] [count=N] [salt=N]
 *
 *   write       every thread: a file of `size` bytes by write(2) of `bs` bytes, fsync, close
 *   read        those files again, caches dropped, every block verified
 *   randread    pread(2) of random 4 KiB blocks of those files for `seconds`, verified
 *   randwrite   pwrite(2) of random 4 KiB blocks for `seconds`, fsync; then untimed: all of them verified
 *   small       `count` files of 4 KiB: create + write + close, stat, read, unlink, each phase timed
 *
 * Every block of 4 KiB begins with words made of (salt, thread, block) and goes on with random bytes:
 * nothing compresses, no two blocks of a run are equal, and writing one costs the load a cache line.
 * Runs of one salt belong together: `read` finds what `write` left. Exit status: 1 I/O error or wrong bytes, 2 usage.
 */
#define _GNU_SOURCE
#include "common.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#define NOISE_BYTES (32u << 20)
#define THREADS_MAX 64
#define SAMPLES_MAX (1u << 20)
#define REWRITE_SALT 0x5bd1e995u

const char *const program = "load";

struct settings {
    const char *directory, *job;
    uint64_t threads, size, bs, seconds, count, salt;
};

struct thread {
    pthread_t id;
    unsigned number;
    uint64_t random, bytes, operations;
    unsigned char *noise; /* its own copy, which it stamps */
    uint32_t *sample_ns;
    uint64_t samples;
    double start, end, phase_s[4];
};

static struct settings set = { .threads = 1, .size = 1u << 30, .bs = 1u << 20, .seconds = 5, .count = 2000, .salt = 1 };
static unsigned char *noise;
static pthread_barrier_t gate;

static void make_noise(void) {
    uint64_t state = 42;
    noise = memory(NOISE_BYTES + set.bs);
    for (size_t i = 0; i < NOISE_BYTES; i += 8) {
        uint64_t word = next_random(&state);
        memcpy(noise + i, &word, 8);
    }
    memcpy(noise + NOISE_BYTES, noise, set.bs);
}

static void stamp_of(uint64_t salt, uint64_t thread, uint64_t block, uint64_t stamp[2]) {
    uint64_t state = salt * 0x100000001b3u + thread;
    stamp[0] = next_random(&state);
    stamp[1] = stamp[0] ^ (block * 0x9e3779b97f4a7c15u);
}

/* Stamps blocks in the thread's own noise and returns where they lie; `blocks` * BLOCK is at most bs. */
static const unsigned char *content(struct thread *t, uint64_t salt, uint64_t block, uint64_t blocks) {
    unsigned char *at = t->noise + block * BLOCK % NOISE_BYTES;
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t stamp[2];
        stamp_of(salt, t->number, block + i, stamp);
        memcpy(at + i * BLOCK, stamp, sizeof stamp);
    }
    return at;
}

/* The stamp, and the body's last line: a full comparison would cost more than the file system. */
static void verify(const unsigned char *at, uint64_t salt, uint64_t thread, uint64_t block, uint64_t blocks) {
    for (uint64_t i = 0; i < blocks; i++, at += BLOCK) {
        uint64_t stamp[2];
        stamp_of(salt, thread, block + i, stamp);
        const unsigned char *body = noise + (block + i) * BLOCK % NOISE_BYTES;
        if (memcmp(at, stamp, sizeof stamp) || memcmp(at + BLOCK - 64, body + BLOCK - 64, 64))
            fail("wrong bytes in block %llu of thread %llu", (unsigned long long)(block + i), (unsigned long long)thread);
    }
}

static int open_file(const struct thread *t, int flags) {
    char path[4096];
    snprintf(path, sizeof path, "%s/load-%llu-%u", set.directory, (unsigned long long)set.salt, t->number);
    int fd = open(path, flags, 0600);
    if (fd < 0) fail("open %s: %s", path, strerror(errno));
    return fd;
}

static void finish_file(int fd, int sync) {
    if (sync && fsync(fd)) fail("fsync: %s", strerror(errno));
    if (close(fd)) fail("close: %s", strerror(errno));
}

static void sample(struct thread *t, double seconds) {
    if (t->samples < SAMPLES_MAX) t->sample_ns[t->samples++] = (uint32_t)(seconds * 1e9);
}

static void job_write(struct thread *t, unsigned char *buffer) {
    (void)buffer;
    int fd = open_file(t, O_WRONLY | O_CREAT | O_TRUNC);
    for (uint64_t at = 0; at < set.size; at += set.bs) {
        const unsigned char *data = content(t, set.salt, at / BLOCK, set.bs / BLOCK);
        double start = seconds_now();
        write_all(fd, data, set.bs, at);
        sample(t, seconds_now() - start);
        t->bytes += set.bs;
    }
    finish_file(fd, 1);
}

static void job_read(struct thread *t, unsigned char *buffer) {
    int fd = open_file(t, O_RDONLY);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    for (uint64_t at = 0; at < set.size; at += set.bs) {
        double start = seconds_now();
        read_all(fd, buffer, set.bs, at);
        sample(t, seconds_now() - start);
        verify(buffer, set.salt, t->number, at / BLOCK, set.bs / BLOCK);
        t->bytes += set.bs;
    }
    finish_file(fd, 0);
}

static void job_randread(struct thread *t, unsigned char *buffer) {
    int fd = open_file(t, O_RDONLY);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    for (double end = seconds_now() + set.seconds, at = 0; at < end;) {
        uint64_t block = next_random(&t->random) % (set.size / BLOCK);
        double start = seconds_now();
        read_all(fd, buffer, BLOCK, block * BLOCK);
        at = seconds_now();
        sample(t, at - start);
        verify(buffer, set.salt, t->number, block, 1);
        t->operations++;
    }
    finish_file(fd, 0);
}

static void job_randwrite(struct thread *t, unsigned char *buffer) {
    (void)buffer;
    int fd = open_file(t, O_WRONLY);
    for (double end = seconds_now() + set.seconds, at = 0; at < end;) {
        uint64_t block = next_random(&t->random) % (set.size / BLOCK);
        const unsigned char *data = content(t, set.salt ^ REWRITE_SALT, block, 1);
        double start = seconds_now();
        write_all(fd, data, BLOCK, block * BLOCK);
        at = seconds_now();
        sample(t, at - start);
        t->operations++;
    }
    finish_file(fd, 1);
}

/* Walks the same random blocks again. */
static void verify_randwrite(struct thread *t, uint64_t seed) {
    unsigned char *buffer = memory(BLOCK);
    int fd = open_file(t, O_RDONLY);
    for (uint64_t i = 0; i < t->operations; i++) {
        uint64_t block = next_random(&seed) % (set.size / BLOCK);
        read_all(fd, buffer, BLOCK, block * BLOCK);
        verify(buffer, set.salt ^ REWRITE_SALT, t->number, block, 1);
    }
    finish_file(fd, 0);
    free(buffer);
}

static void small_phase(struct thread *t, int phase, uint64_t file, unsigned char *buffer) {
    char path[4096];
    struct stat stat_buffer;
    snprintf(path, sizeof path, "%s/small-%llu-%u-%llu", set.directory, (unsigned long long)set.salt, t->number, (unsigned long long)file);
    if (phase == 1) {
        if (stat(path, &stat_buffer) || stat_buffer.st_size != BLOCK) fail("stat %s: %s", path, strerror(errno));
        return;
    }
    if (phase == 3) {
        if (unlink(path)) fail("unlink %s: %s", path, strerror(errno));
        return;
    }
    int fd = open(path, phase == 0 ? O_WRONLY | O_CREAT | O_EXCL : O_RDONLY, 0600);
    if (fd < 0) fail("open %s: %s", path, strerror(errno));
    if (phase == 0) {
        write_all(fd, content(t, set.salt, file, 1), BLOCK, 0);
    } else {
        read_all(fd, buffer, BLOCK, 0);
        verify(buffer, set.salt, t->number, file, 1);
    }
    finish_file(fd, 0);
}

static void job_small(struct thread *t, unsigned char *buffer) {
    for (int phase = 0; phase < 4; phase++) {
        double start = seconds_now();
        for (uint64_t file = 0; file < set.count; file++) small_phase(t, phase, file, buffer);
        t->phase_s[phase] = seconds_now() - start;
        pthread_barrier_wait(&gate);
    }
    t->operations = set.count;
}

static const struct job {
    const char *name;
    void (*run)(struct thread *, unsigned char *);
} jobs[] = { { "write", job_write }, { "read", job_read }, { "randread", job_randread }, { "randwrite", job_randwrite }, { "small", job_small } };

static const struct job *chosen;

static uint64_t seed_of(unsigned thread) { return set.salt * 1000003u + thread; }

static void *run_thread(void *argument) {
    struct thread *t = argument;
    unsigned char *buffer = memory(set.bs);
    memset(buffer, 1, set.bs);
    t->noise = memory(NOISE_BYTES + set.bs);
    memcpy(t->noise, noise, NOISE_BYTES + set.bs);
    t->random = seed_of(t->number);
    pthread_barrier_wait(&gate);
    t->start = seconds_now();
    chosen->run(t, buffer);
    t->end = seconds_now();
    free(buffer);
    free(t->noise);
    return NULL;
}

static void print_latency(const struct thread *threads) {
    uint64_t all = 0;
    for (uint64_t i = 0; i < set.threads; i++) all += threads[i].samples;
    if (!all) return;
    uint32_t *merged = memory(all * sizeof *merged);
    for (uint64_t i = 0, at = 0; i < set.threads; at += threads[i++].samples)
        memcpy(merged + at, threads[i].sample_ns, threads[i].samples * sizeof *merged);
    qsort(merged, all, sizeof *merged, by_value);
    printf(",\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f", merged[all / 2] / 1e3, percentile_99(merged, all) / 1e3, merged[all - 1] / 1e3);
    free(merged);
}

static void print_small(const struct thread *threads) {
    static const char *const names[] = { "create_ops", "stat_ops", "read_ops", "unlink_ops" };
    for (int phase = 0; phase < 4; phase++) {
        double slowest = 1e-9;
        for (uint64_t i = 0; i < set.threads; i++)
            if (threads[i].phase_s[phase] > slowest) slowest = threads[i].phase_s[phase];
        printf(",\"%s\":%.0f", names[phase], set.count * set.threads / slowest);
    }
}

static void print_result(const struct thread *threads, double seconds) {
    uint64_t bytes = 0, operations = 0;
    for (uint64_t i = 0; i < set.threads; i++) bytes += threads[i].bytes, operations += threads[i].operations;
    printf("{\"job\":\"%s\",\"threads\":%llu,\"seconds\":%.4f", set.job, (unsigned long long)set.threads, seconds);
    if (chosen->run == job_small) print_small(threads);
    else if (bytes) printf(",\"gbps\":%.4f", bytes / seconds / 1e9);
    else printf(",\"iops\":%.0f", operations / seconds);
    print_latency(threads);
    printf("}\n");
}

static int usage(const char *what) {
    fprintf(stderr, "load: %s; usage: load DIR write|read|randread|randwrite|small [name=number ...]\n", what);
    return 2;
}

static int read_settings(int count, char **words) {
    const struct setting known[] = {
        { "threads", &set.threads }, { "size", &set.size }, { "bs", &set.bs },
        { "seconds", &set.seconds }, { "count", &set.count }, { "salt", &set.salt },
    };
    const char *unknown = read_numbers(known, sizeof known / sizeof *known, count, words);
    if (unknown) return usage(unknown);
    if (!set.threads || set.threads > THREADS_MAX) return usage("threads must be 1 to 64");
    if (!set.bs || set.bs % BLOCK || set.bs > NOISE_BYTES || !set.size || set.size % set.bs) return usage("bs must be a multiple of 4096, at most 32 MiB, and divide size");
    return 0;
}

int main(int argc, char **argv) {
    static struct thread threads[THREADS_MAX];
    if (argc < 3) return usage("a directory and a job, please");
    set.directory = argv[1];
    set.job = argv[2];
    if (read_settings(argc - 3, argv + 3)) return 2;
    for (unsigned j = 0; j < sizeof jobs / sizeof *jobs; j++)
        if (!strcmp(jobs[j].name, set.job)) chosen = &jobs[j];
    if (!chosen) return usage("there is no such job");

    make_noise();
    /* Phases of `small` meet at the gate without the main thread. */
    pthread_barrier_init(&gate, NULL, set.threads);
    for (unsigned i = 0; i < set.threads; i++) {
        threads[i].number = i;
        threads[i].sample_ns = memory(SAMPLES_MAX * sizeof(uint32_t));
        if (pthread_create(&threads[i].id, NULL, run_thread, &threads[i])) fail("no thread");
    }
    for (unsigned i = 0; i < set.threads; i++) pthread_join(threads[i].id, NULL);
    double start = threads[0].start, end = threads[0].end;
    for (unsigned i = 1; i < set.threads; i++) {
        if (threads[i].start < start) start = threads[i].start;
        if (threads[i].end > end) end = threads[i].end;
    }
    if (chosen->run == job_randwrite)
        for (unsigned i = 0; i < set.threads; i++) verify_randwrite(&threads[i], seed_of(i));
    print_result(threads, end - start);
    return 0;
}
