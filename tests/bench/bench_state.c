/* bench_state - what users' rows cost: found in memory, read from the store,
 * applied, written behind.
 *
 * Events of users drawn from a Zipf law go through recall, apply and
 * checkpoint in batches, one partition, a commit after every ten. The first
 * fifth is not measured. Times are CPU time of the worker's thread; RocksDB
 * flushes and compacts in others, which cpu_us_all has too. Prints a table,
 * or one JSON object with --json.
 *
 *   bench_state [--users N] [--events N] [--cache-mib N] [--dir DIR] [--json]
 */
#include <assert.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "hash.h"
#include "state.h"
#include "train.h"

enum {
    BATCH = 256,
    BATCHES_PER_COMMIT = 10,
    NAME_BYTES = 32,
    WARM_UP_SHARE = 5, /* one part in five */
};

struct bench {
    uint64_t users, events, cache_mib;
    const char *dir;
    bool json;

    struct store *store;
    struct state *st;
    struct partition *p;
    struct batch b;
    char names[BATCH][NAME_BYTES];
    double *cumulated; /* (users) of the Zipf law */

    double recall_s, apply_s, checkpoint_s, process_before_s;
    uint64_t measured;
    struct state_stats before;
};

/* CPU time of this thread: what else runs on the machine does not count. */
static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double process_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void must(enum rc rc, const struct err *e)
{
    if (rc == RC_OK) return;
    (void)fprintf(stderr, "bench_state: %s\n", e->text);
    exit(EXIT_FAILURE);
}

/* --- the stream -------------------------------------------------------- */

static void make_law(struct bench *x)
{
    double sum = 0;
    x->cumulated = malloc(x->users * sizeof *x->cumulated);
    assert(x->cumulated);
    for (uint64_t i = 0; i < x->users; i++)
        x->cumulated[i] = sum += 1 / (double)(i + 1);
}

