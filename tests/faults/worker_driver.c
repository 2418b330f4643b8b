/* worker_driver.c - a worker on a real store, without a broker, as a process
 * that may die: what tests of failing memory and disks run, thousands of
 * times.
 *
 *     faults_worker run DIR     from the last commit to the end of the log
 *     faults_worker crash DIR   halfway, then it is gone, without a word
 *     faults_worker show DIR    what is committed and stored, as one line;
 *                               rows in a damaged block are refused
 *
 * The log is made from a seed and is the same each time. DIR/state is the
 * state.dir. DIR/journal is the cluster: outputs and offsets, appended with
 * one write at each commit, so a commit is there as a whole or not at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <assert.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bytes.h"
#include "hash.h"
#include "spine_log.h"
#include "store.h"

enum {
    EVENTS = 1200,
    USERS = 60,
    SEED = 11,
    CRASH_STEPS = 50,
    STEP_US = 4000, /* with a checkpoint's age of 100 ms */
    REBUILDS_MAX = 3,
    /* So little that rows go to the store and come back, and files are
     * written and merged. */
    STORE_MEMORY_BYTES = 128 << 10,
    CACHE_BYTES = 128 << 10,
    CRASH_CACHE_BYTES = 16 << 20,
    COMMIT_BYTES_MAX = 4 << 20,
    PATH_BYTES = 4096,
};

extern const char __executable_start, etext;

/* --- the journal --------------------------------------------------------- */

/* A commit: bytes u32 | hash u64 of the rest | partitions x offset i64 |
 * messages x { output u8, key, value: length u32 and bytes } */
enum { COMMIT_HEAD_BYTES = 12 };

struct journal {
    struct sink base;
    int fd;
    struct committed *committed;
    uint8_t *bytes; /* of the commit at hand */
    size_t used;
};

static struct journal *self(struct sink *k)
{
    return (struct journal *)k;
}

static uint8_t *put_block(uint8_t *to, struct slice s)
{
    return put_bytes(put_u32(to, (uint32_t)s.len), s);
}

static enum rc journal_send(struct sink *k, const struct message *m,
                            uint32_t count, struct err *e)
{
    struct journal *j = self(k);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *to = j->bytes + j->used;
        if (m[i].key.len + m[i].value.len + 16 > COMMIT_BYTES_MAX - j->used)
            return ERR(e, RC_STOP, "journal: a commit of %zu bytes", j->used);
        to = put_u8(to, (uint8_t)m[i].output);
        to = put_block(put_block(to, m[i].key), m[i].value);
        j->used = (size_t)(to - j->bytes);
    }
    return RC_OK;
}

static void journal_begin(struct journal *j)
{
    j->used = COMMIT_HEAD_BYTES + SPINE_PARTITIONS * sizeof(int64_t);
}

static enum rc journal_commit(struct sink *k,
                              const struct source_position *next,
                              uint32_t count, struct err *e)
{
    struct journal *j = self(k);
    uint8_t *to = j->bytes;
    size_t body = j->used - COMMIT_HEAD_BYTES;
    for (uint32_t i = 0; i < count; i++)
        j->committed[next[i].partition].offset = next[i].offset;
    to += COMMIT_HEAD_BYTES;
    for (uint32_t p = 0; p < SPINE_PARTITIONS; p++)
        to = put_i64(to, j->committed[p].offset);
    to = put_u32(j->bytes, (uint32_t)body);
    (void)put_u64(to, hash64(slice_of(j->bytes + COMMIT_HEAD_BYTES, body)));
    if (write(j->fd, j->bytes, j->used) != (ssize_t)j->used)
        return ERR(e, RC_STOP, "journal: not written");
    journal_begin(j);
    return RC_OK;
}

static enum rc journal_abort(struct sink *k, struct err *e)
{
    (void)e;
    journal_begin(self(k));
    return RC_OK;
}

static void journal_close(struct sink *k)
{
    (void)close(self(k)->fd);
    free(self(k)->bytes);
}

static const struct sink_ops JOURNAL = {journal_send, journal_commit,
                                        journal_abort, journal_close};

/* Calls see for every message; leaves the last commit's offsets. */
static void read_journal(const char *path, struct committed *committed,
                         void (*see)(struct slice message, void *user),
                         void *user)
{
    FILE *file = fopen(path, "rb");
    uint8_t head[COMMIT_HEAD_BYTES], *body = malloc(COMMIT_BYTES_MAX);
    assert(body);
    while (file && fread(head, 1, sizeof head, file) == sizeof head) {
        struct reader h = reader_of(slice_of(head, sizeof head));
        uint32_t bytes = read_u32(&h);
        struct reader r = reader_of(slice_of(body, bytes));
        assert(bytes <= COMMIT_BYTES_MAX);
        if (fread(body, 1, bytes, file) != bytes) break;
        if (read_u64(&h) != hash64(slice_of(body, bytes))) break;
        for (uint32_t p = 0; p < SPINE_PARTITIONS; p++)
            committed[p].offset = read_i64(&r);
        while (see && r.left.len > 0) {
            const uint8_t *from = r.left.ptr;
            (void)read_u8(&r);
            (void)read_bytes(&r, read_u32(&r));
            (void)read_bytes(&r, read_u32(&r));
            assert(!r.bad);
            see(slice_of(from, (size_t)(r.left.ptr - from)), user);
        }
    }
    if (file) (void)fclose(file);
    free(body);
}

/* --- run ----------------------------------------------------------------- */

