/* test_same_bits.c - goal: I4 and I5. A score depends on the log before its
 * event and on nothing else: not on the batch it came in, on what was
 * cached, on how many workers there were, or on a crash before it.
 * Method: one log, scored in many ways; every output must equal in all bytes
 * that of the first way, batches of one with the smallest caches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "spine_log.h"

/* Lists of all sorts: explored, and by popularity for new users. */
#define LISTS "explore.rate=0.3", "explore.pool=15", "recommend.events.min=3"

enum { EVENTS = 2500, USERS = 50, SEED = 9, WORKERS_MAX = 3 };

static struct spine_log the_log;
static struct spine_run first;
static struct spine_outputs expected;

/* Some of the scores with reasons, whose bits count too. */
#define REASONS "reasons.per_second=65535", "reasons.threshold=0.65"

struct way {
    const char *batch; /* option text */
    size_t context_bytes, cache_bytes;
    uint32_t workers;
};

static void run_share(struct spine_run *r, const struct way *way,
                      uint32_t share)
{
    const char *sets[] = {way->batch, LISTS, REASONS, NULL};
    spine_run_open(r, &the_log, sets);
    r->options.context_bytes_max = way->context_bytes;
    r->options.cache_bytes = way->cache_bytes;
    r->options.share_index = share;
    r->options.share_count = way->workers;
    spine_run_start(r);
    spine_run_to_end(r);
}

static int start(void **state)
{
    const struct way one = {"batch.events.max=1", 1, 1, 1};
    (void)state;
    spine_log_make(&the_log, EVENTS, USERS, SEED);
    run_share(&first, &one, 0);
    expected = spine_outputs_of(&first, 1);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    spine_outputs_free(&expected);
    spine_run_close(&first);
    spine_log_free(&the_log);
    return 0;
}

/* The ways must differ in what they do, or equal bits would say nothing. */
static void test_caches_differ(void **state)
{
    const struct way plenty = {"batch.events.max=64", 64 << 20, 64 << 20, 1};
    struct spine_run r;
    uint64_t cold, warm;
    (void)state;
    run_share(&r, &plenty, 0);
    cold = spine_run_count(&first, COUNT_context_misses);
    warm = spine_run_count(&r, COUNT_context_misses);
    assert_int_equal(expected.count, 2 * EVENTS);
    assert_in_range(spine_run_count(&first, COUNT_reasons_given), EVENTS / 20,
                    EVENTS * 19 / 20);
    assert_true(warm < EVENTS / 2);
    assert_true(cold > warm + EVENTS / 10);
    spine_run_close(&r);
}

static void test_batches_caches_workers(void **state)
{
    static const char *const BATCHES[] = {
        "batch.events.max=1", "batch.events.max=7", "batch.events.max=64",
        "batch.events.max=256"};
    static const size_t CACHES[] = {1, 96 << 10, 64 << 20};
    (void)state;
    for (uint32_t b = 0; b < 4; b++)
        for (uint32_t c = 0; c < 3; c++)
            for (uint32_t n = 1; n <= WORKERS_MAX; n++) {
                const struct way way = {BATCHES[b], CACHES[c], CACHES[c], n};
                struct spine_run runs[WORKERS_MAX];
                struct spine_outputs got;
                for (uint32_t i = 0; i < n; i++)
                    run_share(&runs[i], &way, i);
                got = spine_outputs_of(runs, n);
                spine_outputs_same(&expected, &got);
                spine_outputs_free(&got);
                for (uint32_t i = 0; i < n; i++)
                    spine_run_close(&runs[i]);
            }
}

/* Rows that went through the store and came back are the same rows. */
static void test_through_the_store(void **state)
{
    const char *sets[] = {"batch.events.max=16",
                          "commit.interval=1ms",
                          "state.checkpoint.rows=1000000",
                          "state.checkpoint.age=100ms",
                          REASONS,
                          LISTS,
                          NULL};
    struct store_options o = {.memory_bytes = 8 << 20};
    struct spine_run r;
    struct spine_outputs got;
    struct store *store;
    char dir[] = "/tmp/millrace-bits-XXXXXX", command[128];
    struct err e;
    (void)state;
    assert_non_null(mkdtemp(dir));
    o.dir = dir;
    if (store_open(&store, &o, &e) != RC_OK) fail_msg("%s", e.text);
    spine_run_open(&r, &the_log, sets);
    r.options.store = store;
    r.options.cache_bytes = 1; /* every row is dropped as soon as it may be */
    spine_run_start(&r);
    spine_run_to_end(&r);
    assert_true(spine_run_count(&r, COUNT_state_evictions) > EVENTS / 10);
    got = spine_outputs_of(&r, 1);
    spine_outputs_same(&expected, &got);
    spine_outputs_free(&got);
    spine_run_close(&r);
    store_close(store);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_caches_differ),
        cmocka_unit_test(test_batches_caches_workers),
        cmocka_unit_test(test_through_the_store),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