static uint64_t draw_user(const struct bench *x, uint64_t offset)
{
    double at =
        (double)draw_unit(draw(1, offset, 0)) * x->cumulated[x->users - 1];
    uint64_t low = 0, high = x->users - 1;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (x->cumulated[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static void fill_batch(struct bench *x)
{
    batch_reset(&x->b);
    x->b.count = BATCH;
    for (uint32_t i = 0; i < BATCH; i++) {
        uint64_t offset = (uint64_t)x->p->next;
        struct event *ev = &x->b.events[i];
        (void)snprintf(x->names[i], NAME_BYTES, "user-%08llu",
                       (unsigned long long)draw_user(x, offset));
        *ev = (struct event){.user = slice_str(x->names[i])};
        ev->past = (struct past_event){
            .time_ms = 1700000000000 + (int64_t)offset * 50,
            .amount = (int64_t)(draw(1, offset, 1) % 100000),
            .item = draw(1, offset, 2),
            .event_id = draw(1, offset, 3)};
        ev->time_ms = ev->past.time_ms;
        x->b.records[i].offset = (int64_t)offset;
        x->b.partitions[i] = x->p;
        state_pass(x->p, &x->b.records[i], ev);
    }
}

/* --- the steps --------------------------------------------------------- */

static void apply(struct bench *x)
{
    float row[WINDOW_FEATURES_MAX];
    for (uint32_t i = 0; i < BATCH; i++) {
        struct past_event *past = &x->b.events[i].past;
        struct user_state *us = x->b.users[i];
        int64_t offset = x->b.records[i].offset;
        if (!history_apply(state_history_shape(x->st), &us->history, offset,
                           past))
            continue;
        (void)windows_apply(state_windows_shape(x->st), us->windows, past, row);
        state_touched(x->st, us, &x->b.events[i].place);
    }
}

static void run(struct bench *x)
{
    struct err e;
    uint64_t batches = x->events / BATCH, warm = batches / WARM_UP_SHARE;
    for (uint64_t i = 0; i < batches; i++) {
        double t0, t1, t2, t3;
        if (i == warm) {
            x->recall_s = x->apply_s = x->checkpoint_s = 0;
            x->measured = 0;
            x->before = state_stats(x->st);
            x->process_before_s = process_s();
        }
        fill_batch(x);
        t0 = now_s();
        must(state_recall(x->st, &x->b, &e), &e);
        t1 = now_s();
        apply(x);
        t2 = now_s();
        if (i % BATCHES_PER_COMMIT == 0 || state_full(x->st)) {
            state_committed(x->st);
            must(state_checkpoint(x->st, false, &e), &e);
        }
        t3 = now_s();
        x->recall_s += t1 - t0;
        x->apply_s += t2 - t1;
        x->checkpoint_s += t3 - t2;
        x->measured += BATCH;
    }
}

/* --- results ----------------------------------------------------------- */

static void print(const struct bench *x)
{
    struct state_stats s = state_stats(x->st);
    struct rusage usage;
    double n = (double)x->measured;
    double misses = (double)(s.misses_total - x->before.misses_total);
    double rows = (double)(s.rows_written_total - x->before.rows_written_total);
    double cpu_all = (process_s() - x->process_before_s) / n * 1e6;
    double row_us = rows > 0 ? x->checkpoint_s / rows * 1e6 : 0;
    (void)getrusage(RUSAGE_SELF, &usage);
    (void)printf(
        x->json ? "{\"users\": %llu, \"events\": %llu, \"cache_mib\": %llu, "
                  "\"cpu_us_all\": %.3f, \"hit_rate\": %.4f, "
                  "\"recall_us\": %.3f, \"apply_us\": %.3f, "
                  "\"checkpoint_us\": %.3f, \"row_written_us\": %.2f, "
                  "\"rows_written\": %.0f, \"cache_used_mib\": %.1f, "
                  "\"rss_mib\": %.1f}\n"
                : "users %llu, events %llu, cache %llu MiB\n"
                  "  all CPU   us/event %12.3f\n  hit rate           %12.4f\n"
                  "  recall    us/event %12.3f\n  apply     us/event %12.3f\n"
                  "  write     us/event %12.3f\n  write     us/row   %12.2f\n"
                  "  rows written       %12.0f\n  cache used MiB     %12.1f\n"
                  "  rss MiB            %12.1f\n",
        (unsigned long long)x->users, (unsigned long long)x->events,
        (unsigned long long)x->cache_mib, cpu_all, 1 - misses / n,
        x->recall_s / n * 1e6, x->apply_s / n * 1e6, x->checkpoint_s / n * 1e6,
        row_us, rows, (double)s.cache_bytes / 1048576,
        (double)usage.ru_maxrss / 1024);
}

static void open_all(struct bench *x)
{
    struct store_options store = {.dir = x->dir, .memory_bytes = 64 << 20};
    struct partition_log log = {.cluster_id = "bench",
                                .partitions = 1,
                                .log_end = INT64_MAX,
                                .committed = -1};
    struct state_options o = {
        .history = {.events_max = 128,
                    .fields = TRAIN_ITEM | TRAIN_AMOUNT | TRAIN_TIME,
                    .amount_scale = 100},
        .windows = {.count = 3,
                    .length_ms = {86400000, 7 * INT64_C(86400000),
                                  30 * INT64_C(86400000)},
                    .events_max = 1024,
                    .amount_scale = 100,
                    .has_amount = true,
                    .has_time = true,
                    .has_other = true,
                    .values_max = 32},
        .cache_bytes = x->cache_mib << 20,
        .checkpoint_rows = 2048,
        .checkpoint_age_ms = 10000,
        .user_bytes_max = 64,
        .stage = "users",
        .topic = "bench"};
    struct err e;
    must(batch_init(&x->b, BATCH, &e), &e);
    must(store_open(&x->store, &store, &e), &e);
    must(state_new(&x->st, x->store, &o, &e), &e);
    must(state_open_partition(x->st, 0, 0, &log, &x->p, &e), &e);
}

static void parse(struct bench *x, int argc, char **argv)
{
    static const struct option OPTIONS[] = {
        {"users", required_argument, NULL, 'u'},
        {"events", required_argument, NULL, 'e'},
        {"cache-mib", required_argument, NULL, 'c'},
        {"dir", required_argument, NULL, 'd'},
        {"json", no_argument, NULL, 'j'},
        {0},
    };
    for (int o; (o = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1;) {
        if (o == 'u') x->users = strtoull(optarg, NULL, 10);
        if (o == 'e') x->events = strtoull(optarg, NULL, 10);
        if (o == 'c') x->cache_mib = strtoull(optarg, NULL, 10);
        if (o == 'd') x->dir = optarg;
        if (o == 'j') x->json = true;
        if (o == '?') exit(EXIT_FAILURE);
    }
    if (x->users == 0 || x->events < WARM_UP_SHARE * BATCH ||
        x->cache_mib == 0) {
        (void)fprintf(stderr, "bench_state: too little to measure\n");
        exit(EXIT_FAILURE);
    }
}

int main(int argc, char **argv)
{
    struct bench x = {.users = 10000, .events = 1000000, .cache_mib = 128};
    char made[] = "/tmp/millrace-bench-state-XXXXXX", command[64];
    parse(&x, argc, argv);
    if (!x.dir) x.dir = mkdtemp(made);
    assert(x.dir);
    make_law(&x);
    open_all(&x);
    run(&x);
    print(&x);
    state_free(x.st);
    store_close(x.store);
    batch_fini(&x.b);
    free(x.cumulated);
    if (x.dir != made) return EXIT_SUCCESS;
    (void)snprintf(command, sizeof command, "rm -rf '%s'", made);
    return system(command) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