static struct store *open_store(const char *dir, bool read_only, struct err *e)
{
    const struct store_options o = {
        .dir = dir, .memory_bytes = STORE_MEMORY_BYTES, .read_only = read_only};
    struct store *s = NULL;
    return store_open(&s, &o, e) == RC_OK ? s : NULL;
}

static int complain(const struct err *e)
{
    (void)fprintf(stderr, "%s\n", e->text);
    return 1;
}

/* From here on, calls may fail, if preload.c is there. */
static void arm_faults(void)
{
    void (*arm)(const void *text, const void *text_end);
    *(void **)&arm = dlsym(RTLD_DEFAULT, "faults_arm");
    if (arm) arm(&__executable_start, &etext);
}

static enum rc run_worker(struct worker *w, bool crash, struct err *e)
{
    const atomic_bool stop = false;
    if (!crash) return worker_run(w, &stop, e);
    for (int i = 0; i < CRASH_STEPS; i++) {
        TRY(worker_step(w, e));
        (void)usleep(STEP_US); /* so that each commit stores a slice of rows */
    }
    _exit(0);
}

/* As the service does: state that turns out to be damaged is made anew. */
static enum rc run_through_damage(struct spine_run *r,
                                  const struct spine_log *log, bool crash,
                                  struct err *e)
{
    for (int again = 0;; again++) {
        uint64_t rebuilds = store_rebuilds(r->options.store);
        enum rc rc = run_worker(r->worker, crash, e);
        if (rc != RC_STOP || again == REBUILDS_MAX ||
            store_rebuilds(r->options.store) == rebuilds)
            return rc;
        spine_run_crash(r);
        journal_begin(self(r->options.sink));
        spine_run_again(r, log);
    }
}

static int run(const char *state_dir, const char *journal_path, bool crash)
{
    static const char *const SETS[] = {"commit.interval=1ms",
                                       "state.checkpoint.age=100ms", NULL};
    struct journal j = {
        .base = {.ops = &JOURNAL, .ignores = 1u << OUTPUT_PROFILES}};
    struct spine_log log;
    struct spine_run r;
    struct err e;
    enum rc rc;
    spine_log_make(&log, EVENTS, USERS, SEED);
    read_journal(journal_path, log.committed, NULL, NULL);
    spine_run_open(&r, &log, SETS);
    j.fd = open(journal_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    j.bytes = malloc(COMMIT_BYTES_MAX);
    j.committed = r.committed;
    assert(j.fd >= 0 && j.bytes);
    journal_begin(&j);
    r.options.sink = &j.base;
    /* A full cache would store all rows, not a slice. */
    r.options.cache_bytes = crash ? CRASH_CACHE_BYTES : CACHE_BYTES;
    arm_faults();
    r.options.store = open_store(state_dir, false, &e);
    if (!r.options.store) return complain(&e);
    if (worker_new(&r.worker, &r.options, &e) != RC_OK) return complain(&e);
    rc = run_through_damage(&r, &log, crash, &e);
    worker_free(r.worker);
    store_close(r.options.store);
    return rc == RC_OK ? 0 : complain(&e);
}

/* --- show ---------------------------------------------------------------- */

/* A multiset: how many, and the sum of their hashes. */
struct tally {
    uint64_t count, sum;
};

static void tally_add(struct tally *t, uint64_t hash)
{
    t->count++;
    t->sum += hash_mix(hash);
}

static void see_message(struct slice message, void *user)
{
    tally_add(user, hash64(message));
}

static enum rc see_row(void *user, struct slice key, struct slice row,
                       struct err *e)
{
    (void)e;
    tally_add(user, hash64(key) ^ hash_mix(hash64(row)));
    return RC_OK;
}

struct rows {
    struct store *store;
    struct tally tally;
};

static enum rc see_family(void *user, const char *name,
                          const struct family_meta *meta, bool found,
                          struct err *e)
{
    struct rows *rows = user;
    (void)meta;
    (void)found;
    return store_each_row(rows->store, name, see_row, &rows->tally, e);
}

static int show(const char *state_dir, const char *journal_path)
{
    struct committed committed[SPINE_PARTITIONS] = {0};
    struct tally outputs = {0};
    struct rows rows = {0};
    struct err e;
    enum rc rc;
    read_journal(journal_path, committed, see_message, &outputs);
    rows.store = open_store(state_dir, true, &e);
    if (!rows.store) return complain(&e);
    rc = store_each_family(rows.store, see_family, &rows, &e);
    if (rc != RC_OK && !strstr(e.text, "Corruption")) return complain(&e);
    store_close(rows.store);
    (void)printf("outputs %llu %016llx ", (unsigned long long)outputs.count,
                 (unsigned long long)outputs.sum);
    if (rc == RC_OK)
        (void)printf("rows %llu %016llx committed",
                     (unsigned long long)rows.tally.count,
                     (unsigned long long)rows.tally.sum);
    else
        (void)printf("rows refused committed");
    for (uint32_t p = 0; p < SPINE_PARTITIONS; p++)
        (void)printf(" %lld", (long long)committed[p].offset);
    (void)printf("\n");
    return 0;
}

int main(int argc, char **argv)
{
    char state_dir[PATH_BYTES], journal_path[PATH_BYTES];
    if (argc != 3) {
        (void)fprintf(stderr, "usage: %s run|crash|show DIR\n", argv[0]);
        return 2;
    }
    (void)snprintf(state_dir, sizeof state_dir, "%s/state", argv[2]);
    (void)snprintf(journal_path, sizeof journal_path, "%s/journal", argv[2]);
    if (strcmp(argv[1], "show") == 0) return show(state_dir, journal_path);
    return run(state_dir, journal_path, strcmp(argv[1], "crash") == 0);
}
